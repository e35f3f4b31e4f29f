"""Receipts as they are shown: by time, each partition in its own order."""

from stream_app.kafka.receipts_topic import _by_time
from stream_app.records import Batch
from tests.unit.core.builders import MINUTE, record


def batch(*seconds: int) -> Batch:
    records = [record(offset, second) for offset, second in enumerate(seconds)]
    return Batch(0, len(records), records)


def test_receipts_that_are_fetched_together_are_in_the_order_of_time() -> None:
    found = [
        (it[0] // 1000 - MINUTE, it[1])
        for it in _by_time({0: batch(10, 30, 50), 1: batch(20), 2: batch()})
    ]
    assert found == [(10, 0), (20, 1), (30, 0), (50, 0)]


def test_receipts_of_a_partition_keep_their_order_whatever_their_times_are() -> None:
    found = [(it[1], it[2].offset) for it in _by_time({0: batch(30, 10), 1: batch(20, 20)})]
    assert [it for it in found if it[0] == 0] == [(0, 0), (0, 1)]
    assert [it for it in found if it[0] == 1] == [(1, 0), (1, 1)]
