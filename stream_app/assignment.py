"""The partitions that this worker holds now: who owns what, under which epoch, in what memory.

    revoked() ──> every partition is suspended: its work is void, its windows are kept
    assigned() ─> those that did not come back are forgotten
    loaded() ───> a suspended partition goes on if its commit says that nobody owned it in between;
                  any other is built from its commit

The epoch counts revocations. Whatever was begun under an older one may end, but changes nothing:
each entry point compares epochs in the same call that acts. Pure; the shell performs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum, auto

from stream_app.batches import Answers, Batch
from stream_app.closings import Commit
from stream_app.deliveries import Delivery
from stream_app.errors import FencedError
from stream_app.partition import TP, Partition, Rules, Work


class Relief(Enum):
    """What the memory bound demands before a further batch is taken."""

    GO = auto()
    """There is room, or waiting would not make any."""
    WAIT = auto()
    """Closed windows are on their way out: wait until one of them has gone."""


class Assignment:
    """All partitions of one worker.

    Args:
        rules: Window length, grace and bounds, the same for each partition.
        memory_bytes_max: Bound of the bytes that all windows hold together.
    """

    def __init__(self, rules: Rules, memory_bytes_max: int) -> None:
        self.epoch = 0
        self.partitions: dict[TP, Partition] = {}
        """Held now, with their state read back."""
        self._rules = rules
        self._memory_bytes_max = memory_bytes_max
        self._suspended: dict[TP, Partition] = {}
        self.generation: int | None = None
        """Of the group, while we take part in it."""
        self._assigned: tuple[TP, ...] = ()

    def revoked(self) -> None:
        """Every partition may go: void all work, keep what was collected."""
        self.epoch += 1
        self.generation = None
        self._assigned = ()
        self._suspended.update(self.partitions)
        self.partitions.clear()
        for partition in self._suspended.values():
            partition.suspend(self.epoch)

    def assigned(self, tps: Iterable[TP], generation: int = 0) -> None:
        """Take note of what is ours in this generation of the group; forget what is not."""
        self.generation = generation
        self._assigned = tuple(tps)
        for tp in [tp for tp in self._suspended if tp not in self._assigned]:
            del self._suspended[tp]

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
        return [tp for tp in self._assigned if tp not in self.partitions]

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
        if partition is None or not kept:
            partition = Partition(tp, self._rules, epoch, commit)
        self.partitions[tp] = partition
        return kept

    def forget(self, tp: TP) -> None:
        """Drop a partition whose state cannot be trusted; `loaded` builds it from its commit."""
        partition = self.partitions.pop(tp, None)
        if partition is not None:
            partition.suspend(-1)  # no epoch: its work stays void

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
        for tp, partition in self.partitions.items():
            commit = partition.to_commit()
            if commit is not None:
                commits[tp] = commit
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
        return [work for partition in self.partitions.values() for work in partition.works()]

    @property
    def held(self) -> int:
        """Bytes of memory that all windows take."""
        return sum(
            partition.held_open + partition.held_closed
            for held in (self.partitions, self._suspended)
            for partition in held.values()
        )

    def relieve(self, now: float) -> Relief:
        """Keep the memory bound: close what is large, or say that the caller must wait.

        An open window of a busy partition closes only by more records, so waiting for it would
        never end: when open windows hold the memory, the largest is closed early. What is closed
        leaves by itself.
        """
        if self.held < self._memory_bytes_max:
            return Relief.GO
        by_size = sorted(
            self.partitions.values(), key=lambda partition: partition.held_open, reverse=True
        )
        if sum(partition.held_open for partition in by_size) * 2 >= self._memory_bytes_max:
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
        waiting = [it for partition in self.partitions.values() for it in partition.waiting()]
        waiting.sort(key=lambda it: it[0], reverse=True)
        held = dict.fromkeys(broken, 0)
        beyond = []
        for _, delivery in waiting:  # Newest first: what comes within the share may stay.
            destination = delivery.destination.id
            if destination in held:
                held[destination] += delivery.held
                if held[destination] > share:
                    beyond.append(delivery)
        return beyond

    def _held(self, tp: TP, epoch: int) -> Partition:
        partition = self.partitions.get(tp)
        if partition is None or epoch != self.epoch:
            raise FencedError(f"{tp}: records of epoch {epoch}, now {self.epoch}")
        return partition
