"""Stall monitor: has partitions that stand still fetched again, or ends the worker.

The core decides (`core.progress_watchdog`). Before a process ends for want of progress, Kafka is
asked on a connection of its own: where it does not answer either, a new process would not help.
"""

import logging
import time
from collections.abc import Callable

from mode import Service

from stream_app import log_events
from stream_app.core.assignment import Assignment
from stream_app.core.progress_watchdog import (
    BATCH_SECONDS_MAX,
    SEEKS_MAX,
    STALL_SECONDS,
    WATCH_SECONDS,
    BatchWatchdog,
    ProgressWatchdog,
    Remedy,
    Sight,
    Work,
)
from stream_app.errors import FencedError, StalledError, TransientError
from stream_app.kafka.partition_leader import Fetched
from stream_app.logs import log_event
from stream_app.monitoring.counts import Counts
from stream_app.monitoring.health import Progress
from stream_app.records import GapError, TopicPartition, Undecodable
from stream_app.worker import log_messages
from stream_app.worker.collector import Collector
from stream_app.worker.committer import Committer
from stream_app.worker.faust_app import StreamApp
from stream_app.worker.log_messages import partition_fields

logger = logging.getLogger(__name__)


class StallMonitor:
    """Monitor of the progress of all partitions that this worker holds.

    Args:
        app: The app, whose consumer fetches.
        assignment: The core.
        collector: Takes the batches.
        committer: Begins partitions again whose log ends too early.
        counts: Where stalls are counted.
        progress: Where partitions that stand still are recorded, for the health check.
        clock: Returns seconds, and is never set.
    """

    def __init__(
        self,
        app: StreamApp,
        assignment: Assignment,
        collector: Collector,
        committer: Committer,
        counts: Counts,
        *,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._assignment = assignment
        self._collector = collector
        self._committer = committer
        self._counts = counts
        self._progress = progress
        self._clock = clock
        self._watchdog = ProgressWatchdog()
        self._batches = BatchWatchdog()
        self._refused: set[TopicPartition] = set()
        """Partitions of which the broker has no batch at the position, though their log goes on."""

    async def run(self, service: Service) -> None:
        """Check at a fixed interval, until the service stops.

        Raises:
            StalledError: A partition stands still, and seeking it does not help; or a batch does.
        """
        while not service.should_stop:
            await service.sleep(WATCH_SECONDS)
            consumer, collector = self._app.consumer, self._collector
            waiting = consumer.waiting()
            self._check_batches(waiting)
            self._refused &= self._assignment.waits.keys()
            busy = collector.taken() | waiting
            ends = consumer.ends_seen()
            sights = {
                tp: Sight(partition.position, ends.get(tp), tp in busy or partition.is_truncated)
                for tp, partition in self._assignment.partitions.items()
            }
            # A queue that is full though it is empty would never have room again.
            is_open = not collector.is_held and not (busy and consumer.is_full)
            await self._committer.check_ends(ends)
            remedies = self._watchdog.check(sights, self._clock(), is_open=is_open)
            for tp, remedy in remedies.items():
                try:
                    await self._heal(tp, sights[tp], remedy)
                except FencedError as error:
                    log_messages.fenced("seek", error, tp)
            standstills = self._watchdog.standstills
            self._progress.standstills = {
                tp: it for tp, it in standstills.items() if tp not in self._assignment.waits
            }

    def _check_batches(self, waiting: set[TopicPartition]) -> None:
        collector, consumer = self._collector, self._app.consumer
        pending = waiting if consumer.flow_active else set()
        if collector.under_way is not None:
            pending = {collector.under_way}
        work = Work(collector.steps, bool(pending), collector.is_held)
        if self._batches.is_stuck(work, self._clock()):
            where = ", ".join(f"{tp.topic}/{tp.partition}" for tp in sorted(pending))
            what = "waits for its agent" if collector.under_way is None else "is under way"
            raise StalledError(
                f"a batch of {where} {what}, and has made no step for {BATCH_SECONDS_MAX:.0f} s, "
                "though it waits for neither memory nor Kafka; the process ends, so that its "
                "supervisor starts another one"
            )

    async def _heal(self, tp: TopicPartition, sight: Sight, remedy: Remedy) -> None:
        consumer, epoch = self._app.consumer, self._assignment.epoch
        where, position = f"{tp.topic}/{tp.partition}", sight.position
        start, found = None, Fetched(sight.log_end, None)
        try:
            start = (await consumer.log_starts([tp]))[tp]
            if start <= position:
                found = await consumer.fetched(tp, position)
        except TransientError:
            self._watchdog.unanswered(tp)
        partition = self._assignment.partitions.get(tp)
        if partition is None or not self._assignment.is_epoch(epoch):
            raise FencedError(f"{where}: stood still in epoch {epoch}")
        if partition.position != position:
            return
        if found.refusal is not None:
            self._watchdog.unanswered(tp)
            await self._wait_at_refused(tp, epoch, Undecodable(position, None, found.refusal))
            return
        log_end = sight.log_end if found.log_end is None else found.log_end
        # A batch that cannot be decoded is fetched again and again, and waited for on purpose.
        is_waiting = partition.wait is not None and tp not in self._refused
        if log_end is None or position >= log_end or is_waiting:
            if start is not None:
                self._watchdog.unanswered(tp)  # It stands at its end, as far as is known.
            return
        self._counts.stalled_partitions += 1
        log_event(
            logger,
            log_events.STALLED,
            seconds=STALL_SECONDS,
            first_offset=position,
            end_offset=log_end,
            **partition_fields(tp),
        )
        if start is not None and start > position and not partition.window.busy:
            # All that it has not read is deleted: no batch comes that would show it.
            self._collector.skip_deleted(tp, epoch, start)
        elif start is not None and remedy is Remedy.EXIT:
            raise StalledError(
                f"{where} stands at offset {position} of {log_end}, Kafka answers, and "
                f"{SEEKS_MAX} seeks have not helped; the process ends, so that its supervisor "
                "starts another one"
            )
        await consumer.seek_to(tp, partition.position)

    async def _wait_at_refused(self, tp: TopicPartition, epoch: int, batch: Undecodable) -> None:
        """Wait at a batch that the broker does not have, and fetch nothing meanwhile.

        A new process would be refused as well. Kafka's client would ask again and again at once.
        """
        self._refused.add(tp)
        await self._app.consumer.pause(tp)
        try:
            await self._collector.wait_at(tp, epoch, batch)
        except GapError as gap:
            await self._committer.rebuild(tp, epoch, gap)
