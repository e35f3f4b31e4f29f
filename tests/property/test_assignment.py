"""Whatever happens, an assignment that examines only changed partitions misses nothing.

After each random step its sum of bytes, its works and its commits are compared with those of all
partitions, asked one by one.
"""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.assignment import Assignment
from stream_app.core.commit_metadata import Commit
from stream_app.core.delivery import State
from stream_app.core.object_body import Sizes
from stream_app.core.partition import Partition
from stream_app.core.tasks import Compressions, DeliveryTask, PartUpload
from stream_app.records import TopicPartition
from tests.profiles import examples
from tests.unit.core.builders import (
    EVERY,
    MINUTE,
    ORDERS,
    RULES,
    answer,
    batch,
    held_closed,
    held_open,
    noise,
    record,
    stored,
)

TPS = (TopicPartition("events", 0), TopicPartition("events", 1), TopicPartition("events", 2))
SIZES = Sizes(slice=200, part=600, part_min=400, parts_max=4)
TIGHT = replace(RULES, metadata_bytes_max=80, sizes=SIZES)
MEMORY_BYTES_MAX = 9_000
STEPS = (
    *("collect", "collect", "collect", "skip", "tick", "close", "relieve", "commit", "commit"),
    *("work", "work", "work", "content", "rebalance", "load", "load", "forget"),
    *("compressed", "short", "stream", "stream", "stream"),
)


class Drawn:
    """An assignment, and what the group has committed."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.now = float(MINUTE)
        self.assignment = Assignment(TIGHT, MEMORY_BYTES_MAX)
        self.committed = dict.fromkeys(TPS, Commit(10, ()))
        self.delivery_tasks: list[DeliveryTask] = []
        self.part_uploads: list[PartUpload] = []
        self.compressing: list[Compressions] = []
        self.begun = 0
        """How many uploads in parts; each has its number as id."""
        self.ended: set[str] = set()
        """Uploads whose object is there."""
        self.abandoned: list[str] = []
        self.assignment.assigned(TPS)

    def step(self, name: str) -> None:
        self.now += self.data.draw(st.sampled_from([0, 1, 30, 61]))
        if name in {"collect", "skip", "close", "relieve", "short"}:
            self.compressed()  # as the shell does
        getattr(self, name)()

    def partition(self) -> Partition | None:
        return self.assignment.partitions.get(self.data.draw(st.sampled_from(TPS)))

    def collect(self) -> None:
        partition = self.partition()
        if partition is not None:
            kind = self.data.draw(
                st.sampled_from([noise(900), noise(900), "x" * 500, "skip", "fail it"])
            )
            fetched = batch(record(partition.position, self.now - MINUTE, kind))
            answers = answer(fetched.records, ORDERS, EVERY)  # type: ignore[arg-type] # samples
            epoch = self.assignment.epoch
            self.assignment.collect(partition.tp, epoch, fetched, answers, self.now)
            if self.data.draw(st.booleans()):
                self.compressing = self.assignment.compressions(partition.tp)

    def skip(self) -> None:
        partition = self.partition()
        if partition is not None:
            tp, epoch = partition.tp, self.assignment.epoch
            self.assignment.skip_to(tp, epoch, partition.position + 1)

    def tick(self) -> None:
        ends = {tp: it.position for tp, it in self.assignment.partitions.items()}
        self.assignment.tick(self.now, ends)

    def close(self) -> None:
        partition = self.partition()
        if partition is not None:
            partition.close_early(self.now)

    def relieve(self) -> None:
        self.assignment.relieve(self.now)

    def commit(self) -> None:
        """Commit what is due; the broker may refuse it, or its answer be lost."""
        commits = self.assignment.commits()
        fate = self.data.draw(st.sampled_from(["done", "done", "refused", "no answer"]))
        if fate != "refused":
            self.committed |= commits
        if fate == "done":
            self.assignment.recorded(commits)

    def work(self) -> None:
        """Take all that is due, and bring one of it to its end if it is still ours to bring."""
        self.delivery_tasks += self.assignment.delivery_tasks()
        work = self.one_valid()
        if work is not None:
            if work.delivery.state is State.RECORDED:
                content = work.partition.content(work)
                result = None
                if content is not None:
                    result = stored(content)
                    self.send(work, len(work.delivery.content.unsent))
                    if work.delivery.content.upload_id is not None:
                        self.ended.add(work.delivery.content.upload_id)
                work.partition.uploaded(work, result, attempts=1)
            if self.data.draw(st.booleans()):
                work.partition.published(work)

    def content(self) -> None:
        work = self.one_valid()
        if work is not None:
            work.partition.content(work)

    def short(self) -> None:
        self.compressing = self.assignment.compressions()

    def compressed(self) -> None:
        for it in self.compressing:
            it.perform()
        self.assignment.compressed(self.compressing, self.now)
        self.compressing = []

    def stream(self) -> None:
        """Let some parts of an open window's object leave."""
        valid = [it for it in self.part_uploads if it.valid and it.delivery.body is not None]
        if valid:
            stream = self.data.draw(st.sampled_from(valid))
            self.send(stream, self.data.draw(st.integers(0, 3)))
            stream.delivery.content.is_stuck = self.data.draw(st.booleans())

    def send(self, stream: PartUpload, count: int) -> None:
        body = stream.delivery.content
        if body.unsent and body.upload_id is None:
            stream.partition.begun(stream, str(self.begun))
            self.begun += 1
        for part in body.unsent[:count]:
            stream.partition.sent(stream, part, None)

    def rebalance(self) -> None:
        self.assignment.revoked()
        self.assignment.assigned(self.data.draw(st.sampled_from([TPS, TPS[:2], TPS[1:], ()])))

    def load(self) -> None:
        for tp in self.assignment.missing:
            if self.data.draw(st.booleans()):
                self.assignment.loaded(tp, self.assignment.epoch, self.committed[tp])
                self.assignment.sought(tp, self.assignment.epoch, 0)

    def forget(self) -> None:
        self.assignment.forget(self.data.draw(st.sampled_from(TPS)))

    def one_valid(self) -> DeliveryTask | None:
        owed = (State.RECORDED, State.STORED)
        valid = [it for it in self.delivery_tasks if it.valid and it.delivery.state in owed]
        return self.data.draw(st.sampled_from(valid)) if valid else None

    def check(self) -> None:
        assignment = self.assignment
        partitions = assignment.partitions.values()
        every = (*partitions, *assignment._suspended.values())
        assert assignment.held == sum(held_open(it) + held_closed(it) for it in every)
        leaving = [it for partition in partitions for it in partition.window._leaving]
        streams = assignment.part_uploads()
        assert sorted(id(it.delivery) for it in streams) == sorted(map(id, leaving))
        self.part_uploads += streams
        self.abandoned += [it.id for it in assignment.abandoned()]
        assert len(set(self.abandoned)) == len(self.abandoned), "an upload is abandoned once"
        kept = {it.id for partition in every for it in partition.uploads()}
        ours = {str(number) for number in range(self.begun)}
        assert kept | set(self.abandoned) == ours - self.ended
        assert kept.isdisjoint(self.abandoned)
        assert set(assignment.missing) == assignment._assigned - assignment.partitions.keys()
        due = {id(it) for partition in partitions for it in partition._ready}
        works = assignment.delivery_tasks()
        assert {id(it) for it in works} == due
        self.delivery_tasks += works
        asked = {it.tp: it.to_commit() for it in partitions}
        assert assignment.commits() == {tp: it for tp, it in asked.items() if it is not None}


@given(st.data())
@examples(200)
def test_nothing_is_missed_by_examining_only_changed_partitions(data: st.DataObject) -> None:
    drawn = Drawn(data)
    drawn.load()
    steps = data.draw(st.lists(st.sampled_from(STEPS), min_size=10, max_size=40))
    for name in ("collect", "collect", "tick", "commit", *steps):
        drawn.step(name)
        drawn.check()
