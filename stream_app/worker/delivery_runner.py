"""Delivery runner: one asyncio task for each delivery and part upload that the core makes due."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from stream_app.core.assignment import Assignment
from stream_app.core.delivery import MultipartUpload
from stream_app.core.tasks import DeliveryTask, PartUpload
from stream_app.errors import FencedError, UploadGoneError
from stream_app.worker import log_messages


class DeliveryRunner:
    """Runner of deliveries and part uploads.

    Args:
        assignment: The core.
        deliver: Delivers one closed window to one destination.
        upload_parts: Uploads parts of an open window's object.
        abandon: Aborts a multipart upload that will not be completed.
        recover: Rebuilds the partition of a task whose parts S3 has lost.
        on_done: Called when a task is done: a commit, or memory, may have become free.
        crash: Ends the worker: nothing more may be committed.
    """

    def __init__(
        self,
        assignment: Assignment,
        *,
        deliver: Callable[[DeliveryTask], Coroutine[Any, Any, None]],
        upload_parts: Callable[[PartUpload], Coroutine[Any, Any, None]],
        abandon: Callable[[MultipartUpload], None],
        recover: Callable[[PartUpload, UploadGoneError], Awaitable[None]],
        on_done: Callable[[], None],
        crash: Callable[[BaseException], Awaitable[None]],
    ) -> None:
        self._assignment = assignment
        self._deliver = deliver
        self._upload_parts = upload_parts
        self._abandon = abandon
        self._recover = recover
        self._on_done = on_done
        self._crash = crash
        self._running: set[asyncio.Task[None]] = set()

    def start_due(self) -> None:
        """Start what has become due since the last call."""
        for upload in self._assignment.part_uploads():
            self._start(upload, self._upload_parts(upload))
        tasks = self._assignment.delivery_tasks()
        log_messages.closed(tasks)
        for task in tasks:
            self._start(task, self._deliver(task))
        for abandoned in self._assignment.abandoned():
            self._abandon(abandoned)

    def cancel(self) -> None:
        """Cancel all tasks: their partitions may be owned by another worker."""
        for running in self._running:
            running.cancel()

    async def stop(self) -> None:
        """Cancel all tasks, and return when they have ended."""
        self.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, task: PartUpload, steps: Coroutine[Any, Any, None]) -> None:
        running = asyncio.create_task(self._run(task, steps))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _run(self, task: PartUpload, steps: Coroutine[Any, Any, None]) -> None:
        try:
            await steps
        except FencedError as error:
            log_messages.fenced("delivery", error, task.partition.tp)
        except UploadGoneError as error:
            await self._recover(task, error)
            self._on_done()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing more may be committed
            await self._crash(error)
        else:
            self._on_done()
