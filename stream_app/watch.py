"""What a worker tells from time to time: looked at once a second, summed up once a minute.

What lasts is told when it begins and when it ends: the memory bound holds batches up, the group's
broker is away, more waits in Kafka than a minute takes. Nothing here costs anything for each event.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp

from stream_app import happenings
from stream_app.assignment import Assignment
from stream_app.expressions import TP
from stream_app.logs import say
from stream_app.metrics import Counts

LOOK_SECONDS: Final = 1.0
SUMMARY_SECONDS: Final = 60.0
PRESSED_SHARE: Final = 0.1
"""Batches wait for memory when so much of a second was waited."""
RELIEVED_SECONDS: Final = 5.0
"""They do no more when they have not for so long: at the bound, waiting comes and goes."""
AWAY_SECONDS: Final = 2.0
"""A coordinator that is unknown for so long is away; a group changes it in less."""
START_SECONDS: Final = 10.0
"""A worker that begins may take so long to learn who it is."""
LAGGING_OFFSETS_MIN: Final = 1_000
"""Less than this is on its way, and no lag."""
MIB: Final = 1024 * 1024

logger = logging.getLogger(__name__)


class Watch:
    """Looks at one worker.

    Args:
        counts: What it has done.
        assignment: What it holds.
        memory_max_mib: The bound of that.
        broker: Where Kafka answers.
        log_ends: Returns each partition's end, as far as it is known.
        waited: Returns for how many seconds in all batches have waited for memory.
        knows_broker: Returns whether the group's broker is there.
    """

    def __init__(
        self,
        counts: Counts,
        assignment: Assignment,
        memory_max_mib: int,
        broker: str,
        *,
        log_ends: Callable[[], Mapping[TP, int]],
        waited: Callable[[], float],
        knows_broker: Callable[[], bool],
    ) -> None:
        self._counts = counts
        self._assignment = assignment
        self._memory_max_mib = memory_max_mib
        self._broker = broker
        self._log_ends = log_ends
        self._waited = waited
        self._knows_broker = knows_broker
        self._before = counts.totals()
        self._summed_at: float | None = None
        self._pressed_at: float | None = None
        self._waited_at = 0.0
        """When batches were last seen to wait."""
        self._waited_before = self._waited_first = 0.0
        self._knew_at: float | None = None
        """When the broker was last there, or first looked for."""
        self._absent_seconds_max = START_SECONDS
        self._is_away = False
        self._lagging_at: float | None = None

    async def run(self) -> None:
        """Watch until cancelled, and sum up once more."""
        self._summed_at = time.monotonic()
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                self.look(time.monotonic())
        finally:
            self._tell(self._done(time.monotonic()), {})  # the partitions are gone by now

    def look(self, now: float) -> None:
        """Tell what has begun or ended."""
        self._look_at_memory(now)
        self._look_at_broker(now)
        if self._summed_at is None or now - self._summed_at >= SUMMARY_SECONDS:
            self.sum_up(now)

    def sum_up(self, now: float) -> None:
        """Tell what was done since the last time, and how things stand."""
        done, stands = self._done(now), self._stands()
        self._tell(done, stands)
        self._look_at_lag(now, done["events"], stands["unread"])

    def _done(self, now: float) -> dict[str, Any]:
        """Return what was done since the last time."""
        seconds = now - (now if self._summed_at is None else self._summed_at)
        totals = self._counts.totals()
        done = {name: number - self._before[name] for name, number in totals.items()}
        self._summed_at, self._before = now, totals
        return {"seconds": round(seconds, 1), **done}

    def _tell(self, done: Mapping[str, Any], stands: Mapping[str, Any]) -> None:
        text = (
            "last %.0f s: %d events; %d delivered, %d skipped, %d failed, %d given up; %d objects "
            "of %d bytes, %d receipts, %d retries"
        )
        if stands:
            text += (
                ". Now: %d windows open, %d objects waiting, %.1f of %d MiB held, %d offsets to "
                "read, lag %d"
            )
        values = (*done.values(), *stands.values())
        say(logger, happenings.SUMMARY, text, *values, **done, **stands)

    def _stands(self) -> dict[str, Any]:
        partitions = self._assignment.partitions
        ends = [(partitions[tp], end) for tp, end in self._log_ends().items() if tp in partitions]
        return {
            "open_windows": sum(not it.is_between_windows for it in partitions.values()),
            "waiting": sum(len(it.waiting()) for it in partitions.values()),
            "held_mib": self._held_mib,
            "bound_mib": self._memory_max_mib,
            "unread": sum(max(0, end - it.position) for it, end in ends),
            "lag": sum(max(0, end - it.acknowledged.offset) for it, end in ends),
        }

    @property
    def _held_mib(self) -> float:
        return round(self._assignment.held / MIB, 1)

    def _look_at_memory(self, now: float) -> None:
        waited = self._waited()
        if waited - self._waited_before >= PRESSED_SHARE * LOOK_SECONDS:
            self._waited_at = now
            if self._pressed_at is None:
                self._pressed_at, self._waited_first = now, self._waited_before
                say(
                    *(logger, happenings.PRESSED),
                    "%.1f of %d MiB are held: no batch is taken until there is room",
                    *(self._held_mib, self._memory_max_mib),
                    held_mib=self._held_mib,
                    bound_mib=self._memory_max_mib,
                )
        elif self._pressed_at is not None and now - self._waited_at >= RELIEVED_SECONDS:
            seconds, waiting = now - self._pressed_at, waited - self._waited_first
            self._pressed_at = None
            say(
                *(logger, happenings.RELIEVED),
                "%.1f of %d MiB are held: there is room again, after %.0f s, in %.1f s of which no "
                "batch was taken",
                *(self._held_mib, self._memory_max_mib, seconds, waiting),
                held_mib=self._held_mib,
                bound_mib=self._memory_max_mib,
                seconds=round(seconds, 1),
                waited_seconds=round(waiting, 1),
            )
        self._waited_before = waited

    def _look_at_broker(self, now: float) -> None:
        if self._knew_at is None:
            self._knew_at = now
        seconds = now - self._knew_at
        if self._knows_broker():
            if self._is_away:
                say(
                    *(logger, happenings.BROKER_BACK, "the broker is back, after %.0f s", seconds),
                    broker=self._broker,
                    seconds=round(seconds, 1),
                )
            self._is_away, self._knew_at, self._absent_seconds_max = False, now, AWAY_SECONDS
        elif not self._is_away and seconds >= self._absent_seconds_max:
            self._is_away = True
            say(
                *(logger, happenings.BROKER_AWAY),
                *("the group's broker (%s) is away; nothing can be committed", self._broker),
                broker=self._broker,
            )

    def _look_at_lag(self, now: float, events: int, unread: int) -> None:
        is_lagging = unread > max(events, LAGGING_OFFSETS_MIN)
        if is_lagging and self._lagging_at is None:
            self._lagging_at = now
            say(
                *(logger, happenings.LAGGING),
                "%d offsets are to be read, and %d events were read since the last summary",
                *(unread, events),
                events=events,
                unread=unread,
            )
        elif not is_lagging and self._lagging_at is not None:
            seconds, self._lagging_at = now - self._lagging_at, None
            say(
                *(
                    logger,
                    happenings.CAUGHT_UP,
                    "caught up after %.0f s: %d offsets to read",
                ),
                *(seconds, unread),
                events=events,
                unread=unread,
                seconds=round(seconds, 1),
            )


def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Take what asyncio has to complain of, as its exception handler.

    aiohttp writes a request in a task of its own, and asks for its end only if a response comes: a
    connection that has ended by then leaves an error that nobody asks for. The request itself is
    repeated by aiohttp, or fails, and its attempt tells so.
    """
    error, task = context.get("exception"), context.get("future")
    name = getattr(task.get_coro(), "__qualname__", "") if isinstance(task, asyncio.Task) else ""
    if isinstance(error, aiohttp.ClientError) and name == "ClientRequest.write_bytes":
        say(
            *(logger, happenings.CONNECTION_LOST, "a connection has ended under a request: %s"),
            error,
            code=type(error).__name__,
            error=str(error),
        )
    else:
        loop.default_exception_handler(context)
