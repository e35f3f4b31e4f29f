"""The partitions that this worker holds now: who owns what, under which epoch, in what memory.

    revoked() ──> every partition is suspended: its work is void, its windows are kept
    assigned() ─> those that did not come back are forgotten
    loaded() ───> a suspended partition goes on if its commit says that nobody owned it in between;
                  any other is built from its commit

The epoch counts revocations. Whatever was begun under an older one may end, but changes nothing:
each entry point compares epochs in the same call that acts. Pure; the shell performs.

A batch, a receipt or a commit costs the same however many partitions there are: each partition
tells of its calls, so that only those are looked at where something can have happened since.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum, auto
from functools import wraps
from typing import Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from stream_app.batches import Answers, Batch
from stream_app.closings import Commit
from stream_app.deliveries import Delivery, Rules, Upload
from stream_app.errors import FencedError
from stream_app.expressions import TP
from stream_app.partition import Partition, Stream, Work
from stream_app.window import Compressing, Window

WAITING_SHARE: Final = 4
"""What part of the memory lines must hold for it to be worth while to compress them all."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Relief(Enum):
    """What the memory bound demands before a further batch is taken."""

    GO = auto()
    """There is room, or waiting would not make any."""
    WAIT = auto()
    """Closed windows, or parts, are on their way out: wait until one of them has gone."""
    COMPRESS = auto()
    """Lines wait that would take less room compressed (`compressions`)."""


class Standing(NamedTuple):
    """A window that a partition holds, for whoever only looks."""

    start: int
    """Of its minute, in seconds since 1970."""
    destinations: Collection[str]
    """Those that have no receipt yet."""
    is_open: bool
    is_recorded: bool
    """The broker has its closing."""


class Compressions(NamedTuple):
    """Lines of one partition's open window that are to be compressed: `perform` it in a thread."""

    partition: "_Member"
    window: Window
    items: list[Compressing]

    def perform(self) -> None:
        """Compress; see `objects.Compression`."""
        for it in self.items:
            it.compression.perform()


def _telling(
    method: Callable[Concatenate[Partition, _P], _R],
) -> Callable[Concatenate["_Member", _P], _R]:
    @wraps(method)
    def call(self: "_Member", /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(self, *args, **kwargs)
        finally:
            self.tell(self)

    return call


class _Member(Partition):
    """A partition that tells its assignment of each call that can make work, a commit, or bytes."""

    tell: Callable[["_Member"], None]
    accounted = 0
    """What of it is in the assignment's sum."""

    collect = _telling(Partition.collect)
    skip_to = _telling(Partition.skip_to)
    tick = _telling(Partition.tick)
    close_early = _telling(Partition.close_early)
    recorded = _telling(Partition.recorded)
    resume = _telling(Partition.resume)
    content = _telling(Partition.content)
    uploaded = _telling(Partition.uploaded)
    published = _telling(Partition.published)
    sent = _telling(Partition.sent)

    def standing(self) -> list[Standing]:
        """Return the windows that the commit has not passed, oldest first."""
        found = [
            Standing(it.window_start, it.deliveries.keys(), is_open=False, is_recorded=it.recorded)
            for it in self._closed
        ]
        start = self._replay[0].window_start if self._replay else self._time.start
        if start is not None and self.position > self._first:
            ids = [it.destination.id for it in self.window.deliveries]
            found.append(Standing(start, ids, is_open=True, is_recorded=False))
        return found


class Assignment:
    """All partitions of one worker.

    Args:
        rules: Window length, grace and bounds, the same for each partition.
        memory_bytes_max: Bound of the bytes that all windows hold together.
    """

    def __init__(self, rules: Rules, memory_bytes_max: int) -> None:
        self.epoch = 0
        self.partitions: dict[TP, _Member] = {}
        """Held now, with their state read back."""
        self.held = 0
        """Bytes of memory that all windows take."""
        self._rules = rules
        self._memory_bytes_max = memory_bytes_max
        self._suspended: dict[TP, _Member] = {}
        self.generation: int | None = None
        """Of the group, while we take part in it."""
        self._assigned: frozenset[TP] = frozenset()
        self._missing: dict[TP, None] = {}
        """Those of `_assigned` that are not in `partitions`, in order."""
        self._with_works: dict[TP, _Member] = {}
        """The partitions in which a delivery may have become due since they were last asked."""
        self._with_streams: dict[TP, _Member] = {}
        """The same, for parts that may leave open windows."""
        self._abandoned: list[Upload] = []
        self._with_commits: dict[TP, _Member] = {}
        """The partitions of which the broker may not have the commit that is due."""

    def revoked(self) -> None:
        """Every partition may go: void all work, keep what was collected."""
        self.epoch += 1
        self.generation = None
        self._assigned = frozenset()
        self._suspended.update(self.partitions)
        self.partitions.clear()
        self._missing.clear()
        for told in (self._with_works, self._with_streams, self._with_commits):
            told.clear()
        for partition in self._suspended.values():
            partition.suspend(self.epoch)

    def assigned(self, tps: Iterable[TP], generation: int = 0) -> None:
        """Take note of what is ours in this generation of the group; forget what is not."""
        self.generation = generation
        mine = tuple(tps)
        self._assigned = frozenset(mine)
        self._missing = {tp: None for tp in mine if tp not in self.partitions}
        for tp in [tp for tp in self._suspended if tp not in self._assigned]:
            self._drop(self._suspended.pop(tp))

    def epoch_of(self, generation: int | None) -> int:
        """Return the epoch in which records of a generation of the group may be collected.

        Raises:
            FencedError: They were fetched under another assignment.
        """
        if generation is None or generation != self.generation:
            raise FencedError(f"records of generation {generation}, now {self.generation}")
        return self.epoch

    def is_epoch(self, epoch: int) -> bool:
        """Whether no revocation has come since this epoch."""
        return epoch == self.epoch

    @property
    def missing(self) -> list[TP]:
        """The partitions that are ours but whose commit is still to be read back."""
        return list(self._missing)

    def loaded(self, tp: TP, epoch: int, commit: Commit) -> bool:
        """Take a partition into service with the commit that was read back, see `Partition`.

        Returns:
            Whether its windows could be kept.

        Raises:
            FencedError: A revocation came while the commit was being read: read it again.
        """
        if epoch != self.epoch or tp not in self._assigned:
            raise FencedError(f"{tp}: read back in epoch {epoch}, now {self.epoch}")
        if tp in self.partitions:
            return True
        partition = self._suspended.pop(tp, None)
        kept = partition is not None and partition.resume(epoch, commit)
        if partition is not None and not kept:
            self._drop(partition)
        if partition is None or not kept:
            partition = _Member(tp, self._rules, epoch, commit)
            partition.tell = self._told
        self.partitions[tp] = partition
        del self._missing[tp]
        self._told(partition)
        return kept

    def forget(self, tp: TP) -> None:
        """Drop a partition whose state cannot be trusted; `loaded` builds it from its commit."""
        partition = self.partitions.pop(tp, None)
        if partition is not None:
            partition.suspend(-1)  # no epoch: its work stays void
            self._drop(partition)
            self._missing[tp] = None
            for told in (self._with_works, self._with_streams, self._with_commits):
                told.pop(tp, None)

    def collect(
        self,
        tp: TP,
        epoch: int,
        batch: Batch,
        answers: Sequence[Answers],
        now: float,
        *,
        one_window: bool = False,
    ) -> Batch | None:
        """Add a batch to its partition, see `Partition.collect`.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch.
            GapError: The batch does not continue where the partition stands.
        """
        return self._held(tp, epoch).collect(batch, answers, now, one_window=one_window)

    def skip_to(self, tp: TP, epoch: int, offset: int) -> int:
        """Accept that a partition's records before `offset` are gone, see `Partition.skip_to`.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch.
        """
        return self._held(tp, epoch).skip_to(offset)

    def tick(self, now: float, log_ends: Mapping[TP, int]) -> None:
        """Close what is idle at its end and whose minute is over."""
        for tp, partition in self.partitions.items():
            partition.tick(now, log_ends.get(tp))

    def commits(self) -> dict[TP, Commit]:
        """Return what should be committed now, for each partition where that is something new."""
        commits = {}
        for tp, partition in list(self._with_commits.items()):
            commit = partition.to_commit()
            if commit is None:
                del self._with_commits[tp]
            else:
                commits[tp] = commit  # and asked for again, until the broker has it
        return commits

    def recorded(self, commits: Mapping[TP, Commit]) -> None:
        """Note that the broker has these commits.

        After a revocation no partition waits for a confirmation, and it is not used: the read-back
        will tell.
        """
        for tp, commit in commits.items():
            if tp in self.partitions:
                self.partitions[tp].recorded(commit)

    def works(self) -> list[Work]:
        """Return the deliveries that have become due since the last call."""
        told, self._with_works = self._with_works, {}
        return [work for partition in told.values() for work in partition.works()]

    def streams(self) -> list[Stream]:
        """Return the parts of open windows that may leave since the last call."""
        told, self._with_streams = self._with_streams, {}
        return [stream for partition in told.values() for stream in partition.streams()]

    def abandoned(self) -> list[Upload]:
        """Return the uploads in parts, begun by partitions dropped since the last call."""
        abandoned, self._abandoned = self._abandoned, []
        return abandoned

    def compressions(self, tp: TP | None = None) -> list[Compressions]:
        """Take lines out that are to be compressed; hand it to `compressed` when that is done.

        Args:
            tp: The full slices of this partition; left out, all that waits, of all partitions.
        """
        if tp is None:
            partitions = list(self.partitions.values())
        else:
            partitions = [self.partitions[tp]] if tp in self.partitions else []
        taken = [
            Compressions(it, it.window, it.window.compressions(whole=tp is None))
            for it in partitions
        ]
        for partition in partitions:
            self._told(partition)
        return [it for it in taken if it.items]

    def compressed(self, done: Sequence[Compressions], now: float) -> None:
        """Note what came of `compressions`, also of a partition that was dropped since."""
        for it in done:
            it.window.compressed(it.items, int(now))
            self._told(it.partition)

    def relieve(self, now: float) -> Relief:
        """Keep the memory bound: close what is large, or say that the caller must wait.

        An open window of a busy partition closes only by more records, so waiting for it would
        never end. When open windows hold the memory, what waits is compressed, then parts leave,
        and only when nothing else helps is the largest closed early. What is closed leaves by
        itself.
        """
        if self.held < self._memory_bytes_max:
            return Relief.GO
        by_size = sorted(
            self.partitions.values(), key=lambda partition: partition.held_open, reverse=True
        )
        if sum(partition.held_open for partition in by_size) * 2 >= self._memory_bytes_max:
            if sum(it.window.waiting for it in by_size) * WAITING_SHARE >= self._memory_bytes_max:
                return Relief.COMPRESS
            if any(partition.window.is_leaving for partition in by_size):
                return Relief.WAIT
            for partition in by_size:
                if partition.window.cut_early(int(now)):
                    self._told(partition)
                    return Relief.WAIT
            for partition in by_size:
                if partition.held_open and partition.close_early(now):
                    break
        if any(partition.held_closed for partition in by_size):
            return Relief.WAIT
        return Relief.GO

    def shed(self, broken: Collection[str], destinations: int) -> bool:
        """Give up windows of broken destinations that stand in the way of others.

        While half of the memory is taken, that is what a destination holds beyond its share, oldest
        first. And where a partition can close no further window since its commit's metadata is
        full, it is its oldest window.

        Args:
            broken: Destinations that fail while others are served.
            destinations: How many destinations share the memory, those included.

        Returns:
            Whether something is given up now.
        """
        chosen: list[Delivery] = []
        if broken and self.held * 2 >= self._memory_bytes_max:
            chosen += self._beyond_share(broken, self._memory_bytes_max // max(2, destinations))
        for partition in self.partitions.values() if broken else ():
            if partition.full:
                mine = [it for _, it in partition.waiting() if it.destination.id in broken]
                chosen += mine[:1]
        chosen = [delivery for delivery in chosen if not delivery.is_shed]
        for delivery in chosen:
            delivery.is_shed = True
        return bool(chosen)

    def _beyond_share(self, broken: Collection[str], share: int) -> list[Delivery]:
        held = dict.fromkeys(broken, 0)
        waiting = [
            it
            for partition in self.partitions.values()
            for it in partition.waiting()
            if it[1].destination.id in held
        ]
        waiting.sort(key=lambda it: it[0], reverse=True)
        beyond = []
        for _, delivery in waiting:  # Newest first: what comes within the share may stay.
            held[delivery.destination.id] += delivery.held
            if held[delivery.destination.id] > share:
                beyond.append(delivery)
        return beyond

    def _drop(self, partition: _Member) -> None:
        self.held -= partition.accounted
        self._abandoned += partition.uploads()

    def _told(self, partition: _Member) -> None:
        """Note that something may have happened in a partition."""
        tp = partition.tp
        if self.partitions.get(tp) is not partition:
            return  # void: nothing can have happened
        held = partition.held_open + partition.held_closed
        self.held += held - partition.accounted
        partition.accounted = held
        self._with_works[tp] = self._with_streams[tp] = self._with_commits[tp] = partition

    def _held(self, tp: TP, epoch: int) -> Partition:
        partition = self.partitions.get(tp)
        if partition is None or epoch != self.epoch:
            raise FencedError(f"{tp}: records of epoch {epoch}, now {self.epoch}")
        return partition
