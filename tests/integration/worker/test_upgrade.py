"""Upgrade from the version before, and the way back: one worker begins, another version goes on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import SETTLED_SECONDS_MAX, TARGETS, Lab, Worker, in_a_loop, wait_until
from tests.chaos.s3_proxy import Fault, Request
from tests.formats.versions import unpacked

EVENTS: Final = 60
KNOWN_BEFORE: Final = tuple(replace(it, settings="") for it in TARGETS)
"""Destinations without a setting that 0.1.0 does not have."""
ACCEPTING: Final = {"STREAM_APP_KAFKA_ACCEPT_UNMARKED_COMMITS": "true"}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Environment in which a worker is one of 0.1.0."""
    folder = unpacked("0.1.0", tmp_path_factory.mktemp("0.1.0"))
    return {"PYTHONPATH": str(folder)}


def half(request: Request) -> Fault:
    """Let S3 fail for the objects of one destination."""
    return Fault.BROKEN if "/everything/" in request.path else Fault.NONE


async def half_delivered(lab: Lab, worker: Worker) -> None:
    """Return once windows of one destination are delivered, and those of the other recorded."""
    await worker.logged("ready: ")
    lab.proxy.rule = half
    await lab.load.send(EVENTS)

    async def is_recorded() -> bool:
        return all(it.closings for it in (await lab.commits()).values() if it.log_end)

    async def is_delivered() -> bool:
        return any(it.value["status"] == "delivered" for it in await lab.read_receipts())

    await wait_until(is_recorded, SETTLED_SECONDS_MAX, "windows are recorded")
    await wait_until(is_delivered, SETTLED_SECONDS_MAX, "a destination has its events")
    await lab.load.send(EVENTS)  # a window that is open when the worker is killed


async def until_group_is_empty(lab: Lab) -> None:
    """Return once Kafka has removed the killed worker: an upgrade begins when all are stopped."""
    admin = AIOKafkaAdminClient(bootstrap_servers=lab.broker)
    await admin.start()

    async def is_empty() -> bool:
        (response,) = await admin.describe_consumer_groups([lab.name])
        (group,) = response.groups
        return group[2] == "Empty"

    try:
        await wait_until(is_empty, SETTLED_SECONDS_MAX, "the group has no member")
    finally:
        await admin.close()


@in_a_loop
async def test_windows_that_0_1_has_recorded_are_delivered_under_their_names(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path, before: Mapping[str, str]
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=2, targets=KNOWN_BEFORE) as lab:
        old = lab.launch_worker(environment=before)
        await half_delivered(lab, old)
        old.kill()
        await until_group_is_empty(lab)
        lab.proxy.heal()
        new = lab.launch_worker(environment=ACCEPTING)
        await lab.settled()
        await lab.verify()
        await new.terminate()

        # From then on each commit has the mark.
        await lab.start_worker()
        await lab.load.send(EVENTS)
        await lab.settled()
        await lab.verify()


@in_a_loop
async def test_0_1_refuses_the_commits_of_this_version_and_loses_nothing(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path, before: Mapping[str, str]
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=2, targets=KNOWN_BEFORE) as lab:
        new = lab.launch_worker()
        await half_delivered(lab, new)
        new.kill()
        await until_group_is_empty(lab)
        old = lab.launch_worker(environment=before)
        assert await old.ended() == 1
        assert "carries metadata that this version does not know" in old.log
        lab.proxy.heal()
        await lab.start_worker()
        await lab.settled()
        await lab.verify()
