"""Workers with `group_instance_id`: they restart without a rebalance, and no id has two workers."""

import re
from pathlib import Path

from stream_app.cli.common import STATUS_WRONG
from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import (
    INSTANCE_VARIABLE,
    LONG_SESSION_SECONDS,
    PARTITIONS,
    START_SECONDS_MAX,
    Lab,
    Worker,
    in_a_loop,
    wait_until,
)

WORKERS = PARTITIONS
RATE = 20.0
SAME = {INSTANCE_VARIABLE: "worker-0"}


def rebalances(worker: Worker) -> int:
    return worker.log.count("revoked: ")


def held(worker: Worker) -> set[str]:
    """Return the one partition of the last assignment; nothing where that had another number."""
    found = re.findall(r"assigned: (\d+) partitions? of \S+: (\S+)", worker.log)
    return {numbers for count, numbers in found[-1:] if count == "1"}


@in_a_loop
async def test_rolling_restart_of_four_workers_is_no_rebalance(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(
        kafka.address, s3, tmp_path, session_seconds=LONG_SESSION_SECONDS, static=True
    ) as lab:
        workers = [lab.launch_worker() for _ in range(WORKERS)]
        await wait_until(
            lambda: len({number for it in workers for number in held(it)}) == WORKERS,
            START_SECONDS_MAX,
            "each worker has one partition",
        )
        places = [held(it) for it in workers]
        async with lab.load.steady(RATE):
            for number in range(WORKERS):
                others = [it for it in workers if it is not workers[number]]
                before = [rebalances(it) for it in others]
                if number % 2:
                    workers[number].kill()
                else:
                    await workers[number].terminate()
                workers[number] = lab.launch_worker()
                await workers[number].logged("taken over at")
                assert held(workers[number]) == places[number]
                assert [rebalances(it) for it in others] == before
        await lab.settled()
        await lab.verify()
        assert [rebalances(it) for it in workers] == [0] * WORKERS


@in_a_loop
async def test_worker_whose_place_another_one_takes_ends_with_one_error_and_stays_away(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1) as lab:
        first = lab.launch_worker(environment=SAME)
        await first.logged("taken over at")
        async with lab.load.steady(RATE):
            second = lab.launch_worker(environment=SAME)
            await second.logged("taken over at")
            assert await first.ended() == STATUS_WRONG
        await lab.settled()
        await lab.verify()
        assert second.running
        crashed = [it for it in first.log.splitlines() if "crashed; nothing more is" in it]
        assert len(crashed) == 1
        assert "another worker has joined the group with group_instance_id 'worker-0'" in crashed[0]


@in_a_loop
async def test_worker_that_slept_while_another_one_took_its_place_changes_nothing(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(
        kafka.address, s3, tmp_path, partitions=1, session_seconds=LONG_SESSION_SECONDS
    ) as lab:
        first = lab.launch_worker(environment=SAME)
        await first.logged("taken over at")
        async with lab.load.steady(RATE):
            await lab.published(1)
            first.pause()
            second = lab.launch_worker(environment=SAME)
            await second.logged("taken over at")
            await lab.published(len(lab.receipts) + 2)
            first.resume()
            assert await first.ended() == STATUS_WRONG
        await lab.settled()
        await lab.verify()
        assert second.running
