"""Window table: the partitions of this worker as a tumbling Faust table.

    agent ─> Collector ─> core ─> DeliveryRunner ─> on_window_close ─> S3, receipt
                           └────> Committer ─> offset commit

A stock windowed table logs every change to a changelog topic and closes by one wall clock for all
partitions. This one is keyed by (partition, destination) too, and its closing callback is the
table's `on_window_close`, but its log is the events topic itself and its checkpoint the offset
commit: what is collected since the last commit is read again after a crash. So it has no changelog
topic and is not registered with `app.tables`.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

import faust
from mode import Service

from stream_app.core.assignment import Assignment
from stream_app.core.circuit_breaker import CircuitBreakers
from stream_app.core.delivery import MultipartUpload
from stream_app.core.pipeline_names import PipelineNames
from stream_app.core.router import Router
from stream_app.core.tasks import DeliveryTask, PartUpload
from stream_app.logs import SERVICE_LOGGER
from stream_app.monitoring.counts import Counts
from stream_app.monitoring.health import Progress
from stream_app.records import TopicPartition
from stream_app.worker.collector import Collector
from stream_app.worker.committer import Committer
from stream_app.worker.delivery_runner import DeliveryRunner
from stream_app.worker.faust_app import StreamApp
from stream_app.worker.stall_monitor import StallMonitor

if TYPE_CHECKING:
    from faust.types.tuples import Message


class WindowTable(faust.Table[Any, Any]):
    """The open and closed windows of all partitions that this worker holds.

    Args:
        app: The application.
        assignment: The core: the partitions and their windows.
        router: The destinations, compiled.
        breakers: The destinations' circuit breakers.
        counts: Where events and commits are counted.
        progress: Where the progress of commits is recorded.
        on_drop: Called when windows are to be given up at once.
        upload_parts: Uploads parts of an open window's object.
        abandon: Aborts a multipart upload that will not be completed.
        **options: As for `faust.Table`; `on_window_close` delivers one closed window to one
            destination: `await on_window_close(((partition, destination), (start, end)), task)`.
    """

    app: StreamApp
    logger = SERVICE_LOGGER

    def __init__(
        self,
        app: StreamApp,
        *,
        assignment: Assignment,
        router: Router,
        breakers: CircuitBreakers,
        counts: Counts,
        progress: Progress,
        on_drop: Callable[[], None],
        upload_parts: Callable[[PartUpload], Coroutine[Any, Any, None]],
        abandon: Callable[[MultipartUpload], None],
        **options: Any,  # noqa: ANN401 - passed through
    ) -> None:
        super().__init__(app, **options)
        self._assignment = assignment
        self._breakers = breakers
        self._on_drop = on_drop
        self._changed = asyncio.Event()
        """Something was settled, recorded or revoked: waiting batches check again."""
        self._committer = Committer(app, assignment, counts, progress, self._on_change)
        self._runner = DeliveryRunner(
            assignment,
            deliver=self._close_window,
            upload_parts=upload_parts,
            abandon=abandon,
            recover=self._committer.recover,
            on_done=self._on_done,
            crash=app.crash,
        )
        self._collector = Collector(
            *(app, assignment, self._committer, router, counts),
            start_due=self._start_due,
            wait=self._wait,
        )
        self._stalls = StallMonitor(
            *(app, assignment, self._collector, self._committer, counts), progress=progress
        )

    # --- what makes a Faust table log and restore: none of it ---------------------------------

    async def on_start(self) -> None:
        """Start without a store and without a changelog topic."""

    def on_key_set(self, key: Any, value: Any) -> None:  # noqa: ANN401 - Faust's signature
        """Log nothing: the events topic is the log."""

    def on_key_del(self, key: Any) -> None:  # noqa: ANN401 - Faust's signature
        """Log nothing: the events topic is the log."""

    # --- what the app calls -------------------------------------------------------------------

    async def collect(self, message: "Message") -> None:
        """Take one batch into its partition's open window, see `Collector.collect`."""
        await self._collector.collect(message)

    def use(self, router: Router) -> None:
        """Take other destinations: each partition does so when its open window has closed."""
        self._collector.router = router

    @property
    def pipelines(self) -> PipelineNames:
        """The pipelines of the newest destinations."""
        return self._collector.router.pipelines

    @property
    def waited_seconds(self) -> float:
        """How long batches have waited for memory so far."""
        return self._collector.waited_seconds

    def revoked(self) -> None:
        """Suspend every partition, and cancel all deliveries."""
        self._assignment.revoked()
        self._runner.cancel()
        self._changed.set()

    def assigned(self, tps: Iterable[TopicPartition], generation: int) -> None:
        """Take the assigned partitions into service, also if no record arrives."""
        self._assignment.assigned(tps, generation)
        self.add_future(self._committer.load_assigned(self._assignment.epoch))

    # --- what Faust calls ---------------------------------------------------------------------

    async def _del_old_keys(self) -> None:
        """Close what is idle and over; Faust calls this every `table_cleanup_interval`."""
        self._assignment.tick(time.time(), self.app.consumer.log_ends)
        broken = self._breakers.broken(time.monotonic())
        if self._assignment.drop_windows(broken, len(self._collector.router.destinations)):
            self._on_drop()
        self._start_due()
        # Waiting batches check again: that a part is stuck, or a partition gone, changes nothing
        # that is due.
        self._changed.set()

    @Service.task
    async def _commit(self) -> None:
        await self._committer.run(self)

    @Service.task
    async def _watch(self) -> None:
        await self._stalls.run(self)

    async def on_stop(self) -> None:
        """End all deliveries and abort uploads; what is not settled is read again."""
        await self._runner.stop()
        self._assignment.revoked()
        self._assignment.assigned(())
        self._runner.start_due()

    # --- the parts, wired ---------------------------------------------------------------------

    async def _close_window(self, task: DeliveryTask) -> None:
        window, destination = task.window, task.delivery.destination
        end = window.window_start + self.app.settings.delivery.window_seconds
        key = ((task.partition.tp.partition, destination.id), (window.window_start, end))
        await self.on_window_close(key, task)

    def _start_due(self) -> None:
        self._committer.wake()
        self._runner.start_due()

    def _on_change(self) -> None:
        self._start_due()
        self._changed.set()

    def _on_done(self) -> None:
        self._committer.wake()
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
