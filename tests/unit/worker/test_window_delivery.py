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
from aiokafka.errors import KafkaConnectionError
from faust.exceptions import ProducerSendError

from stream_app.breakers import ALONE_SECONDS_MIN, FAILURES_MAX, Breakers
from stream_app.closings import Commit
from stream_app.deliveries import State
from stream_app.delivery import (
    BUCKET_UPLOADS_MAX,
    DESTINATION_UPLOADS_MAX,
    LATE_SECONDS,
    LOGGED_ATTEMPTS,
    PROBES_MAX,
    UPLOADS_MAX,
    Deliver,
    Publish,
)
from stream_app.errors import (
    DeliveryError,
    FencedError,
    PermanentError,
    TransientError,
    UploadGoneError,
)
from stream_app.metrics import Counts
from stream_app.partition import Partition, Stream, Work
from stream_app.receipts import Message, Problem, Stored
from stream_app.retries import Patience
from stream_app.settings import Destination
from tests.unit.records import (
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

SECONDS_MAX = 10.0
REFUSED = TransientError("EndpointConnectionError", "refused")
DENIED = PermanentError("AccessDenied", "Access Denied")


class BrokenError(Exception):
    """A defect in what the callback calls."""


@dataclass
class World:
    """A scripted S3 and a scripted Kafka; `effects` is what happened, in order."""

    answers: Sequence[Exception | None] = ()
    """What S3 says to each put; None, and everything beyond, is success."""
    publishings: Sequence[Exception | None] = ()
    """The same for Kafka."""
    begins: Sequence[Exception | None] = ()
    """The same for each object in parts that is begun."""
    parts: Sequence[Exception | None] = ()
    """The same for each part."""
    completions: Sequence[Exception | None] = ()
    """The same for the end of each object in parts."""
    before_answer: Callable[[], None] = lambda: None
    """What happens while a request to S3 is under way."""
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
        """Let others have their turn, then answer as the script says."""
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
            on_sent(number, f"told {number}")

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
        assert list(sent) == [f"told {number}" for number in sorted(parts)]
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
    """A patience that waits not at all, and remembers what it was asked."""

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
    patience: Delays | Patience,
    late_seconds: float = LATE_SECONDS,
) -> Deliver:
    return Deliver(
        world,  # type: ignore[arg-type]
        publish,
        patience,
        Breakers(60.0),
        late_seconds,
        counts=world.counts,
    )


def deliver(world: World, patience: Delays | Patience | None = None) -> Deliver:
    return new(world, world.publish, patience or Delays())


def due(*values: str, destination: Destination = ORDERS) -> Work:
    """Return the delivery of a closed and recorded window with these records, from offset 10 on."""
    partition = Partition(EVENTS, RULES, 0, Commit(10, ()))
    records = [record(10 + n, n, value) for n, value in enumerate(values)]
    collect(partition, batch(*records), 30, destination)
    partition.tick(MINUTE + 62, 10 + len(values))
    record_closings(partition)
    (work,) = partition.works()
    return work


def streaming(*sizes: int) -> Stream:
    """Return an object of which so many parts leave, whose window is open.

    Each has a record with so many bytes of noise, which is a part (900 bytes).
    """
    partition = Partition(EVENTS, STREAMING, 0, Commit(10, ()))
    for size in sizes or (900,):
        offset = partition.position
        collect(partition, batch(record(offset, 1, noise(size, offset))), 30)
        compress(partition.window)
    return partition.streams()[0]


def close(stream: Stream) -> Work:
    """Close the window of an object that streams; return what is due."""
    partition = stream.partition
    partition.tick(MINUTE + 62, partition.position)
    record_closings(partition)
    (work,) = partition.works()
    return work


def run(*calls: Awaitable[None]) -> None:
    async def together() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.gather(*calls)

    asyncio.run(together())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0)


def take_away(work: Stream) -> None:
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
            self, destination: Destination, key: str, content: bytes, **told: Any
        ) -> Stored:
            contents.append((destination, key, content, *told.values()))
            return await super().put(destination, key, content, **told)

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


def test_no_patience_gives_up_at_the_first_refusal() -> None:
    work, world = due("1"), World(answers=[DENIED])
    run(deliver(world, Patience(retry_for=60.0, give_up_after=0.0))(None, work))
    assert [(it["status"], it["attempts"]) for it in world.receipts] == [("failed", 1)]


def test_only_the_first_attempts_are_logged_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    work, world = due("1"), World(answers=[REFUSED] * 20)
    run(deliver(world)(None, work))
    assert [it.happening.name for it in caplog.records if it.levelno == logging.WARNING] == [  # type: ignore[attr-defined] # `say` sets it
        *["not-stored"] * LOGGED_ATTEMPTS,
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
        raise KafkaConnectionError

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
    errors = [KafkaConnectionError("away"), ProducerSendError("buffer"), KafkaConnectionError()]
    work, world, delays = due("1"), World(publishings=errors), Delays()
    run(deliver(world, delays)(None, work))
    assert world.effects[-1] == "publish"
    assert world.sends == 4
    assert [attempts for _, attempts in delays.asked] == [1, 2, 3]
    assert work.window.settled


def test_patience_that_has_run_out_gives_up_no_receipt() -> None:
    work, world = due("skip"), World(publishings=[KafkaConnectionError()] * 3)
    run(deliver(world, Delays(give_up_at=2))(None, work))
    assert [it["status"] for it in world.receipts] == ["empty"]


def test_receipt_published_again_has_the_same_id_and_value() -> None:
    work, world = due("1"), World()
    sent: list[Message] = []

    async def lose_the_answer(message: Message) -> None:
        sent.append(message)
        if len(sent) == 1:
            raise KafkaConnectionError("the answer is lost")

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
    under_way, most = 0, 0

    class Slow(World):
        async def put(
            self, destination: Destination, key: str, content: bytes, **told: Any
        ) -> Stored:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            under_way -= 1
            return await super().put(destination, key, content, **told)

    world = Slow()
    for buckets, bound in ((1, BUCKET_UPLOADS_MAX), (3, UPLOADS_MAX)):
        most = 0
        destinations = [
            replace(EVERY, id=f"d-{number}", bucket=f"bucket-{number % buckets}")
            for number in range(2 * UPLOADS_MAX)
        ]
        callback = deliver(world)
        run(*(callback(None, due("1", destination=it)) for it in destinations))
        assert most == bound
    most = 0
    callback = deliver(world)
    run(*(callback(None, due("1")) for _ in range(UPLOADS_MAX)))
    assert most == DESTINATION_UPLOADS_MAX
    assert len(world.receipts) == 5 * UPLOADS_MAX


def test_broken_destination_does_not_hold_up_another() -> None:
    # More refusals than there are places: while one waits for its next attempt, its place is free.
    broken, sound = World(answers=[REFUSED] * 10_000), World()

    class Split(World):
        async def put(
            self, destination: Destination, key: str, content: bytes, **told: Any
        ) -> Stored:
            world = broken if destination.bucket == ORDERS.bucket else sound
            return await world.put(destination, key, content, **told)

    world = Split()
    callback = deliver(world, Delays(seconds=60.0))

    async def scenario() -> None:
        stuck = [asyncio.create_task(callback(None, due("1"))) for _ in range(UPLOADS_MAX * 2)]
        await callback(None, due("1", destination=EVERY))
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)

    run(scenario())
    assert [it["destination"] for it in world.receipts] == ["every"]


def test_late_window_is_told_once() -> None:
    work, world = due("1"), World(answers=[REFUSED] * 5)
    run(new(world, world.publish, Delays(), late_seconds=0.0)(None, work))
    assert [it["status"] for it in world.receipts] == ["retrying", "delivered"]


# --- A destination that is broken ----------------------------------------------------------------


def test_broken_destination_is_probed_by_one_window_and_healed_for_all() -> None:
    world = World(answers=[REFUSED] * 12)
    callback = deliver(world, Delays(seconds=0.01))
    under_way, most, probing = 0, 0, False

    async def put(*arguments: Any, **told: Any) -> Stored:
        nonlocal under_way, most, probing
        under_way += 1
        probing |= world.puts > 10
        most = max(most, under_way) if probing else most
        try:
            await asyncio.sleep(0.001)
            return await World.put(world, *arguments, **told)
        finally:
            under_way -= 1

    world.put = put  # type: ignore[method-assign]
    run(*(callback(None, due("1")) for _ in range(10)))
    assert world.puts == 12 + 10
    assert [it["status"] for it in world.receipts] == ["delivered"] * 10


def test_window_that_never_had_its_turn_is_given_up_with_what_the_probes_met() -> None:
    world = World(answers=[DENIED] * 1000)
    callback = deliver(world, Patience(retry_for=60.0, give_up_after=0.1))
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
        works[2].delivery.is_shed = True
        callback.look_again()
        await tasks[2]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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


def test_probes_take_few_places_from_the_others() -> None:
    silent = TransientError("ReadTimeoutError", "no answer")
    known: set[str] = set()
    hanging = 0

    class Hung(World):
        async def put(
            self, destination: Destination, key: str, content: bytes, **told: Any
        ) -> Stored:
            nonlocal hanging
            if destination.id == EVERY.id:
                return await super().put(destination, key, content, **told)
            if destination.id not in known:
                known.add(destination.id)
                raise silent
            hanging += 1
            await asyncio.sleep(SECONDS_MAX)
            raise silent

    world = Hung()
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
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(scenario())
    assert [it["destination"] for it in world.receipts] == ["every"]


# --- Parts that leave while the window is open ----------------------------------------------------


def lines_of(world: World) -> list[str]:
    """Return the lines of the one object that can be seen."""
    (content,) = world.objects.values()
    return gzip.decompress(content).decode().splitlines()


def test_parts_leave_in_order_and_nothing_can_be_seen() -> None:
    stream, world = streaming(900, 900), World()
    run(deliver(world).stream(stream))
    assert world.effects == ["begin my-bucket", "part 1", "part 2"]
    body = stream.delivery.content
    assert (body.unsent, body.upload_id) == ([], "upload-1")
    assert (world.objects, world.receipts) == ({}, [])


def test_a_part_that_comes_later_goes_to_the_same_upload() -> None:
    stream, world = streaming(), World()
    callback = deliver(world)
    run(callback.stream(stream))
    partition = stream.partition
    collect(partition, batch(record(11, 1, noise(900))), 30)
    compress(partition.window)
    (later,) = partition.streams()
    run(callback.stream(later))
    assert world.effects == ["begin my-bucket", "part 1", "part 2"]
    assert list(world.uploads) == ["upload-1"]


def test_only_the_last_part_is_left_to_the_closing() -> None:
    stream, world = streaming(900, 900), World()
    callback = deliver(world)
    run(callback.stream(stream))
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
    run(deliver(world).stream(stream))
    assert world.effects == ["begin my-bucket", "part 1", "part 2", "part 2", "part 3"]


def test_an_upload_is_begun_until_it_succeeds() -> None:
    stream, world = streaming(), World(begins=[REFUSED, DENIED])
    run(deliver(world).stream(stream))
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
    run(deliver(world).stream(stream))
    assert seen == [False, False, True, False]  # begin, part 1 twice, part 2
    assert not body.is_stuck


def test_error_of_a_window_that_waits_holds_nothing_of_its_attempt() -> None:
    work, world = due("1"), World()
    callback = deliver(world)
    kept: list[DeliveryError | None] = []

    async def put(*arguments: Any, **told: Any) -> Stored:
        kept.append(callback._breakers.of(work.delivery.destination.id).error)
        if len(kept) > 1:
            return await World.put(world, *arguments, **told)
        try:
            raise OSError("reset")  # noqa: TRY301
        except OSError as error:
            raise TransientError("ConnectionReset", "reset") from error

    world.put = put  # type: ignore[method-assign]
    run(callback(None, work))
    assert isinstance(kept[1], TransientError)
    assert (kept[1].__traceback__, kept[1].__cause__, kept[1].__context__) == (None, None, None)


def broken(callback: Deliver, stream: Stream) -> None:
    """Have the destination fail so often that nobody is to try it for an hour."""
    breaker = callback._breakers.of(stream.delivery.destination.id)
    for _ in range(FAILURES_MAX):
        breaker.failed(DENIED, is_probe=False, now=0.0)
    breaker.probe_at(time.monotonic() + 3600)


def test_a_part_for_a_broken_destination_is_stuck_before_it_is_tried() -> None:
    stream, world = streaming(), World()
    callback = deliver(world, Patience(retry_for=600.0, give_up_after=600.0))

    async def scenario() -> None:
        broken(callback, stream)
        streamer = asyncio.create_task(callback.stream(stream))
        await until(lambda: stream.delivery.content.is_stuck)
        assert not streamer.done()
        streamer.cancel()
        await asyncio.gather(streamer, return_exceptions=True)

    run(scenario())
    assert world.effects == []
    assert not stream.partition.window.is_leaving


def test_a_part_that_is_not_even_tried_is_stuck() -> None:
    stream, world = streaming(), World()
    callback = deliver(world, Patience(retry_for=0.0, give_up_after=0.0))
    broken(callback, stream)
    run(callback.stream(stream))
    assert world.effects == []
    assert stream.delivery.content.is_stuck


def test_a_streamer_whose_patience_ends_leaves_its_parts_to_the_closing() -> None:
    stream, world = streaming(), World(begins=[DENIED, DENIED])
    run(deliver(world, Delays(give_up_at=2)).stream(stream))
    body = stream.delivery.content
    assert len(body.unsent) == 1
    assert body.is_stuck
    assert world.receipts == []
    run(deliver(world)(None, close(stream)))
    assert lines_of(world) == [noise(900, 10)]


def test_a_streamer_tells_nobody_that_it_is_late() -> None:
    stream, world = streaming(), World(parts=[REFUSED, REFUSED])
    run(new(world, world.publish, Delays(), late_seconds=0.0).stream(stream))
    assert world.receipts == []


def test_an_upload_that_was_begun_for_a_partition_taken_away_is_abandoned() -> None:
    stream, world = streaming(), World()
    world.before_answer = lambda: take_away(stream)
    with pytest.raises(FencedError):
        run(deliver(world).stream(stream))
    assert world.effects == ["begin my-bucket", "abandon upload-1"]
    assert stream.delivery.content.upload_id is None


def test_a_part_that_is_sent_after_the_partition_was_taken_away_does_not_count() -> None:
    stream, world = streaming(900, 900), World()

    def second_request() -> None:
        if world.asked["part"]:
            take_away(stream)

    world.before_answer = second_request
    with pytest.raises(FencedError):
        run(deliver(world).stream(stream))
    assert world.effects == ["begin my-bucket", "part 1"]
    body = stream.delivery.content
    assert [part.number for part in body.unsent] == [1, 2]
    assert body.upload_id == "upload-1", "it is the assignment's to abandon"


def test_no_part_leaves_a_partition_that_was_taken_away() -> None:
    stream, world = streaming(), World()
    take_away(stream)
    with pytest.raises(FencedError, match="open window of events/3: not begun: the partition"):
        run(deliver(world).stream(stream))
    assert world.effects == []


def test_a_resumed_partition_sends_its_part_to_the_upload_again() -> None:
    stream, world = streaming(), World()
    callback = deliver(world)

    def first_part() -> None:
        if world.asked["part"] == 1:
            take_away(stream)

    world.before_answer = first_part
    with pytest.raises(FencedError):
        run(callback.stream(stream))
    assert stream.partition.resume(1, Commit(10, ()))
    (again,) = stream.partition.streams()
    run(callback.stream(again))
    assert world.effects == ["begin my-bucket", "part 1", "part 1"]
    run(callback(None, close(again)))
    assert lines_of(world) == [noise(900, 10)]


def test_a_streamer_stops_when_its_window_closes_and_the_delivery_goes_on() -> None:
    stream, world = streaming(), World(parts=[REFUSED])
    callback = deliver(world, Delays(seconds=60.0))

    async def scenario() -> None:
        streamer = asyncio.create_task(callback.stream(stream))
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
        streamer = asyncio.create_task(callback.stream(stream))
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
    run(*(callback.stream(stream) for _ in range(3)))
    assert world.effects == ["begin my-bucket", "part 1", "part 2", "part 3"]
    assert not callback._turns, "whose turn it is is forgotten with the last of them"


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
    work: list[Work] = []

    def give_up() -> None:
        if not work and world.asked["part"] == 1:
            work.append(close(stream))
            work[0].partition.uploaded(work[0], Problem("AccessDenied", "", retryable=False), 1)

    world.before_answer = give_up
    with pytest.raises(FencedError, match="its bytes are gone"):
        run(deliver(world).stream(stream))
    assert work[0].delivery.state is State.STORED


def test_an_upload_begun_for_what_is_given_up_meanwhile_is_abandoned() -> None:
    stream, world = streaming(), World()

    def give_up() -> None:
        work = close(stream)
        work.partition.uploaded(work, Problem("AccessDenied", "", retryable=False), 1)

    world.before_answer = give_up
    with pytest.raises(FencedError, match="its bytes are gone"):
        run(deliver(world).stream(stream))
    assert world.effects == ["begin my-bucket", "abandon upload-1"]


def test_parts_that_are_gone_are_not_tried_again() -> None:
    gone = UploadGoneError("the parts of my-bucket/x are gone")
    for world in (World(parts=[gone]), World(completions=[gone])):
        stream = streaming()
        with pytest.raises(UploadGoneError):
            run(deliver(world)(None, close(stream)))
        assert world.receipts == []
    world = World(parts=[gone])
    with pytest.raises(UploadGoneError):
        run(deliver(world).stream(streaming()))
    assert world.asked == {"begin": 1, "part": 1}


@pytest.mark.parametrize("place", ["begins", "parts"])
def test_a_defect_ends_the_streamer(place: str) -> None:
    world = World(**{place: [BrokenError()]})  # type: ignore[arg-type]
    with pytest.raises(BrokenError):
        run(deliver(world).stream(streaming()))


def test_a_part_that_is_taken_says_that_the_destination_is_served() -> None:
    stream, world = streaming(), World(parts=[REFUSED])
    callback = deliver(world)
    breaker, seen = callback._breakers.of(ORDERS.id), []
    world.before_answer = lambda: seen.append(breaker.error)
    run(callback.stream(stream))
    assert seen == [None, None, REFUSED]
    assert breaker.error is None


def test_nothing_leaves_of_what_was_given_up_before() -> None:
    stream, world = streaming(), World()
    work = close(stream)
    work.partition.uploaded(work, Problem("AccessDenied", "", retryable=False), 1)
    with pytest.raises(FencedError, match="its bytes are gone"):
        run(deliver(world).stream(stream))
    assert world.effects == []
