"""A fake Kafka: partition logs with holes, a consumer group with generations, fenced commits.

The group protocol is the eager one: a rebalance begins, every member gives up everything and joins
again, then the generation is raised and the partitions are dealt out. Who does not join in time is
expelled. While members are still joining, commits of the old generation are accepted, as Kafka
does; from the new generation on they are refused. A static member that joins anew gets its place at
once, in the same generation, under another name: who had the place before is refused, and ends.
"""

import random
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from stream_app.records import Undecodable
from tests.simulation.scheduler import Scheduler, ServerError, Signal

if TYPE_CHECKING:
    from tests.simulation.worker import Worker

TOPIC = "events"
SESSION_SECONDS = 6.0
REBALANCE_SECONDS = 8.0

Name = tuple[str, int]
"""Topic and partition."""


class RefusedError(ServerError):
    """The broker refuses a request: unknown member, or a stale generation."""


class TooLargeError(ServerError):
    """The broker refuses the metadata of some of a request's commits, and has taken the others."""


class OutOfRangeError(ServerError):
    """The log begins later than the offset asked for, or ends before it."""


class Record(NamedTuple):
    """Fields of a record that the core reads."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    version: int
    """How often the log had lost its end when it was produced."""


class Damage(NamedTuple):
    """A batch of a log that no client can decode for a while."""

    first: int
    end: int
    since: float
    until: float


class Log:
    """One partition; offsets that no record has are transaction markers, or compacted away."""

    def __init__(self) -> None:
        self.damages: list[Damage] = []
        self.start = 0
        self.end = 0
        """The first offset that a reader cannot see yet."""
        self.records: list[Record] = []
        self.past: list[tuple[list[Record], int]] = []
        """Records and end of the log before each time when it lost its end."""

    @property
    def version(self) -> int:
        """How often the log has lost its end."""
        return len(self.past)

    def versions(self, since: int) -> list[tuple[list[Record], int]]:
        """Return records and end of the log, as they were from a version on."""
        return [*self.past[since:], (self.records, self.end)]

    def truncate(self, end: int) -> None:
        """Lose all from `end` on: those offsets will name other records."""
        self.past.append((self.records, self.end))
        self.records = [it for it in self.records if it.offset < end]
        self.start, self.end = min(self.start, end), end

    def read(
        self, position: int, count_max: int, now: float
    ) -> tuple[int, list[Record], Undecodable | None]:
        """Return the next position, the records from `position` on, and what cannot be decoded."""
        if not self.start <= position <= self.end:
            raise OutOfRangeError(f"the log is {self.start} to {self.end}, asked for {position}")
        after, records = self._read(position, count_max)
        for damage in self.damages:
            if (
                damage.since <= now < damage.until
                and position < damage.end
                and damage.first < after
            ):
                at = max(position, damage.first)
                found = Undecodable(at, damage.end, "lz4: wrong checksum")
                return at, [it for it in records if it.offset < at], found
        return after, records, None

    def _read(self, position: int, count_max: int) -> tuple[int, list[Record]]:
        first = bisect_left(self.records, position, key=_offset)
        records = self.records[first : first + count_max]
        if first + count_max >= len(self.records):
            return max(self.end, position), records
        return records[-1].offset + 1, records


@dataclass(eq=False)
class Ticket:
    """A place in the next generation; `generation` is None when the member was expelled."""

    member: str
    signal: Signal
    generation: int | None = None
    partitions: list[Name] = field(default_factory=list)


@dataclass(eq=False)
class _Member:
    worker: "Worker"
    ticket: Ticket | None = None


class Broker:
    """The logs, the group and its offsets.

    Args:
        scheduler: The world's.
        chance: The world's.
        logs: The partitions.
        metadata_bytes_max: As Kafka's `offset.metadata.max.bytes`.
        sticky: Whether partitions stay with their owners where possible.
        committed: Called for each commit that was applied: partition, offset, metadata.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        chance: random.Random,
        logs: dict[Name, Log],
        *,
        metadata_bytes_max: int,
        sticky: bool,
        committed: Callable[[Name, int, str], None],
    ) -> None:
        self.logs = logs
        self.offsets: dict[Name, tuple[int, str]] = {}
        self.generation = 0
        self.rebalances = 0
        self.refused = 0
        self._scheduler = scheduler
        self._chance = chance
        self.metadata_bytes_max = metadata_bytes_max
        self._sticky = sticky
        self._committed = committed
        self._members: dict[str, _Member] = {}
        self._names = 0
        self._joining = False
        self._round = 0
        self._owners: dict[Name, str] = {}
        self._places: dict[str, str] = {}
        """Name of the member that has the place of a static one."""
        self.taken_places = 0

    # --- requests -----------------------------------------------------------------------------

    def join(self, worker: "Worker", member: str | None) -> Ticket:
        """Take part in the next generation; the ticket is filled in when it begins."""
        if member not in self._members:
            # A member of an earlier join whose answer was lost would time out; it is gone at once.
            before_name = self._places.get(worker.place or "")
            if before_name in self._members:
                return self._take_place(worker, before_name)
            for name in [name for name, it in self._members.items() if it.worker is worker]:
                del self._members[name]
            self._names += 1
            member = f"member-{self._names}"
            self._members[member] = _Member(worker)
            if worker.place is not None:
                self._places[worker.place] = member
        if worker.crashed:
            # A request of the dead: its session ends like any other.
            self._scheduler.after(SESSION_SECONDS, self.leave, worker)
        ticket = Ticket(member, Signal(self._scheduler))
        before, self._members[member].ticket = self._members[member].ticket, ticket
        if before is not None:
            before.signal.set()  # a member that waits for it joins again: one of the two came late
        self.rebalance()
        self._complete_if_all_joined()
        return ticket

    def _take_place(self, worker: "Worker", before_name: str) -> Ticket:
        """Give the place of a static member to another process, or to the same one anew."""
        before = self._members.pop(before_name)
        self._names += 1
        self.taken_places += 1
        name = self._places[worker.place or ""] = f"member-{self._names}"
        ticket = Ticket(name, Signal(self._scheduler))
        self._members[name] = _Member(worker)
        if before.ticket is not None:
            before.ticket.signal.set()
        if before.worker is not worker:
            self._scheduler.after(self._chance.uniform(0.05, 0.8), self._fence, before.worker)
        if worker.crashed:
            self._scheduler.after(SESSION_SECONDS, self.leave, worker)
        if self._joining:
            self._members[name].ticket = ticket
            self._complete_if_all_joined()
            return ticket
        for partition, owner in self._owners.items():
            if owner == before_name:
                self._owners[partition] = name
                ticket.partitions.append(partition)
        ticket.generation = self.generation
        ticket.signal.set()
        self._scheduler.after(SESSION_SECONDS, self._rejoin, worker, self.generation)
        return ticket

    def _fence(self, worker: "Worker") -> None:
        """End a worker whose place another one has, at its next heartbeat."""
        until = max(worker.paused_until, worker.deaf_until)
        if until > self._scheduler.now:
            self._scheduler.after(until - self._scheduler.now + 0.1, self._fence, worker)
        elif not worker.crashed:
            worker.crash()

    def leave(self, worker: "Worker") -> None:
        """Remove a worker from the group; what it holds is dealt out again."""
        names = [name for name, it in self._members.items() if it.worker is worker]
        for name in names:
            self._expel(name)
        if names:
            self.rebalance()
            self._complete_if_all_joined()

    def commit(self, member: str, generation: int, offsets: Mapping[Name, tuple[int, str]]) -> None:
        """Apply an OffsetCommit, or refuse all of it, or those parts of it that are too large."""
        if member not in self._members or generation != self.generation:
            self.refused += 1
            raise RefusedError(f"commit of {member} in generation {generation}")
        too_large = []
        for name, (offset, metadata) in offsets.items():
            if len(metadata.encode()) > self.metadata_bytes_max:
                too_large.append(name)
                continue
            self.offsets[name] = (offset, metadata)
            self._committed(name, offset, metadata)
        if too_large:
            raise TooLargeError(f"metadata of {too_large}")

    def rebalance(self) -> None:
        """Begin a rebalance, unless one is under way."""
        if self._joining or not self._members:
            return
        self._joining = True
        self._round += 1
        self.rebalances += 1
        for member in self._members.values():
            if member.ticket is None:
                self._notify(member.worker)
        self._scheduler.after(REBALANCE_SECONDS, self._give_up_waiting, self._round)

    # --- inside -------------------------------------------------------------------------------

    def _notify(self, worker: "Worker") -> None:
        """Make the worker join again at its next heartbeat."""
        self._scheduler.after(self._chance.uniform(0.05, 0.8), self._heartbeat, worker)

    def _heartbeat(self, worker: "Worker") -> None:
        if worker.crashed:
            return
        until = max(worker.paused_until, worker.deaf_until)
        if until > self._scheduler.now:
            self._scheduler.after(until - self._scheduler.now + 0.1, self._heartbeat, worker)
        else:
            worker.rejoin.set()

    def _give_up_waiting(self, round_: int) -> None:
        if not self._joining or round_ != self._round:
            return
        for name in [name for name, it in self._members.items() if it.ticket is None]:
            self._expel(name)
        self._complete_if_all_joined()

    def _expel(self, name: str) -> None:
        member = self._members.pop(name)
        if member.ticket is not None:
            member.ticket.signal.set()
        self._notify(member.worker)

    def _complete_if_all_joined(self) -> None:
        members = self._members
        if not self._joining or any(member.ticket is None for member in members.values()):
            return
        self._joining = False
        if not members:
            return
        self.generation += 1
        names = sorted(members)
        if not self._sticky:
            self._chance.shuffle(names)
        dealt: dict[str, list[Name]] = {name: [] for name in names}
        share = -(-len(self.logs) // len(names))
        for index, partition in enumerate(sorted(self.logs)):
            owner = self._owners.get(partition)
            if not self._sticky or owner not in dealt or len(dealt[owner]) >= share:
                owner = min(names, key=lambda name: len(dealt[name]))
                if not self._sticky:
                    owner = names[index % len(names)]
            dealt[owner].append(partition)
            self._owners[partition] = owner
        for name, member in members.items():
            ticket, member.ticket = member.ticket, None
            if ticket is None:
                raise AssertionError(f"{name} has not joined")
            ticket.generation, ticket.partitions = self.generation, dealt[name]
            ticket.signal.set()
            self._scheduler.after(SESSION_SECONDS, self._rejoin, member.worker, self.generation)

    def _rejoin(self, worker: "Worker", generation: int) -> None:
        """Make a worker learn at a heartbeat that it has missed its generation."""
        if generation == self.generation and worker.assignment.generation != generation:
            self._heartbeat(worker)


def _offset(record: Record) -> int:
    return record.offset
