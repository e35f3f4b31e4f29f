"""The destinations of a running worker change with its file, and no event notices."""

import gzip
import json
import signal
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import (
    LONG_SESSION_SECONDS,
    SETTLED_SECONDS_MAX,
    START_SECONDS_MAX,
    Lab,
    Worker,
    in_a_loop,
    wait_until,
)
from tests.chaos.oracle import Published, Target

STAYS = Target("stays", "stays/")
GOES = Target("goes", "goes/")
COMES = Target("comes", "comes/", payload="[$event.id]")
OLD = Target("changes", "changes/", payload="{ id: $event.id, by: 'old' }")
NEW = Target("changes", "moved/", payload="{ id: $event.id, by: 'new' }")

Run = tuple[int, int]
"""First offset and the one behind the last."""


def runs(receipts: list[Published], destination: str) -> dict[int, list[Run]]:
    """Return the runs of offsets that a destination's final receipts speak of, by partition."""
    published: dict[int, list[Run]] = defaultdict(list)
    for receipt in receipts:
        value = receipt.value
        if value["destination"] == destination:
            assert value["status"] == "delivered", value
            source = value["source"]
            published[source["partition"]].append((source["first_offset"], source["end_offset"]))
    return {partition: sorted(found) for partition, found in published.items()}


def without_holes(found: list[Run]) -> bool:
    return all(one[1] == two[0] for one, two in pairwise(found))


def lines(lab: Lab, receipts: list[Published], destination: str) -> list[object]:
    keys = {it.value["object"]["key"] for it in receipts if it.value["destination"] == destination}
    return [
        json.loads(line)
        for stored in lab.objects()
        if stored.key in keys
        for line in gzip.decompress(stored.body).splitlines()
    ]


@in_a_loop
async def test_destinations_come_go_and_change_under_load_without_a_lost_or_repeated_event(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(
        kafka.address,
        s3,
        tmp_path,
        partitions=2,
        targets=(STAYS, GOES, OLD),
        session_seconds=LONG_SESSION_SECONDS,
    ) as lab:
        worker = await lab.start_worker()

        async def published(destination: str, prefix: str, windows: int) -> None:
            async def enough() -> bool:
                found = [
                    it
                    for it in await lab.read_receipts()
                    if it.value["destination"] == destination
                    and it.value["object"]["key"].startswith(prefix)
                ]
                return len(found) >= windows

            await wait_until(
                enough, SETTLED_SECONDS_MAX, f"{windows} windows of {destination} at {prefix}"
            )

        async with lab.load.steady(200):
            await published("changes", OLD.prefix, 4)
            lab.targets = (STAYS, COMES, NEW)
            lab.configure()
            await worker.logged("from the next windows on 3 destinations: 1 added, 1 changed, 1 r")
            await published("changes", NEW.prefix, 4)
        await lab.settled()
        receipts = await lab.read_receipts()
        count = len(lab.load.sent)
        ends = {
            partition: max(it.offset for it in lab.load.sent if it.partition == partition) + 1
            for partition in (0, 1)
        }
        for partition, end in ends.items():
            for destination in ("stays", "changes"):
                found = runs(receipts, destination)[partition]
                assert (found[0][0], found[-1][1]) == (0, end)
                assert without_holes(found)
            gone, come = runs(receipts, "goes")[partition], runs(receipts, "comes")[partition]
            # The one ends where the other begins: the same window's end.
            assert (gone[0][0], come[-1][1]) == (0, end)
            assert gone[-1][1] == come[0][0]
            assert without_holes(gone)
            assert without_holes(come)
        ids = sorted(it.event.id for it in lab.load.sent)
        changed = lines(lab, receipts, "changes")
        assert sorted(it["id"] for it in changed) == ids  # type: ignore[index]
        assert {it["by"] for it in changed} == {"old", "new"}  # type: ignore[index]
        both = lines(lab, receipts, "goes") + lines(lab, receipts, "comes")
        assert len(both) == count
        assert sorted(it[0] if isinstance(it, list) else it["id"] for it in both) == ids  # type: ignore[index]
        assert worker.running


@in_a_loop
async def test_mistake_keeps_the_old_destinations_and_is_logged_with_its_place(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=(STAYS,)) as lab:
        worker = await lab.start_worker()
        right = lab.configuration.read_text()
        lab.configuration.write_text(right + 'payload = "$event."\n')
        await worker.logged("not taken, the old destinations stay: ")
        await worker.logged(
            "[[destinations]] 1 (id 'stays'): payload does not compile: SyntaxError"
        )
        lab.configuration.unlink()
        await worker.logged("there is no such file")
        await lab.load.send(10)
        await lab.settled()
        lab.configuration.write_text(right.replace("grace_seconds = 1", "grace_seconds = 2"))
        await worker.logged("[delivery] has changed; restart the worker to use it")
        await worker.logged("the destinations have not changed")
        await lab.verify()


@in_a_loop
async def test_sighup_in_the_first_seconds_of_a_worker_is_harmless(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=(STAYS,)) as lab:
        worker = lab.launch_worker()
        await wait_until(
            worker_ignores_hangups(worker), START_SECONDS_MAX, "a worker at its first instruction"
        )
        lab.targets = (STAYS, COMES)

        async def hung_up_until_ready() -> bool:
            worker.process.send_signal(signal.SIGHUP)
            return not worker.running or "ready: " in worker.log

        await wait_until(hung_up_until_ready, START_SECONDS_MAX, "ready under SIGHUP")
        assert worker.running, worker.log
        lab.configure()
        await worker.logged("from the next windows on 2 destinations: 1 added")


def worker_ignores_hangups(worker: Worker) -> Callable[[], bool]:
    """Return a check whether the process ignores or handles SIGHUP by now."""

    def check() -> bool:
        status = Path(f"/proc/{worker.process.pid}/status").read_text("ascii")
        masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
        bit = 1 << (signal.SIGHUP - 1)
        return any(int(masks[name], 16) & bit for name in ("SigIgn", "SigCgt"))

    return check


@in_a_loop
async def test_sighup_reads_the_file_at_once(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=(STAYS,)) as lab:
        worker = await lab.start_worker()
        worker.process.send_signal(signal.SIGHUP)
        await worker.logged("the destinations have not changed")
        assert worker.running
