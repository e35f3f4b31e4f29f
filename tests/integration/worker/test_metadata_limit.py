"""A broker that takes less metadata in a commit than Kafka's default, and a destination away."""

import asyncio
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import SETTLED_SECONDS_MAX, Lab, Worker, in_a_loop, wait_until
from tests.chaos.oracle import Target
from tests.chaos.s3_proxy import Fault, Request

METADATA_BYTES_MAX: Final = 128
"""Of the broker: room for some 30 windows."""
REFUSED_SECONDS_MAX: Final = 300.0
"""For as many windows, of a second each on an idle machine."""
REFUSED: Final = "the broker refuses a commit as too large"
WELL: Final = Target("well", "well/")
AWAY: Final = Target("away", "away/")


@pytest.fixture
def strict_kafka() -> Iterator[KafkaServer]:
    with KafkaServer(properties={"offset.metadata.max.bytes": f"{METADATA_BYTES_MAX}"}) as server:
        yield server


async def named(lab: Lab, destination: str, status: str) -> set[int]:
    """Return the events that receipts of this status name; a receipt may come twice."""
    receipts = [
        it.value["source"]
        for it in await lab.read_receipts()
        if (it.value["destination"], it.value["status"]) == (destination, status)
    ]
    return {n for it in receipts for n in range(it["first_offset"], it["end_offset"])}


def lines(lab: Lab, target: Target) -> list[int]:
    """Return the events in a destination's objects, sorted."""
    bodies = [it.body for it in lab.objects() if it.key.startswith(target.prefix)]
    return sorted(
        json.loads(it)["id"] for body in bodies for it in gzip.decompress(body).splitlines()
    )


@in_a_loop
async def test_lower_limit_of_the_broker_holds_windows_back_and_crashes_no_worker(
    strict_kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(
        strict_kafka.address, s3, tmp_path, partitions=1, window_seconds=1, targets=(WELL, AWAY)
    ) as lab:
        lab.proxy.rule = only_away
        sent = 0

        async def send_until_refused(worker: Worker) -> None:
            nonlocal sent
            deadline = time.monotonic() + REFUSED_SECONDS_MAX
            while REFUSED not in worker.log:
                assert worker.running, worker.log
                assert time.monotonic() < deadline, "the bound was not met"
                await lab.load.send_raw(json.dumps({"id": sent}).encode(), pipeline="a")
                sent += 1
                await asyncio.sleep(0.5)

        async def well_has_all() -> bool:
            return len(await named(lab, "well", "delivered")) == sent

        first = await lab.start_worker()
        await send_until_refused(first)
        await wait_until(well_has_all, SETTLED_SECONDS_MAX, "the other destination is served")
        first.kill()
        # Its successor finds as many closings as the broker takes.
        second = await lab.start_worker()
        await send_until_refused(second)
        await wait_until(
            well_has_all, SETTLED_SECONDS_MAX, "the other destination is served by the successor"
        )
        lab.proxy.heal()
        await lab.settled()
        assert second.running
        for worker in (first, second):
            assert worker.log.count(REFUSED) == 1
            assert "crash" not in worker.log
        delivered, failed = [await named(lab, "away", it) for it in ("delivered", "failed")]
        assert delivered
        assert delivered | failed == set(range(sent))
        assert lines(lab, WELL) == list(range(sent))
        assert lines(lab, AWAY) == sorted(delivered)


def only_away(request: Request) -> Fault:
    return Fault.REFUSE if "/away/" in request.target else Fault.NONE
