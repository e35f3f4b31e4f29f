"""Many workers, partitions and destinations around the unchanged core, and what they ask of others.

    python -m tests.simulation.scale --partitions 1000 --destinations 100000 --workers 20

Nothing fails here (`test_simulation` is for that): requests and bytes are counted. Each destination
has a pipeline of its own, each pipeline some events a minute, spread evenly, so the log of a
partition is arithmetic: record `n` is of pipeline `n % pipelines`. Time moves in steps. The two
servers answer after times that are given, and a worker has as many uploads under way as a real one.
The CPU time of the core is measured, and asserted nowhere.
"""

import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import click

from stream_app.config.settings import Destination
from stream_app.core.assignment import Assignment
from stream_app.core.commit_metadata import Commit, decode, encode
from stream_app.core.delivery import WindowPolicy
from stream_app.core.partition import TopicPartition
from stream_app.core.receipt import Stored
from stream_app.core.router import Router
from stream_app.core.tasks import DeliveryTask
from stream_app.records import Batch
from stream_app.worker.window_delivery import UPLOADS_MAX

BEGIN: Final = 1_795_537_860
"""2026-11-24T16:31:00Z."""
MINUTE: Final = 60
TOPIC: Final = "events"
RULES: Final = WindowPolicy("stream-app", MINUTE, 2.0)
STEP_SECONDS: Final = 0.25
"""One fetch of each partition, one tick, and the commits that the broker has time for."""
COMMITS_A_STEP: Final = 10
"""The broker answers a commit within 25 ms."""
UPLOADS_A_STEP: Final = 3 * UPLOADS_MAX
"""S3 answers within some 80 ms."""
MEMORY_BYTES_MAX: Final = 1 << 40
"""No bound: what would be needed is to be seen."""


@dataclass(frozen=True)
class Size:
    partitions: int
    destinations: int
    workers: int
    events: int = 1
    """Of each pipeline, a minute."""
    event_bytes: int = 200

    @property
    def pipelines(self) -> int:
        """Of each partition."""
        return self.destinations // self.partitions

    @property
    def moving_max(self) -> int:
        """The partitions that one worker more or less may move."""
        return -(-self.partitions // self.workers)

    @property
    def records(self) -> int:
        """Of each partition, a minute."""
        return self.pipelines * self.events


class Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Worker:
    assignment: Assignment = field(default_factory=lambda: Assignment(RULES, MEMORY_BYTES_MAX))
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    """The consumer's."""
    due: deque[DeliveryTask] = field(default_factory=deque)


class Cluster:
    """A topic that is written to, its group, S3, and the workers."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.now = float(BEGIN)
        self.counts: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.cpu: Counter[str] = Counter()
        self.objects: dict[str, int] = {}
        """Lines, by key."""
        self.by_minute: Counter[tuple[str, int]] = Counter()
        """Objects, by destination and minute."""
        self.reread: dict[TopicPartition, list[Record]] = {}
        """Records fetched a second time since the last rebalance."""
        self.moved: set[TopicPartition] = set()
        """The partitions that another worker has had until the last rebalance."""
        self.committed: dict[TopicPartition, tuple[int, str]] = {}
        self.committed_at_rebalance: dict[TopicPartition, Commit] = {}
        self._tps = [TopicPartition(TOPIC, it) for it in range(size.partitions)]
        self._fetched = dict.fromkeys(self._tps, 0)
        self.end = 0
        """Of the log of each partition."""
        self._value = b'{"text":"%s"}' % (b"x" * (size.event_bytes - len('{"text":""}')))
        self._program = Router(
            [
                Destination(f"archive-{it}", "my-bucket", f"pipeline-{it}", f"customer-{it}/")
                for it in range(size.destinations)
            ]
        )
        self._generation = 0
        self.workers = [Worker() for _ in range(size.workers)]
        self.rebalance()

    # --- the group ----------------------------------------------------------------------------

    def join(self) -> None:
        self.workers.append(Worker())
        self.rebalance()

    def leave(self) -> None:
        """The first worker goes, whatever it was doing."""
        del self.workers[0]
        self.rebalance()

    def rebalance(self) -> None:
        """Deal the partitions out evenly; who keeps its partition goes on with it."""
        self._generation += 1
        self.reread.clear()
        self.moved.clear()
        share, more = divmod(self.size.partitions, len(self.workers))
        dealt = []
        for index, worker in enumerate(self.workers):
            room = share + (index < more)
            dealt.append(list(worker.assignment.partitions)[:room])
        kept = {tp for tps in dealt for tp in tps}
        free = [tp for tp in self._tps if tp not in kept]
        for index, (worker, tps) in enumerate(zip(self.workers, dealt, strict=True)):
            missing = share + (index < more) - len(tps)
            tps += [free.pop() for _ in range(missing)]
            worker.assignment.revoked()
            worker.assignment.assigned(tps, self._generation)
            worker.positions.clear()
            worker.due.clear()
            for tp in tps:
                found = self.committed.get(tp)
                commit = decode(*found) if found else Commit(0, (), int(self.now))
                self.committed_at_rebalance[tp] = commit
                if not worker.assignment.loaded(tp, worker.assignment.epoch, commit):
                    self.moved.add(tp)
                worker.positions[tp] = commit.offset  # Faust seeks all of them, the kept ones too

    # --- time ---------------------------------------------------------------------------------

    def run(self, seconds: float, *, writing: bool = True) -> None:
        """Let time pass; the topic is written to meanwhile, or not."""
        until = self.now + seconds
        while self.now < until:
            self.now += STEP_SECONDS
            if writing:
                self.end = int((self.now - BEGIN) * self.size.records / MINUTE)
            for worker in self.workers:
                self._step(worker)

    def _step(self, worker: Worker) -> None:
        assignment = worker.assignment
        for tp, position in worker.positions.items():
            if position < self.end:
                worker.positions[tp] = self._fetch(assignment, tp, position)
        with self._measured("tick"):
            assignment.tick(self.now, dict.fromkeys(worker.positions, self.end))
        self.counts["ticks"] += 1
        self._note_most("held bytes of a worker", assignment.held)
        for _ in range(COMMITS_A_STEP):
            if not self._commit(assignment):
                break
        with self._measured("works"):
            worker.due += assignment.delivery_tasks()
        self._note_most("deliveries that wait in a worker", len(worker.due))
        for _ in range(min(len(worker.due), UPLOADS_A_STEP)):
            self._deliver(worker.due.popleft())

    def _fetch(self, assignment: Assignment, tp: TopicPartition, position: int) -> int:
        records = [self._record(tp.partition, it) for it in range(position, self.end)]
        again = self._fetched[tp] - position
        if again > 0:
            self.reread[tp] = records[:again]
        self._fetched[tp] = max(self._fetched[tp], self.end)
        self.counts["fetches"] += 1
        self.counts["records fetched"] += len(records)
        with self._measured("answer"):
            answers = self._program.evaluate(records, tp)
        epoch = assignment.epoch_of(self._generation)
        with self._measured("collect"):
            assert not assignment.missing
            assignment.relieve(self.now)
            rest = assignment.collect(
                tp, epoch, Batch(position, self.end, records), answers, self.now
            )
        assert rest is None
        return self.end

    def _record(self, partition: int, offset: int) -> Record:
        size = self.size
        pipeline = partition + offset % size.pipelines * size.partitions
        milliseconds = BEGIN * 1000 + offset * MINUTE * 1000 // size.records
        return Record(offset, milliseconds, b"pipeline-%d" % pipeline, self._value)

    # --- what is asked of the servers ---------------------------------------------------------

    def _commit(self, assignment: Assignment) -> bool:
        with self._measured("commits"):
            commits = assignment.commits()
        if not commits:
            return False
        self.counts["OffsetCommit"] += 1
        for tp, commit in commits.items():
            metadata = encode(commit)
            self.counts["partitions committed"] += 1
            self.counts["metadata bytes"] += len(metadata)
            self._note_most("metadata bytes", len(metadata))
            self.committed[tp] = (commit.offset, metadata)
        with self._measured("recorded"):
            assignment.recorded(commits)
        return True

    def _deliver(self, work: DeliveryTask) -> None:
        partition, delivery = work.partition, work.delivery
        with self._measured("settle"):
            content = partition.content(work)
            assert content is not None
        self._put(work, content)
        with self._measured("settle"):
            stored = Stored(
                *(len(content), '"etag"', None, "c2hhMjU2" * 5),
                already_existed=False,
                stored_at=int(self.now),
            )
            receipt = partition.uploaded(work, stored, attempts=1)
            message = receipt.message(int(self.now))
            partition.published(work)
        self.counts["receipts"] += 1
        headers = sum(len(name) + len(value) for name, value in message.headers)
        self.counts["receipt bytes"] += len(message.key) + len(message.value) + headers
        assert delivery.body is None

    def _put(self, work: DeliveryTask, content: bytes) -> None:
        key, lines = work.delivery.key, zlib.decompress(content, 31).count(b"\n")
        self.counts["PutObject"] += 1
        self.counts["object bytes"] += len(content)
        if key in self.objects:
            self.counts["answered 412"] += 1
            assert self.objects[key] == lines
        else:
            self.objects[key] = lines
            self.by_minute[work.delivery.destination.id, work.window.window_start] += 1

    def _note_most(self, what: str, number: int) -> None:
        self.most[what] = max(self.most[what], number)

    @contextmanager
    def _measured(self, what: str) -> Iterator[None]:
        started = time.process_time()
        yield
        self.cpu[what] += time.process_time() - started  # type: ignore[assignment] # seconds


def report(cluster: Cluster) -> str:
    """Return what was counted, a line each."""
    counts, cpu = cluster.counts, cluster.cpu
    per = {
        "answer": "records fetched",
        "collect": "records fetched",
        "tick": "ticks",
        "works": "ticks",
        "commits": "ticks",
        "recorded": "receipts",
        "settle": "receipts",
    }
    lines = [f"{number:>14,} {what}" for what, number in sorted(counts.items())]
    lines += [f"{number:>14,} {what}, at most" for what, number in sorted(cluster.most.items())]
    lines += [
        f"{cpu[it] / counts[of] * 1e6:>14.2f} us of CPU: {it}, of {of}" for it, of in per.items()
    ]
    return "\n".join(lines)


@click.command()
@click.option("--partitions", default=1_000)
@click.option("--destinations", default=100_000)
@click.option("--workers", default=20)
@click.option("--events", default=1, help="Of each pipeline, a minute.")
@click.option("--minutes", default=2)
def main(partitions: int, destinations: int, workers: int, events: int, minutes: int) -> None:
    """Count what so many ask of Kafka and S3."""
    cluster = Cluster(Size(partitions, destinations, workers, events))
    cluster.run(minutes * MINUTE)
    cluster.run(MINUTE, writing=False)
    sys.stdout.write(report(cluster) + "\n")


if __name__ == "__main__":
    main()
