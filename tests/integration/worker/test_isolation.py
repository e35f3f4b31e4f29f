"""A broken destination hurts nobody else, on a real broker and a real S3 server."""

import asyncio
import json
import random
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import pytest

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import (
    GRACE_SECONDS,
    LONG_SESSION_SECONDS,
    SETTLED_SECONDS_MAX,
    Lab,
    in_a_loop,
    wait_until,
)
from tests.chaos.oracle import Published, Target
from tests.chaos.s3_proxy import Fault, Request, Rule

DESTINATIONS = 20
DEAD = Target("dead", "dead/")
SOUND = tuple(Target(f"sound-{number}", f"sound-{number}/") for number in range(DESTINATIONS - 1))
WINDOWS = 3
LATE_SECONDS_MAX = 25.0
"""After a window's end and grace: what a busy machine may take, and less than a request, 30 s."""
MIB = 1024 * 1024
IDLE_MIB_MAX = 160
MEMORY_MAX_MIB = 16
"""The least that can be set."""


def only_dead(fault: Fault) -> Rule:
    def rule(request: Request) -> Fault:
        return fault if "/dead/" in request.target else Fault.NONE

    return rule


def lateness(receipt: Published) -> float:
    """Return the seconds from the end of a window and its grace to the receipt."""
    end = datetime.fromisoformat(receipt.value["window"]["end"])
    return (
        datetime.fromisoformat(receipt.headers["ce_time"]) - end
    ).total_seconds() - GRACE_SECONDS


def by_destination(receipts: list[Published], status: str) -> dict[str, list[Published]]:
    published = defaultdict(list)
    for receipt in receipts:
        if receipt.value["status"] == status:
            published[receipt.value["destination"]].append(receipt)
    return published


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.REFUSE])
@in_a_loop
async def test_nineteen_destinations_keep_their_freshness_beside_a_dead_one(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path, fault: Fault
) -> None:
    async with Lab(
        kafka.address,
        s3,
        tmp_path,
        partitions=2,
        targets=(DEAD, *SOUND),
        pipelines=("a", "b", "c"),
        session_seconds=LONG_SESSION_SECONDS,
    ) as lab:
        lab.proxy.rule = only_dead(fault)
        worker = await lab.start_worker()
        began = time.monotonic()
        async with lab.load.steady(100):

            async def enough() -> bool:
                published = by_destination(await lab.read_receipts(), "delivered")
                return all(len(published[it.id]) >= 2 * WINDOWS for it in SOUND)

            what = f"{WINDOWS} windows of two partitions at each sound one"
            await wait_until(enough, SETTLED_SECONDS_MAX, what)
            seconds = time.monotonic() - began
        published = by_destination(await lab.read_receipts(), "delivered")
        assert DEAD.id not in published
        late = sorted(lateness(it) for target in SOUND for it in published[target.id])
        assert late[-1] < LATE_SECONDS_MAX
        # The bucket is probed, not hammered: by far fewer requests than there is time for.
        asked = [it for it in lab.proxy.faults if it is fault]
        assert 1 <= len(asked) <= 25 + seconds
        assert "given up" not in worker.log


@in_a_loop
async def test_dead_destination_loses_its_oldest_windows_and_no_memory_beyond_its_share(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    chance = random.Random(7)
    targets = (DEAD, *SOUND[:3])
    settings = f"memory_max_mib = {MEMORY_MAX_MIB}"
    async with Lab(
        kafka.address, s3, tmp_path, partitions=1, targets=targets, settings=settings
    ) as lab:
        lab.proxy.rule = only_dead(Fault.REFUSE)
        worker = await lab.start_worker()
        sent = 0
        while not by_destination(await lab.read_receipts(), "failed"):
            for _ in range(10):
                value = json.dumps({"id": sent, "text": chance.randbytes(40_000).hex()}).encode()
                await lab.load.send_raw(value, pipeline="a", timestamp_ms=int(time.time() * 1000))
                sent += 1
            assert sent * 40_000 < 20 * MEMORY_MAX_MIB * MIB, "nothing was given up"
            await asyncio.sleep(0.1)
        lab.proxy.heal()
        await lab.settled()
        receipts = await lab.read_receipts()
        failed = by_destination(receipts, "failed")
        assert list(failed) == [DEAD.id]
        for receipt in failed[DEAD.id]:
            assert "given up early" in receipt.value["error"]["message"]
            assert receipt.value["error"]["retryable"]
        delivered = by_destination(receipts, "delivered")
        counts = {
            id_: sum(it.value["counts"]["delivered"] for it in delivered[id_])
            for id_ in (it.id for it in targets)
        }
        assert {counts[it.id] for it in SOUND[:3]} == {sent}
        given_up = sum(it.value["counts"]["delivered"] for it in failed[DEAD.id])
        assert counts[DEAD.id] + given_up == sent
        assert worker.rss_mib_max < IDLE_MIB_MAX + 4 * MEMORY_MAX_MIB
