"""Assignment: the partitions that this worker holds, under which epoch, within which memory.

    revoked() ──> every partition is suspended: its tasks are void, its windows are kept
    assigned() ─> suspended partitions that did not come back are dropped
    loaded() ───> a suspended partition continues if its commit shows that nobody else owned it;
                  any other is built from its commit

The epoch counts revocations. A task of an older epoch may end, but changes nothing: each entry
point compares epochs in the same call that acts. Pure; the worker performs.

A batch, a receipt or a commit costs the same however many partitions there are: partitions report
changes (`on_change`), and only those that changed are examined.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from stream_app.core.commit_metadata import Commit
from stream_app.core.delivery import Delivery, MultipartUpload, WindowPolicy
from stream_app.core.memory_account import MemoryAccount
from stream_app.core.metadata_bound import MetadataBound, size_of
from stream_app.core.partition import Partition
from stream_app.core.router import DestinationOutcomes, Router
from stream_app.core.tasks import Compressions, DeliveryTask, PartUpload
from stream_app.core.undecodable import PassedOver, Times, UndecodableWait
from stream_app.errors import FencedError
from stream_app.records import NO_EPOCH, Batch, OutOfRange, TopicPartition, Undecodable

REQUEST_CLOSINGS_MAX: Final = 10_000
"""With so many closings a request takes no further commit. A closing has 42 bytes at most, and the
broker writes a request as one batch, of 1 MiB at most (`message.max.bytes`)."""
COMPRESSIBLE_SHARE: Final = 4
"""Lines are all compressed early only if they hold one part in so many of the memory."""


class MemoryAction(Enum):
    """Action that the memory bound requires before a further batch is taken."""

    GO = auto()
    """None: there is room, or waiting would not make any."""
    WAIT = auto()
    """Wait until a closed window is settled, or a part is uploaded."""
    COMPRESS = auto()
    """Compress waiting lines (`compressions`)."""


class Truncation(NamedTuple):
    """Truncation of a log that ends before a partition's position, or has and grew again."""

    position: int
    """The partition's position."""
    lost: int
    """Offsets of recorded windows that cannot be read again."""


class Assignment:
    """All partitions of one worker.

    Args:
        policy: Window length, grace and bounds, the same for each partition.
        memory_bytes_max: Bound of the bytes that all windows hold together.
    """

    def __init__(self, policy: WindowPolicy, memory_bytes_max: int) -> None:
        self.epoch = 0
        self.partitions: dict[TopicPartition, Partition] = {}
        """Partitions in service: held now, with their commit read back."""
        self.memory = MemoryAccount()
        """Of all windows, those of suspended partitions included."""
        self.metadata = MetadataBound(policy.metadata_bytes_max)
        """Of each partition's commit."""
        self.generation: int | None = None
        """Generation of the consumer group; None between revocation and assignment."""
        self._policy = policy
        self._memory_bytes_max = memory_bytes_max
        self._suspended: dict[TopicPartition, Partition] = {}
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._missing: dict[TopicPartition, None] = {}
        """Partitions of `_assigned` that are not in service, in order."""
        self._seeks: dict[TopicPartition, float] = {}
        """Seeks after which a batch must be fetched, of partitions that were built again: one that
        waits since before may be of a log that was truncated meanwhile."""
        self.held_back: set[TopicPartition] = set()
        """Assigned partitions that are not read, since another program has committed for them."""
        self._with_tasks: dict[TopicPartition, Partition] = {}
        """Partitions in which a delivery may have become due since the last call."""
        self._with_part_uploads: dict[TopicPartition, Partition] = {}
        """Partitions in which a part may have become due since the last call."""
        self._with_commits: dict[TopicPartition, Partition] = {}
        """Partitions of which the broker may not have the newest commit."""
        self._abandoned: list[MultipartUpload] = []

    @property
    def held(self) -> int:
        """Bytes of memory that all windows take."""
        return self.memory.held

    # --- the life of an assignment ------------------------------------------------------------

    def revoked(self) -> None:
        """Suspend every partition: all tasks are void, windows are kept."""
        self.epoch += 1
        self.generation = None
        self._assigned = frozenset()
        self._suspended.update(self.partitions)
        self.partitions.clear()
        self._missing.clear()
        self._seeks.clear()
        self.held_back.clear()
        for changed in (self._with_tasks, self._with_part_uploads, self._with_commits):
            changed.clear()
        for partition in self._suspended.values():
            partition.suspend(self.epoch)

    def assigned(self, tps: Iterable[TopicPartition], generation: int = 0) -> None:
        """Record what this worker holds in this generation; drop every other partition."""
        self.generation = generation
        held = tuple(tps)
        self._assigned = frozenset(held)
        self._missing = {tp: None for tp in held if tp not in self.partitions}
        self.held_back.clear()
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
    def missing(self) -> list[TopicPartition]:
        """The assigned partitions whose commit is still to be read back."""
        return list(self._missing)

    def loaded(
        self, tp: TopicPartition, epoch: int, commit: Commit, restart: Commit | None = None
    ) -> bool:
        """Take a partition into service with the commit that was read back, see `Partition`.

        Args:
            tp: Which partition.
            epoch: In which the commit was read.
            commit: As it was read.
            restart: Where a partition begins whose log has ended before the commit's end, unless
                this worker still settles what it has read.

        Returns:
            Whether its windows could be kept.

        Raises:
            FencedError: A revocation came while the commit was being read: read it again.
        """
        self._require_assigned(tp, epoch)
        if tp in self.partitions:
            return True
        partition = self._suspended.pop(tp, None)
        kept = (
            partition is not None and partition.resume(epoch, commit) and not partition.is_restarted
        )
        if partition is not None and not kept:
            self._drop(partition)
        if partition is None or not kept:
            if restart is not None:
                self._seeks[tp] = math.inf
            partition = Partition(
                *(tp, self._policy, epoch, commit),
                memory=self.memory,
                metadata=self.metadata,
                restart=restart,
                on_change=self._on_change,
            )
        self.partitions[tp] = partition
        del self._missing[tp]
        self._on_change(partition)
        return kept

    def hold_back(self, tp: TopicPartition, epoch: int) -> None:
        """Record that a partition must not be read: another program has committed for it.

        Raises:
            FencedError: As of `loaded`.
        """
        self._require_assigned(tp, epoch)
        partition = self._suspended.pop(tp, None)
        if partition is not None:
            self._drop(partition)
        self._missing.pop(tp, None)
        self.held_back.add(tp)

    def forget(self, tp: TopicPartition) -> None:
        """Drop a partition whose state cannot be trusted; `loaded` builds it from its commit."""
        partition = self.partitions.pop(tp, None)
        if partition is not None:
            partition.suspend(-1)  # no epoch: its tasks stay void
            self._drop(partition)
            self._missing[tp] = None
            self._seeks[tp] = math.inf
            for changed in (self._with_tasks, self._with_part_uploads, self._with_commits):
                changed.pop(tp, None)

    def sought(self, tp: TopicPartition, epoch: int, seek: int) -> None:
        """Take the batches of a partition that was built again, since it was sought.

        Args:
            tp: Which partition.
            epoch: In which it was sought.
            seek: Number of the partition's seeks by then.
        """
        if epoch == self.epoch:
            self._seeks[tp] = seek

    # --- records in ---------------------------------------------------------------------------

    def router(self, tp: TopicPartition, newest: Router) -> Router:
        """Return the destinations of a partition's open window, see `Partition.router`."""
        partition = self.partitions.get(tp)
        return newest if partition is None else partition.router(newest)

    def collect(
        self,
        tp: TopicPartition,
        epoch: int,
        batch: Batch,
        outcomes: Sequence[DestinationOutcomes],
        now: float,
        *,
        one_window: bool = False,
    ) -> Batch | None:
        """Add a batch to its partition, see `Partition.collect`.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch.
            GapError: The batch does not start at the partition's position.
        """
        partition = self._held(tp, epoch)
        self._require_sought(tp, batch)
        return partition.collect(batch, outcomes, now, one_window=one_window)

    def pass_over(
        self, tp: TopicPartition, epoch: int, batch: Undecodable, newest: Router, times: Times
    ) -> PassedOver | None:
        """Wait at a batch that cannot be decoded, or pass over it, see `Partition.pass_over`.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch.
            GapError: The batch does not start at the partition's position.
        """
        partition = self._held(tp, epoch)
        passed = partition.pass_over(batch, newest, *times)
        self._abandon_dropped(partition)
        return passed

    def wait(self, tp: TopicPartition) -> UndecodableWait | None:
        """Return the wait of a partition at a batch that cannot be decoded, if it waits."""
        partition = self.partitions.get(tp)
        return None if partition is None else partition.wait

    @property
    def waits(self) -> dict[TopicPartition, UndecodableWait]:
        """Waits at batches that cannot be decoded, by partition."""
        waits = ((tp, partition.wait) for tp, partition in self.partitions.items())
        return {tp: wait for tp, wait in waits if wait is not None}

    def skip_to(self, tp: TopicPartition, epoch: int, offset: int) -> int:
        """Accept that a partition's records before `offset` are lost, see `Partition.skip_to`.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch.
        """
        return self._held(tp, epoch).skip_to(offset)

    def out_of_range(
        self,
        tp: TopicPartition,
        epoch: int,
        found: OutOfRange,
        log_start: int,
        now: float,
        *,
        leader_end: int | None = None,
    ) -> int | Truncation | None:
        """Decide how a partition goes on whose log has no record at a position.

        Args:
            tp: Which partition.
            epoch: In which the broker has responded so.
            found: The position.
            log_start: First offset of the log, read after that response.
            now: The present, in seconds since 1970.
            leader_end: End of the leader's log, where another replica may have responded so.

        Returns:
            The offset to fetch from; or that the log has ended before the position; None where that
            is known already.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch.
        """
        partition, position = self._held(tp, epoch), found.position
        self._require_sought(tp, found)
        if partition.is_truncated:
            return None
        if position != partition.position:
            return partition.position
        if log_start > position:
            return log_start  # Retention: the next batch there shows the gap.
        if leader_end is not None and position <= leader_end:
            return position  # The replica was behind: the leader has that position.
        return self._truncate(partition, log_start, now)

    def ends_early(self, log_ends: Mapping[TopicPartition, int]) -> list[TopicPartition]:
        """Return the partitions whose log seems to end before what was read, or is recorded.

        The broker has no error for it where the client fetches from an offset below: after a
        rebalance, or while recorded windows are rebuilt.
        """
        return [
            tp
            for tp, it in self.partitions.items()
            if not it.is_truncated and log_ends.get(tp, it.reach) < it.reach
        ]

    def ended(
        self, tp: TopicPartition, epoch: int, log: tuple[int, int], now: float
    ) -> Truncation | None:
        """Begin a partition again whose log has ended before what was read, or is recorded.

        Args:
            tp: Which partition.
            epoch: In which its log was read.
            log: The first offset of the log, and the one after the last.
            now: The present, in seconds since 1970.

        Returns:
            None if the log does not end too early, or that is known already.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch.
        """
        partition = self._held(tp, epoch)
        start, end = log
        if partition.is_truncated or end >= partition.reach:
            return None
        return self._truncate(partition, start, now)

    def epoch_to_verify(self, tp: TopicPartition, epoch: int, batch: Batch) -> int | None:
        """Return the leader epoch whose end must be known before a batch is collected, if any.

        The broker has changed the leader since: its log may have lost what was read, and have grown
        beyond the position again. The log that was read has `ended` there.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch; or the batch was
                fetched before the partition was built again.
        """
        partition = self._held(tp, epoch)
        self._require_sought(tp, batch)
        known = partition.leader_epoch
        is_later = NO_EPOCH < known < batch.leader_epoch
        return known if is_later and batch.next_position > partition.position else None

    def is_truncated(self, tp: TopicPartition, epoch: int) -> bool:
        """Whether a partition's log was truncated: nothing of it is taken until it begins anew.

        Raises:
            FencedError: The partition is not held, or no longer under this epoch.
        """
        return self._held(tp, epoch).is_truncated

    def tick(self, now: float, log_ends: Mapping[TopicPartition, int]) -> None:
        """Close the windows of partitions that are idle at their end and whose minute is over."""
        if self.metadata.expire(now):
            for partition in self.partitions.values():
                self._on_change(partition)  # What had no room is committed, or refused again.
        for tp, partition in self.partitions.items():
            partition.tick(now, log_ends.get(tp))

    # --- what is due --------------------------------------------------------------------------

    def commits(self) -> dict[TopicPartition, Commit]:
        """Return the commits that are due, by partition; again until the broker has them.

        One request takes so many; the others follow with the next.
        """
        commits: dict[TopicPartition, Commit] = {}
        closings = 0
        for tp, partition in list(self._with_commits.items()):
            if closings >= REQUEST_CLOSINGS_MAX:
                break
            del self._with_commits[tp]
            commit = partition.to_commit()
            if commit is not None:
                self._with_commits[tp] = partition  # at the end: the others come first next time
                commits[tp] = commit
                closings += len(commit.closings)
        return commits

    def metadata_refused(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Lower the bound of the metadata: one of these commits was refused as too large.

        Raises:
            SetupError: No closing has room, see `MetadataBound.learn`.
        """
        confirmed = max((size_of(it.acknowledged) for it in self.partitions.values()), default=0)
        self.metadata.learn(max(map(size_of, commits.values())), confirmed)

    def recorded(self, commits: Mapping[TopicPartition, Commit]) -> list[TopicPartition]:
        """Record that the broker has these commits.

        After a revocation no partition waits for a confirmation, and none is used: the commit is
        read back.

        Returns:
            The partitions that begin again at the start of their log: they are to be rebuilt.
        """
        restarted = []
        for tp, commit in commits.items():
            partition = self.partitions.get(tp)
            if partition is not None:
                partition.recorded(commit)
                if partition.is_restarted:
                    restarted.append(tp)
        return restarted

    def delivery_tasks(self) -> list[DeliveryTask]:
        """Return the deliveries that have become due since the last call."""
        changed, self._with_tasks = self._with_tasks, {}
        return [task for partition in changed.values() for task in partition.delivery_tasks()]

    def part_uploads(self) -> list[PartUpload]:
        """Return the part uploads that have become due since the last call."""
        changed, self._with_part_uploads = self._with_part_uploads, {}
        return [upload for partition in changed.values() for upload in partition.part_uploads()]

    def abandoned(self) -> list[MultipartUpload]:
        """Return the multipart uploads of partitions that were dropped since the last call."""
        abandoned, self._abandoned = self._abandoned, []
        return abandoned

    # --- memory -------------------------------------------------------------------------------

    def compressions(self, tp: TopicPartition | None = None) -> list[Compressions]:
        """Remove lines for compression; pass the results to `compressed` when done.

        Args:
            tp: The full slices of this partition; left out: all waiting lines of all partitions.
        """
        if tp is None:
            partitions = list(self.partitions.values())
        else:
            partitions = [self.partitions[tp]] if tp in self.partitions else []
        taken = [it.compressions(whole=tp is None) for it in partitions]
        return [it for it in taken if it.items]

    def compressed(self, done: Sequence[Compressions], now: float) -> None:
        """Take the results of `compressions`, also of a partition that was dropped since."""
        for it in done:
            it.partition.compressed(it, now)

    def relieve(self, now: float) -> MemoryAction:
        """Keep the memory bound: free memory, or return for what the caller must wait.

        An open window of a busy partition closes only by more records, so waiting for it would
        never end. When open windows hold the memory, waiting lines are compressed, then parts are
        uploaded, and only when nothing else helps is the largest window closed early. Closed
        windows free their memory by being delivered.
        """
        if self.held < self._memory_bytes_max:
            return MemoryAction.GO
        by_size = sorted(
            self.partitions.values(), key=lambda partition: partition.held_open, reverse=True
        )
        if sum(partition.held_open for partition in by_size) * 2 >= self._memory_bytes_max:
            compressible = sum(partition.window.memory.compressible for partition in by_size)
            if compressible * COMPRESSIBLE_SHARE >= self._memory_bytes_max:
                return MemoryAction.COMPRESS
            if any(partition.window.is_leaving for partition in by_size):
                return MemoryAction.WAIT
            if any(partition.cut_early(now) for partition in by_size):
                return MemoryAction.WAIT
            for partition in by_size:
                if partition.held_open and partition.close_early(now):
                    break
        if any(partition.held_closed for partition in by_size):
            return MemoryAction.WAIT
        return MemoryAction.GO

    def drop_windows(self, broken: Collection[str], destinations: int) -> bool:
        """Give up windows of broken destinations that take memory from others.

        While half of the memory is held, these are the oldest windows beyond a destination's share.
        Where a partition can close no further window since its commit's metadata is full, it is
        its oldest window.

        Args:
            broken: Ids of destinations that fail while others are served.
            destinations: Number of destinations that share the memory, the broken ones included.

        Returns:
            Whether a window was given up.
        """
        chosen: list[Delivery] = []
        if broken and self.held * 2 >= self._memory_bytes_max:
            chosen += self._beyond_share(broken, self._memory_bytes_max // max(2, destinations))
        for partition in self.partitions.values() if broken else ():
            if partition.full:
                candidates = [it for _, it in partition.waiting() if it.destination.id in broken]
                chosen += candidates[:1]
        chosen = [delivery for delivery in chosen if not delivery.is_dropped]
        for delivery in chosen:
            delivery.is_dropped = True
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
        for _, delivery in waiting:  # Newest first: windows within the share may stay.
            held[delivery.destination.id] += delivery.held
            if held[delivery.destination.id] > share:
                beyond.append(delivery)
        return beyond

    # --- inside -------------------------------------------------------------------------------

    def _truncate(self, partition: Partition, log_start: int, now: float) -> Truncation:
        position = partition.position
        lost = partition.truncate(log_start, now)
        self._abandon_dropped(partition)
        return Truncation(position, lost)

    def _abandon_dropped(self, partition: Partition) -> None:
        self._abandoned += partition.abandoned
        partition.abandoned.clear()

    def _drop(self, partition: Partition) -> None:
        partition.memory.move(None)
        self._abandoned += partition.uploads()

    def _on_change(self, partition: Partition) -> None:
        """Examine a partition at the next call; a dropped or suspended one has nothing due."""
        tp = partition.tp
        if self.partitions.get(tp) is partition:
            self._with_tasks[tp] = partition
            self._with_part_uploads[tp] = self._with_commits[tp] = partition

    def _require_assigned(self, tp: TopicPartition, epoch: int) -> None:
        if epoch != self.epoch or tp not in self._assigned:
            raise FencedError(f"{tp}: read back in epoch {epoch}, now {self.epoch}")

    def _require_sought(self, tp: TopicPartition, fetched: Batch | OutOfRange) -> None:
        if fetched.seek < self._seeks.get(tp, 0):
            raise FencedError(f"{tp}: fetched before the partition was built again")

    def _held(self, tp: TopicPartition, epoch: int) -> Partition:
        partition = self.partitions.get(tp)
        if partition is None or epoch != self.epoch:
            raise FencedError(f"{tp}: records of epoch {epoch}, now {self.epoch}")
        return partition
