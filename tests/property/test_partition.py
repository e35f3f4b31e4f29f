"""A partition under random batches, times, bounds and crashes keeps its promises.

The log is a list of samples. `live` runs a worker over it that crashes after some random
steps; its successor starts from the last commit. What they make visible must be the same objects,
and every event must be in exactly one of them.
"""

import gzip
from dataclasses import dataclass, field, replace

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.batches import Batch
from stream_app.closings import Commit, decode, encode
from stream_app.partition import Partition, Work
from stream_app.receipts import SKIPPED_RUN_BYTES, Problem, Receipt
from tests.unit.records import (
    EVENTS,
    EVERY,
    MINUTE,
    ORDERS,
    RULES,
    Sample,
    collect,
    held_closed,
    held_open,
    stored,
)

TIGHT = replace(RULES, receipt_bytes_max=3 * SKIPPED_RUN_BYTES, metadata_bytes_max=80)
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
    """What outlives a worker: the log, the commit, and what has become visible."""

    log: list[Sample]
    commit: Commit
    objects: dict[str, bytes] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.log[-1].offset + 1

    def put(self, key: str, content: bytes) -> bool:
        """If-None-Match: tell whether it existed; its bytes must be the same then."""
        existed = key in self.objects
        assert self.objects.setdefault(key, content) == content
        return existed

    def publish(self, receipt: Receipt) -> None:
        before = self.receipts.setdefault(receipt.id, receipt)
        plain = [replace(it, stored=None, attempts=0).document() for it in (before, receipt)]
        assert plain[0] == plain[1]

    def fetch(self, position: int, count: int) -> Batch:
        records = [it for it in self.log if it.offset >= position]
        taken = records[:count]
        after = records[count].offset if len(records) > count else self.end
        return Batch(position, after, taken)


def deliver(world: World, work: Work, *, to_the_end: bool = True) -> None:
    """Write the object and, unless the worker is to crash in between, publish the receipt."""
    partition = work.partition
    content = partition.content(work)
    result = None
    if content is not None:
        existed = world.put(work.delivery.key, content)
        result = stored(content, already_existed=existed)
    if to_the_end:
        world.publish(partition.uploaded(work, result, attempts=1))
        partition.published(work)


def commit(world: World, partition: Partition, *, answered: bool = True) -> None:
    """Commit what is due; without an answer the worker does not learn that it arrived."""
    due = partition.to_commit()
    if due is not None:
        metadata = encode(due)
        assert len(metadata) <= TIGHT.metadata_bytes_max
        world.commit = decode(due.offset, metadata)
        if answered:
            partition.recorded(due)


def live(world: World, data: st.DataObject, steps: int) -> None:
    """Run one worker for some steps, then let it crash. Its memory is checked at each step."""
    partition = Partition(EVENTS, TIGHT, 0, world.commit)
    now = MINUTE + data.draw(st.integers(0, 4000))
    due: list[Work] = []
    for _ in range(steps):
        now += data.draw(st.sampled_from([0, 1, 30, 61, -200]))
        match data.draw(st.sampled_from(["collect", "collect", "tick", "close", "commit", "work"])):
            case "collect":
                fetched = world.fetch(partition.position or 0, data.draw(st.integers(1, 6)))
                collect(partition, fetched, now - MINUTE, ORDERS, EVERY)
            case "tick":
                partition.tick(now, world.end)
            case "close":
                partition.close_early(now)
            case "commit":
                commit(world, partition, answered=data.draw(st.booleans()))
            case _:
                due += partition.works()
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
        partition.tick(now, world.end)
        now += 61
        commit(world, partition)
        for work in partition.works():
            deliver(world, work)
        if world.commit == Commit(world.end, ()):
            break
    assert world.commit == Commit(world.end, ()), "all is settled"
    assert partition.held_closed == partition.held_open == 0


def check(world: World) -> None:
    """Check promise 1: each matched event has exactly one answer, and it is the right one."""
    told: list[tuple[int, str, bytes]] = []
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
        place = 0
        for it in matched:
            if it.offset in failed:
                answer = b"fail " + failed[it.offset].encode()
            elif any(low <= it.offset <= high for low, high in document["skipped"]):
                answer = b"skip"
            else:
                answer, place = lines[place], place + 1
            told.append((it.offset, receipt.destination, answer))
        assert place == len(lines) == document["counts"]["delivered"]
    expected = [
        (it.offset, destination.id, it.value or b"")
        for it in world.log
        for destination in (ORDERS, EVERY)
        if destination.pipeline is None or it.key == b"orders"
    ]
    assert sorted(told) == sorted(expected)
    named = {receipt.key for receipt in world.receipts.values() if receipt.stored}
    assert named == set(world.objects), "each object has a receipt"


@settings(max_examples=150, deadline=None)
@given(logs(), st.lists(st.integers(0, 25), max_size=4), st.data())
def test_every_event_has_one_answer_whatever_crashes(
    log: list[Sample], lives: list[int], data: st.DataObject
) -> None:
    world = World(log, Commit(log[0].offset, ()))
    for steps in lives:
        live(world, data, steps)
    finish(world)
    check(world)


@settings(max_examples=100, deadline=None)
@given(logs(), st.integers(1, 7), st.integers(1, 7))
def test_batches_decide_nothing_about_the_objects_of_a_backlog(
    log: list[Sample], one: int, other: int
) -> None:
    contents = []
    for count in (one, other):
        world = World(log, Commit(log[0].offset, ()))
        partition = Partition(EVENTS, RULES, 0, world.commit)
        while partition.position != world.end:
            fetched = world.fetch(partition.position or 0, count)
            collect(partition, fetched, 10_000, ORDERS, EVERY)
        partition.recorded(partition.to_commit() or world.commit)
        contents.append({work.delivery.key: partition.content(work) for work in partition.works()})
    assert contents[0] == contents[1]


@settings(max_examples=100, deadline=None)
@given(logs(), st.integers(1, 7), st.integers(1, 7))
def test_a_replay_makes_the_same_bytes_and_the_same_receipts(
    log: list[Sample], one: int, other: int
) -> None:
    world = World(log, Commit(log[0].offset, ()))
    results = []
    for count, now in ((one, 600.0), (other, 9000.0)):
        partition = Partition(EVENTS, RULES, 0, world.commit)
        while partition.position != world.end:
            fetched = world.fetch(partition.position or 0, count)
            collect(partition, fetched, now, ORDERS, EVERY)
        partition.tick(MINUTE + now + 90, world.end)
        commit(world, partition)
        results.append(
            {
                receipt.id: (work.delivery.key, partition.content(work), receipt.document())
                for work in partition.works()
                for receipt in [partition.retrying(work, LATE, attempts=1)]
            }
        )
    assert results[0] == results[1]
