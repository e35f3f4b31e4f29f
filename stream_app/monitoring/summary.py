"""Periodic summary of a worker: conditions checked once a second, work summed up once a minute.

A condition is logged when it begins and when it ends: batches wait for memory, the group's broker
or a partition's leader is away, a transaction hides events, more events wait in Kafka than are read
in a minute, the events of a destination fail. Keys that no destination takes are logged once a
minute.
Nothing here costs anything for each event.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from stream_app import log_events
from stream_app.config.settings import MIB
from stream_app.core.assignment import Assignment
from stream_app.core.failing_destinations import FailingDestination
from stream_app.core.partition import Partition
from stream_app.core.pipeline_names import PipelineNames, shown
from stream_app.logs import log_event
from stream_app.monitoring.counts import Counts
from stream_app.monitoring.open_transactions import HiddenEnd, OpenTransactions
from stream_app.records import TopicPartition
from stream_app.text import counted

CHECK_SECONDS: Final = 1.0
SUMMARY_SECONDS: Final = 60.0
PRESSURE_SHARE: Final = 0.1
"""Memory pressure begins when batches have waited for this share of a second."""
RELIEVED_SECONDS: Final = 5.0
"""Memory pressure ends when no batch has waited for so long: at the bound, waits come and go."""
AWAY_SECONDS: Final = 2.0
"""The coordinator is away when it is unknown for so long; a group changes it in less."""
START_SECONDS: Final = 10.0
"""Bound for the first time, while a new worker looks the coordinator up."""
LAGGING_OFFSETS_MIN: Final = 1_000
"""Fewer unread offsets are in flight and no lag."""

logger = logging.getLogger(__name__)


class PeriodicSummary:
    """Summary and lasting conditions of one worker, as log events.

    Args:
        counts: The worker's counters.
        assignment: Its partitions.
        memory_max_mib: The bound of what they hold.
        broker: Address of Kafka, for texts.
        open_transactions: Takes what transactions hide, once a second.
        log_ends: Returns each partition's end for readers of committed records, if it is known.
        high_watermarks: Returns the end of each partition's log, if it is known.
        unanswered: Returns the partitions whose leader does not respond, with the time.
        waited: Returns for how many seconds in all batches have waited for memory.
        knows_coordinator: Returns whether the group's coordinator is known.
        pipelines: Returns the pipelines of the destinations in use.
    """

    def __init__(
        self,
        counts: Counts,
        assignment: Assignment,
        memory_max_mib: int,
        broker: str,
        *,
        open_transactions: OpenTransactions,
        log_ends: Callable[[], Mapping[TopicPartition, int]],
        high_watermarks: Callable[[], Mapping[TopicPartition, int]],
        unanswered: Callable[[], Mapping[TopicPartition, float]],
        waited: Callable[[], float],
        knows_coordinator: Callable[[], bool],
        pipelines: Callable[[], PipelineNames],
    ) -> None:
        self._counts = counts
        self._assignment = assignment
        self._memory_max_mib = memory_max_mib
        self._broker = broker
        self._open_transactions = open_transactions
        self._log_ends = log_ends
        self._high_watermarks = high_watermarks
        self._unanswered = unanswered
        self._waited = waited
        self._knows_coordinator = knows_coordinator
        self._pipelines = pipelines
        self._totals = counts.totals()
        self._summary_at: float | None = None
        self._pressure_at: float | None = None
        self._waited_at = 0.0
        """When batches last waited."""
        self._waited_before = self._waited_first = 0.0
        self._broker_seen_at: float | None = None
        """When the coordinator was last known, or first checked."""
        self._absent_seconds_max = START_SECONDS
        self._is_away = False
        self._silent_since: float | None = None
        self._lagging_at: float | None = None

    async def run(self) -> None:
        """Check once a second until cancelled, and log a last summary."""
        self._summary_at = time.monotonic()
        try:
            while True:
                await asyncio.sleep(CHECK_SECONDS)
                self.check(time.monotonic())
        finally:
            # Without the state: the partitions are gone by now.
            log_event(logger, log_events.SUMMARY, state="", **self._progress(time.monotonic()))

    def check(self, now: float) -> None:
        """Log what has begun or ended, and a summary when one is due."""
        self._check_memory(now)
        self._check_broker(now)
        self._check_leaders(now)
        self._check_transactions(now)
        self._check_destinations(now)
        self._report_unmatched(now)
        if self._summary_at is None or now - self._summary_at >= SUMMARY_SECONDS:
            self.log_summary(now)

    def log_summary(self, now: float) -> None:
        """Log the work since the last summary and the present state."""
        progress, state = self._progress(now), self._state()
        text = log_events.SUMMARY_STATE % state
        log_event(logger, log_events.SUMMARY, state=text, **progress, **state)
        self._check_lag(now, progress["events"], state["unread"])

    def _progress(self, now: float) -> dict[str, Any]:
        """Return the work since the last summary."""
        seconds = now - (now if self._summary_at is None else self._summary_at)
        totals = self._counts.totals()
        counts = {name: number - self._totals[name] for name, number in totals.items()}
        self._summary_at, self._totals = now, totals
        return {"seconds": round(seconds, 1), **counts}

    def _state(self) -> dict[str, Any]:
        partitions = self._assignment.partitions
        ends = self._held(self._log_ends())
        high_watermarks = self._held(self._high_watermarks())
        return {
            "open_windows": sum(not it.is_between_windows for it in partitions.values()),
            "waiting": sum(len(it.waiting()) for it in partitions.values()),
            **self._memory(),
            "unread": sum(max(0, end - it.position) for it, end in ends),
            "hidden": sum(it.offsets for it in self._open_transactions.hidden.values()),
            "lag": sum(max(0, end - it.acknowledged.offset) for it, end in high_watermarks),
            "unanswered": len(self._unanswered()),
        }

    def _held(self, offsets: Mapping[TopicPartition, int]) -> list[tuple[Partition, int]]:
        """Return the partitions that the worker holds, of those that have such an offset."""
        partitions = self._assignment.partitions
        return [(partitions[tp], offset) for tp, offset in offsets.items() if tp in partitions]

    def _memory(self) -> dict[str, Any]:
        held_mib = round(self._assignment.held / MIB, 1)
        return {"held_mib": held_mib, "bound_mib": self._memory_max_mib}

    def _check_memory(self, now: float) -> None:
        waited = self._waited()
        if waited - self._waited_before >= PRESSURE_SHARE * CHECK_SECONDS:
            self._waited_at = now
            if self._pressure_at is None:
                self._pressure_at, self._waited_first = now, self._waited_before
                log_event(logger, log_events.MEMORY_PRESSURE, **self._memory())
        elif self._pressure_at is not None and now - self._waited_at >= RELIEVED_SECONDS:
            log_event(
                logger,
                log_events.MEMORY_RELIEVED,
                seconds=round(now - self._pressure_at, 1),
                waited_seconds=round(waited - self._waited_first, 1),
                **self._memory(),
            )
            self._pressure_at = None
        self._waited_before = waited

    def _check_broker(self, now: float) -> None:
        if self._broker_seen_at is None:
            self._broker_seen_at = now
        seconds = now - self._broker_seen_at
        if self._knows_coordinator():
            if self._is_away:
                log_event(
                    logger, log_events.BROKER_BACK, broker=self._broker, seconds=round(seconds, 1)
                )
            self._is_away, self._broker_seen_at = False, now
            self._absent_seconds_max = AWAY_SECONDS
        elif not self._is_away and seconds >= self._absent_seconds_max:
            self._is_away = True
            log_event(logger, log_events.BROKER_AWAY, broker=self._broker)

    def _check_leaders(self, now: float) -> None:
        silent = self._unanswered()
        if silent and self._silent_since is None and not self._is_away:
            tp = max(silent, key=lambda it: silent[it])
            self._silent_since = now - silent[tp]
            log_event(
                logger,
                log_events.LEADER_AWAY,
                partitions=len(silent),
                counted=counted(len(silent), "partition"),
                topic=tp.topic,
                partition=tp.partition,
            )
        elif not silent and self._silent_since is not None:
            seconds = round(now - self._silent_since, 1)
            log_event(logger, log_events.LEADER_BACK, seconds=seconds)
            self._silent_since = None

    def _check_transactions(self, now: float) -> None:
        long, ended = self._open_transactions.check(now, self._log_ends(), self._high_watermarks())
        for it in long:
            hidden = counted(it.offsets, "offset")
            log_event(logger, log_events.TRANSACTION_OPEN, counted=hidden, **_hidden_fields(it))
        for it in ended:
            log_event(logger, log_events.TRANSACTION_ENDED, **_hidden_fields(it))

    def _check_destinations(self, now: float) -> None:
        begun, ended = self._counts.failing.check(now)
        for it in begun:
            log_event(
                logger, log_events.FAILING, error=it.error, share=it.share, **_failing_fields(it)
            )
        for it in ended:
            seconds = round(now - it.since, 1)
            log_event(logger, log_events.FAILING_ENDED, seconds=seconds, **_failing_fields(it))

    def _report_unmatched(self, now: float) -> None:
        for it in self._counts.unmatched_keys.report(now):
            pipelines = self._pipelines()
            log_event(
                logger,
                log_events.UNMATCHED,
                record_key=shown(it.key),
                events=it.events,
                nearest=pipelines.nearest(it.key),
                counted=counted(it.events, "event"),
                advice=pipelines.advice(it.key),
            )

    def _check_lag(self, now: float, events: int, unread: int) -> None:
        is_lagging = unread > max(events, LAGGING_OFFSETS_MIN)
        if is_lagging and self._lagging_at is None:
            self._lagging_at = now
            log_event(logger, log_events.LAGGING, events=events, unread=unread)
        elif not is_lagging and self._lagging_at is not None:
            log_event(
                logger,
                log_events.CAUGHT_UP,
                events=events,
                unread=unread,
                seconds=round(now - self._lagging_at, 1),
            )
            self._lagging_at = None


def _failing_fields(it: FailingDestination) -> dict[str, Any]:
    return {
        "destination": it.destination,
        "events": it.events,
        "counted": counted(it.events, "event"),
        "failed": it.failed,
    }


def _hidden_fields(end: HiddenEnd) -> dict[str, Any]:
    return {
        "topic": end.tp.topic,
        "partition": end.tp.partition,
        "first_offset": end.first_offset,
        "hidden": end.offsets,
        "seconds": round(end.seconds, 1),
    }
