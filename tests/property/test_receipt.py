import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from stream_app.core.receipt import Tally

OFFSET_MAX = 2**63 - 1
TOPIC = "t" * 249  # Kafka's longest.


@st.composite
def answered(draw: st.DrawFn) -> list[tuple[int, str | None]]:
    """Return offsets with their outcome: a payload (None), `skip`, or an error text."""
    offsets = draw(
        st.lists(
            st.one_of(st.integers(0, 40), st.integers(OFFSET_MAX - 40, OFFSET_MAX)),
            unique=True,
            max_size=40,
        ).map(sorted)
    )
    kinds = st.one_of(st.none(), st.just("skip"), st.text(max_size=20))
    return [(offset, draw(kinds)) for offset in offsets]


def tally_of(records: list[tuple[int, str | None]]) -> Tally:
    tally = Tally()
    for offset, kind in records:
        if kind is None:
            tally.deliver(1)
        elif kind == "skip":
            tally.skip(offset)
        else:
            tally.fail(offset, f"{TOPIC}/3@{offset}", kind)
    return tally


@given(answered())
@example([(OFFSET_MAX, '"\\\x00\x1f\u2028' * 5)])
@example([(1, "skip"), (OFFSET_MAX, "skip")])
def test_the_estimate_is_never_below_what_the_lists_take(
    records: list[tuple[int, str | None]],
) -> None:
    tally = tally_of(records)
    failed = [
        {"offset": offset, "record": record, "error": error}
        for offset, record, error in tally.failed
    ]
    actual = len(orjson.dumps(tally.skipped)) + len(orjson.dumps(failed)) - len("[][]")
    assert tally.bytes_estimate >= actual


@given(answered())
def test_every_event_can_be_answered_from_the_lists(records: list[tuple[int, str | None]]) -> None:
    tally = tally_of(records)
    failed = {offset: error for offset, _, error in tally.failed}
    found: list[tuple[int, str | None]] = []
    for offset, _ in records:  # those whose key is the pipeline
        if offset in failed:
            found.append((offset, failed[offset]))
        elif any(low <= offset <= high for low, high in tally.skipped):
            found.append((offset, "skip"))
        else:
            found.append((offset, None))
    assert found == records


@given(answered())
def test_the_counts_are_those_of_the_records(records: list[tuple[int, str | None]]) -> None:
    tally = tally_of(records)
    kinds = [kind for _, kind in records]
    assert tally.matched == len(kinds)
    assert tally.delivered == kinds.count(None)
    assert tally.skipped_count == kinds.count("skip")
