"""A worker joins and leaves under load: what it costs each partition; nothing is lost."""

import re
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import SETTLED_SECONDS_MAX, Lab, Worker, in_a_loop, wait_until
from tests.chaos.oracle import Committed

PARTITIONS = 8
WINDOW_SECONDS = 5
EVENTS_PER_SECOND = 300
WINDOWS_BETWEEN = 2
"""Windows that each partition delivers before the next change."""
CLOSINGS_MAX = 1
"""Beside the open window there is at most the one whose objects are on their way, and those that
were on their way before, where S3 is slow."""
READ_AGAIN_MAX = EVENTS_PER_SECOND * WINDOW_SECONDS * (1 + CLOSINGS_MAX)
"""Records of all partitions together."""
PIPELINES = [f"pipeline-{number}" for number in range(40)]


class Loaded(NamedTuple):
    """A partition that a worker goes on with."""

    partition: int
    how: str
    """`kept` or `taken over`."""
    offset: int
    closings: int


def loaded(worker: Worker, since: int) -> list[Loaded]:
    """Return what a worker's log says of the partitions it got since a place in it."""
    lines = re.findall(
        r"/(\d+): (kept|taken over) at offset (\d+), recorded closings: (\d+)", worker.log[since:]
    )
    return [Loaded(int(it), how, int(offset), int(n)) for it, how, offset, n in lines]


async def each_delivers(lab: Lab, windows: int) -> None:
    """Wait until each partition has receipts of so many further windows."""
    before = len(await lab.read_receipts())

    async def enough() -> bool:
        ends = defaultdict(set)
        for receipt in (await lab.read_receipts())[before:]:
            source = receipt.value["source"]
            ends[source["partition"]].add(source["end_offset"])
        return len(ends) == PARTITIONS and min(map(len, ends.values())) >= windows

    await wait_until(enough, SETTLED_SECONDS_MAX, f"{windows} windows of {PARTITIONS} partitions")


class Changed(NamedTuple):
    """Result of a change of the workers."""

    seconds: float
    """Until each partition was in service again, from the start or the end of a process on."""
    read_again: int
    """At most so many records: from where the partitions go on to where their logs ended when the
    change began. What comes meanwhile is read for the first time."""
    closings_added: int
    """The most that a partition's commit has more of them than when the change began."""


class Change:
    """Notes when a change of the workers begins, and waits for its end."""

    def __init__(self, lab: Lab, before: Mapping[int, Committed]) -> None:
        self._lab = lab
        self._before = before
        self._began = time.monotonic()
        self._places = {worker.name: len(worker.log) for worker in lab.workers}

    async def ended(self) -> Changed:
        """Return where the running workers go on, once all partitions are dealt out again."""
        await wait_until(
            lambda: {it.partition for it in self._found()} == set(range(PARTITIONS)),
            SETTLED_SECONDS_MAX,
            "each partition has an owner again",
        )
        seconds = time.monotonic() - self._began
        found, before = self._found(), self._before
        offsets = {it.partition: it.offset for it in found}
        read_again = sum(max(0, before[it].log_end - offset) for it, offset in offsets.items())
        closings_added = max(it.closings - before[it.partition].closings for it in found)
        return Changed(seconds, read_again, closings_added)

    def _found(self) -> list[Loaded]:
        return [
            it
            for worker in self._lab.running
            for it in loaded(worker, self._places.get(worker.name, 0))
        ]


@in_a_loop
async def test_worker_that_joins_and_leaves_costs_a_partition_no_more_than_its_open_window(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(
        kafka.address,
        s3,
        tmp_path,
        partitions=PARTITIONS,
        window_seconds=WINDOW_SECONDS,
        pipelines=PIPELINES,
    ) as lab:
        first = await lab.start_worker()
        async with lab.load.steady(EVENTS_PER_SECOND):
            await each_delivers(lab, WINDOWS_BETWEEN)
            change = Change(lab, await lab.commits())
            second = await lab.start_worker()
            joined = await change.ended()
            await each_delivers(lab, WINDOWS_BETWEEN)
            change = Change(lab, await lab.commits())
            await first.terminate()
            left = await change.ended()
            await each_delivers(lab, WINDOWS_BETWEEN)
        await lab.settled()
        await lab.verify()
        assert {it.partition for it in loaded(second, 0)} == set(range(PARTITIONS))
        for name, changed in (("joined", joined), ("left", left)):
            print(f"{name}: {changed.seconds:.1f} s, {changed.read_again} records again")
            assert changed.read_again <= READ_AGAIN_MAX
            assert changed.closings_added <= CLOSINGS_MAX
