"""One assigned partition as a state machine: which window a record joins, and what is due next.

    committed                      first                position
        │ closed window │ closed window │ open window       │ not yet read
        └ deliveries: DECIDED ─recorded→ RECORDED ─uploaded→ STORED ─published→ SETTLED

A window is a run of contiguous offsets. It closes when a record of a later minute arrives, when
the partition is idle at its end and the minute is over, or when a bound is reached. None of these
is repeatable, so the closing is committed first (`to_commit`, `recorded`), and only then becomes
anything visible (`works`). What a predecessor has recorded is rebuilt exactly: the same offsets,
the same upload time, so the same keys.

Pure: no clock, no I/O. Times are handed in; illegal moves raise and change nothing.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from stream_app.batches import Answers, Batch, GapError
from stream_app.closings import CLOSING_BYTES_MAX, Closing, Commit, encode
from stream_app.deliveries import ClosedWindow, Delivery, Move, Rules, State, Upload
from stream_app.errors import FencedError, InvariantError
from stream_app.expressions import TP, Record
from stream_app.objects import Part
from stream_app.receipts import Problem, Receipt, Status, Stored
from stream_app.streamtime import StreamTime
from stream_app.window import Window


@dataclass(frozen=True, slots=True)
class Stream:
    """A delivery of which parts may leave while its window is open.

    Valid as long as the partition's epoch is the same.
    """

    partition: "Partition"
    epoch: int
    delivery: Delivery

    @property
    def valid(self) -> bool:
        """Whether the partition is still held under the assignment that gave this out."""
        return self.epoch == self.partition.epoch


@dataclass(frozen=True, slots=True)
class Work(Stream):
    """One delivery of a closed window, to be performed."""

    window: ClosedWindow


class Partition:
    """One partition of the events topic, held by this worker under one assignment.

    Args:
        tp: Which partition.
        rules: Window length, grace and bounds.
        epoch: Number of the assignment; work of another epoch is refused.
        commit: The committed offset and closings as read back; where nothing is committed, the
            log's begin. The first batch cannot say it: it may be lost on its way.
    """

    def __init__(self, tp: TP, rules: Rules, epoch: int, commit: Commit) -> None:
        self.tp = tp
        self.epoch = epoch
        self.acknowledged = commit
        """The last commit that the broker has confirmed, or that was read back from it."""
        self.attempted: Commit | None = None
        """A commit on its way; its answer may be lost."""
        self.position = commit.offset
        """The next offset to collect."""
        self.held_closed = 0
        """Bytes of memory that closed windows in flight take."""
        self._rules = rules
        self._first = self.position
        self._replay = deque(commit.closings)
        self.window = self._new_window()
        """The open one."""
        self._time = StreamTime(
            rules.window_seconds,
            rules.grace_seconds,
            self._replay[0].window_start if self._replay else 0,
        )
        self._closed: deque[ClosedWindow] = deque()
        self._ready: list[Work] = []
        """Deliveries that may be performed and were not given out yet."""

    # --- records in ---------------------------------------------------------------------------

    def collect(
        self, batch: Batch, answers: Sequence[Answers], now: float, *, one_window: bool = False
    ) -> Batch | None:
        """Add a batch to the open window, closing windows where records demand it.

        Records below the position have been collected before and are dropped. With `one_window` the
        answers hold for the open window only.

        Returns:
            What was not taken, None when all was. Where the commit's metadata is `full`, hand it in
            again when older windows have settled.

        Raises:
            GapError: The batch starts beyond the position; nothing was changed.
        """
        if batch.position > self.position:
            raise GapError(self.tp, self.position, batch.position)
        self._require_idle()
        end = batch.next_position
        records = batch.after(self.position).records
        place = 0
        while self.position < end:
            if self._due(records, place, now):
                if self.full:
                    return batch.after(self.position)
                self._close(int(now))
                if one_window:
                    return batch.after(self.position)
                continue
            upto = self._segment(records, place, end, now)
            if not (self._replay and self._replay[0].settled):
                upto = self.window.add(answers, self.position, upto)
            place = bisect_left(records, upto, lo=place, key=_offset)
            self.position = upto
            if self._replay and self.position >= self._replay[0].end:
                self._close_recorded()
        return None

    def skip_to(self, offset: int) -> int:
        """Accept that records before `offset` are gone; return how many offsets that is.

        Raises:
            InvariantError: The partition stands beyond it; nothing was changed.
        """
        self._require_idle()
        position = self.position
        if offset < position:
            raise InvariantError(f"{self.tp}: cannot skip from {position} back to {offset}")
        self.position = offset
        while self._replay and self.position >= self._replay[0].end:
            self._close_recorded()
        return offset - position

    def tick(self, now: float, log_end: int | None) -> None:
        """Close the open window if the partition is idle at `log_end` and the minute is over.

        `log_end` is the first offset that a reader of committed records cannot see yet; None when
        it is unknown.
        """
        if log_end is None or self.position < log_end or self.position == self._first:
            return
        if self.window.busy:
            return  # Soon it is not.
        if self._time.is_over(now) and not self._replay and not self.full:
            self._time.had_object()
            self._close(int(now))

    def close_early(self, now: float) -> bool:
        """Close the open window for the sake of memory; False when its end is not ours to set."""
        self._require_idle()
        if self._time.start is None or self._replay or self.full:
            return False
        self._close(int(now))
        return True

    @property
    def is_between_windows(self) -> bool:
        """Whether the next record begins a window whose end is not recorded."""
        return self._time.start is None and not self._replay

    @property
    def held_open(self) -> int:
        """Bytes of memory that the open window takes."""
        return self.window.held

    # --- what leaves the open window ----------------------------------------------------------

    def streams(self) -> list[Stream]:
        """Return the contents whose parts may leave now, each once a part and epoch."""
        return [Stream(self, self.epoch, it) for it in self.window.leaving()]

    def begun(self, task: Stream, upload_id: str) -> None:
        """Note that S3 has begun an upload in parts.

        Raises:
            FencedError: The partition was taken away, or the object given up, since; nothing was
                changed.
        """
        self._check(task)
        task.delivery.leaving.upload_id = upload_id

    def sent(self, task: Stream, part: Part, told: Any) -> None:  # noqa: ANN401 - S3's matter
        """Note that S3 has a part.

        Raises:
            FencedError: As of `begun`.
        """
        self._check(task)
        body = task.delivery.leaving
        held = body.held
        body.sent(part, told)
        if body.is_closed:
            self.held_closed += body.held - held
        else:
            self.window.held += body.held - held

    def uploads(self) -> list[Upload]:
        """Return the uploads in parts that were begun and not ended."""
        closed = (it for window in self._closed for it in window.deliveries.values())
        return [
            Upload(it.destination, it.key, it.body.upload_id)
            for it in (*self.window.deliveries, *closed)
            if it.body is not None and it.body.upload_id is not None
        ]

    @property
    def full(self) -> bool:
        """Whether the commit's metadata has no room for a further closing."""
        closings = self._unsettled_closings()
        if len(closings) * CLOSING_BYTES_MAX < self._rules.metadata_bytes_max - CLOSING_BYTES_MAX:
            return False
        size = len(encode(Commit(self._commit_offset(), closings)))
        return size + CLOSING_BYTES_MAX > self._rules.metadata_bytes_max

    # --- the commit ---------------------------------------------------------------------------

    def to_commit(self) -> Commit | None:
        """Return what should be committed now, None when the broker has it already."""
        if not self._closed:
            return None
        commit = Commit(self._commit_offset(), self._unsettled_closings())
        if commit == self.acknowledged:
            return None
        self.attempted = commit
        return commit

    def recorded(self, commit: Commit) -> None:
        """Note that the broker has this commit: its windows may be delivered.

        Only the very commit that `to_commit` gave out last counts. An answer that comes late may be
        to a commit of a partition that was forgotten and rebuilt since, with other closings.
        """
        if commit is not self.attempted:
            return
        self.acknowledged = commit
        self.attempted = None
        ends = {closing.end for closing in commit.closings}
        for window in self._closed:
            if not window.recorded and window.end in ends:
                self._release(window)
        while self._closed and self._closed[0].end <= commit.offset:
            self._closed.popleft()

    def suspend(self, epoch: int) -> None:
        """The partition may go to another worker: work given out so far is void."""
        self.epoch = epoch
        self._ready.clear()

    def resume(self, epoch: int, commit: Commit) -> bool:
        """Go on after a rebalance if nobody owned the partition in between.

        That is so when the commit read back is the one that we know of, or the one that was on
        its way. Otherwise False: this object is void, a new one must be built from `commit`.
        """
        if self.attempted is not None and commit == self.attempted:
            self.recorded(self.attempted)
        elif commit != self.acknowledged:
            return False
        self.epoch = epoch
        self.attempted = None
        self._ready = [
            Work(self, epoch, delivery, window)
            for window in self._closed
            for delivery in window.deliveries.values()
            if delivery.state in (State.RECORDED, State.STORED)
        ]
        self.window.leave_again()
        return True

    # --- deliveries ---------------------------------------------------------------------------

    def works(self) -> list[Work]:
        """Return the deliveries that have become due, oldest window first, each once an epoch."""
        ready, self._ready = self._ready, []
        return ready

    def waiting(self) -> list[tuple[int, Delivery]]:
        """Return the recorded deliveries whose object is not there, with their upload time."""
        return [(it.uploaded_at, waiting) for it in self._closed for waiting in it.waiting]

    def content(self, work: Work) -> bytes | None:
        """Finish the object and return its bytes, the same each time.

        Empty when it leaves in parts; None when there is no line to deliver.
        """
        self._check(work)
        delivery = work.delivery
        if delivery.body is None:
            return None
        self.held_closed -= delivery.held
        content = delivery.body.finish()
        self.held_closed += delivery.held
        return content

    def uploaded(self, work: Work, result: Stored | Problem | None, attempts: int) -> Receipt:
        """Note the end of a delivery's upload and return the receipt that is due.

        `result` is what S3 stored, or why it was given up, or None when no line had to go there.

        Raises:
            FencedError: The partition was taken away since; nothing was changed.
        """
        self._check(work)
        delivery = work.delivery
        lines = delivery.tally.delivered
        if (result is None) != (lines == 0):
            raise InvariantError(f"object {delivery.key}: {lines} lines, but the upload: {result}")
        delivery.move(Move.UPLOAD)
        if result is None:
            status = Status.EMPTY
        else:
            status = Status.DELIVERED if isinstance(result, Stored) else Status.FAILED
        receipt = delivery.receipt = work.window.receipt(
            delivery,
            self.tp,
            self._rules,
            status,
            attempts=attempts,
            stored=result if isinstance(result, Stored) else None,
            problem=result if isinstance(result, Problem) else None,
        )
        self.held_closed -= delivery.held
        delivery.body = None
        self.held_closed += delivery.held
        return receipt

    def retrying(self, work: Work, problem: Problem, attempts: int) -> Receipt:
        """Return the receipt that says that this window is late, and why.

        Raises:
            FencedError: The partition was taken away since.
        """
        self._check(work)
        status, rules = Status.RETRYING, self._rules
        return work.window.receipt(
            work.delivery, self.tp, rules, status, attempts=attempts, problem=problem
        )

    def published(self, work: Work) -> None:
        """Note that the broker has the receipt: the delivery is settled.

        Raises:
            FencedError: The partition was taken away since; nothing was changed.
        """
        self._check(work)
        work.delivery.move(Move.PUBLISH)
        self.held_closed -= work.delivery.held + self._rules.waiting_bytes
        del work.window.deliveries[work.delivery.destination.id]

    # --- inside -------------------------------------------------------------------------------

    def _due(self, records: Sequence[Record], place: int, now: float) -> bool:
        """Whether the open window must end before the record at `place`."""
        if self._replay:
            return False
        if self.window.full and self._time.start is not None:
            return True
        return self._time.ends_before(records, place, now)

    def _segment(self, records: Sequence[Record], place: int, end: int, now: float) -> int:
        """Open a window if none is, and return the offset up to which it reaches."""
        if self._replay:
            return min(self._replay[0].end, end)
        return self._time.reach(records, place, end, now)

    def _new_window(self) -> Window:
        rules, recorded = self._rules, self._replay[0] if self._replay else None
        return Window(
            self.tp,
            self._first,
            None if recorded else rules.receipt_bytes_max,
            sizes=rules.sizes,
            uploaded_at=recorded.uploaded_at if recorded else None,
        )

    def _require_idle(self) -> None:
        if self.window.busy:
            raise InvariantError(f"{self.tp}: the open window is changed while it is compressed")

    def _close(self, now: int) -> None:
        start = self._time.start if self._time.start is not None else now
        self._append(now, start, recorded=False)
        self._time.closed()

    def _close_recorded(self) -> None:
        closing = self._replay.popleft()
        self._time.closed(closing.window_start)
        self._append(closing.uploaded_at, closing.window_start, recorded=True, end=closing.end)

    def _append(
        self, uploaded_at: int, window_start: int, *, recorded: bool, end: int | None = None
    ) -> None:
        first, end = self._first, self.position if end is None else end
        deliveries = self.window.close(uploaded_at)
        uploaded_at = self.window.uploaded_at or uploaded_at
        window = ClosedWindow(first, end, uploaded_at, window_start, deliveries)
        self._closed.append(window)
        if recorded:
            self._release(window)
        waiting = len(deliveries) * self._rules.waiting_bytes
        self.held_closed += waiting + sum(it.held for it in deliveries.values())
        self._first = end
        self.window = self._new_window()

    def _release(self, window: ClosedWindow) -> None:
        """The broker has the closing: from here on the window may become visible."""
        window.recorded = True
        for delivery in window.deliveries.values():
            delivery.move(Move.RECORD)
            self._ready.append(Work(self, self.epoch, delivery, window))

    def _commit_offset(self) -> int:
        offset = self._closed[0].first if self._closed else self._first
        for window in self._closed:
            if not window.settled:
                return window.first
            offset = window.end
        return offset

    def _unsettled_closings(self) -> tuple[Closing, ...]:
        """The closings beyond the offset that can be committed, settled or not."""
        closings: list[Closing] = []
        for window in self._closed:
            if closings or not window.settled:
                closings.append(window.closing)
        return (*closings, *self._replay)

    def _check(self, task: Stream) -> None:
        if not task.valid:
            raise FencedError(
                f"{self.tp.topic}/{self.tp.partition}: work of epoch {task.epoch}, now {self.epoch}"
            )


_offset: Final = attrgetter("offset")
