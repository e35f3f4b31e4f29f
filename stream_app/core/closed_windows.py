"""Closed windows: those of a partition whose end is decided and that its commit has not passed.

Pure.
"""

from collections import deque
from collections.abc import Iterator, KeysView, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stream_app.core.commit_metadata import Closing, Commit
from stream_app.core.delivery import Delivery, State, WindowPolicy
from stream_app.core.receipt import Problem, Receipt, ReceiptScope, Source, Status, Stored
from stream_app.records import TopicPartition


class WindowSnapshot(NamedTuple):
    """A window that a partition holds, for metrics."""

    start: int
    """Start of the minute, in seconds since 1970."""
    destinations: KeysView[str]
    """Ids of the destinations that have no receipt yet: a view, which costs nothing."""
    is_open: bool
    is_recorded: bool
    """Whether the broker has the closing."""


@dataclass(slots=True)
class ClosedWindow:
    """A window whose end is decided."""

    first: int
    end: int
    closed_at: int
    window_start: int
    deliveries: dict[str, Delivery]
    """Deliveries that are not settled, by destination id."""
    recorded: bool = False
    """Whether the broker has the closing."""
    is_named_by_time: bool = True
    """See `Closing`."""
    is_passed_over: bool = False
    """See `Closing`."""
    was_recorded: bool = False
    """Whether the broker has the closing, but not yet that the window is passed over."""

    @property
    def settled(self) -> bool:
        """Whether every delivery is settled."""
        return not self.deliveries

    @property
    def waiting(self) -> list[Delivery]:
        """The recorded deliveries whose object is not stored."""
        return [it for it in self.deliveries.values() if it.state is State.RECORDED]

    def receipt(
        self,
        delivery: Delivery,
        tp: TopicPartition,
        policy: WindowPolicy,
        status: Status,
        *,
        attempts: int,
        stored: Stored | None = None,
        problem: Problem | None = None,
    ) -> Receipt:
        """Return the receipt of one delivery of this window."""
        scope = ReceiptScope(
            policy.group,
            Source(*tp, self.first, self.end, self.closed_at if self.is_named_by_time else None),
            self.window_start,
            self.window_start + policy.window_seconds,
            self.closed_at,
        )
        return delivery.receipt_in(
            scope, status, delivery.key, attempts=attempts, stored=stored, problem=problem
        )

    @property
    def closing(self) -> Closing:
        """The closing, as the commit records it."""
        return Closing(
            self.end,
            self.closed_at,
            self.window_start,
            self.settled,
            is_named_by_time=self.is_named_by_time,
            is_passed_over=self.is_passed_over,
        )


class ClosedWindows:
    """Closed windows of one partition, oldest first."""

    def __init__(self) -> None:
        self._windows: deque[ClosedWindow] = deque()

    def __iter__(self) -> Iterator[ClosedWindow]:
        return iter(self._windows)

    def __len__(self) -> int:
        return len(self._windows)

    def append(self, window: ClosedWindow) -> None:
        """Add a window, which begins where the newest one ends."""
        self._windows.append(window)

    @property
    def newest(self) -> ClosedWindow:
        """The newest window; there must be one."""
        return self._windows[-1]

    def commit_offset(self, first: int) -> int:
        """Return the offset that can be committed, where the open window begins at `first`."""
        return next((it.first for it in self._windows if not it.settled), first)

    def unsettled_closings(self) -> tuple[list[Closing], int]:
        """Return the closings beyond the offset that can be committed, settled or not.

        Returns:
            The closings, and how many of them, from the first on, the broker has.
        """
        closings: list[Closing] = []
        recorded = 0
        for window in self._windows:
            if closings or not window.settled:
                closings.append(window.closing)
                recorded += window.recorded or window.was_recorded
        return closings, recorded

    def snapshots(self) -> list[WindowSnapshot]:
        """Return the windows, for metrics."""
        return [
            WindowSnapshot(
                it.window_start, it.deliveries.keys(), is_open=False, is_recorded=it.recorded
            )
            for it in self._windows
        ]

    def recorded(self, commit: Commit) -> Sequence[ClosedWindow]:
        """Remove what a commit has passed; return the windows that the broker has now."""
        # A window can have been passed over since the commit was sent, which it does not say then.
        closings = {(it.end, it.is_passed_over) for it in commit.closings}
        recorded = [
            it
            for it in self._windows
            if not it.recorded and (it.end, it.is_passed_over) in closings
        ]
        while self._windows and self._windows[0].end <= commit.offset:
            self._windows.popleft()
        return recorded
