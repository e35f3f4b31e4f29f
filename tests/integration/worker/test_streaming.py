"""Objects that leave in parts while their window is open: real workers, real parts of 8 MiB.

A window lasts ten minutes here, and the workers' clocks stand at its beginning, so that it is open
until a test sets the clocks ahead. Events are small and hardly compress; the expression of `BULKY`
writes each of them out many times, farther apart than the compressor looks back. So an object of
many megabytes takes little of Kafka.
"""

import asyncio
import os
import re
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest

from stream_app.config.files import ConfigSource
from stream_app.core.object_body import PART_BYTES
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.s3.bucket_policy import bucket_policy
from tests.chaos.clocked_worker import set_clock
from tests.chaos.harness import PIPELINES, ROOT, Lab, Worker, in_a_lab, in_a_loop, wait_until
from tests.chaos.injector import launch_clocked
from tests.chaos.oracle import Published, Target
from tests.chaos.s3_proxy import Fault, Request
from tests.least_privilege import Policy, least_privilege

WINDOW_SECONDS: Final = 600
BULK_BYTES: Final = 40_000
"""Of one event, more than the compressor looks back."""
TIMES: Final = 20
"""How often a line has it: it may have 1 MiB."""
BULKY: Final = Target(
    "bulky", "bulky/", payload=f"{{ id: $event.id, text: $event.body.text.repeat({TIMES}) }}"
)
SMALL: Final = Target("small", "small/", payload="{ id: $event.id }")
PLAIN: Final = Target("plain", "plain/")
PART_EVENTS: Final = 16
"""So many fill a part: base64 keeps three quarters of its size."""
MEMORY_MAX_MIB: Final = 32
SECONDS_MAX: Final = 120.0
ACCESS_DENIED: Final = "AccessDenied"
PRINCIPAL: Final = "arn:aws:iam::123456789012:role/stream-app"


@dataclass
class Streams(Lab):
    """A lab whose window stays open until a test closes it."""

    partitions: int = 1
    window_seconds: int = WINDOW_SECONDS
    targets: tuple[Target, ...] = (BULKY,)
    pipelines: tuple[str, ...] = ("orders",)
    clock_step_seconds_max: float = 2 * WINDOW_SECONDS
    clocks: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ahead = -time.time() % WINDOW_SECONDS + 1
        """How many seconds the workers' clocks are ahead."""
        self.load.at_ms = int((time.time() + self.ahead) * 1000)

    async def start(self) -> Worker:
        """Start a worker within the window."""
        worker, clock = launch_clocked(self)
        set_clock(clock, self.ahead)
        self.clocks.append(clock)
        await worker.logged("ready: ")
        return worker

    def close_window(self) -> None:
        """Let the window be over."""
        self.ahead += WINDOW_SECONDS
        for clock in self.clocks:
            set_clock(clock, self.ahead)

    async def fill(self) -> None:
        """Send enough for a part."""
        await self.load.send(PART_EVENTS, bulk_bytes=BULK_BYTES)

    async def leaves(self, *, parts: int = 1, beside: str = "") -> None:
        """Wait until S3 has taken so many parts of an upload beside one that is known."""

        def taken() -> int:
            return sum(it.upload_id != beside for it in self.proxy.accepted_parts())

        await wait_until(lambda: taken() >= parts, SECONDS_MAX, f"{parts} parts leave")

    async def invisible(self) -> None:
        """Fail if anything can be seen, or is recorded."""
        assert await asyncio.to_thread(self.keys) == []
        assert await self.read_receipts() == []
        assert (await self.commits())[0].closings == 0

    async def delivered(self) -> Published:
        """Wait for all, judge it, and return the receipt of the one object that there is."""
        await self.settled()
        await self.verify()
        (key,) = await asyncio.to_thread(self.keys)
        published = [it for it in self.receipts if it.value["status"] == "delivered"]
        assert {it.value["object"]["key"] for it in published} == {key}
        return published[-1]

    async def redeliver(self) -> None:
        """Run `stream-app redeliver` over everything that is owed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "stream_app", "redeliver"),
            *("--config", str(self.configuration)),
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.s3.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SECONDS_MAX):
            output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()

    async def none_left(self) -> None:
        """Fail if uploads stay."""
        await wait_until(lambda: not self.uploads(), SECONDS_MAX, "no upload is left")


@pytest.fixture
def lab(kafka: KafkaServer, s3: S3Server, tmp_path: Path) -> Streams:
    return Streams(kafka.address, s3, tmp_path)


def part_numbers(lab: Lab) -> list[int | None]:
    return [it.part for it in lab.proxy.accepted_parts()]


def closing_time(key: str) -> float:
    match = re.search(r"/(\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)-[0-9a-f]{64}\.gz$", key)
    assert match is not None, key
    return datetime.strptime(match[1], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC).timestamp()


async def killed_before(lab: Streams, worker: Worker, which: Callable[[Request], bool]) -> None:
    """Kill a worker at the first request of a kind, which S3 does not see."""

    async def kill(request: Request) -> None:
        if which(request):
            worker.kill()
            raise ConnectionResetError

    lab.proxy.before = kill
    await wait_until(lambda: not worker.running, SECONDS_MAX, "a crash")
    # The dead worker's other requests may still be on their way here.
    await wait_until(lambda: not lab.proxy.connected, SECONDS_MAX, "its connections are closed")
    lab.proxy.heal()


async def killed_after_the_last_request(lab: Streams, worker: Worker) -> None:
    """Close the window, and kill its worker when S3 has completed the upload."""

    async def kill(request: Request) -> None:
        if request.is_complete:
            worker.kill()

    lab.proxy.after = kill
    lab.close_window()
    await wait_until(lambda: not worker.running, SECONDS_MAX, "a crash after the last request")
    lab.proxy.heal()


@in_a_loop
async def test_large_object_leaves_in_parts_while_its_window_is_open(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Streams(kafka.address, s3, tmp_path, targets=(PLAIN,)) as lab:
        await lab.start()
        began = time.time() + lab.ahead
        await lab.load.send(10_000, bulk_bytes=3_000)
        await lab.leaves(parts=2)
        ended = time.time() + lab.ahead
        await lab.invisible()
        ((upload_id, key),) = (await asyncio.to_thread(lab.uploads)).items()
        listed = lab._client.list_parts(Bucket=lab.bucket, Key=key, UploadId=upload_id)["Parts"]
        assert [it["PartNumber"] for it in listed] == [1, 2]
        assert all(it["Size"] >= PART_BYTES for it in listed)
        recorded: list[int] = []

        async def look(request: Request) -> None:
            if request.is_complete:
                recorded.append((await lab.commits())[0].closings)
                assert await asyncio.to_thread(lab.keys) == []

        lab.proxy.before = look
        lab.close_window()
        receipt = await lab.delivered()
        assert [bool(it) for it in recorded] == [True], "completed before the closing was recorded"
        named = receipt.value["object"]
        assert named["key"] == key
        # The closing time is that of the first part, ten minutes before the end was decided.
        assert began - 1 <= closing_time(key) <= ended
        assert datetime.fromisoformat(receipt.value["uploaded_at"]).timestamp() == closing_time(key)
        (stored,) = lab.objects()
        member = zlib.decompressobj(wbits=31)
        assert len(member.decompress(stored.body)) == named["uncompressed_size"]
        assert member.eof
        assert member.unused_data == b"", "more than one gzip member"
        assert part_numbers(lab) == [1, 2, 3]
        assert receipt.value["attempts"] == 1
        await lab.none_left()


@in_a_loop
async def test_large_object_of_zstd_leaves_in_parts_and_is_found_again_after_a_crash(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    target = replace(PLAIN, settings='format = "zstd"')
    async with Streams(kafka.address, s3, tmp_path, targets=(target,)) as lab:
        worker = await lab.start()
        await lab.load.send(10_000, bulk_bytes=3_000)
        await lab.leaves(parts=2)

        await killed_after_the_last_request(lab, worker)
        await lab.start()
        receipt = await lab.delivered()
        assert receipt.value["already_existed"]
        (stored,) = lab.objects()
        assert stored.key.endswith(".zst")
        assert stored.body.startswith(b"\x28\xb5\x2f\xfd")
        head = lab._client.head_object(Bucket=lab.bucket, Key=stored.key)
        assert head["ContentType"] == "application/zstd"
        await lab.none_left()


@in_a_lab
async def test_killed_while_a_part_leaves_the_open_window(lab: Streams) -> None:
    worker = await lab.start()
    await lab.fill()
    await lab.leaves()
    await asyncio.gather(killed_before(lab, worker, lambda request: request.part == 2), lab.fill())
    await lab.invisible()
    (abandoned,) = await asyncio.to_thread(lab.uploads)
    await lab.start()
    await lab.leaves(beside=abandoned)
    lab.close_window()
    await lab.delivered()
    # The dead worker's upload has no owner; a lifecycle rule removes it.
    assert list(await asyncio.to_thread(lab.uploads)) == [abandoned]


@in_a_lab
async def test_killed_between_the_recorded_closing_and_the_last_request(lab: Streams) -> None:
    worker = await lab.start()
    await lab.fill()
    await lab.leaves()
    (key,) = (await asyncio.to_thread(lab.uploads)).values()
    lab.close_window()
    await killed_before(lab, worker, lambda request: request.is_complete)
    assert await asyncio.to_thread(lab.keys) == []
    assert (await lab.commits())[0].closings
    await lab.start()
    receipt = await lab.delivered()
    assert receipt.value["object"]["key"] == key
    assert not receipt.value["already_existed"]


@in_a_lab
async def test_killed_between_the_last_request_and_the_receipt(lab: Streams) -> None:
    worker = await lab.start()
    await lab.fill()
    await lab.leaves()

    await killed_after_the_last_request(lab, worker)
    (key,) = await asyncio.to_thread(lab.keys)
    assert await lab.read_receipts() == []
    await lab.start()
    receipt = await lab.delivered()
    assert receipt.value["object"]["key"] == key
    assert receipt.value["already_existed"]
    await lab.none_left()


@in_a_lab
async def test_zombie_with_a_part_on_its_way_changes_nothing_and_leaves_no_upload(
    lab: Streams,
) -> None:
    zombie, stopped, released = await lab.start(), asyncio.Event(), asyncio.Event()

    async def stop(request: Request) -> None:
        if request.part and not stopped.is_set():
            zombie.pause()
            stopped.set()
            await released.wait()

    lab.proxy.before = stop
    await lab.fill()
    await stopped.wait()
    lab.proxy.heal()
    await lab.start()
    await lab.leaves()
    lab.close_window()
    await lab.published(1)
    released.set()
    zombie.resume()
    await lab.none_left()
    await lab.delivered()
    assert zombie.running
    assert "Traceback" not in zombie.log


@in_a_lab
async def test_zombie_at_the_last_request_finds_the_object_of_its_successor(lab: Streams) -> None:
    zombie, stopped, released = await lab.start(), asyncio.Event(), asyncio.Event()
    await lab.fill()
    await lab.leaves()

    async def stop(request: Request) -> None:
        if request.is_complete and not stopped.is_set():
            zombie.pause()
            stopped.set()
            await released.wait()

    lab.proxy.before = stop
    lab.close_window()
    await stopped.wait()
    lab.proxy.heal()
    await lab.start()
    await lab.published(1)
    released.set()
    zombie.resume()
    await wait_until(
        lambda: any(it.request.is_complete and it.status == 412 for it in lab.proxy.log),
        SECONDS_MAX,
        "the zombie's last request is refused",
    )
    await lab.none_left()
    await lab.delivered()
    assert zombie.running
    assert "Traceback" not in zombie.log


@in_a_lab
async def test_part_that_fails_is_sent_again_and_no_other(lab: Streams) -> None:
    faults = cycle(
        [
            *(Fault.NONE, Fault.SLOW_DOWN, Fault.TEAR_AT_BODY, Fault.TEAR_IN_BODY),
            *(Fault.BROKEN, Fault.DAMAGE, Fault.LOSE_ANSWER, Fault.REFUSE),
        ]
    )
    await lab.start()
    lab.proxy.rule = lambda request: next(faults) if request.part else Fault.NONE
    for number in range(1, 4):
        await lab.fill()
        await arrives(lab, number)
    await lab.invisible()
    assert Fault.REFUSE in lab.proxy.faults
    lab.proxy.heal()
    lab.close_window()
    await lab.delivered()
    # S3 has a part again only if its answer was lost.
    assert sorted(learnt_parts(lab)) == [1, 2, 3, 4]
    await lab.none_left()


def learnt_parts(lab: Lab) -> list[int | None]:
    """The numbers of the parts that S3 has, as far as the worker knows."""
    taken = (it for it in lab.proxy.log if it.status == 200 and it.learnt)
    return [it.request.part for it in taken if it.request.part]


async def arrives(lab: Lab, number: int) -> None:
    await wait_until(lambda: number in learnt_parts(lab), SECONDS_MAX, f"part {number} leaves")


@in_a_lab
async def test_answer_to_the_last_request_is_lost(lab: Streams) -> None:
    worker = await lab.start()
    await lab.fill()
    await lab.leaves()
    lost = [Fault.LOSE_ANSWER]
    lab.proxy.rule = lambda request: lost.pop() if request.is_complete and lost else Fault.NONE
    lab.close_window()
    receipt = await lab.delivered()
    assert lost == []
    assert receipt.value["already_existed"]
    assert worker.running
    await lab.none_left()


@in_a_lab
async def test_no_right_is_needed_that_the_printed_policy_lacks(lab: Streams, s3: S3Server) -> None:
    destinations = ConfigSource(str(lab.configuration), {}).load().destinations
    policy = Policy.parse(bucket_policy(destinations, PRINCIPAL))
    async with least_privilege(s3, policy) as server:
        lab.proxy.upstream_port = server.port
        await lab.start()
        await lab.fill()
        await lab.leaves()
        lost = [Fault.LOSE_ANSWER]
        lab.proxy.rule = lambda it: lost.pop() if it.is_complete and lost else Fault.NONE
        lab.close_window()
        await lab.settled()
        await lab.none_left()
    receipt = (await lab.published(1))[-1]
    assert receipt.value["status"] == "delivered"
    assert receipt.value["already_existed"]
    assert server.allowed == {
        *("GetBucketLocation", "CreateMultipartUpload", "UploadPart"),
        *("CompleteMultipartUpload", "AbortMultipartUpload"),
    }
    assert server.used == policy.actions
    # A look at an object that is there, which it does without.
    assert server.refused == {"HeadObject"}


@pytest.mark.parametrize("when", ["a part", "the last request"])
@in_a_lab
async def test_upload_aborted_behind_the_workers_back_is_built_anew(
    lab: Streams, when: str
) -> None:
    worker = await lab.start()
    await lab.fill()
    await lab.leaves()
    (gone,) = await asyncio.to_thread(lab.abort_uploads)
    if when == "a part":
        await lab.fill()
        await worker.logged("forgotten and rebuilt from its commit")
        await lab.leaves(beside=gone)
        await lab.invisible()
    lab.close_window()
    await lab.delivered()
    assert worker.log.count("forgotten and rebuilt from its commit") == 1
    await lab.none_left()


@in_a_loop
async def test_refused_parts_are_given_up_and_aborted_and_can_be_redelivered(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    settings = "give_up_after_seconds = 1"
    async with Streams(kafka.address, s3, tmp_path, settings=settings) as lab:
        worker = await lab.start()
        await lab.fill()
        await lab.leaves()
        (key,) = (await asyncio.to_thread(lab.uploads)).values()
        lab.proxy.rule = lambda request: Fault.DENY if request.part else Fault.NONE
        await lab.fill()
        await worker.logged("attempt 1: AccessDenied")
        lab.close_window()
        await lab.settled()
        failed = next(it for it in await lab.published(1) if it.value["status"] == "failed")
        assert failed.value["error"]["code"] == ACCESS_DENIED
        assert failed.value["object"]["key"] == key
        assert await asyncio.to_thread(lab.keys) == []
        await lab.none_left()
        lab.proxy.heal()
        await lab.redeliver()
        assert await asyncio.to_thread(lab.keys) == [key]
        last = (await lab.read_receipts())[-1]
        assert last.value["status"] == "redelivered"
        lab.receipts[:] = [from_worker(last)]
        await lab.verify()


@dataclass
class PartSizes:
    """Sizes of all parts that were sent, and Cloudflare R2's rule about them."""

    sizes: dict[str | None, dict[int, int]] = field(default_factory=dict)

    async def note(self, request: Request) -> None:
        if request.part is not None:
            self.sizes.setdefault(request.upload_id, {})[request.part] = len(request.body)

    def rule(self, request: Request) -> Fault:
        if not request.is_complete:
            return Fault.NONE
        parts = self.sizes[request.upload_id]
        *sizes, last = (parts[number] for number in sorted(parts))
        return Fault.NONE if {*sizes} == {sizes[0]} and last <= sizes[0] else Fault.INVALID_PART


@in_a_lab
async def test_cloudflare_r2_completes_an_object_since_its_parts_have_one_size(
    lab: Streams,
) -> None:
    store = PartSizes()
    lab.proxy.before, lab.proxy.rule = store.note, store.rule
    worker = await lab.start()
    for parts in (1, 2, 3):
        await lab.fill()
        await lab.leaves(parts=parts)
    lab.close_window()
    await lab.delivered()
    (sizes,) = store.sizes.values()
    assert [sizes[number] for number in (1, 2, 3)] == [PART_BYTES] * 3
    assert "forgotten and rebuilt" not in worker.log
    await lab.none_left()


@in_a_loop
async def test_store_that_refuses_to_complete_an_object_holds_up_no_other(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    settings = "give_up_after_seconds = 2"
    targets = (BULKY, SMALL)
    async with Streams(kafka.address, s3, tmp_path, settings=settings, targets=targets) as lab:
        worker = await lab.start()
        for parts in (1, 2, 3):
            await lab.fill()
            await lab.leaves(parts=parts)
        lab.proxy.rule = lambda it: Fault.INVALID_PART if it.is_complete else Fault.NONE
        lab.close_window()
        await lab.settled()
        statuses = {it.value["destination"]: it.value for it in await lab.read_receipts()}
        assert statuses["small"]["status"] == "delivered"
        assert statuses["bulky"]["status"] == "failed"
        assert statuses["bulky"]["error"]["code"] == "InvalidPart"
        assert worker.log.count("forgotten and rebuilt from its commit") == 1
        await lab.none_left()


def from_worker(receipt: Published) -> Published:
    """Return a receipt as the oracle knows them: it judges workers."""
    return Published(receipt.key, receipt.headers, {**receipt.value, "status": "delivered"})


@in_a_loop
async def test_uploads_of_revoked_partitions_are_aborted_by_the_worker_that_lost_them(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Streams(kafka.address, s3, tmp_path, partitions=2, pipelines=PIPELINES) as lab:
        await lab.start()
        await lab.load.send(4 * PART_EVENTS, bulk_bytes=BULK_BYTES)
        await wait_until(
            lambda: len({it.path for it in lab.proxy.accepted_parts()}) == 2,
            SECONDS_MAX,
            "parts of both partitions leave",
        )
        first = await asyncio.to_thread(lab.uploads)
        assert len(first) == 2
        await lab.start()
        await wait_until(
            lambda: any(it.request.is_abort for it in lab.proxy.log), SECONDS_MAX, "an abort"
        )
        lab.close_window()
        await lab.settled()
        await lab.verify()
        aborted = {it.request.upload_id for it in lab.proxy.log if it.request.is_abort}
        completed = {it.request.upload_id for it in lab.proxy.log if it.request.is_complete}
        # The partition that stayed went on with its upload.
        assert len(aborted & first.keys()) == 1
        assert len(completed & first.keys()) == 1
        await lab.none_left()


@dataclass
class DeadBucket(Streams):
    """A lab where the large objects go to a bucket that is not there."""

    targets: tuple[Target, ...] = (PLAIN, SMALL)
    settings: str = f"memory_max_mib = {MEMORY_MAX_MIB}"

    def configure(self) -> None:
        super().configure()
        text = self.configuration.read_text("utf-8")
        large, bucket = f'id = "{PLAIN.id}"', f'bucket = "{self.bucket}'
        assert text.index(large) < text.index(bucket)
        self.configuration.write_text(text.replace(bucket, f"{bucket}-dead", 1), "utf-8")

    async def receipts_of(self, destination: str) -> list[Published]:
        return [it for it in await self.read_receipts() if it.value["destination"] == destination]


@pytest.mark.parametrize("window_seconds", [2, WINDOW_SECONDS])
@in_a_loop
async def test_parts_that_cannot_leave_keep_no_other_destination_waiting(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path, window_seconds: int
) -> None:
    async with DeadBucket(kafka.address, s3, tmp_path, window_seconds=window_seconds) as lab:
        if window_seconds < WINDOW_SECONDS:
            lab.load.at_ms = None
        worker = await lab.start()
        # Three times the memory, so that it is full of what cannot leave.
        for _ in range(30):
            await lab.load.send(80, bulk_bytes=BULK_BYTES)
        last = max(it.offset for it in lab.load.sent)

        async def served() -> bool:
            ends = [it.value["source"]["end_offset"] for it in await lab.receipts_of(SMALL.id)]
            return max(ends, default=0) > last * 3 // 4

        await wait_until(served, SECONDS_MAX, "the other destination is served")
        failed = [it for it in await lab.receipts_of(PLAIN.id) if it.value["status"] == "failed"]
        assert {it.value["error"]["code"] for it in failed} == {"NoSuchBucket"}
        assert worker.running
        sources = [it.value["source"] for it in await lab.receipts_of(SMALL.id)]
        published = {
            offset for it in sources for offset in range(it["first_offset"], it["end_offset"])
        }
        assert published == set(range(max(published) + 1))
