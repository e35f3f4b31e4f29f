"""Committer: reads commits back, sends commits, and rebuilds a partition from its commit."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from mode import Service

from stream_app import log_events
from stream_app.core.assignment import Assignment, Truncation
from stream_app.core.commit_metadata import Commit, UnmarkedCommitError
from stream_app.core.tasks import PartUpload
from stream_app.errors import (
    CommitTooLargeError,
    FencedError,
    StreamAppError,
    TransientError,
    UploadGoneError,
)
from stream_app.logs import error_fields, log_event
from stream_app.monitoring.counts import Counts
from stream_app.monitoring.health import Progress
from stream_app.records import OutOfRange, TopicPartition
from stream_app.text import counted
from stream_app.worker import log_messages
from stream_app.worker.faust_app import StreamApp
from stream_app.worker.log_messages import partition_fields

RETRY_SECONDS: Final = 0.5
"""Between attempts to reach a broker that is away."""

logger = logging.getLogger(__name__)


class Committer:
    """Commits of all partitions that this worker holds.

    Args:
        app: The app, whose consumer sends the requests.
        assignment: The core.
        counts: Where commits and rebuilt partitions are counted.
        progress: Where the progress of commits is recorded, for the health check.
        on_change: Called when commits were read back, or recorded by the broker.
    """

    def __init__(
        self,
        app: StreamApp,
        assignment: Assignment,
        counts: Counts,
        progress: Progress,
        on_change: Callable[[], None],
    ) -> None:
        self._app = app
        self._assignment = assignment
        self._counts = counts
        self._progress = progress
        self._on_change = on_change
        self._loading = asyncio.Lock()
        self._committing = asyncio.Lock()
        """Held from when commits are taken from the core until the broker has responded."""
        self._wanted = asyncio.Event()
        self.read_backs = 0
        """Attempts to read commits back that were begun."""

    # --- commits out --------------------------------------------------------------------------

    def wake(self) -> None:
        """Look for commits that are due."""
        self._wanted.set()

    async def run(self, service: Service) -> None:
        """Send the commits that are due, one request at a time, until the service stops."""
        while not service.should_stop:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                async with self._committing:
                    restarted = await self._commit_once()
                epoch = self._assignment.epoch
                for tp in restarted:
                    await self._begin_anew(tp, epoch)
            except FencedError as error:
                log_messages.fenced("commit", error)
            except TransientError as error:
                self._counts.failed_commits += 1
                log_event(logger, log_events.COMMIT_FAILED, **error_fields(error))
                await service.sleep(RETRY_SECONDS)
                self._wanted.set()
            self._progress.iterated_at = time.monotonic()

    async def _commit_once(self) -> list[TopicPartition]:
        """Send the commits that are due; return the partitions that begin again."""
        epoch, generation = self._assignment.epoch, self._assignment.generation
        commits = self._assignment.commits()
        if not commits or generation is None:
            self._progress.none_due()
            return []
        self._progress.due(time.monotonic())
        try:
            await self._app.consumer.commit_closings(
                commits, generation, partial(self._assignment.is_epoch, epoch)
            )
        except CommitTooLargeError:
            self._lower_bound(commits)
            return []
        self._progress.none_due()
        self._counts.committed(time.time())
        restarted = self._assignment.recorded(commits)
        self._on_change()
        return restarted

    def _lower_bound(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Learn how much metadata the broker takes; what has room is committed at once.

        Raises:
            SetupError: It is too little for any closing.
        """
        self._counts.failed_commits += 1
        metadata = self._assignment.metadata
        is_first = not metadata.is_learned
        self._assignment.metadata_refused(commits)
        if is_first:
            log_event(logger, log_events.COMMIT_TOO_LARGE, bytes_max=metadata.bytes_max)
        self._wanted.set()

    # --- commits in ---------------------------------------------------------------------------

    async def load_assigned(self, epoch: int) -> None:
        """Take the assigned partitions into service, unless they are revoked meanwhile."""
        try:
            await self.load(epoch)
        except FencedError as error:
            log_messages.fenced("read-back", error)

    async def load(self, epoch: int) -> None:
        """Read back the commit of each assigned partition that is not in service yet.

        Raises:
            FencedError: The partitions were revoked meanwhile.
        """
        while True:
            if not self._assignment.is_epoch(epoch):
                raise FencedError(f"read-back of epoch {epoch}, now {self._assignment.epoch}")
            if not self._assignment.missing:
                return
            async with self._loading:  # the agent and a rebalance need not both send requests
                missing = self._assignment.missing
                if missing:
                    await self._load_missing(epoch, missing)

    async def _load_missing(self, epoch: int, missing: Sequence[TopicPartition]) -> None:
        consumer = self._app.consumer
        self.read_backs += 1
        try:
            commits = await consumer.read_commits(missing)
            logs = await consumer.log_bounds(missing)
        except TransientError as error:
            log_event(logger, log_events.COMMIT_READ_FAILED, **error_fields(error))
            await asyncio.sleep(RETRY_SECONDS)
            return
        for tp, commit in commits.items():
            if isinstance(commit, UnmarkedCommitError):
                self._assignment.hold_back(tp, epoch)
                log_event(
                    logger,
                    log_events.UNMARKED_COMMIT,
                    offset=commit.offset,
                    error=str(commit),
                    **partition_fields(tp),
                )
                await consumer.pause(tp)
                continue
            start, end = logs[tp]
            restart = commit.restarted(start, time.time()) if commit.is_beyond(end) else None
            kept = self._assignment.loaded(tp, epoch, commit, restart)
            if restart is not None and not kept:
                self._truncated(tp, commit.offset, commit.end - commit.offset)
                log_event(
                    logger, log_events.BEGUN_ANEW, offset=restart.offset, **partition_fields(tp)
                )
                await self._seek(tp, epoch, restart.offset)
                continue
            log_event(
                logger,
                log_events.KEPT if kept else log_events.TAKEN_OVER,
                offset=commit.offset,
                closings=len(commit.closings),
                **partition_fields(tp),
            )
        self._on_change()

    # --- a log that was truncated ---------------------------------------------------------------

    async def out_of_range(self, tp: TopicPartition, epoch: int, found: OutOfRange) -> None:
        """Go on where the broker has no record at a position.

        Raises:
            FencedError: The partition was revoked meanwhile.
        """
        consumer = self._app.consumer
        try:
            start, end = (await consumer.log_bounds([tp]))[tp]
        except TransientError as error:
            # The position is still the same: the broker responds so again.
            log_event(logger, log_events.COMMIT_READ_FAILED, **error_fields(error))
            return
        leader_end = None if self._app.settings.kafka.client_rack is None else end
        remedy = self._assignment.out_of_range(
            tp, epoch, found, start, time.time(), leader_end=leader_end
        )
        if isinstance(remedy, Truncation):
            self._settle(tp, remedy)
        elif remedy is not None:
            await consumer.seek_to(tp, remedy)
            return
        # The broker would respond so again and again, until all is settled.
        await consumer.pause(tp)

    async def check_ends(self, log_ends: Mapping[TopicPartition, int]) -> None:
        """Begin partitions again whose log has ended before what was read, or is recorded.

        Args:
            log_ends: As the client has seen them. A new leader may report an older end for a while,
                so the broker is asked.
        """
        epoch = self._assignment.epoch
        early = self._assignment.ends_early(log_ends)
        try:
            logs = await self._app.consumer.log_bounds(early)
        except TransientError as error:
            log_event(logger, log_events.COMMIT_READ_FAILED, **error_fields(error))
            return
        try:
            for tp, log in logs.items():
                partition = self._assignment.partitions.get(tp)
                if partition is None or partition.window.busy:
                    continue  # The next check comes soon.
                found = self._assignment.ended(tp, epoch, log, time.time())
                if found is not None:
                    self._settle(tp, found)
                    await self._app.consumer.pause(tp)
        except FencedError as error:
            log_messages.fenced("check", error)

    def _settle(self, tp: TopicPartition, truncation: Truncation) -> None:
        self._truncated(tp, truncation.position, truncation.lost)
        self.wake()

    async def verify(self, tp: TopicPartition, epoch: int, leader_epoch: int | None) -> bool:
        """Whether the next batch follows what was read, as far as the broker's epochs show.

        A log that has lost records can grow beyond the position again. Otherwise the partition is
        about to begin again.

        Args:
            tp: Which partition.
            epoch: In which the batch was fetched.
            leader_epoch: The one whose end must be known, see `Assignment.epoch_to_verify`.

        Raises:
            FencedError: The partition was revoked meanwhile.
        """
        consumer = self._app.consumer
        if self._assignment.is_truncated(tp, epoch):
            await consumer.pause(tp)  # A rebalance has ended the pause.
            return False
        if leader_epoch is None:
            return True
        try:
            end = await consumer.epoch_end(tp, leader_epoch)
            if end is None or not self._assignment.ends_early({tp: end}):
                return True
            start = (await consumer.log_starts([tp]))[tp]
        except TransientError as error:
            await asyncio.sleep(RETRY_SECONDS)
            await self.rebuild(tp, epoch, error)
            return False
        found = self._assignment.ended(tp, epoch, (start, end), time.time())
        if found is None:
            return True
        self._settle(tp, found)
        await consumer.pause(tp)
        return False

    def _truncated(self, tp: TopicPartition, position: int, lost: int) -> None:
        self._counts.truncated_logs += 1
        self._counts.lost_offsets += lost
        log_event(
            logger,
            log_events.LOG_TRUNCATED,
            offset=position,
            counted=counted(lost, "offset"),
            **partition_fields(tp),
        )

    async def _begin_anew(self, tp: TopicPartition, epoch: int) -> None:
        """Read a partition from the start of its log: all that was read before is settled."""
        await self._rebuild(tp, epoch)
        partition = self._assignment.partitions.get(tp)
        if partition is not None:
            offset = partition.position
            log_event(logger, log_events.BEGUN_ANEW, offset=offset, **partition_fields(tp))

    # --- rebuilding ---------------------------------------------------------------------------

    async def rebuild(self, tp: TopicPartition, epoch: int, error: StreamAppError) -> None:
        """Forget a partition whose state cannot be trusted and begin again at its commit.

        Raises:
            FencedError: The partition was revoked meanwhile.
        """
        log_event(logger, log_events.REBUILT, **partition_fields(tp), **error_fields(error))
        self._counts.rebuilt_partitions += 1
        await self._rebuild(tp, epoch)

    async def _rebuild(self, tp: TopicPartition, epoch: int) -> None:
        # Not while a commit is on its way: the broker could take it after the read-back, and with
        # it remove what was read.
        async with self._committing:
            if not self._assignment.is_epoch(epoch):
                raise FencedError(f"{tp}: rebuilt in epoch {epoch}, now {self._assignment.epoch}")
            self._assignment.forget(tp)
            await self.load(epoch)
            partition = self._assignment.partitions.get(tp)
            if partition is not None:  # It may be held back.
                await self._seek(tp, epoch, partition.position)

    async def _seek(self, tp: TopicPartition, epoch: int, offset: int) -> None:
        """Seek a partition that was built again: only what is fetched from now on counts."""
        self._assignment.sought(tp, epoch, await self._app.consumer.seek_to(tp, offset))

    async def recover(self, task: PartUpload, error: UploadGoneError) -> None:
        """Rebuild the partition of a task whose parts S3 has lost, if that is still necessary."""
        if not task.valid or task.delivery.body is None:
            return  # Rebuilt already for another object, or the object was given up.
        await asyncio.sleep(RETRY_SECONDS)  # a server may lose parts again and again
        try:
            await self.rebuild(task.partition.tp, task.epoch, error)
        except FencedError as fenced:
            log_messages.fenced("rebuild", fenced, task.partition.tp)
