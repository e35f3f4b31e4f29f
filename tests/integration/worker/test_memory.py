"""The most memory that a real worker takes; `benchmarks/memory.py` has the cases in full size."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks import rig
from benchmarks.memory import Backlog, Bench, Case, refuse
from stream_app.embedded.servers import KafkaServer, S3Server

ADDED_MIB_MAX = 350
"""Beyond idle: the target of 300 and a margin."""
SMALL_MIB = 16
BEYOND_MIB_MAX = 100
"""Memory of a worker beside `memory_max_mib`: fetches, batches that wait, what is being sent."""
OUTAGE_SECONDS = 5.0


def write(address: str, load: rig.Load) -> None:
    asyncio.run(rig.fill(address, load))


def backlog(events: int, pipelines: int = 20) -> dict[str, Backlog]:
    """Return a backlog of one past minute, on a topic of its own."""
    name = f"memory-{uuid4().hex[:12]}"
    return {"one minute": Backlog(rig.Load(name, events, pipelines=pipelines, minutes=1), write)}


def test_minute_of_any_size_takes_no_more_than_its_share(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    bench = Bench(rig.Servers(kafka, s3), tmp_path, backlog(400_000))
    peak = bench.measure(Case("a minute", "one minute", 20), 0.0)
    print(peak)
    assert peak.added_mib < ADDED_MIB_MAX


@pytest.mark.parametrize("destinations", [20, None])
def test_minute_that_is_far_larger_than_the_bound_leaves_in_time(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path, destinations: int | None
) -> None:
    # None is one destination with all the traffic: its objects leave in parts.
    bench = Bench(rig.Servers(kafka, s3), tmp_path, backlog(250_000))
    peak = bench.measure(
        Case("a minute", "one minute", destinations), 0.0, memory_max_mib=SMALL_MIB
    )
    print(peak)
    assert peak.added_mib < SMALL_MIB + BEYOND_MIB_MAX


def test_many_destinations_take_no_more_than_their_share(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    bench = Bench(rig.Servers(kafka, s3), tmp_path, backlog(100_000, pipelines=2_000))
    peak = bench.measure(Case("many destinations", "one minute", 2_000), 0.0)
    print(peak)
    assert peak.objects >= 2_000
    assert peak.added_mib < ADDED_MIB_MAX


def test_worker_slows_at_its_bound_while_s3_is_away_and_recovers_by_itself(
    kafka: KafkaServer, tmp_path: Path
) -> None:
    # `measure` demands that the process which began has answered for every event at the end.
    with S3Server() as s3:
        bench = Bench(rig.Servers(kafka, s3), tmp_path, backlog(150_000))
        case = Case("no S3", "one minute", 20, refuse)
        peak = bench.measure(case, OUTAGE_SECONDS, memory_max_mib=SMALL_MIB)
    print(peak)
    assert peak.added_mib < SMALL_MIB + BEYOND_MIB_MAX
