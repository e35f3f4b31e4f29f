import gzip
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from stream_app.config.settings import Destination, setting_spec
from stream_app.core.commit_metadata import Commit
from stream_app.core.object_body import (
    CHUNK_OVERHEAD_BYTES,
    SLICE_BYTES,
    Compression,
    ObjectBody,
    Sizes,
)
from stream_app.core.object_key import identifier, object_key
from stream_app.core.partition import Partition
from tests.profiles import examples
from tests.unit.core.builders import (
    EVENTS,
    EVERY,
    MINUTE,
    RULES,
    Sample,
    batch,
    collect,
    record_closings,
)

KEY_BYTES_MAX = 1_024
"""S3's own bound."""
(PREFIX,) = (setting_spec(it) for it in fields(Destination) if it.name == "prefix")

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


def body_of(batches: list[list[bytes]]) -> ObjectBody:
    body = ObjectBody()
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


FEW = Sizes(slice=100, part=300, part_min=150, parts_max=5)
"""Sizes by which an object has too few parts soon."""


@dataclass
class Growing:
    """A body with tiny sizes under random operations, and all that it was ever given."""

    body: ObjectBody = field(default_factory=lambda: ObjectBody(FEW))
    payloads: list[bytes] = field(default_factory=list)
    under_way: Compression | None = None

    def do(self, name: str, payloads: list[bytes]) -> None:
        body = self.body
        if name == "add":
            body.add(payloads)
            self.payloads += payloads
        elif name in {"compress", "compress all"}:
            if self.under_way is None:
                self.under_way = body.compression(whole=name == "compress all")
        elif name == "compressed":
            self.note_compressed()
        elif name in {"cut", "cut early"}:
            if body.cut() if name == "cut" else body.cut(early=True):
                assert len(body.parts[-1].content or b"") >= FEW.part_min
        elif body.unsent:
            body.sent(body.unsent[0], None)
        assert body.held == held_by(body)
        assert body.lines == len(self.payloads)
        assert body.size == sum(len(it) + 1 for it in self.payloads)

    def note_compressed(self) -> None:
        if self.under_way is not None:
            self.under_way.perform()
            self.body.compressed(self.under_way)
            self.under_way = None


def held_by(body: ObjectBody) -> int:
    """Return from scratch what a body takes."""
    waiting = sum(len(it) + 1 for it in body._waiting)
    segments = sum(len(it) for it in body._segments)
    unsent = sum(len(part.content or b"") for part in body.parts)
    packed = sum(len(it.content) for it in body._packed)
    chunks = len(body._waiting) + len(body._packed) + len(body._segments)
    lines = body._compression._lines if body._compression is not None else ()
    under_way = sum(len(it) + 1 for it in lines)
    if body._compression is not None:
        under_way += sum(len(it.content) for it in body._compression._packed)
    return waiting + packed + under_way + segments + unsent + CHUNK_OVERHEAD_BYTES * chunks


OPERATIONS = ("add", "add", "add", "compress", "compressed", "compress all", "cut", "cut early")
short_line = st.integers(0, 250).flatmap(
    lambda size: st.integers(0, 9).map(lambda seed: Random(seed).randbytes(size).hex().encode())
)


@examples(300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from((*OPERATIONS, "send")), st.lists(short_line, min_size=1, max_size=4)
        ),
        max_size=40,
    )
)
def test_whatever_happens_when_an_object_holds_its_lines_once_and_in_order(
    operations: list[tuple[str, list[bytes]]],
) -> None:
    growing = Growing()
    contents: dict[int, bytes] = {}
    body = growing.body
    for name, payloads in operations:
        growing.do(name, payloads)
        contents |= {part.number: part.content for part in body.unsent if part.content is not None}
    growing.note_compressed()
    whole = body.finish()
    assert body.held == held_by(body)
    if body.parts:
        assert whole == b""
        contents |= {part.number: part.content for part in body.unsent if part.content is not None}
        assert list(contents) == [part.number for part in body.parts]
        assert len(body.parts) <= FEW.parts_max
        *sizes, last = map(len, contents.values())
        assert len({*sizes}) <= 1, "R2 takes no other"
        assert not sizes or sizes[0] in (FEW.part, FEW.part_min)
        assert not sizes or last <= sizes[0] or len(body.parts) == FEW.parts_max
        whole = b"".join(contents.values())
    reader = zlib.decompressobj(31)
    assert reader.decompress(whole) == b"".join(it + b"\n" for it in growing.payloads)
    assert (reader.eof, reader.unused_data) == (True, b"")
    assert body.sha256 == hashlib.sha256(whole).digest()
    assert body.size_compressed == len(whole)
    plain = ObjectBody(replace(FEW, part=2**63))
    plain.add(growing.payloads)
    assert plain.finish() == whole, "bytes depend on when lines are compressed or cut"


@given(st.from_regex(r"([a-z0-9]+/){0,3}([a-z0-9]+)?", fullmatch=True), st.integers(0, 2**32))
def test_a_key_has_one_layout(prefix: str, closed_at: int) -> None:
    key = object_key(prefix, closed_at, "f" * 64)
    assert key.startswith(prefix)
    assert "//" not in key
    found = re.fullmatch(
        r"/?(\d{4})/(\d\d)/(\d\d)/(\d\d)/(\d{4})-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-f{64}\.gz",
        key[len(prefix) :],
    )
    assert found is not None
    assert found.groups()[:4] == found.groups()[4:8]


@given(
    st.one_of(
        st.text("./a\\%\u202e\x85\x00 ?#", max_size=20),
        st.text(st.characters(codec="utf-8"), max_size=600),
    ).filter(PREFIX.constraint.is_valid),
    st.integers(0, 2**32),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)
def test_a_key_never_leaves_its_prefix(prefix: str, closed_at: int, name: str) -> None:
    key = object_key(prefix, closed_at, name)
    assert key.startswith(prefix)
    assert re.search(r"[\x00-\x1f\x7f-\x9f]", key) is None
    assert len(key.encode()) <= KEY_BYTES_MAX
    own = key[len(prefix) :].split("/")
    assert len(own) == (5 if not prefix or prefix.endswith("/") else 6)
    assert own[-1].endswith(f"-{name}.gz")
    assert {".", ".."}.isdisjoint(key.split("/"))
    assert ("" in key.split("/")) == ("//" in prefix), "no empty folder but the operator's own"


hostile = st.one_of(
    st.sampled_from([b"../../up", b"/etc", b"a\0b", b"x/../y", b"\r\nX-Amz-Acl: public-read"]),
    st.binary(max_size=30),
)


@given(
    st.lists(
        st.tuples(
            st.none() | hostile,
            st.sampled_from(["../../up", "/etc", "\0"]) | st.text(max_size=30),
            st.integers(-(2**63), 2**63 - 1),
            st.lists(st.tuples(st.text(max_size=9), st.none() | hostile), max_size=3),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_no_event_has_a_part_in_the_keys(
    events: Sequence[tuple[bytes | None, str, int, list[tuple[str, bytes | None]]]],
) -> None:
    hostiles = [
        Sample(10 + index, timestamp, key, value.encode(), headers=headers)  # type: ignore[arg-type]
        for index, (key, value, timestamp, headers) in enumerate(events)
    ]
    innocents = [replace(it, key=b"k", value=b"1", headers=()) for it in hostiles]
    assert keys(hostiles) == keys(innocents) != []


def keys(samples: list[Sample]) -> list[str]:
    """The keys of the objects that these records come to when they are read a day later."""
    partition = Partition(EVENTS, RULES, 0, Commit(10, ()))
    collect(partition, batch(*samples), 86_400, EVERY)
    partition.tick(MINUTE + 2 * 86_400, partition.position)
    record_closings(partition)
    return [str(work.delivery.key) for work in partition.delivery_tasks()]


@given(st.lists(st.tuples(st.text("ab-.1", min_size=1), *[st.integers(0, 99)] * 2), unique=True))
def test_identifiers_are_distinct_where_windows_are(windows: list[tuple[str, int, int]]) -> None:
    names = {identifier(topic, number, first, 60, "x") for topic, number, first in windows}
    assert len(names) == len(windows)
