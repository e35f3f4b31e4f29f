"""Deliveries of a partition's closed windows: what is due, and what became of it. Pure."""

from collections.abc import Callable
from typing import Any

from stream_app.core.closed_windows import ClosedWindows
from stream_app.core.delivery import Delivery, Move, WindowPolicy
from stream_app.core.receipt import Problem, Receipt, Status, Stored
from stream_app.core.tasks import DeliveryTask, PartUpload
from stream_app.errors import FencedError, InvariantError
from stream_app.records import TopicPartition


class PartitionDeliveries:
    """The part of `Partition` that uploads and receipts come back to."""

    tp: TopicPartition
    epoch: int
    _policy: WindowPolicy
    _closed: ClosedWindows
    _ready: list[DeliveryTask]
    _on_change: Callable[[Any], None]

    def delivery_tasks(self) -> list[DeliveryTask]:
        """Return the tasks that have become due, oldest window first, each once for each epoch."""
        ready, self._ready = self._ready, []
        return ready

    def waiting(self) -> list[tuple[int, Delivery]]:
        """Return the recorded deliveries whose object is not stored, with their closing times."""
        return [(it.closed_at, waiting) for it in self._closed for waiting in it.waiting]

    def content(self, task: DeliveryTask) -> bytes | None:
        """Finish the object and return its bytes, the same each time.

        Returns:
            The object; empty if it is sent in parts; None if it has no line.

        Raises:
            FencedError: The partition was revoked since; nothing was changed.
        """
        self._check(task)
        body = task.delivery.body
        return None if body is None else body.finish()

    def uploaded(
        self, task: DeliveryTask, result: Stored | Problem | None, attempts: int
    ) -> Receipt:
        """Record the end of an upload and return the receipt that is due.

        Args:
            task: The delivery.
            result: The stored object, the reason why it was given up, or None without lines.
            attempts: How many were made.

        Raises:
            FencedError: The partition was revoked since; nothing was changed.
        """
        self._check(task)
        delivery = task.delivery
        lines = delivery.tally.delivered
        if delivery.problem is None and (result is None) != (lines == 0):
            raise InvariantError(f"object {delivery.key}: {lines} lines, but the upload: {result}")
        delivery.move(Move.UPLOAD)
        if result is None:
            status = Status.EMPTY
        else:
            status = Status.DELIVERED if isinstance(result, Stored) else Status.FAILED
        receipt = delivery.receipt = task.window.receipt(
            delivery,
            self.tp,
            self._policy,
            status,
            attempts=attempts,
            stored=result if isinstance(result, Stored) else None,
            problem=result if isinstance(result, Problem) else None,
        )
        delivery.release_body()
        return receipt

    def retrying(self, task: DeliveryTask, problem: Problem, attempts: int) -> Receipt:
        """Return the `retrying` receipt of a late window.

        Raises:
            FencedError: The partition was revoked since.
        """
        self._check(task)
        status, policy = Status.RETRYING, self._policy
        return task.window.receipt(
            task.delivery, self.tp, policy, status, attempts=attempts, problem=problem
        )

    def published(self, task: DeliveryTask) -> None:
        """Record that the broker has the receipt: the delivery is settled.

        Raises:
            FencedError: The partition was revoked since; nothing was changed.
        """
        self._check(task)
        task.delivery.move(Move.PUBLISH)
        task.delivery.release()
        del task.window.deliveries[task.delivery.destination.id]
        if task.window.settled:  # else no commit has become due
            self._on_change(self)

    def _check(self, task: PartUpload) -> None:
        if not task.valid:
            raise FencedError(
                f"{self.tp.topic}/{self.tp.partition}: work of epoch {task.epoch}, now {self.epoch}"
            )
