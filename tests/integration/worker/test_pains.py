"""Pains of the field that only servers can show; `docs/guarantees.md` has the table of all twenty.

Only what no test elsewhere states is here.
"""

import asyncio
import gzip
import json
import re
import time
from collections.abc import Iterable
from pathlib import Path

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import (
    SETTLED_SECONDS_MAX,
    START_SECONDS_MAX,
    Lab,
    Worker,
    in_a_loop,
    wait_until,
)
from tests.chaos.oracle import NOT_FINAL, Published, Target
from tests.chaos.s3_proxy import Fault, Request
from tests.integration.worker.test_monitoring import address_of, scraped, total
from tests.integration.worker.test_streaming import WINDOW_SECONDS, Streams

EVERYTHING = Target("everything", "everything/")
MINUTE = 60


def new_lab(kafka: KafkaServer, s3: S3Server, folder: Path) -> Lab:
    return Lab(kafka.address, s3, folder, partitions=1, targets=(EVERYTHING,))


def taken_over(worker: Worker) -> int:
    return worker.log.count(": taken over at offset ")


def numbers(lab: Lab) -> list[int]:
    """The numbers of all lines of all objects; blocks."""
    return [
        json.loads(line)["n"]
        for stored in lab.objects()
        for line in gzip.decompress(stored.body).splitlines()
    ]


async def send_numbers(lab: Lab, numbers: Iterable[int], at: int) -> None:
    """Send an event for each number, all with one time in seconds, in one batch."""
    await asyncio.gather(
        *[
            lab.load.send_raw(b'{"n":%d}' % it, pipeline="orders", timestamp_ms=at * 1000)
            for it in numbers
        ]
    )


async def send_one_window(lab: Lab) -> None:
    """Send 20 events of a minute that is over."""
    await send_numbers(lab, range(20), int(time.time()) // MINUTE * MINUTE - MINUTE)


async def final_receipts(lab: Lab) -> list[Published]:
    """Return the receipts but those of seconds between two attempts, which a busy machine makes."""
    return [it for it in await lab.read_receipts() if it.value["status"] != NOT_FINAL]


async def require_waiting(lab: Lab) -> None:
    """Fail unless the window's end is recorded, and nothing passed it or says what became of it."""
    commit = (await lab.commits())[0]
    assert commit.offset == 0
    assert commit.closings
    assert await final_receipts(lab) == []


async def require_delivered_once(lab: Lab) -> None:
    """Fail unless the window is delivered by a later attempt, once, and committed beyond."""
    await lab.settled()
    (receipt,) = await final_receipts(lab)
    assert receipt.value["status"] == "delivered"
    assert receipt.value["attempts"] > 1
    assert await asyncio.to_thread(numbers, lab) == list(range(20))


@in_a_loop
async def test_pain_01_zombie_with_half_of_a_window_never_overwrites_the_whole_object(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Streams(kafka.address, s3, tmp_path, targets=(EVERYTHING,)) as lab:
        zombie = await lab.start()
        address = await address_of(zombie)
        start = int(time.time() + lab.ahead) // WINDOW_SECONDS * WINDOW_SECONDS
        await asyncio.gather(
            send_numbers(lab, range(10), start - WINDOW_SECONDS),
            send_numbers(lab, range(10, 20), start),
        )

        async def has_half() -> bool:
            return total(await scraped(address), "events_total") == 20

        await wait_until(has_half, SETTLED_SECONDS_MAX, "it has half of the window")
        await lab.published(1)
        zombie.pause()
        await send_numbers(lab, range(20, 30), start)
        successor = await lab.start()
        lab.close_window()

        async def is_whole_published() -> bool:
            # The zombie may have slept before it committed: then the first one has two receipts.
            counts = {it.value["counts"]["delivered"] for it in await lab.read_receipts()}
            return counts == {10, 20}

        await wait_until(
            is_whole_published,
            SETTLED_SECONDS_MAX,
            "receipts of the window before and the whole one",
        )
        whole = await asyncio.to_thread(lab.objects)
        zombie.resume()
        await successor.terminate()
        await wait_until(
            lambda: taken_over(zombie) == 2, START_SECONDS_MAX, "the zombie is a member again"
        )
        await lab.settled()
        assert await asyncio.to_thread(lab.objects) == whole
        assert sorted(await asyncio.to_thread(numbers, lab)) == list(range(30))
        assert lab.proxy.stored_more_than_once() == []


@in_a_loop
async def test_pain_02_object_found_under_the_key_is_no_delivery_when_it_is_not_the_windows_own(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with new_lab(kafka, s3, tmp_path) as lab:
        found: list[str] = []

        async def be_faster(request: Request) -> None:
            if request.is_put and not found:
                found.append(request.target.partition("?")[0].removeprefix(f"/{lab.bucket}/"))
                await asyncio.to_thread(
                    lab._client.put_object, Bucket=lab.bucket, Key=found[0], Body=b"another's"
                )

        lab.proxy.before = be_faster
        worker = await lab.start_worker()
        await send_one_window(lab)
        await worker.logged(": attempt 1: ObjectDiffers")
        await require_waiting(lab)
        (stored,) = await asyncio.to_thread(lab.objects)
        assert (stored.key, stored.body) == (found[0], b"another's")
        await asyncio.to_thread(lab._client.delete_object, Bucket=lab.bucket, Key=found[0])
        await require_delivered_once(lab)
        assert await asyncio.to_thread(lab.keys) == found


@in_a_loop
async def test_pain_03_refusal_403_parks_the_window_and_commits_nothing_beyond_it(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with new_lab(kafka, s3, tmp_path) as lab:
        denied = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:PutObject"],
            "Resource": [f"arn:aws:s3:::{lab.bucket}/*"],
        }
        await asyncio.to_thread(
            lab._client.put_bucket_policy,
            Bucket=lab.bucket,
            Policy=json.dumps({"Version": "2012-10-17", "Statement": [denied]}),
        )
        worker = await lab.start_worker()
        await send_one_window(lab)
        await worker.logged(": attempt 1: AccessDenied")
        await require_waiting(lab)
        await asyncio.to_thread(lab._client.delete_bucket_policy, Bucket=lab.bucket)
        await require_delivered_once(lab)


@in_a_loop
async def test_pain_06_workers_that_join_and_leave_under_load_lose_and_repeat_nothing(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path) as lab:
        first = await lab.start_worker()
        async with lab.load.steady(200):
            await lab.published(1)
            lab.proxy.rule = lambda request: Fault.HOLD if request.is_put else Fault.NONE

            async def underway() -> bool:
                # So many that they are of later windows than those which were let through before.
                held = lab.proxy.faults.count(Fault.HOLD)
                commits = await lab.commits()
                return held >= 3 * len(commits) and all(it.closings for it in commits.values())

            await wait_until(
                underway,
                SETTLED_SECONDS_MAX,
                "each partition has a window with an upload on its way",
            )
            later = await lab.start_workers(2)
            await wait_until(
                lambda: all(map(taken_over, later)), START_SECONDS_MAX, "both have partitions"
            )
            lab.proxy.heal()
            lab.proxy.release()
            before = sum(map(taken_over, later))
            await first.terminate()
            await wait_until(
                lambda: sum(map(taken_over, later)) > before,
                START_SECONDS_MAX,
                "its partitions have others",
            )
        await lab.settled()
        await lab.verify()
        # Partitions have moved while windows were on their way: recorded, or even uploaded.
        found_there = any(it.request.is_put and it.status == 412 for it in lab.proxy.log)
        logs = [it.log_file.read_text("utf-8") for it in lab.workers]
        assert found_there or any(re.search(r", recorded closings: [1-9]", log) for log in logs)
