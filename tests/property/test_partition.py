"""A partition under random batches, times, bounds and crashes keeps its promises.

The log is a list of samples. `live` runs a worker over it that crashes after some random
steps; its successor starts from the last commit. What they make visible must be the same objects,
and every event must be in exactly one of them. Parts of objects leave at any time; of what was
begun and not completed nothing is visible.
"""

import gzip
from dataclasses import dataclass, field, replace

import orjson
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.commit_metadata import Commit, decode, encode
from stream_app.core.object_body import Sizes
from stream_app.core.partition import Partition
from stream_app.core.receipt import SKIPPED_RUN_BYTES, Problem, Receipt
from stream_app.core.tasks import DeliveryTask, PartUpload
from stream_app.records import Batch
from tests.profiles import examples
from tests.unit.core.builders import (
    EVENTS,
    EVERY,
    MINUTE,
    ORDERS,
    RULES,
    Sample,
    collect,
    compress,
    held_closed,
    held_open,
    stored,
)

SIZES = Sizes(slice=3, part=20, part_min=12, parts_max=4)
"""A line has two bytes, or three: a few of them make a part."""
STREAMING = replace(RULES, sizes=SIZES)
TIGHT = replace(STREAMING, receipt_bytes_max=3 * SKIPPED_RUN_BYTES, metadata_bytes_max=100)
LATE = Problem("SlowDown", "Reduce your request rate.", retryable=True)
KEYS = (b"orders", b"signups", None)


@st.composite
def logs(draw: st.DrawFn) -> list[Sample]:
    """Return a log with holes, late and future records, each payload naming its offset."""
    samples = []
    offset, second = draw(st.integers(0, 50)), 0
    for _ in range(draw(st.integers(1, 30))):
        offset += draw(st.sampled_from([1, 1, 1, 1, 2, 5]))
        second += draw(st.sampled_from([0, 1, 5, 20, 70]))
        shift = draw(st.sampled_from([0, 0, 0, -90, 90]))
        kind = draw(st.sampled_from(["{}", "{}", "{}", "skip", "fail {}"]))
        samples.append(
            Sample(
                offset,
                (MINUTE + second + shift) * 1000,
                draw(st.sampled_from(KEYS)),
                kind.format(offset).encode(),
            )
        )
    return samples


@dataclass
class World:
    """State that outlives a worker: the log, the commit, and the visible objects."""

    log: list[Sample]
    commit: Commit
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: list[tuple[str, dict[int, bytes]]] = field(default_factory=list)
    """Key and parts of each upload that was begun; an upload's id is its index."""
    parts_max: int = SIZES.parts_max
    was_short: bool = False
    """Memory was short once: other slices give other bytes for the same lines."""
    receipts: dict[str, Receipt] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.log[-1].offset + 1

    def put(self, key: str, content: bytes) -> bool:
        """If-None-Match: return whether it existed; its bytes must be the same then."""
        existed = key in self.objects
        found = self.objects.setdefault(key, content)
        assert gzip.decompress(found) == gzip.decompress(content)
        assert found == content or self.was_short
        return existed

    def complete(self, key: str, upload_id: str, numbers: list[int]) -> bytes:
        """Return what the parts make together."""
        begun_for, parts = self.uploads[int(upload_id)]
        assert begun_for == key
        assert numbers == sorted(parts) == list(range(1, len(parts) + 1))
        assert len(parts) <= self.parts_max
        assert all(len(parts[number]) >= SIZES.part_min for number in numbers[:-1])
        return b"".join(parts[number] for number in numbers)

    def publish(self, receipt: Receipt) -> None:
        before = self.receipts.setdefault(receipt.id, receipt)
        plain = [replace(it, stored=None, attempts=0).document() for it in (before, receipt)]
        assert plain[0] == plain[1]

    def fetch(self, position: int, count: int) -> Batch:
        records = [it for it in self.log if it.offset >= position]
        taken = records[:count]
        after = records[count].offset if len(records) > count else self.end
        return Batch(position, after, taken)


def deliver(world: World, work: DeliveryTask, *, to_the_end: bool = True) -> None:
    """Write the object and, unless the worker is to crash in between, publish the receipt."""
    partition = work.partition
    content = whole(world, work)
    result = None
    if content is not None:
        existed = world.put(work.delivery.key, content)
        result = stored(content, already_existed=existed)
    if to_the_end:
        world.publish(partition.uploaded(work, result, attempts=1))
        partition.published(work)


def send(world: World, stream: PartUpload, count: int) -> None:
    """Let so many parts of an object leave, oldest first."""
    partition, delivery, body = stream.partition, stream.delivery, stream.delivery.content
    if body.unsent and body.upload_id is None:
        world.uploads.append((delivery.key, {}))
        partition.begun(stream, str(len(world.uploads) - 1))
    for part in body.unsent[:count]:
        assert part.content is not None
        world.uploads[int(body.upload_id or "")][1][part.number] = part.content
        partition.sent(stream, part, part.number)


def whole(world: World, work: DeliveryTask) -> bytes | None:
    """Return an object's bytes, as S3 would have them at the end."""
    content = work.partition.content(work)
    if content != b"":
        return content
    body = work.delivery.content
    send(world, work, len(body.unsent))
    return world.complete(work.delivery.key, body.upload_id or "", [it.stored for it in body.parts])


def commit(world: World, partition: Partition, *, answered: bool = True) -> None:
    """Commit what is due; without an answer the worker does not learn that it arrived."""
    due = partition.to_commit()
    if due is not None:
        metadata = encode(due)
        assert len(metadata) <= TIGHT.metadata_bytes_max
        world.commit = decode(due.offset, metadata)
        if answered:
            partition.recorded(due)


STEPS = (
    *("collect", "collect", "collect", "tick", "close", "commit", "commit", "work", "work"),
    *("compressed", "short", "cut", "stream", "stream", "stream", "rebalance"),
)


def live(world: World, data: st.DataObject, steps: int) -> None:
    """Run one worker for some steps, then let it crash. Its memory is checked at each step."""
    partition = Partition(EVENTS, TIGHT, 0, world.commit)
    now = MINUTE + data.draw(st.integers(0, 4000))
    due: list[DeliveryTask] = []
    streams: list[PartUpload] = []
    taken = partition.window.compressions()  # none yet
    for _ in range(steps):
        now += data.draw(st.sampled_from([0, 1, 30, 61, -200]))
        step = data.draw(st.sampled_from(STEPS))
        if step in {"collect", "close", "short", "compressed"}:
            for it in taken:
                it.compression.perform()
            partition.window.compressed(taken, int(now))
            taken = []
        match step:
            case "short":
                taken = partition.window.compressions(whole=True)
                world.was_short = True
            case "cut":
                partition.window.cut_early(int(now))
            case "compressed":
                pass
            case "stream":
                streams += partition.part_uploads()
                streams = [it for it in streams if it.valid and it.delivery.body is not None]
                if streams:
                    stream = data.draw(st.sampled_from(streams))
                    send(world, stream, data.draw(st.integers(1, 3)))
            case "rebalance":
                partition.suspend(partition.epoch + 1)
                if not partition.resume(partition.epoch, world.commit):
                    return
                due.clear()
            case "collect":
                fetched = world.fetch(partition.position or 0, data.draw(st.integers(1, 6)))
                collect(partition, fetched, now - MINUTE, ORDERS, EVERY)
                if data.draw(st.booleans()):
                    taken = partition.window.compressions()
            case "tick":
                partition.tick(now, world.end)
            case "close":
                partition.close_early(now)
            case "commit":
                commit(world, partition, answered=data.draw(st.booleans()))
            case _:
                due += partition.delivery_tasks()
                if due:
                    work = due.pop(data.draw(st.integers(0, len(due) - 1)))
                    deliver(world, work, to_the_end=data.draw(st.booleans()))
        assert partition.held_closed == held_closed(partition)
        assert partition.held_open == held_open(partition)


def finish(world: World) -> None:
    """Run one worker that does not crash until all is settled."""
    partition = Partition(EVENTS, TIGHT, 0, world.commit)
    now = MINUTE + 10_000.0
    for _ in range(500):
        if partition.position != world.end:
            collect(partition, world.fetch(partition.position or 0, 4), now - MINUTE, ORDERS, EVERY)
        compress(partition.window)
        partition.tick(now, world.end)
        now += 61
        commit(world, partition)
        for work in partition.delivery_tasks():
            deliver(world, work)
        if world.commit == Commit(world.end, ()):
            break
    assert world.commit == Commit(world.end, ()), "all is settled"
    assert partition.held_closed == partition.held_open == 0


def check(world: World) -> None:
    """Check promise 1: each matched event has exactly one answer, and it is the right one."""
    answered: list[tuple[int, str, bytes]] = []
    for receipt in world.receipts.values():
        document = orjson.loads(receipt.message(MINUTE).value)
        source, object_ = document["source"], document["object"]
        matched = [
            it
            for it in world.log
            if source["first_offset"] <= it.offset < source["end_offset"]
            and (receipt.pipeline is None or it.key == receipt.pipeline.encode())
        ]
        lines = gzip.decompress(world.objects[object_["key"]]).splitlines() if object_ else []
        failed = {it["offset"]: it["error"] for it in document["failed"]}
        index = 0
        for it in matched:
            if it.offset in failed:
                answer = b"fail " + failed[it.offset].encode()
            elif any(low <= it.offset <= high for low, high in document["skipped"]):
                answer = b"skip"
            else:
                answer, index = lines[index], index + 1
            answered.append((it.offset, receipt.destination, answer))
        assert index == len(lines) == document["counts"]["delivered"]
    expected = [
        (it.offset, destination.id, it.value or b"")
        for it in world.log
        for destination in (ORDERS, EVERY)
        if destination.pipeline is None or it.key == b"orders"
    ]
    assert sorted(answered) == sorted(expected)
    named = {receipt.key for receipt in world.receipts.values() if receipt.stored}
    assert named == set(world.objects), "each object has a receipt"


@examples(150)
@given(logs(), st.lists(st.integers(0, 25), max_size=4), st.data())
def test_every_event_has_one_answer_whatever_crashes(
    log: list[Sample], lives: list[int], data: st.DataObject
) -> None:
    world = World(log, Commit(log[0].offset, ()))
    for steps in lives:
        live(world, data, steps)
    finish(world)
    check(world)


@examples(100)
@given(logs(), st.integers(1, 7), st.integers(1, 7))
def test_batches_decide_nothing_about_the_objects_of_a_backlog(
    log: list[Sample], one: int, other: int
) -> None:
    contents = []
    # A bound may close a window early, and then batches have a part in where it ends.
    rules = replace(RULES, sizes=replace(SIZES, parts_max=100))
    for count in (one, other):
        world = World(log, Commit(log[0].offset, ()), parts_max=100)
        partition = Partition(EVENTS, rules, 0, world.commit)
        while partition.position != world.end:
            fetched = world.fetch(partition.position or 0, count)
            collect(partition, fetched, 10_000, ORDERS, EVERY)
            compress(partition.window, second=10_000)
        partition.recorded(partition.to_commit() or world.commit)
        contents.append(
            {work.delivery.key: whole(world, work) for work in partition.delivery_tasks()}
        )
    assert contents[0] == contents[1]


@examples(100)
@given(logs(), st.integers(1, 7), st.integers(1, 7), st.integers(1, 3))
def test_a_replay_makes_the_same_bytes_and_the_same_receipts(
    log: list[Sample], one: int, other: int, every: int
) -> None:
    world = World(log, Commit(log[0].offset, ()))
    results = []
    for count, now in ((one, 600.0), (other, 9000.0)):
        partition = Partition(EVENTS, STREAMING, 0, world.commit)
        while partition.position != world.end:
            fetched = world.fetch(partition.position or 0, count)
            collect(partition, fetched, now, ORDERS, EVERY)
            if partition.position % every == 0:
                compress(partition.window, second=now + partition.position)
        partition.tick(MINUTE + now + 90, world.end)
        commit(world, partition)
        results.append(
            {
                receipt.id: (work.delivery.key, whole(world, work), receipt.document())
                for work in partition.delivery_tasks()
                for receipt in [partition.retrying(work, LATE, attempts=1)]
            }
        )
    assert results[0] == results[1]
