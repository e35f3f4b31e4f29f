"""Whatever happens, an assignment that looks only where it was told to look misses nothing.

After each random step its sum of bytes, its works and its commits are compared with those of all
partitions, asked one by one.
"""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.assignment import Assignment
from stream_app.closings import Commit
from stream_app.deliveries import State
from stream_app.expressions import TP
from stream_app.partition import Partition, Work
from tests.unit.records import (
    EVERY,
    MINUTE,
    ORDERS,
    RULES,
    answer,
    batch,
    held_closed,
    held_open,
    record,
    stored,
)

TPS = (TP("events", 0), TP("events", 1), TP("events", 2))
TIGHT = replace(RULES, metadata_bytes_max=80)
MEMORY_BYTES_MAX = 9_000
STEPS = (
    *("collect", "collect", "collect", "skip", "tick", "close", "relieve", "commit", "commit"),
    *("work", "work", "work", "content", "rebalance", "load", "forget"),
)


class Drawn:
    """An assignment, and what the group has committed."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.now = float(MINUTE)
        self.assignment = Assignment(TIGHT, MEMORY_BYTES_MAX)
        self.committed = dict.fromkeys(TPS, Commit(10, ()))
        self.works: list[Work] = []
        self.assignment.assigned(TPS)

    def step(self, name: str) -> None:
        self.now += self.data.draw(st.sampled_from([0, 1, 30, 61]))
        getattr(self, name)()

    def partition(self) -> Partition | None:
        return self.assignment.partitions.get(self.data.draw(st.sampled_from(TPS)))

    def collect(self) -> None:
        partition = self.partition()
        if partition is not None:
            kind = self.data.draw(st.sampled_from(["x" * 500, "skip", "fail it"]))
            fetched = batch(record(partition.position, self.now - MINUTE, kind))
            answers = answer(fetched.records, ORDERS, EVERY)  # type: ignore[arg-type] # samples
            epoch = self.assignment.epoch
            self.assignment.collect(partition.tp, epoch, fetched, answers, self.now)

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
        self.works += self.assignment.works()
        work = self.one_valid()
        if work is not None:
            if work.delivery.state is State.RECORDED:
                content = work.partition.content(work)
                result = None if content is None else stored(content)
                work.partition.uploaded(work, result, attempts=1)
            if self.data.draw(st.booleans()):
                work.partition.published(work)

    def content(self) -> None:
        work = self.one_valid()
        if work is not None:
            work.partition.content(work)

    def rebalance(self) -> None:
        self.assignment.revoked()
        self.assignment.assigned(self.data.draw(st.sampled_from([TPS, TPS[:2], TPS[1:], ()])))

    def load(self) -> None:
        for tp in self.assignment.missing:
            if self.data.draw(st.booleans()):
                self.assignment.loaded(tp, self.assignment.epoch, self.committed[tp])

    def forget(self) -> None:
        self.assignment.forget(self.data.draw(st.sampled_from(TPS)))

    def one_valid(self) -> Work | None:
        owed = (State.RECORDED, State.STORED)
        valid = [it for it in self.works if it.valid and it.delivery.state in owed]
        return self.data.draw(st.sampled_from(valid)) if valid else None

    def check(self) -> None:
        assignment = self.assignment
        partitions = assignment.partitions.values()
        every = (*partitions, *assignment._suspended.values())
        assert assignment.held == sum(held_open(it) + held_closed(it) for it in every)
        assert set(assignment.missing) == assignment._assigned - assignment.partitions.keys()
        due = {id(it) for partition in partitions for it in partition._ready}
        works = assignment.works()
        assert {id(it) for it in works} == due
        self.works += works
        asked = {it.tp: it.to_commit() for it in partitions}
        assert assignment.commits() == {tp: it for tp, it in asked.items() if it is not None}


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_nothing_is_missed_by_looking_only_where_something_was_told(data: st.DataObject) -> None:
    drawn = Drawn(data)
    drawn.load()
    for name in data.draw(st.lists(st.sampled_from(STEPS), max_size=40)):
        drawn.step(name)
        drawn.check()
