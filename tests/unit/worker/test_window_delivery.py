"""The closing callback: order of effects, retries, giving up, and being taken away."""

import asyncio
import gzip
import hashlib
import logging
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from stream_app.config.settings import Destination
from stream_app.core.circuit_breaker import (
    ALONE_SECONDS_MIN,
    FAILURES_MAX,
    WINDOW_CODES,
    CircuitBreakers,
)
from stream_app.core.commit_metadata import Commit
from stream_app.core.delivery import State
from stream_app.core.partition import Partition
from stream_app.core.receipt import Message, Problem, Status, Stored
from stream_app.core.retry_policy import RetryPolicy
from stream_app.core.tasks import DeliveryTask, PartUpload
from stream_app.errors import (
    DeliveryError,
    FencedError,
    PermanentError,
    TooLargeError,
    TransientError,
    UploadGoneError,
)
from stream_app.monitoring.counts import Counts
from stream_app.worker.window_delivery import (
    BUCKET_UPLOADS_MAX,
    DESTINATION_UPLOADS_MAX,
    LATE_SECONDS,
    LOGGED_ATTEMPTS,
    PROBES_MAX,
    UPLOADS_MAX,
    Publish,
    WindowDelivery,
)
from tests.unit.core.builders import (
    EVENTS,
    EVERY,
    MINUTE,
    ORDERS,
    RULES,
    STREAMING,
    batch,
    collect,
    compress,
    noise,
    record,
    record_closings,
    stored,
)

SECONDS_MAX = 60.0
REFUSED = TransientError("EndpointConnectionError", "refused")
AWAY = TransientError("KafkaConnectionError", "away")
DENIED = PermanentError("AccessDenied", "Access Denied")


class BrokenError(Exception):
    """A defect in what the callback calls."""


@dataclass
class World:
    """A scripted S3 and a scripted Kafka; `effects` is what happened, in order."""

    answers: Sequence[Exception | None] = ()
    """Response of S3 to each put; None, and every further one, is success."""
    publishings: Sequence[Exception | None] = ()
    """The same for Kafka."""
    begins: Sequence[Exception | None] = ()
    """The same for each object in parts that is begun."""
    parts: Sequence[Exception | None] = ()
    """The same for each part."""
    completions: Sequence[Exception | None] = ()
    """The same for the end of each object in parts."""
    before_answer: Callable[[], None] = lambda: None
    """Called while a request to S3 is in progress."""
    effects: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """The parts of each upload that is neither completed nor aborted."""
    receipts: list[dict[str, Any]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    puts: int = 0
    sends: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    counts: Counts = field(default_factory=Counts)

    async def answer(self, kind: str, answers: Sequence[Exception | None]) -> None:
        """Let other tasks run, then respond as scripted."""
        number = self.asked[kind]
        self.asked[kind] += 1
        await asyncio.sleep(0)
        self.before_answer()
        error = answers[number] if number < len(answers) else None
        if error is not None:
            raise error

    async def begin(self, destination: Destination, key: str) -> str:
        assert key not in self.objects
        self.effects.append(f"begin {destination.bucket}")
        await self.answer("begin", self.begins)
        upload_id = f"upload-{self.asked['begin']}"
        self.uploads[upload_id] = {}
        return upload_id

    async def send(
        self,
        destination: Destination,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[int, bytes]],
        on_sent: Callable[[int, Any], None],
    ) -> None:
        assert key.startswith(destination.prefix)
        for number, content in parts:
            self.effects.append(f"part {number}")
            await self.answer("part", self.parts)
            self.uploads[upload_id][number] = content
            on_sent(number, f"part {number}")

    async def complete(
        self,
        destination: Destination,
        key: str,
        upload_id: str,
        sent: Sequence[Any],
        *,
        lines: int,
        size: int,
        size_compressed: int,
        sha256: str,
    ) -> Stored:
        self.effects.append(f"complete {destination.bucket} {lines} lines {size} bytes")
        await self.answer("complete", self.completions)
        parts = self.uploads.pop(upload_id)
        assert list(sent) == [f"part {number}" for number in sorted(parts)]
        content = b"".join(parts[number] for number in sorted(parts))
        assert sha256 == b64encode(hashlib.sha256(content).digest()).decode()
        assert size_compressed == len(content)
        self.objects[key] = content
        return stored(content)

    def abandon(self, destination: Destination, key: str, upload_id: str) -> None:
        assert key.startswith(destination.prefix)
        self.effects.append(f"abandon {upload_id}")
        self.uploads.pop(upload_id)

    async def put(
        self,
        destination: Destination,
        key: str,
        content: bytes,
        *,
        lines: int,
        size: int,
        sha256: str,
    ) -> Stored:
        number, self.puts = self.puts, self.puts + 1
        assert sha256 == b64encode(hashlib.sha256(content).digest()).decode()
        self.effects.append(f"put {destination.bucket} {lines} lines {size} bytes")
        self.before_answer()
        answer = self.answers[number] if number < len(self.answers) else None
        if answer is not None:
            raise answer
        already_existed = key in self.objects
        self.objects[key] = content
        return stored(content, already_existed=already_existed)

    async def publish(self, message: Message) -> None:
        number, self.sends = self.sends, self.sends + 1
        error = self.publishings[number] if number < len(self.publishings) else None
        self.effects.append("publish" if error is None else f"publish fails: {error!r}")
        if error is not None:
            raise error
        self.messages.append(message)
        self.receipts.append(orjson.loads(message.value))


@dataclass
class Delays:
    """Retry policy without delays that records its calls."""

    give_up_at: int | None = None
    """Number of the attempt after which it gives up."""
    asked: list[tuple[str, int]] = field(default_factory=list)
    seconds: float = 0.0

    def pause(self, error: DeliveryError, attempts: int, chance: float) -> float:
        assert 0 <= chance < 1
        self.asked.append((error.code, attempts))
        return self.seconds

    def bound(self, error: DeliveryError) -> float:
        assert error.code == self.asked[-1][0]
        tried = max(attempts for _, attempts in self.asked)
        return 0.0 if tried == self.give_up_at else SECONDS_MAX


def new(
    world: Any,
    publish: Publish,
    policy: Delays | RetryPolicy,
    late_seconds: float = LATE_SECONDS,
) -> WindowDelivery:
    return WindowDelivery(
        world,  # type: ignore[arg-type]
        publish,
        policy,
        CircuitBreakers(60.0),
        late_seconds,
        counts=world.counts,
    )


def deliver(world: World, policy: Delays | RetryPolicy | None = None) -> WindowDelivery:
    return new(world, world.publish, policy or Delays())


def due(*values: str, destination: Destination = ORDERS) -> DeliveryTask:
    """Return the delivery of a closed and recorded window with these records, from offset 10 on."""
    partition = Partition(EVENTS, RULES, 0, Commit(10, ()))
    records = [record(10 + n, n, value) for n, value in enumerate(values)]
    collect(partition, batch(*records), 30, destination)
    partition.tick(MINUTE + 62, 10 + len(values))
    record_closings(partition)
    (work,) = partition.delivery_tasks()
    return work


def streaming(*sizes: int) -> PartUpload:
    """Return an object of which so many parts leave, whose window is open.

    Each has a record with so many bytes of noise, which is a part (900 bytes).
    """
    partition = Partition(EVENTS, STREAMING, 0, Commit(10, ()))
    for size in sizes or (900,):
        offset = partition.position
        collect(partition, batch(record(offset, 1, noise(size, offset))), 30)
        compress(partition.window)
    return partition.part_uploads()[0]


def close(stream: PartUpload) -> DeliveryTask:
    """Close the window of an object that streams; return what is due."""
    partition = stream.partition
    partition.tick(MINUTE + 62, partition.position)
    record_closings(partition)
    (work,) = partition.delivery_tasks()
    return work


def run(*calls: Awaitable[None]) -> None:
    async def together() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.gather(*calls)

    asyncio.run(together())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0)


async def cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks, and return when they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def take_away(work: PartUpload) -> None:
    work.partition.suspend(work.epoch + 1)


def test_object_comes_before_receipt_and_receipt_before_settling() -> None:
    work, world = due("1", "22"), World()
    states: list[State] = []

    async def publish(message: Message) -> None:
        await world.publish(message)
        states.append(work.delivery.state)

    world.before_answer = lambda: states.append(work.delivery.state)
    run(new(world, publish, Delays())(None, work))
    assert world.effects == ["put my-bucket 2 lines 5 bytes", "publish"]
    assert states == [State.RECORDED, State.STORED]
    assert work.delivery.state is State.SETTLED


def test_object_holds_the_lines_under_the_recorded_key() -> None:
    work, world = due("1", "skip", "22"), World()
    run(deliver(world)(None, work))
    assert {key: gzip.decompress(it) for key, it in world.objects.items()} == {
        work.delivery.key: b"1\n22\n"
    }


def test_delivered_receipt_names_the_object_and_the_attempt() -> None:
    work, world = due("1"), World()
    run(deliver(world)(None, work))
    (receipt,) = world.receipts
    assert (receipt["status"], receipt["attempts"]) == ("delivered", 1)
    assert receipt["object"]["key"] == work.delivery.key
    assert not receipt["already_existed"]
    assert world.messages[0].key == b"orders-archive"


def test_object_that_was_there_already_is_delivered() -> None:
    work, world = due("1"), World()
    world.objects[work.delivery.key] = b"by a predecessor"
    run(deliver(world)(None, work))
    assert [(it["status"], it["already_existed"]) for it in world.receipts] == [("delivered", True)]


def test_window_without_lines_is_answered_without_an_object() -> None:
    work, world = due("skip", "fail no"), World()
    run(deliver(world)(None, work))
    assert world.effects == ["publish"]
    assert [it["status"] for it in world.receipts] == ["empty"]
    assert work.window.settled


def test_receipt_that_is_due_is_published_without_a_second_upload() -> None:
    work, world = due("1"), World()
    receipt = work.partition.uploaded(work, stored(b"x"), 3)
    run(deliver(world)(None, work))
    assert world.effects == ["publish"]
    assert [it["attempts"] for it in world.receipts] == [receipt.attempts]
    assert work.window.settled


def test_upload_is_tried_until_it_succeeds() -> None:
    work, world, delays = due("1"), World(answers=[REFUSED, REFUSED, DENIED]), Delays()
    run(deliver(world, delays)(None, work))
    assert delays.asked == [
        ("EndpointConnectionError", 1),
        ("EndpointConnectionError", 2),
        ("AccessDenied", 3),
    ]
    assert [(it["status"], it["attempts"]) for it in world.receipts] == [("delivered", 4)]


def test_every_attempt_sends_the_same_bytes() -> None:
    work, contents = due("1", "2"), []

    class Recording(World):
        async def put(
            self, destination: Destination, key: str, content: bytes, **described: Any
        ) -> Stored:
            contents.append((destination, key, content, *described.values()))
            return await super().put(destination, key, content, **described)

    run(deliver(Recording(answers=[REFUSED, REFUSED]))(None, work))
    assert len(contents) == 3
    assert len(set(contents)) == 1


def test_delay_lies_between_two_attempts() -> None:
    work, world = due("1"), World(answers=[REFUSED, REFUSED])
    times: list[float] = []
    world.before_answer = lambda: times.append(asyncio.get_running_loop().time())
    run(deliver(world, Delays(seconds=0.05))(None, work))
    assert times[1] - times[0] >= 0.05
    assert times[2] - times[1] >= 0.05


@pytest.mark.parametrize("error", [REFUSED, DENIED])
def test_upload_that_is_given_up_is_answered_by_a_failed_receipt(
    error: DeliveryError, caplog: pytest.LogCaptureFixture
) -> None:
    work, world = due("1", "22"), World(answers=[error, error])
    run(deliver(world, Delays(give_up_at=2))(None, work))
    (receipt,) = world.receipts
    assert (receipt["status"], receipt["attempts"]) == ("failed", 2)
    assert receipt["error"] == {
        "code": error.code,
        "message": error.message,
        "retryable": error is REFUSED,
    }
    assert receipt["object"]["key"] == work.delivery.key
    assert work.window.settled
    assert world.objects == {}
    (spoken,) = [it.getMessage() for it in caplog.records if it.levelno == logging.ERROR]
    assert spoken == (
        "destination orders-archive, window 2026-11-24T16:31:00Z of events/3, offsets 10 to 11: "
        f"given up at attempt 2: {error}"
    )


def test_policy_without_retries_gives_up_at_the_first_refusal() -> None:
    work, world = due("1"), World(answers=[DENIED])
    run(deliver(world, RetryPolicy(retry_for=60.0, give_up_after=0.0))(None, work))
    assert [(it["status"], it["attempts"]) for it in world.receipts] == [("failed", 1)]


def test_only_the_first_attempts_are_logged_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    work, world = due("1"), World(answers=[REFUSED] * 20)
    run(deliver(world)(None, work))
    assert [it.log_event.name for it in caplog.records if it.levelno == logging.WARNING] == [  # type: ignore[attr-defined] # `log_event` sets it
        *["upload-failed"] * LOGGED_ATTEMPTS,
        "breaker-opened",
    ]


def test_window_taken_away_before_the_upload_sends_nothing() -> None:
    work, world = due("1"), World()
    take_away(work)
    with pytest.raises(FencedError):
        run(deliver(world)(None, work))
    assert world.effects == []


def test_window_taken_away_while_waiting_for_a_place_sends_nothing() -> None:
    world = World()
    callback = deliver(world)

    async def scenario() -> None:
        async with callback._uploads:
            places = [callback._uploads.acquire() for _ in range(UPLOADS_MAX - 1)]
            await asyncio.gather(*places)
            work = due("1")
            waiting = asyncio.create_task(callback(None, work))
            await asyncio.sleep(0)
            take_away(work)
        with pytest.raises(FencedError, match="not begun: the partition was taken away"):
            await waiting

    run(scenario())
    assert world.effects == []


def test_window_taken_away_while_uploading_changes_nothing() -> None:
    work, world = due("1"), World()
    world.before_answer = lambda: take_away(work)
    with pytest.raises(FencedError):
        run(deliver(world)(None, work))
    assert world.effects == ["put my-bucket 1 lines 2 bytes"]
    assert work.delivery.state is State.RECORDED
    assert work.delivery.receipt is None


def test_window_taken_away_between_attempts_is_not_tried_again() -> None:
    work, world = due("1"), World(answers=[REFUSED, REFUSED])
    world.before_answer = lambda: take_away(work)
    with pytest.raises(FencedError):
        run(deliver(world)(None, work))
    assert world.puts == 1


def test_window_taken_away_after_its_upload_publishes_nothing() -> None:
    work, world = due("1"), World()

    async def fail(message: Message) -> None:
        world.messages.append(message)
        take_away(work)
        raise AWAY

    with pytest.raises(FencedError, match="receipt not sent: the partition was taken away"):
        run(new(world, fail, Delays())(None, work))
    assert len(world.messages) == 1
    assert work.delivery.state is State.STORED


def test_window_taken_away_while_publishing_is_not_settled() -> None:
    work, world = due("1"), World()

    async def publish(message: Message) -> None:
        await world.publish(message)
        take_away(work)

    with pytest.raises(FencedError):
        run(new(world, publish, Delays())(None, work))
    assert len(world.receipts) == 1
    assert not work.window.settled


def test_receipt_is_published_until_the_broker_has_it() -> None:
    errors = [AWAY, TransientError("ReceiptTimeout", "no acknowledgement"), AWAY]
    work, world, delays = due("1"), World(publishings=errors), Delays()
    run(deliver(world, delays)(None, work))
    assert world.effects[-1] == "publish"
    assert world.sends == 4
    assert [attempts for _, attempts in delays.asked] == [1, 2, 3]
    assert work.window.settled


def test_patience_that_has_run_out_gives_up_no_receipt() -> None:
    work, world = due("skip"), World(publishings=[AWAY] * 3)
    run(deliver(world, Delays(give_up_at=2))(None, work))
    assert [it["status"] for it in world.receipts] == ["empty"]


def test_receipt_published_again_has_the_same_id_and_value() -> None:
    work, world = due("1"), World()
    sent: list[Message] = []

    async def lose_the_answer(message: Message) -> None:
        sent.append(message)
        if len(sent) == 1:
            raise AWAY

    run(new(world, lose_the_answer, Delays())(None, work))
    first, second = sent
    assert first.value == second.value
    assert dict(first.headers)["ce_id"] == dict(second.headers)["ce_id"]


@pytest.mark.parametrize("place", ["answers", "publishings"])
def test_defect_is_not_retried(place: str) -> None:
    work, world = due("1"), World(**{place: [BrokenError()]})
    with pytest.raises(BrokenError):
        run(deliver(world)(None, work))
    assert not work.window.settled


def test_uploads_at_a_time_are_bounded() -> None:
    under_way, most, bound, reached = 0, 0, 0, asyncio.Event()

    class Slow(World):
        async def put(
            self, destination: Destination, key: str, content: bytes, **described: Any
        ) -> Stored:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            if most >= bound:
                reached.set()
            await reached.wait()
            await asyncio.sleep(0.01)  # one more than the bound would begin now
            under_way -= 1
            return await super().put(destination, key, content, **described)

    world = Slow()
    for buckets, bound in ((1, BUCKET_UPLOADS_MAX), (3, UPLOADS_MAX)):
        most, reached = 0, asyncio.Event()
        destinations = [
            replace(EVERY, id=f"d-{number}", bucket=f"bucket-{number % buckets}")
            for number in range(2 * UPLOADS_MAX)
        ]
        callback = deliver(world)
        run(*(callback(None, due("1", destination=it)) for it in destinations))
        assert most == bound
    most, bound, reached = 0, DESTINATION_UPLOADS_MAX, asyncio.Event()
    callback = deliver(world)
    run(*(callback(None, due("1")) for _ in range(UPLOADS_MAX)))
    assert most == bound
    assert len(world.receipts) == 5 * UPLOADS_MAX


def test_broken_destination_does_not_hold_up_another() -> None:
    # More refusals than there are places: while one waits for its next attempt, its place is free.
    broken, sound = World(answers=[REFUSED] * 10_000), World()

    class Split(World):
        async def put(
            self, destination: Destination, key: str, content: bytes, **described: Any
        ) -> Stored:
            world = broken if destination.bucket == ORDERS.bucket else sound
            return await world.put(destination, key, content, **described)

    world = Split()
    callback = deliver(world, Delays(seconds=60.0))

    async def scenario() -> None:
        stuck = [asyncio.create_task(callback(None, due("1"))) for _ in range(UPLOADS_MAX * 2)]
        await callback(None, due("1", destination=EVERY))
        await cancelled(stuck)

    run(scenario())
    assert [it["destination"] for it in world.receipts] == ["every"]


def test_late_window_is_reported_once() -> None:
    work, world = due("1"), World(answers=[REFUSED] * 5)
    run(new(world, world.publish, Delays(), late_seconds=0.0)(None, work))
    assert [it["status"] for it in world.receipts] == ["retrying", "delivered"]


# --- A destination that is broken ----------------------------------------------------------------


def test_broken_destination_is_probed_by_one_window_and_healed_for_all() -> None:
    world = World(answers=[REFUSED] * 12)
    callback = deliver(world, Delays(seconds=0.01))
    under_way, most, probing = 0, 0, False

    async def put(*arguments: Any, **described: Any) -> Stored:
        nonlocal under_way, most, probing
        under_way += 1
        probing |= world.puts > 10
        most = max(most, under_way) if probing else most
        try:
            await asyncio.sleep(0.001)
            return await World.put(world, *arguments, **described)
        finally:
            under_way -= 1

    world.put = put  # type: ignore[method-assign]
    run(*(callback(None, due("1")) for _ in range(10)))
    assert world.puts == 12 + 10
    assert [it["status"] for it in world.receipts] == ["delivered"] * 10


def test_window_that_never_had_its_turn_is_given_up_with_what_the_probes_met() -> None:
    world = World(answers=[DENIED] * 1000)
    callback = deliver(world, RetryPolicy(retry_for=60.0, give_up_after=0.1))
    run(*(callback(None, due("1")) for _ in range(50)))
    assert {it["status"] for it in world.receipts} == {"failed"}
    assert {it["error"]["code"] for it in world.receipts} == {"AccessDenied"}
    assert world.puts < 50 + 10


def test_windows_of_all_destinations_go_when_s3_is_back() -> None:
    other = replace(ORDERS, id="other")
    world = World(answers=[REFUSED] * 2 * (FAILURES_MAX - 1))
    callback = deliver(world, Delays(seconds=60.0))
    works = [due("1", destination=it) for it in (ORDERS, other) for _ in range(FAILURES_MAX)]
    long_ago = time.monotonic() - ALONE_SECONDS_MIN
    broken = [callback._breakers.of(it.id) for it in (ORDERS, other)]
    for it in broken:
        it.failed(REFUSED, is_probe=False, now=long_ago)

    async def scenario() -> None:
        tasks = [asyncio.create_task(callback(None, work)) for work in works]
        await until(lambda: all(it.is_open for it in broken))
        await callback(None, due("2", destination=replace(ORDERS, id="third")))
        await asyncio.gather(*tasks)

    run(scenario())
    assert [it["status"] for it in world.receipts] == ["delivered"] * 7


def test_window_that_is_shed_is_given_up_at_once() -> None:
    world = World(answers=[REFUSED] * 1000)
    callback = deliver(world, Delays(seconds=60.0))
    works = [due("1") for _ in range(4)]

    async def scenario() -> None:
        tasks = [asyncio.create_task(callback(None, work)) for work in works]
        await until(lambda: world.puts == FAILURES_MAX)
        works[2].delivery.is_dropped = True
        callback.wake_all()
        await tasks[2]
        await cancelled(tasks)

    run(scenario())
    (receipt,) = world.receipts
    assert receipt["status"] == "failed"
    assert receipt["error"] == {
        "code": "EndpointConnectionError",
        "message": (
            "refused (given up early: the destination is broken and holds more than its share)"
        ),
        "retryable": True,
    }
    assert works[2].window.settled


def test_receipt_of_a_window_that_was_not_tried_names_the_one_that_was() -> None:
    world = World(answers=[REFUSED] * 1000)
    callback = deliver(world, Delays(seconds=60.0))
    works = [due("1") for _ in range(DESTINATION_UPLOADS_MAX + FAILURES_MAX)]

    async def scenario() -> None:
        tasks = [asyncio.create_task(callback(None, work)) for work in works]
        await until(lambda: world.puts >= FAILURES_MAX)
        works[-1].delivery.is_dropped = True
        callback.wake_all()
        await tasks[-1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(scenario())
    (receipt,) = world.receipts
    assert receipt["attempts"] == 0
    time, partition = receipt["window"]["start"][11:19], receipt["source"]["partition"]
    assert receipt["error"]["message"].startswith(
        f"waits behind the window of {time} UTC in partition {partition}: refused (given up early"
    )


def test_probes_take_few_places_from_the_others() -> None:
    silent = TransientError("ReadTimeoutError", "no answer")
    known: set[str] = set()
    hanging = 0

    class Unresponsive(World):
        async def put(
            self, destination: Destination, key: str, content: bytes, **described: Any
        ) -> Stored:
            nonlocal hanging
            if destination.id == EVERY.id:
                return await super().put(destination, key, content, **described)
            if destination.id not in known:
                known.add(destination.id)
                raise silent
            hanging += 1
            await asyncio.sleep(SECONDS_MAX)
            raise silent

    world = Unresponsive()
    callback = deliver(world, Delays())

    async def scenario() -> None:
        broken = [replace(ORDERS, id=f"broken-{n}", bucket=f"bucket-{n}") for n in range(20)]
        tasks = [
            asyncio.create_task(callback(None, due("1", destination=it)))
            for it in broken
            for _ in range(3)
        ]
        await until(lambda: hanging == PROBES_MAX)
        await callback(None, due("1", destination=EVERY))
        assert hanging == PROBES_MAX
        await cancelled(tasks)

    run(scenario())
    assert [it["destination"] for it in world.receipts] == ["every"]


# --- Parts that leave while the window is open ----------------------------------------------------


def lines_of(world: World) -> list[str]:
    """Return the lines of the one object that can be seen."""
    (content,) = world.objects.values()
    return gzip.decompress(content).decode().splitlines()


def test_parts_leave_in_order_and_nothing_can_be_seen() -> None:
    stream, world = streaming(900, 900), World()
    run(deliver(world).upload_parts(stream))
    assert world.effects == ["begin my-bucket", "part 1", "part 2"]
    body = stream.delivery.content
    assert (body.unsent, body.upload_id) == ([], "upload-1")
    assert (world.objects, world.receipts) == ({}, [])


def test_a_part_that_comes_later_goes_to_the_same_upload() -> None:
    stream, world = streaming(), World()
    callback = deliver(world)
    run(callback.upload_parts(stream))
    partition = stream.partition
    collect(partition, batch(record(11, 1, noise(900))), 30)
    compress(partition.window)
    (later,) = partition.part_uploads()
    run(callback.upload_parts(later))
    assert world.effects == ["begin my-bucket", "part 1", "part 2"]
    assert list(world.uploads) == ["upload-1"]


def test_only_the_last_part_is_left_to_the_closing() -> None:
    stream, world = streaming(900, 900), World()
    callback = deliver(world)
    run(callback.upload_parts(stream))
    run(callback(None, close(stream)))
    assert world.effects == [
        *("begin my-bucket", "part 1", "part 2", "part 3"),
        *("complete my-bucket 2 lines 1802 bytes", "publish"),
    ]
    assert lines_of(world) == [noise(900, 10), noise(900, 11)]
    (receipt,) = world.receipts
    assert (receipt["status"], receipt["attempts"]) == ("delivered", 1)
    assert receipt["object"]["size"] == len(world.objects[stream.delivery.key])


def test_the_closing_sends_what_nobody_has_sent() -> None:
    stream, world = streaming(900, 900), World()
    run(deliver(world)(None, close(stream)))
    assert world.effects[:4] == ["begin my-bucket", "part 1", "part 2", "part 3"]
    assert lines_of(world) == [noise(900, 10), noise(900, 11)]


def test_a_retry_sends_only_the_parts_that_are_left() -> None:
    stream, world = streaming(900, 900, 900), World(parts=[None, REFUSED])
    run(deliver(world).upload_parts(stream))
    assert world.effects == ["begin my-bucket", "part 1", "part 2", "part 2", "part 3"]


def test_an_upload_is_begun_until_it_succeeds() -> None:
    stream, world = streaming(), World(begins=[REFUSED, DENIED])
    run(deliver(world).upload_parts(stream))
    assert world.effects == ["begin my-bucket"] * 3 + ["part 1"]


def test_completing_is_tried_again_without_sending_again() -> None:
    stream, world = streaming(), World(completions=[REFUSED])
    run(deliver(world)(None, close(stream)))
    completion = "complete my-bucket 1 lines 901 bytes"
    assert world.effects == [
        *("begin my-bucket", "part 1", "part 2", completion, completion, "publish")
    ]
    assert [it["attempts"] for it in world.receipts] == [2]


def test_a_part_that_fails_is_stuck_until_one_is_taken() -> None:
    stream, world = streaming(900, 900), World(parts=[REFUSED])
    body, seen = stream.delivery.content, []
    world.before_answer = lambda: seen.append(body.is_stuck)
    run(deliver(world).upload_parts(stream))
    assert seen == [False, False, True, False]  # begin, part 1 twice, part 2
    assert not body.is_stuck


def test_error_of_a_window_that_waits_holds_nothing_of_its_attempt() -> None:
    work, world = due("1"), World()
    callback = deliver(world)
    kept: list[DeliveryError | None] = []

    async def put(*arguments: Any, **described: Any) -> Stored:
        kept.append(callback._breakers.of(work.delivery.destination.id).error)
        if len(kept) > 1:
            return await World.put(world, *arguments, **described)
        try:
            raise OSError("reset")  # noqa: TRY301
        except OSError as error:
            raise TransientError("ConnectionReset", "reset") from error

    world.put = put  # type: ignore[method-assign]
    run(callback(None, work))
    assert isinstance(kept[1], TransientError)
    assert (kept[1].__traceback__, kept[1].__cause__, kept[1].__context__) == (None, None, None)


def broken(callback: WindowDelivery, stream: PartUpload) -> None:
    """Have the destination fail so often that no attempt may begin for an hour."""
    breaker = callback._breakers.of(stream.delivery.destination.id)
    for _ in range(FAILURES_MAX):
        breaker.failed(DENIED, is_probe=False, now=0.0)
    breaker.probe_at(time.monotonic() + 3600)


def test_a_part_for_a_broken_destination_is_stuck_before_it_is_tried() -> None:
    stream, world = streaming(), World()
    callback = deliver(world, RetryPolicy(retry_for=600.0, give_up_after=600.0))

    async def scenario() -> None:
        broken(callback, stream)
        streamer = asyncio.create_task(callback.upload_parts(stream))
        await until(lambda: stream.delivery.content.is_stuck)
        assert not streamer.done()
        streamer.cancel()
        await asyncio.gather(streamer, return_exceptions=True)

    run(scenario())
    assert world.effects == []
    assert not stream.partition.window.is_leaving


def test_a_part_that_is_not_even_tried_is_stuck() -> None:
    stream, world = streaming(), World()
    callback = deliver(world, RetryPolicy(retry_for=0.0, give_up_after=0.0))
    broken(callback, stream)
    run(callback.upload_parts(stream))
    assert world.effects == []
    assert stream.delivery.content.is_stuck


def test_a_streamer_whose_patience_ends_leaves_its_parts_to_the_closing() -> None:
    stream, world = streaming(), World(begins=[DENIED, DENIED])
    run(deliver(world, Delays(give_up_at=2)).upload_parts(stream))
    body = stream.delivery.content
    assert len(body.unsent) == 1
    assert body.is_stuck
    assert world.receipts == []
    run(deliver(world)(None, close(stream)))
    assert lines_of(world) == [noise(900, 10)]


def test_part_upload_reports_no_late_window() -> None:
    stream, world = streaming(), World(parts=[REFUSED, REFUSED])
    run(new(world, world.publish, Delays(), late_seconds=0.0).upload_parts(stream))
    assert world.receipts == []


def test_an_upload_that_was_begun_for_a_partition_taken_away_is_abandoned() -> None:
    stream, world = streaming(), World()
    world.before_answer = lambda: take_away(stream)
    with pytest.raises(FencedError):
        run(deliver(world).upload_parts(stream))
    assert world.effects == ["begin my-bucket", "abandon upload-1"]
    assert stream.delivery.content.upload_id is None


def test_a_part_that_is_sent_after_the_partition_was_taken_away_does_not_count() -> None:
    stream, world = streaming(900, 900), World()

    def second_request() -> None:
        if world.asked["part"]:
            take_away(stream)

    world.before_answer = second_request
    with pytest.raises(FencedError):
        run(deliver(world).upload_parts(stream))
    assert world.effects == ["begin my-bucket", "part 1"]
    body = stream.delivery.content
    assert [part.number for part in body.unsent] == [1, 2]
    assert body.upload_id == "upload-1", "it is the assignment's to abandon"


def test_no_part_leaves_a_partition_that_was_taken_away() -> None:
    stream, world = streaming(), World()
    take_away(stream)
    with pytest.raises(FencedError, match="open window of events/3: not begun: the partition"):
        run(deliver(world).upload_parts(stream))
    assert world.effects == []


def test_a_resumed_partition_sends_its_part_to_the_upload_again() -> None:
    stream, world = streaming(), World()
    callback = deliver(world)

    def first_part() -> None:
        if world.asked["part"] == 1:
            take_away(stream)

    world.before_answer = first_part
    with pytest.raises(FencedError):
        run(callback.upload_parts(stream))
    assert stream.partition.resume(1, Commit(10, ()))
    (again,) = stream.partition.part_uploads()
    run(callback.upload_parts(again))
    assert world.effects == ["begin my-bucket", "part 1", "part 1"]
    run(callback(None, close(again)))
    assert lines_of(world) == [noise(900, 10)]


def test_a_streamer_stops_when_its_window_closes_and_the_delivery_goes_on() -> None:
    stream, world = streaming(), World(parts=[REFUSED])
    callback = deliver(world, Delays(seconds=60.0))

    async def scenario() -> None:
        streamer = asyncio.create_task(callback.upload_parts(stream))
        await until(lambda: stream.delivery.content.is_stuck)
        delivery = asyncio.create_task(callback(None, close(stream)))
        await asyncio.gather(streamer, delivery)

    run(scenario())
    assert world.effects == [
        *("begin my-bucket", "part 1", "part 1", "part 2"),
        *("complete my-bucket 1 lines 901 bytes", "publish"),
    ]
    assert lines_of(world) == [noise(900, 10)]


def test_a_closing_while_a_part_is_under_way_sends_it_once() -> None:
    stream, world = streaming(900, 900), World()
    callback = deliver(world)

    async def scenario() -> None:
        streamer = asyncio.create_task(callback.upload_parts(stream))
        await until(lambda: world.asked["part"] == 1)
        delivery = asyncio.create_task(callback(None, close(stream)))
        await asyncio.gather(streamer, delivery)

    run(scenario())
    assert world.effects == [
        *("begin my-bucket", "part 1", "part 2", "part 3"),
        *("complete my-bucket 2 lines 1802 bytes", "publish"),
    ]


def test_several_streamers_of_one_object_send_each_part_once() -> None:
    stream, world = streaming(900, 900, 900), World()
    callback = deliver(world)
    run(*(callback.upload_parts(stream) for _ in range(3)))
    assert world.effects == ["begin my-bucket", "part 1", "part 2", "part 3"]
    assert not callback._sending, "the lock of an object is forgotten with its last holder"


def test_a_window_given_up_abandons_its_upload() -> None:
    stream, world = streaming(), World(completions=[DENIED] * 10)
    run(deliver(world, Delays(give_up_at=3))(None, close(stream)))
    assert world.effects[-2:] == ["abandon upload-1", "publish"]
    assert world.uploads == {}
    assert [it["status"] for it in world.receipts] == ["failed"]


def test_a_window_given_up_before_its_upload_was_begun_abandons_nothing() -> None:
    stream, world = streaming(), World(begins=[DENIED] * 10)
    run(deliver(world, Delays(give_up_at=3))(None, close(stream)))
    assert world.effects == ["begin my-bucket"] * 3 + ["publish"]


def test_a_streamer_of_what_is_given_up_meanwhile_stops() -> None:
    stream, world = streaming(), World()
    work: list[DeliveryTask] = []

    def give_up() -> None:
        if not work and world.asked["part"] == 1:
            work.append(close(stream))
            work[0].partition.uploaded(work[0], Problem("AccessDenied", "", retryable=False), 1)

    world.before_answer = give_up
    with pytest.raises(FencedError, match="its bytes are gone"):
        run(deliver(world).upload_parts(stream))
    assert work[0].delivery.state is State.STORED


def test_an_upload_begun_for_what_is_given_up_meanwhile_is_abandoned() -> None:
    stream, world = streaming(), World()

    def give_up() -> None:
        work = close(stream)
        work.partition.uploaded(work, Problem("AccessDenied", "", retryable=False), 1)

    world.before_answer = give_up
    with pytest.raises(FencedError, match="its bytes are gone"):
        run(deliver(world).upload_parts(stream))
    assert world.effects == ["begin my-bucket", "abandon upload-1"]


def test_parts_that_are_gone_are_not_tried_again() -> None:
    gone = UploadGoneError("NoSuchUpload", "the parts of my-bucket/x are gone")
    for world in (World(parts=[gone]), World(completions=[gone])):
        stream = streaming()
        with pytest.raises(UploadGoneError):
            run(deliver(world)(None, close(stream)))
        assert world.receipts == []
    world = World(parts=[gone])
    with pytest.raises(UploadGoneError):
        run(deliver(world).upload_parts(streaming()))
    assert world.asked == {"begin": 1, "part": 1}


@pytest.mark.parametrize("code", ["InvalidPart", "NoSuchUpload"])
def test_parts_that_are_gone_again_are_given_up_not_sent_a_third_time(code: str) -> None:
    gone = UploadGoneError(code, "the parts of my-bucket/x are gone")
    world = World(completions=[gone] * 3)
    callback = deliver(world, Delays(give_up_at=2))
    with pytest.raises(UploadGoneError):
        run(callback(None, close(streaming())))
    run(callback(None, close(streaming())))  # Of the partition as it was rebuilt.
    assert world.asked == {"begin": 2, "part": 4, "complete": 3}
    (receipt,) = world.receipts
    assert (receipt["status"], receipt["attempts"]) == ("failed", 2)
    assert receipt["error"]["code"] == code
    assert "lost again" in receipt["error"]["message"]
    assert world.counts.total.failed_attempts == 2


def test_parts_of_an_open_window_that_are_gone_again_do_not_rebuild_it_a_third_time() -> None:
    gone = UploadGoneError("NoSuchUpload", "the parts of my-bucket/x are gone")
    world = World(parts=[gone] * 2)
    callback = deliver(world)
    with pytest.raises(UploadGoneError):
        run(callback.upload_parts(streaming()))
    stream = streaming()
    run(callback.upload_parts(stream))
    assert world.asked == {"begin": 2, "part": 3}
    assert stream.delivery.content.unsent == []


def test_parts_that_are_gone_after_the_object_was_stored_rebuild_anew() -> None:
    gone = UploadGoneError("NoSuchUpload", "the parts of my-bucket/x are gone")
    world = World(completions=[gone, None, gone])
    callback = deliver(world)
    with pytest.raises(UploadGoneError):
        run(callback(None, close(streaming())))
    run(callback(None, close(streaming())))
    world.objects.clear()
    with pytest.raises(UploadGoneError):
        run(callback(None, close(streaming())))
    assert [it["status"] for it in world.receipts] == ["delivered"]


def test_parts_in_memory_that_are_gone_again_are_a_permanent_error() -> None:
    gone = TransientError("InvalidPart", "the upload is gone; trying again with a new one")
    delays, world = Delays(), World(answers=[gone, gone, REFUSED])
    run(deliver(world, delays)(None, due("1")))
    assert world.puts == 4
    world = World(answers=[gone] * 3)
    run(deliver(world, RetryPolicy(retry_for=1000.0, give_up_after=0.0))(None, due("1")))
    (receipt,) = world.receipts
    assert (receipt["status"], receipt["attempts"]) == ("failed", 2)
    assert receipt["error"]["retryable"] is False


def test_parts_that_are_gone_for_another_owner_do_not_count() -> None:
    gone = UploadGoneError("NoSuchUpload", "the parts of my-bucket/x are gone")
    world = World(completions=[gone, gone])
    callback = deliver(world)
    work = close(streaming())

    def revoke() -> None:
        if world.asked["complete"]:
            work.partition.suspend(1)

    world.before_answer = revoke
    for task in (work, close(streaming())):
        with pytest.raises(UploadGoneError):
            run(callback(None, task))


@pytest.mark.parametrize("code", sorted(WINDOW_CODES))
def test_probe_that_meets_an_error_of_its_own_window_closes_the_breaker(code: str) -> None:
    own = PermanentError(code, "its own")
    world = World(answers=[DENIED] * FAILURES_MAX + [own])
    callback = deliver(world)
    run(*[callback(None, due("1", destination=ORDERS)) for _ in range(FAILURES_MAX)])
    assert len(world.receipts) == FAILURES_MAX
    assert world.puts == 2 * FAILURES_MAX + 1


@pytest.mark.parametrize("place", ["begins", "parts"])
def test_a_defect_ends_the_streamer(place: str) -> None:
    world = World(**{place: [BrokenError()]})  # type: ignore[arg-type]
    with pytest.raises(BrokenError):
        run(deliver(world).upload_parts(streaming()))


def test_a_part_that_is_taken_says_that_the_destination_is_served() -> None:
    stream, world = streaming(), World(parts=[REFUSED])
    callback = deliver(world)
    breaker, seen = callback._breakers.of(ORDERS.id), []
    world.before_answer = lambda: seen.append(breaker.error)
    run(callback.upload_parts(stream))
    assert seen == [None, None, REFUSED]
    assert breaker.error is None


def test_nothing_leaves_of_what_was_given_up_before() -> None:
    stream, world = streaming(), World()
    work = close(stream)
    work.partition.uploaded(work, Problem("AccessDenied", "", retryable=False), 1)
    with pytest.raises(FencedError, match="its bytes are gone"):
        run(deliver(world).upload_parts(stream))
    assert world.effects == []


# --- receipts that the topic does not take -------------------------------------------------------


@dataclass
class Impatient(Delays):
    """Retry policy that has no patience left."""

    def bound(self, error: DeliveryError) -> float:
        del error
        return 0.0


@dataclass
class Narrow(World):
    """A receipts topic that takes no message beyond a size."""

    bytes_max: int = 0
    refused: Callable[[], None] = lambda: None
    """Called for each refusal."""

    async def publish(self, message: Message) -> None:
        await asyncio.sleep(0)
        if len(message.value) > self.bytes_max:
            self.refused()
            raise TooLargeError("MessageSizeTooLargeError", "too large", len(message.value))
        await super().publish(message)


FAILING = [f"fail TypeError: {number}" for number in range(20)]


def test_receipt_that_the_topic_does_not_take_is_shortened_and_published(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work, world = due("1", *FAILING), Narrow(bytes_max=1_500)
    run(deliver(world)(None, work))
    (receipt,) = world.receipts
    assert receipt["counts"] == {"matched": 21, "delivered": 1, "skipped": 0, "failed": 20}
    listed = [it["offset"] for it in receipt["failed"]]
    assert listed == list(range(11, receipt["lists_end_offset"]))
    assert work.window.settled
    assert world.counts.shortened_receipts == 1
    assert (world.counts.failed_receipts, world.counts.failing_receipts) == (0, {})
    assert [it.log_event.name for it in caplog.records if it.levelname == "WARNING"] == [  # type: ignore[attr-defined] # `log_event` sets it
        "receipt-shortened"
    ]


def test_receipt_that_is_refused_in_its_shortest_form_holds_up_the_commit_no_longer_than_the_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work, world = due("1", *FAILING), Narrow()

    def refused() -> None:
        # The topic takes no receipt at all at first: all wait. Then it takes another one.
        assert not work.window.settled
        if world.counts.failed_receipts == 3:
            world.counts.receipts[Status.DELIVERED] += 1

    world.refused = refused
    run(new(world, world.publish, Impatient())(None, work))
    assert world.counts.failed_receipts == 4
    assert work.window.settled
    assert (world.counts.unpublished_receipts, world.counts.failing_receipts) == (1, {})
    assert world.counts.total.delivered == 0, "outcomes are those of published receipts"
    (event,) = [it for it in caplog.records if it.levelname == "ERROR"]
    assert event.log_event.name == "receipt-given-up"  # type: ignore[attr-defined] # `log_event` sets it
    assert work.delivery.key in event.getMessage()


def test_late_window_goes_on_where_its_retrying_receipt_is_refused() -> None:
    work, world = due("1"), World(answers=[REFUSED, REFUSED])

    async def publish(message: Message) -> None:
        if orjson.loads(message.value)["status"] == "retrying":
            raise TooLargeError("MessageSizeTooLargeError", "too large", len(message.value))
        await world.publish(message)

    run(new(world, publish, Delays(), late_seconds=0.0)(None, work))
    assert [it["status"] for it in world.receipts] == ["delivered"]
    assert world.counts.unpublished_receipts == 0
