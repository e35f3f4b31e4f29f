"""What an open transaction hides, and since when."""

from stream_app.monitoring.open_transactions import LONG_SECONDS, HiddenEnd, OpenTransactions
from stream_app.records import TopicPartition

TP = TopicPartition("events", 0)
OTHER = TopicPartition("events", 1)


def hidden(open_transactions: OpenTransactions) -> dict[TopicPartition, tuple[int, int, float]]:
    """Return first offset, number of offsets and age of each hidden end."""
    return {
        tp: (it.first_offset, it.offsets, it.seconds) for tp, it in open_transactions.hidden.items()
    }


def test_nothing_is_hidden_where_the_log_can_be_read_to_its_end() -> None:
    seen = OpenTransactions()
    assert seen.check(0.0, {TP: 5}, {TP: 5}) == ([], [])
    assert hidden(seen) == {}


def test_age_counts_from_when_the_end_stood_still() -> None:
    seen = OpenTransactions()
    seen.check(0.0, {TP: 5, OTHER: 1}, {TP: 6, OTHER: 1})
    seen.check(7.0, {TP: 5, OTHER: 1}, {TP: 9, OTHER: 2})
    assert hidden(seen) == {TP: (5, 4, 7.0), OTHER: (1, 1, 0.0)}


def test_transactions_that_follow_one_another_are_not_old() -> None:
    seen = OpenTransactions()
    for second in range(10 * int(LONG_SECONDS)):
        assert seen.check(second, {TP: second}, {TP: second + 2}) == ([], [])
    assert hidden(seen) == {TP: (10 * int(LONG_SECONDS) - 1, 2, 0.0)}


def test_old_one_is_returned_once_and_once_more_when_it_has_ended() -> None:
    seen = OpenTransactions()
    seen.check(0.0, {TP: 5}, {TP: 6})
    old = HiddenEnd(TP, 5, since=0.0, offsets=3, seconds=LONG_SECONDS, is_logged=True)
    assert seen.check(LONG_SECONDS, {TP: 5}, {TP: 8}) == ([old], [])
    assert seen.check(LONG_SECONDS + 1, {TP: 5}, {TP: 8}) == ([], [])
    (ended,) = seen.check(LONG_SECONDS + 2, {TP: 8}, {TP: 9})[1]
    assert (ended.tp, ended.first_offset, ended.seconds) == (TP, 5, LONG_SECONDS + 1)
    assert hidden(seen) == {TP: (8, 1, 0.0)}
    assert seen.check(LONG_SECONDS + 3, {TP: 9}, {TP: 9}) == ([], [])


def test_partition_that_was_taken_away_is_forgotten() -> None:
    seen = OpenTransactions()
    seen.check(0.0, {TP: 5}, {TP: 6})
    assert seen.check(LONG_SECONDS, {}, {}) == ([], [])
    assert seen.check(LONG_SECONDS + 1, {TP: 5}, {TP: 6}) == ([], [])
    assert hidden(seen) == {TP: (5, 1, 0.0)}


def test_end_without_a_high_watermark_hides_nothing() -> None:
    seen = OpenTransactions()
    assert seen.check(0.0, {TP: 5}, {}) == ([], [])
    assert hidden(seen) == {}
