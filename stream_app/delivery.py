"""The closing callback: what happens to a closed window at one destination, in which order."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Final

from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError

from stream_app.errors import DeliveryError, FencedError, TransientError
from stream_app.partition import Work
from stream_app.receipts import Message, Problem, Receipt, Stored
from stream_app.retries import Patience
from stream_app.s3 import Storage

UPLOADS_MAX: Final = 32
"""Requests to S3 at a time."""
LATE_SECONDS: Final = 60.0
LOGGED_ATTEMPTS: Final = 3
"""The first attempts are logged one by one; later ones by `retrying` and the final word."""

Publish = Callable[[Message], Awaitable[None]]

logger = logging.getLogger(__name__)


class Deliver:
    """The `on_window_close` callback.

    Args:
        storage: Where objects go.
        publish: Sends one receipt and returns when the broker has it.
        patience: How long to retry.
        late_seconds: After so long a window is called late, by one `retrying` receipt.
    """

    def __init__(
        self,
        storage: Storage,
        publish: Publish,
        patience: Patience,
        late_seconds: float = LATE_SECONDS,
    ) -> None:
        self._storage = storage
        self._publish_message = publish
        self._patience = patience
        self._late_seconds = late_seconds
        self._uploads = asyncio.Semaphore(UPLOADS_MAX)

    async def __call__(self, key: Any, work: Work) -> None:  # noqa: ANN401 - Faust's signature
        """Bring one closed window to one destination.

        Steps 1 and 2 are behind us: the end and the upload time are decided, and the broker has
        them, else this work would not have been given out.

        Raises:
            FencedError: The partition was taken away meanwhile; whoever has it goes on.
        """
        del key  # the work names its window and destination itself
        # 3. Make the object visible, never over another one; or find that it cannot be.
        receipt = work.delivery.receipt or await self._upload(work)
        # 4. Publish the receipt and wait for the broker.
        await self._publish(work, receipt)
        # 5. Settle: the partition commits beyond this window when the older ones are settled too.
        work.partition.published(work)

    async def _upload(self, work: Work) -> Receipt:
        partition = work.partition
        content = partition.content(work)
        if content is None:
            return partition.uploaded(work, None, 0)
        started = time.monotonic()
        told = False
        attempts = 0
        while True:
            attempts += 1
            result = await self._put(work, content)
            if isinstance(result, Stored):
                logger.info(
                    "%s: %d lines at s3://%s/%s%s",
                    _name(work),
                    work.delivery.tally.delivered,
                    work.delivery.destination.bucket,
                    work.delivery.key,
                    ", there already" if result.already_existed else "",
                )
                return partition.uploaded(work, result, attempts)
            elapsed = time.monotonic() - started
            problem = Problem(result.code, result.message, isinstance(result, TransientError))
            delay = self._patience.delay(result, attempts, elapsed, random.random())  # noqa: S311
            if delay is None:
                logger.error("%s: given up at attempt %d: %s", _name(work), attempts, result)
                return partition.uploaded(work, problem, attempts)
            if attempts <= LOGGED_ATTEMPTS:
                logger.warning("%s: attempt %d: %s", _name(work), attempts, result)
            if elapsed >= self._late_seconds and not told:
                told = True
                logger.warning("%s: late, attempt %d: %s", _name(work), attempts, result)
                await self._publish(work, partition.retrying(work, problem, attempts))
            await asyncio.sleep(delay)

    async def _put(self, work: Work, content: bytes) -> Stored | DeliveryError:
        async with self._uploads:
            if not work.valid:
                raise FencedError(f"{_name(work)}: not begun: the partition was taken away")
            delivery = work.delivery
            try:
                return await self._storage.put(
                    delivery.destination.bucket,
                    delivery.key,
                    content,
                    lines=delivery.tally.delivered,
                    size=delivery.size_uncompressed,
                )
            except DeliveryError as error:
                return error

    async def _publish(self, work: Work, receipt: Receipt) -> None:
        for attempts in count(1):
            if not work.valid:
                raise FencedError(f"{_name(work)}: receipt not sent: the partition was taken away")
            try:
                await self._publish_message(receipt.message(int(time.time())))
            except (KafkaError, ProducerSendError) as error:
                logger.warning("%s: receipt, attempt %d: %r", _name(work), attempts, error)
                failure = TransientError(type(error).__name__, str(error))
                # Without an end: while the partition is ours, its receipts are owed.
                await asyncio.sleep(
                    self._patience.delay(failure, attempts, 0.0, random.random()) or 0.0  # noqa: S311
                )
            else:
                return


def _name(work: Work) -> str:
    window, tp = work.window, work.partition.tp
    return (
        f"destination {work.delivery.destination.id}, window {tp.topic}/{tp.partition} offsets "
        f"{window.first} to {window.end - 1}"
    )
