import gzip
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stream_app.objects import SLICE_BYTES, Body, identifier, object_key

line = st.one_of(
    st.binary(max_size=60).map(lambda data: data.replace(b"\n", b"")),
    st.integers(1, SLICE_BYTES + 10).map(lambda size: b"z" * size),
)


@st.composite
def two_ways(draw: st.DrawFn) -> tuple[list[bytes], list[list[bytes]], list[list[bytes]]]:
    """Return payloads, and the same payloads in two different runs of batches."""
    payloads = draw(st.lists(line, min_size=1, max_size=12))

    def batches() -> list[list[bytes]]:
        cuts = sorted(draw(st.sets(st.integers(1, len(payloads)))) | {0, len(payloads)})
        return [payloads[low:high] for low, high in pairwise(cuts)]

    return payloads, batches(), batches()


def body_of(batches: list[list[bytes]]) -> Body:
    body = Body()
    for payloads in batches:
        body.add(payloads)
    return body


@given(two_ways())
def test_bytes_do_not_depend_on_the_batches(
    case: tuple[list[bytes], list[list[bytes]], list[list[bytes]]],
) -> None:
    payloads, one, other = case
    content = body_of(one).finish()
    assert content == body_of(other).finish()
    assert gzip.decompress(content) == b"".join(it + b"\n" for it in payloads)


@given(two_ways())
def test_lines_and_size_are_those_of_the_text(
    case: tuple[list[bytes], list[list[bytes]], list[list[bytes]]],
) -> None:
    payloads, one, _ = case
    body = body_of(one)
    assert body.lines == len(payloads)
    assert body.size == sum(len(it) + 1 for it in payloads)
    held = body.held
    body._measure()
    assert body.held == held


@given(st.from_regex(r"([a-z0-9]+/){0,3}([a-z0-9]+)?", fullmatch=True), st.integers(0, 2**32))
def test_a_key_has_one_layout(prefix: str, uploaded_at: int) -> None:
    key = object_key(prefix, uploaded_at, "f" * 64)
    assert key.startswith(prefix)
    assert "//" not in key
    found = re.fullmatch(
        r"/?(\d{4})/(\d\d)/(\d\d)/(\d\d)/(\d{4})-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-f{64}\.gz",
        key[len(prefix) :],
    )
    assert found is not None
    assert found.groups()[:4] == found.groups()[4:8]


@given(st.lists(st.tuples(st.text("ab-.1", min_size=1), *[st.integers(0, 99)] * 2), unique=True))
def test_identifiers_are_distinct_where_windows_are(places: list[tuple[str, int, int]]) -> None:
    names = {identifier(topic, number, first, "x") for topic, number, first in places}
    assert len(names) == len(places)
