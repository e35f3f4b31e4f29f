"""Requests, bytes and memory in `docs/performance.md`: the core with 1,000 partitions."""

from dataclasses import replace
from pathlib import Path

import pytest

from stream_app.config.settings import DESTINATIONS_MAX, Destination
from stream_app.core.commit_metadata import Commit, decode
from stream_app.core.delivery import DELIVERY_BYTES, WAITING_BYTES
from stream_app.core.object_body import CHUNK_OVERHEAD_BYTES
from stream_app.core.partition import Partition, TopicPartition
from stream_app.core.router import Router
from stream_app.records import Batch
from tests.simulation.scale import BEGIN, MINUTE, RULES, Cluster, Record, Size

ROOT = Path(__file__).parents[2]
SIZE = Size(partitions=1_000, destinations=20_000, workers=20, events=2)
MINUTES = 2
COMMITS_A_WINDOW_MAX = 2
"""The window's closing, and its end."""
METADATA_BYTES_MAX = 36
"""While one window is on its way."""
RECEIPT_BYTES_MAX = 1_150
"""Key, value and headers, without skipped or failed events."""
OUTAGE_MINUTES_MIN = 450
"""So many windows of a partition wait for S3 before its metadata is full."""


def settled(cluster: Cluster) -> Cluster:
    """Write no more, and wait until all is settled."""
    cluster.run(MINUTE, writing=False)
    for committed in cluster.committed.values():
        commit = decode(*committed)
        assert (commit.offset, commit.closings) == (cluster.end, ())
    return cluster


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    cluster = Cluster(SIZE)
    cluster.run(MINUTES * MINUTE)
    return settled(cluster)


def test_destination_has_one_request_to_s3_and_one_receipt_a_minute(cluster: Cluster) -> None:
    assert set(cluster.by_minute.values()) == {1}
    expected = SIZE.destinations * MINUTES
    assert len(cluster.objects) == cluster.counts["PutObject"] == expected
    assert cluster.counts["receipts"] == expected
    assert cluster.counts["receipt bytes"] <= expected * RECEIPT_BYTES_MAX


def test_every_event_is_one_line(cluster: Cluster) -> None:
    assert sum(cluster.objects.values()) == SIZE.partitions * SIZE.records * MINUTES
    assert cluster.counts["records fetched"] == SIZE.partitions * SIZE.records * MINUTES


def test_window_of_a_partition_is_committed_twice(cluster: Cluster) -> None:
    windows = SIZE.partitions * MINUTES
    assert cluster.counts["partitions committed"] == windows * COMMITS_A_WINDOW_MAX
    # Partitions whose windows end at the same time share a request.
    assert cluster.counts["OffsetCommit"] <= windows * COMMITS_A_WINDOW_MAX / 3


def test_metadata_of_a_healthy_partition_is_a_few_bytes(cluster: Cluster) -> None:
    assert 0 < cluster.most["metadata bytes"] <= METADATA_BYTES_MAX


def test_memory_is_lines_and_a_fixed_share_for_each_destination(cluster: Cluster) -> None:
    lines = SIZE.events * (SIZE.event_bytes + 1 + CHUNK_OVERHEAD_BYTES)
    # A minute that is open, and beside it what is on its way of the one before.
    a_minute = SIZE.destinations / SIZE.workers * (lines + DELIVERY_BYTES + WAITING_BYTES)
    assert a_minute <= cluster.most["held bytes of a worker"] <= a_minute * 1.2
    assert [worker.assignment.held for worker in cluster.workers] == [0] * SIZE.workers


def test_joining_worker_reads_again_no_more_than_the_open_minute() -> None:
    cluster = Cluster(SIZE)
    cluster.run(MINUTE + 40)
    cluster.join()
    cluster.run(1)
    assert 0 < len(cluster.moved) <= SIZE.moving_max
    # A rebalance is eager: each partition is read from its commit, and the kept ones drop it.
    assert len(cluster.reread) == SIZE.partitions
    for records in cluster.reread.values():
        assert records[0].timestamp >= (BEGIN + MINUTE) * 1000
        assert len(records) <= SIZE.records
    cluster.run(MINUTE - 41)
    _nothing_lost_or_repeated(settled(cluster))
    assert cluster.counts["answered 412"] == 0
    assert cluster.counts["receipts"] == SIZE.destinations * MINUTES


def test_worker_that_leaves_amid_its_uploads_costs_its_successors_that_minute_too() -> None:
    # A minute that takes longer to upload, so that much is under way.
    size = replace(SIZE, workers=4)
    cluster = Cluster(size)
    cluster.run(MINUTE + 2)
    under_way = {work.partition.tp for work in cluster.workers[0].due}
    assert len(under_way) > 50
    cluster.leave()
    cluster.run(1)
    assert len(cluster.moved) == size.moving_max
    for tp, records in cluster.reread.items():
        is_settled = cluster.committed_at_rebalance[tp].offset == size.records
        first = BEGIN + (MINUTE if is_settled else 0)
        assert records[0].timestamp >= first * 1000
        assert len(records) <= size.records * (1 if is_settled else 2)
    cluster.run(MINUTE - 3)
    _nothing_lost_or_repeated(settled(cluster))
    # Its uploads of windows that were not settled are made again, with a second receipt.
    again = cluster.counts["answered 412"]
    assert 0 < again <= len(under_way) * size.pipelines
    assert cluster.counts["receipts"] == size.destinations * MINUTES + again


def test_commit_has_room_for_hours_in_which_s3_is_away() -> None:
    # A thousandth of 1 million events/s: 60,000 a minute.
    events = 60_000
    tp = TopicPartition("events", 0)
    program = Router([Destination("archive", "my-bucket")])
    partition = Partition(tp, RULES, 0, Commit(10**12, ()))
    minutes = 0
    while not partition.full:
        now = BEGIN + minutes * MINUTE
        following = partition.position + events
        records = [Record(following - 1, now * 1000, b"", b"{}")]
        batch = Batch(partition.position, following, records)
        assert partition.collect(batch, program.evaluate(records, tp), now + 1) is None
        partition.tick(now + MINUTE + 2, partition.position)
        minutes += 1
    assert minutes >= OUTAGE_MINUTES_MIN


def test_document_states_these_bounds() -> None:
    text = " ".join((ROOT / "docs" / "performance.md").read_text("utf-8").split())
    for bound in (
        f"at most {COMMITS_A_WINDOW_MAX} commits of a partition for each window",
        f"at most {METADATA_BYTES_MAX} bytes of metadata while one window is on its way",
        f"at most {RECEIPT_BYTES_MAX:,} bytes for a receipt",
        f"{OUTAGE_MINUTES_MIN} minutes or more for which S3 can be away",
        f"It may name {DESTINATIONS_MAX:,} destinations",
        f"{DELIVERY_BYTES + CHUNK_OVERHEAD_BYTES:,} bytes",
        f"{WAITING_BYTES:,} bytes",
    ):
        assert bound in text


def _nothing_lost_or_repeated(cluster: Cluster) -> None:
    assert set(cluster.by_minute.values()) == {1}
    assert sum(cluster.objects.values()) == SIZE.partitions * SIZE.records * MINUTES
