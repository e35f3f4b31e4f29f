"""Partition: state machine of one assigned partition, from record to commit.

    committed                      first                position
        │ closed window │ closed window │ open window       │ not yet read
        └ deliveries: DECIDED ─recorded→ RECORDED ─uploaded→ STORED ─published→ SETTLED

A window is a run of contiguous offsets. It closes when a record of a later minute arrives, when
the partition is idle at its end and the minute is over, or when a bound is reached. None of these
is repeatable, so the closing is committed first (`to_commit`, `recorded`), and only then can
anything become visible (`delivery_tasks`). A closing that a predecessor recorded is rebuilt
exactly: the same offsets, the same closing time, so the same keys.

Where the log has ended before the position, what was read is settled first (`truncate`); then the
partition begins again at the log's start, under names of a new log.

Pure: no clock, no I/O. Times are handed in; illegal moves raise and change nothing.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from stream_app.core.closed_windows import ClosedWindow, ClosedWindows, WindowSnapshot
from stream_app.core.commit_metadata import (
    CLOSING_BYTES_MAX,
    HEADER_BYTES_MAX,
    Closing,
    Commit,
)
from stream_app.core.delivery import (
    Move,
    MultipartUpload,
    State,
    WindowPolicy,
    open_uploads,
)
from stream_app.core.memory_account import MemoryAccount
from stream_app.core.metadata_bound import MetadataBound, size_of
from stream_app.core.object_body import Part
from stream_app.core.partition_deliveries import PartitionDeliveries
from stream_app.core.router import DestinationOutcomes, Router
from stream_app.core.stream_time import StreamTime
from stream_app.core.tasks import Compressions, DeliveryTask, PartUpload
from stream_app.core.undecodable import PassedOver, UndecodableWait, continued, problem
from stream_app.core.window import Window
from stream_app.errors import FencedError, InvariantError
from stream_app.records import NO_EPOCH, Batch, GapError, Record, TopicPartition, Undecodable


def _ignore(_: "Partition") -> None:
    """Do nothing: the default of `on_change`."""


class Partition(PartitionDeliveries):
    """One partition of the events topic, held by this worker under one assignment.

    Args:
        tp: Which partition.
        policy: Window length, grace and bounds.
        epoch: Number of the assignment; work of another epoch is refused.
        commit: The committed offset and closings as read back; where nothing is committed, the
            start of the log. The first batch cannot provide it: it may be lost on its way.
        memory: Account in which the partition's memory is included; left out: in no other.
        metadata: Bound of the commit's metadata, shared by all partitions; left out: the policy's.
        restart: Where the partition begins instead, since its log has ended before the commit.
        on_change: Called when a task, a part upload or a commit may have become due.
    """

    def __init__(
        self,
        tp: TopicPartition,
        policy: WindowPolicy,
        epoch: int,
        commit: Commit,
        *,
        memory: MemoryAccount | None = None,
        metadata: MetadataBound | None = None,
        restart: Commit | None = None,
        on_change: Callable[["Partition"], None] = _ignore,
    ) -> None:
        self.tp = tp
        self.epoch = epoch
        self.acknowledged = commit
        """The last commit that the broker confirmed, or that was read back from it."""
        self.attempted: Commit | None = None
        """A commit on its way; the broker's response may be lost."""
        commit = restart or commit
        self.position = commit.offset
        """The next offset to collect."""
        self.memory = MemoryAccount(memory)
        """Of all windows."""
        self._closed_memory = MemoryAccount(self.memory)
        self._metadata = metadata or MetadataBound(policy.metadata_bytes_max)
        self._on_change = on_change
        self._policy = policy
        self._began_at = commit.began_at
        self._is_after_truncation = commit.is_after_truncation
        self.leader_epoch = commit.leader_epoch
        """The newest leader epoch of what lies before the position, and in recorded windows; or
        unknown, never an older one: such a log would be taken for another."""
        self._newest_closed_at = commit.newest_closed_at
        """The newest closing time of this log."""
        self._log_start: int | None = None
        """Where a partition begins again whose log was truncated."""
        self._first = self.position
        self._replay = deque(commit.closings)
        self.window = self._new_window()
        """The open window."""
        self._time = StreamTime(
            policy.window_seconds,
            policy.grace_seconds,
            self._replay[0].window_start if self._replay else 0,
        )
        self.wait: UndecodableWait | None = None
        """Wait at a batch that cannot be decoded; None: there is no such batch."""
        self._passed_over_at: float | None = None
        self.abandoned: list[MultipartUpload] = []
        """Multipart uploads of windows that were dropped."""
        self._router: Router | None = None
        """Destinations under which the open window was opened."""
        self._closed = ClosedWindows()
        self._ready: list[DeliveryTask] = []
        """Tasks that are due and were not returned yet."""

    # --- records in ---------------------------------------------------------------------------

    def router(self, newest: Router) -> Router:
        """Return the destinations of the open window: `newest` if none is open, or is rebuilt."""
        if self._router is None or self.is_between_windows:
            self._router = newest
        return self._router

    def collect(
        self,
        batch: Batch,
        outcomes: Sequence[DestinationOutcomes],
        now: float,
        *,
        one_window: bool = False,
    ) -> Batch | None:
        """Add a batch to the open window, closing windows where records require it.

        Records below the position were collected before and are dropped.

        Args:
            batch: Records, with the positions around them.
            outcomes: Of these records, by destination.
            now: The present, in seconds since 1970.
            one_window: The outcomes are valid for the open window only.

        Returns:
            The rest of the batch, None if there is none. Where the commit's metadata is `full`,
            pass the rest again when older windows have settled.

        Raises:
            GapError: The batch starts beyond the position; nothing was changed.
            FencedError: The partition is about to begin again.
        """
        self._require_readable(batch.position)
        end = batch.next_position
        if end > self.position:  # Before a window closes, whose commit names it.
            self.leader_epoch = batch.epoch_after(self.leader_epoch)
        records = batch.after(self.position).records
        index = 0
        while self.position < end:
            if self._due(records, index, now):
                if self.full:
                    return batch.after(self.position)
                self._close(now)
                if one_window:
                    return batch.after(self.position)
                continue
            upto = self._reach(records, index, end, now)
            if not (self._replay and (self._replay[0].settled or self._replay[0].is_passed_over)):
                upto = self.window.add(outcomes, self.position, upto)
            index = bisect_left(records, upto, lo=index, key=_offset)
            self.position = upto
            if self._replay and self.position >= self._replay[0].end:
                self._close_recorded()
        if self.wait is not None and self.position > self.wait.batch.first:
            self.wait = None  # It can be decoded again.
        return None

    def pass_over(
        self, batch: Undecodable, newest: Router, now: float, clock: float
    ) -> PassedOver | None:
        """Wait at a batch that cannot be decoded; pass over it after `undecodable_seconds`.

        It becomes a window of its own, whose closing says so: a successor repeats it, whether it
        can decode the batch or not. Of a window that was recorded before, nothing is delivered.

        Args:
            batch: The batch, at the position.
            newest: The newest destinations.
            now: The present, in seconds since 1970.
            clock: The present by a clock that is never set.

        Returns:
            The end of the wait; None while it lasts.

        Raises:
            GapError: The batch starts beyond the position; nothing was changed.
            FencedError: The partition is about to begin again.
        """
        self._require_readable(batch.first)
        if batch.first < self.position:  # It was passed over before, or decoded.
            return PassedOver(self.position, 0)
        replayed = self._replay[0] if self._replay else None
        if replayed is not None and (replayed.settled or replayed.is_passed_over):
            self.position = replayed.end
            self._close_recorded()
            return PassedOver(self.position, 0)
        self.wait = wait = continued(self.wait, batch, clock)
        if not wait.is_over(clock, self._passed_over_at, self._policy.undecodable_seconds):
            return None
        if replayed is None and self.position > self._first and not self.full:
            self._close(now)
        end = batch.end if replayed is None else replayed.end
        if end is None or (replayed is None and self.full):
            return None
        count = end - self._first
        self._pass_over(replayed, end, batch.reason, self.router(newest), now)
        self.wait = wait.after(end)
        self._passed_over_at = clock
        return PassedOver(end, count)

    def skip_to(self, offset: int) -> int:
        """Accept that records before `offset` are lost; return the number of offsets skipped.

        Raises:
            InvariantError: The partition stands beyond it; nothing was changed.
        """
        self._require_idle()
        position = self.position
        if offset < position:
            raise InvariantError(f"{self.tp}: cannot skip from {position} back to {offset}")
        self.leader_epoch = NO_EPOCH  # That of the records before the offset is not known.
        self.position = offset
        while self._replay and self.position >= self._replay[0].end:
            self._close_recorded()
        return offset - position

    def truncate(self, start: int, now: float) -> int:
        """Begin again at the log's start: it has ended before the position, and may grow anew.

        What was read is delivered first. What a predecessor has recorded, and the log does not have
        any more, cannot be.

        Args:
            start: First offset of the log.
            now: The present, in seconds since 1970.

        Returns:
            The number of offsets of recorded windows that cannot be read again.
        """
        self._require_idle()
        lost = 0
        if self._replay:
            lost = self._replay[-1].end - self._first
            self._replay.clear()
            self.position = self._first
            self._drop_window()
        self._log_start = start
        self._newest_closed_at = max(self._newest_closed_at, int(now))
        self._close_truncated(now)
        self._on_change(self)
        return lost

    @property
    def reach(self) -> int:
        """The end of what was read, or is recorded: the log has reached up to there."""
        return max(self.position, self._replay[-1].end) if self._replay else self.position

    @property
    def is_truncated(self) -> bool:
        """Whether the log has ended before the position: what was read is being settled."""
        return self._log_start is not None

    @property
    def is_restarted(self) -> bool:
        """Whether the broker has the commit at the log's start: the partition is to be rebuilt."""
        commit = self.acknowledged
        return self.is_truncated and commit.is_after_truncation and commit.began_at > self._began_at

    def tick(self, now: float, log_end: int | None) -> None:
        """Close the open window if the partition is idle, or waits, and the minute is over.

        Args:
            now: The present, in seconds since 1970.
            log_end: First offset that a reader of committed records cannot see yet; None: unknown.
        """
        if self.is_truncated:
            self._close_truncated(now)
            return
        is_idle = log_end is not None and self.position >= log_end
        if not (is_idle or self.wait) or self.position == self._first:
            return
        if is_idle:
            self._time.idle(now)
        if self.window.busy:
            return  # The result of the compression comes soon.
        if self._time.is_over(now) and not self._replay and not self.full:
            self._time.had_object()
            self._close(now)

    def close_early(self, now: float) -> bool:
        """Close the open window to free memory; return whether it could be closed."""
        self._require_idle()
        if self._time.start is None or self._replay or self.full:
            return False
        self._close(now)
        return True

    @property
    def is_between_windows(self) -> bool:
        """Whether the next record opens a window whose end is not recorded."""
        return self._time.start is None and not self._replay

    @property
    def held_open(self) -> int:
        """Bytes of memory that the open window takes."""
        return self.window.memory.held

    @property
    def held_closed(self) -> int:
        """Bytes of memory that closed windows take until they are settled."""
        return self._closed_memory.held

    def snapshots(self) -> list[WindowSnapshot]:
        """Return the windows that the commit has not passed, oldest first."""
        found = self._closed.snapshots()
        start = self._replay[0].window_start if self._replay else self._time.start
        if start is not None and self.position > self._first:
            found.append(
                WindowSnapshot(start, self.window.destinations, is_open=True, is_recorded=False)
            )
        return found

    # --- compression and parts of the open window ---------------------------------------------

    def compressions(self, *, whole: bool = False) -> Compressions:
        """Remove full slices for compression; with `whole` all waiting lines, to free memory."""
        return Compressions(self, self.window, self.window.compressions(whole=whole))

    def compressed(self, done: Compressions, now: float) -> None:
        """Take the results of `compressions`, also when the partition was dropped since."""
        done.window.compressed(done.items, self._closing_time(now))
        self._on_change(self)

    def cut_early(self, now: float) -> bool:
        """Cut parts of the smallest size to free memory; return whether any was cut."""
        is_cut = self.window.cut_early(self._closing_time(now))
        if is_cut:
            self._on_change(self)
        return is_cut

    def part_uploads(self) -> list[PartUpload]:
        """Return the part uploads that have become due, each once for each part and epoch."""
        return [PartUpload(self, self.epoch, it, self._first) for it in self.window.leaving()]

    def begun(self, task: PartUpload, upload_id: str) -> None:
        """Record the id of a multipart upload that S3 created.

        Raises:
            FencedError: The partition was revoked, or the object given up, since; nothing was
                changed.
        """
        self._check(task)
        task.delivery.leaving.upload_id = upload_id

    def sent(self, task: PartUpload, part: Part, stored: Any) -> None:  # noqa: ANN401 - see `Part`
        """Record that S3 has a part.

        Raises:
            FencedError: As of `begun`.
        """
        self._check(task)
        task.delivery.leaving.sent(part, stored)

    def stuck(self, task: PartUpload) -> None:
        """Record that S3 did not take a part: memory is not freed by waiting for it.

        Raises:
            FencedError: As of `begun`.
        """
        self._check(task)
        task.delivery.leaving.is_stuck = True

    def uploads(self) -> list[MultipartUpload]:
        """Return the multipart uploads that were created and are not completed."""
        closed = (it for window in self._closed for it in window.deliveries.values())
        return open_uploads((*self.window.deliveries, *closed))

    @property
    def full(self) -> bool:
        """Whether the commit's metadata has no room for a further closing."""
        commit, _ = self._next_commit()
        room = self._metadata.bytes_max - CLOSING_BYTES_MAX
        if HEADER_BYTES_MAX + len(commit.closings) * CLOSING_BYTES_MAX < room:
            return False
        return size_of(commit) > room

    # --- the commit ---------------------------------------------------------------------------

    def to_commit(self) -> Commit | None:
        """Return the commit that is due, None if the broker has it already, or would refuse it.

        A closing that has no room is left out: its window waits until older ones are settled.
        """
        commit: Commit | None = None
        if self._closed:
            commit = self._metadata.fit(*self._next_commit())
        elif self._log_start is not None and self.position == self._first:
            commit = self._next_commit()[0].restarted(self._log_start, self._newest_closed_at)
        elif self.acknowledged.began_at < self._began_at:
            # At once: until the broker has it, each rebalance finds the log truncated again.
            commit = self._next_commit()[0]
        if commit is None or commit == self.acknowledged:
            return None
        self.attempted = commit
        return commit

    def recorded(self, commit: Commit) -> None:
        """Record that the broker has this commit: its windows may be delivered.

        Only the very commit that `to_commit` returned last counts. A late response may belong to a
        commit of a partition that was forgotten and rebuilt since, with other closings.
        """
        if commit is not self.attempted:
            return
        self.acknowledged = commit
        self.attempted = None
        for window in self._closed.recorded(commit):
            self._release(window)
        self._on_change(self)

    def suspend(self, epoch: int) -> None:
        """Make all tasks void: the partition may go to another worker."""
        self.epoch = epoch
        self._ready.clear()

    def resume(self, epoch: int, commit: Commit) -> bool:
        """Continue after a rebalance if no other worker owned the partition in between.

        Returns:
            Whether the commit read back is the last confirmed one, or the one that was on its way.
            If not, this partition is void: a new one must be built from `commit`.
        """
        if self.attempted is not None and commit == self.attempted:
            self.recorded(self.attempted)
        elif not self.acknowledged.is_same(commit):
            return False
        self.epoch = epoch
        self.attempted = None
        self._ready = [
            DeliveryTask(self, epoch, delivery, window.first, window)
            for window in self._closed
            for delivery in window.deliveries.values()
            if delivery.state in (State.RECORDED, State.STORED)
        ]
        self.window.leave_again()
        self._on_change(self)
        return True

    # --- inside -------------------------------------------------------------------------------

    def _due(self, records: Sequence[Record], index: int, now: float) -> bool:
        """Whether the open window must end before the record at `index`."""
        if self._replay:
            return False
        if self.window.full and self._time.start is not None:
            return True
        return self._time.ends_before(records, index, now)

    def _reach(self, records: Sequence[Record], index: int, end: int, now: float) -> int:
        """Open a window if none is open, and return the offset up to which it reaches."""
        if self._replay:
            return min(self._replay[0].end, end)
        return self._time.reach(records, index, end, now)

    def _new_window(self) -> Window:
        policy, recorded = self._policy, self._replay[0] if self._replay else None
        return Window(
            self.tp,
            self._first,
            None if recorded else policy.receipt_bytes_max,
            sizes=policy.sizes,
            closed_at=recorded.closed_at if recorded else None,
            is_named_by_time=recorded is None or recorded.is_named_by_time,
            memory=self.memory,
        )

    def _require_readable(self, offset: int) -> None:
        if self._log_start is not None:
            raise FencedError(f"{self.tp}: the log was truncated; what was read is settled first")
        if offset > self.position:
            raise GapError(self.tp, self.position, offset)
        self._require_idle()

    def _require_idle(self) -> None:
        if self.window.busy:
            raise InvariantError(f"{self.tp}: the open window is changed while it is compressed")

    def _close(self, now: float) -> None:
        start = self._time.start if self._time.start is not None else int(now)
        closing_time = self._closing_time(now)
        self._append(Closing(self.position, closing_time, start, settled=False), recorded=False)
        self._time.closed()

    def _close_truncated(self, now: float) -> None:
        """Close the open window of a truncated log, as soon as the metadata has room."""
        if self.position > self._first and not self.full and not self.window.busy:
            self._close(now)

    def _close_recorded(self) -> None:
        closing = self._replay.popleft()
        self._time.closed(closing.window_start)
        if closing.is_passed_over and not closing.settled and self._router is not None:
            self.window.give_up(self._router.all, problem(self._first, closing.end, None))
        self._append(closing, recorded=True)

    def _pass_over(
        self, replayed: Closing | None, end: int, reason: str, router: Router, now: float
    ) -> None:
        """Close the window up to `end` as one of which nothing is delivered."""
        closing = Closing(end, self._closing_time(now), self._time.newest(now), settled=False)
        if replayed is not None:
            closing = replayed
            self._drop_window()
            self._replay.popleft()
            self._time.closed(closing.window_start)
        self.window.give_up(router.all, problem(self._first, end, reason))
        self.position = end
        self.leader_epoch = NO_EPOCH  # No checksum covers that of the batch.
        self._append(replace(closing, is_passed_over=True), recorded=False)
        self._closed.newest.was_recorded = replayed is not None

    def _drop_window(self) -> None:
        """Begin the open window again: nothing of what it has collected is delivered or sent."""
        self.abandoned += open_uploads(self.window.deliveries)
        self.window.drop()
        self.window = self._new_window()

    def _closing_time(self, now: float) -> int:
        """Return the closing time of a window: no window of a truncated log has it.

        The clock of a worker may be behind that of the one which found the log truncated. In
        another log the earlier time counts: the clock of the worker which began may have been
        ahead.
        """
        return max(int(now), self._began_at) if self._is_after_truncation else int(now)

    def _append(self, closing: Closing, *, recorded: bool) -> None:
        deliveries = self.window.close(closing.closed_at, self._policy.waiting_bytes)
        self.window.memory.move(self._closed_memory)
        window = ClosedWindow(
            self._first,
            closing.end,
            self.window.closed_at or closing.closed_at,
            closing.window_start,
            deliveries,
            is_named_by_time=closing.is_named_by_time,
            is_passed_over=closing.is_passed_over,
        )
        self._closed.append(window)
        self._newest_closed_at = max(self._newest_closed_at, window.closed_at)
        self._began_at = min(self._began_at, window.closed_at)
        if recorded:
            self._release(window)
        self._first = closing.end
        self.window = self._new_window()
        self._on_change(self)

    def _release(self, window: ClosedWindow) -> None:
        """Make the tasks of a window due: the broker has its closing."""
        window.recorded = True
        for delivery in window.deliveries.values():
            delivery.move(Move.RECORD)
            self._ready.append(DeliveryTask(self, self.epoch, delivery, window.first, window))

    def _next_commit(self) -> tuple[Commit, int]:
        """Return the next commit, and how many of its closings the broker has: the oldest ones."""
        closings, recorded = self._closed.unsettled_closings()
        commit = Commit(
            self._closed.commit_offset(self._first),
            (*closings, *self._replay),
            self._began_at,
            is_truncated=self.is_truncated,
            is_after_truncation=self._is_after_truncation,
            newest_at=self._newest_closed_at,
            leader_epoch=self.leader_epoch,
        )
        return commit, recorded + len(self._replay)


_offset: Final = attrgetter("offset")
