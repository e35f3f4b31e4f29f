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
from typing import Final

from stream_app.batches import Answers, Batch
from stream_app.closings import CLOSING_BYTES_MAX, METADATA_BYTES_MAX, Closing, Commit, encode
from stream_app.deliveries import ClosedWindow, Delivery, Move, State
from stream_app.errors import FencedError, InvariantError
from stream_app.expressions import TP, Record
from stream_app.receipts import RECEIPT_BYTES_MAX, Problem, Receipt, Source, Status, Stored
from stream_app.window import Window

MS: Final = 1000


class GapError(InvariantError):
    """A batch does not continue where its partition stands: records between were not seen."""

    def __init__(self, tp: TP, position: int, found: int) -> None:
        super().__init__(
            f"{tp.topic}/{tp.partition}: expected offset {position}, the batch starts at {found}"
        )
        self.position = position
        self.found = found


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the settings decides about windows and receipts."""

    group: str
    window_seconds: int
    grace_seconds: float
    receipt_bytes_max: int = RECEIPT_BYTES_MAX
    metadata_bytes_max: int = METADATA_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Work:
    """One delivery to be performed; valid as long as the partition's epoch is the same."""

    partition: "Partition"
    epoch: int
    window: ClosedWindow
    delivery: Delivery

    @property
    def valid(self) -> bool:
        """Whether the partition is still held under the assignment that gave this out."""
        return self.epoch == self.partition.epoch


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
        self._open = self._new_window()
        self._window_start: int | None = None
        self._newest_start = self._replay[0].window_start if self._replay else 0
        """Stream time, to the minute: no window starts before the one before it."""
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
                upto = self._open.add(answers, self.position, upto)
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
        start, length = self._window_start, self._rules.window_seconds
        over = (
            start is None
            or now >= start + length + self._rules.grace_seconds
            or now < start - length  # the clock was set back: its minutes will not come soon
        )
        if over and not self._replay and not self.full:
            if start is not None:
                # The minute has had its object: what comes late joins the next one.
                self._newest_start = start + length
            self._close(int(now))

    def close_early(self, now: float) -> bool:
        """Close the open window for the sake of memory; False when its end is not ours to set."""
        if self._window_start is None or self._replay or self.full:
            return False
        self._close(int(now))
        return True

    @property
    def is_between_windows(self) -> bool:
        """Whether the next record begins a window whose end is not recorded."""
        return self._window_start is None and not self._replay

    @property
    def held_open(self) -> int:
        """Bytes of memory that the open window takes."""
        return self._open.held

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
            Work(self, epoch, window, delivery)
            for window in self._closed
            for delivery in window.deliveries.values()
            if delivery.state in (State.RECORDED, State.STORED)
        ]
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
        """Return the object's bytes, the same each time; None when there is no line to deliver."""
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
        if isinstance(result, Stored):
            receipt = self._receipt(work, Status.DELIVERED, attempts, stored=result)
        elif result is None:
            receipt = self._receipt(work, Status.EMPTY, attempts)
        else:
            receipt = self._receipt(work, Status.FAILED, attempts, problem=result)
        delivery.receipt = receipt
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
        return self._receipt(work, Status.RETRYING, attempts, problem=problem)

    def published(self, work: Work) -> None:
        """Note that the broker has the receipt: the delivery is settled.

        Raises:
            FencedError: The partition was taken away since; nothing was changed.
        """
        self._check(work)
        work.delivery.move(Move.PUBLISH)
        self.held_closed -= work.delivery.held
        del work.window.deliveries[work.delivery.destination.id]

    # --- inside -------------------------------------------------------------------------------

    def _due(self, records: Sequence[Record], place: int, now: float) -> bool:
        """Whether the open window must end before the record at `place`."""
        start, length = self._window_start, self._rules.window_seconds
        if self._replay or start is None:
            return False
        if self._open.full or now < start - length:  # or the clock was set back
            return True
        return place < len(records) and _time(records[place], now) >= start + length

    def _segment(self, records: Sequence[Record], place: int, end: int, now: float) -> int:
        """Open a window if none is, and return the offset up to which it reaches."""
        if self._replay:
            return min(self._replay[0].end, end)
        if place >= len(records):
            return end
        length = self._rules.window_seconds
        if self._window_start is None:
            time = max(_time(records[place], now), min(self._newest_start, now))
            self._window_start = self._newest_start = int(time // length * length)
        window_end = self._window_start + length
        # Before the end no record's time can be beyond it: none is later than now.
        if now >= window_end and not _all_before(records, place, window_end):
            later = (it for it in records[place:] if _time(it, now) >= window_end)
            return next(later).offset
        return end

    def _new_window(self) -> Window:
        return Window(None if self._replay else self._rules.receipt_bytes_max)

    def _close(self, uploaded_at: int) -> None:
        start = self._window_start if self._window_start is not None else uploaded_at
        self._append(uploaded_at, start, recorded=False)

    def _close_recorded(self) -> None:
        closing = self._replay.popleft()
        self._newest_start = max(self._newest_start, closing.window_start)
        self._append(closing.uploaded_at, closing.window_start, recorded=True, end=closing.end)

    def _append(
        self, uploaded_at: int, window_start: int, *, recorded: bool, end: int | None = None
    ) -> None:
        first, end = self._first, self.position if end is None else end
        deliveries = self._open.close(*self.tp, first, uploaded_at)
        window = ClosedWindow(first, end, uploaded_at, window_start, deliveries)
        self._closed.append(window)
        if recorded:
            self._release(window)
        self.held_closed += sum(delivery.held for delivery in deliveries.values())
        self._open = self._new_window()
        self._window_start = None
        self._first = end

    def _release(self, window: ClosedWindow) -> None:
        """The broker has the closing: from here on the window may become visible."""
        window.recorded = True
        for delivery in window.deliveries.values():
            delivery.move(Move.RECORD)
            self._ready.append(Work(self, self.epoch, window, delivery))

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

    def _receipt(
        self,
        work: Work,
        status: Status,
        attempts: int,
        *,
        stored: Stored | None = None,
        problem: Problem | None = None,
    ) -> Receipt:
        window, delivery = work.window, work.delivery
        return Receipt(
            status=status,
            group=self._rules.group,
            destination=delivery.destination.id,
            pipeline=delivery.destination.pipeline,
            window_start=window.window_start,
            window_end=window.window_start + self._rules.window_seconds,
            source=Source(*self.tp, window.first, window.end),
            tally=delivery.tally,
            bucket=delivery.destination.bucket,
            key=delivery.key,
            size_uncompressed=delivery.size_uncompressed,
            uploaded_at=window.uploaded_at,
            attempts=attempts,
            stored=stored,
            problem=problem,
        )

    def _check(self, work: Work) -> None:
        if not work.valid:
            raise FencedError(
                f"{self.tp.topic}/{self.tp.partition}: work of epoch {work.epoch}, now {self.epoch}"
            )


def _time(record: Record, now: float) -> float:
    """Seconds; a record without a time, or from the future, counts as now."""
    milliseconds = record.timestamp
    return now if milliseconds < 0 or milliseconds > now * MS else milliseconds / MS


def _all_before(records: Sequence[Record], place: int, seconds: float) -> bool:
    """Whether every record from `place` on has a timestamp, and one before this second."""
    times: list[int] = list(map(attrgetter("timestamp"), records[place:] if place else records))
    return min(times) >= 0 and max(times) < seconds * MS


_offset: Final = attrgetter("offset")
