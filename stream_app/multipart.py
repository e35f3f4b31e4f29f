"""Large objects: begun, sent in parts, and made visible by one last request.

    create ─> parts, a few at a time ─> complete, under If-None-Match
       │           │                        │
       └───────────┴── anything else ───────┴─> abort, and whoever retries begins anew

`put` goes all this way with a content that is there. An object whose parts leave while its window
is open takes the same steps one by one: what has left is not in memory any more, so that a failure
is retried and only an end of it all aborts.

Nothing can be seen before the last request has been done. What is begun and not ended keeps its
parts, unseen and paid for: so it is aborted whatever happened, also when the upload is cancelled,
but never for longer than `ABORT_SECONDS_MAX`; a lifecycle rule (AbortIncompleteMultipartUpload) is
for what is left by a worker that died. A part is never resumed: rights to list parts are not ours.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from stream_app import happenings
from stream_app.clients import Clients
from stream_app.contents import ALGORITHMS, Body, checksum, parts
from stream_app.errors import DeliveryError, TransientError
from stream_app.logs import say
from stream_app.settings import Destination
from stream_app.trouble import NO_SUCH_UPLOAD, UNREADABLE

PARTS_AT_ONCE_MAX: Final = 4
"""Of one object."""
PARTS_UNDER_WAY_MAX: Final = 16
"""Of all objects: each part wants a connection of its own."""
UPLOAD_BYTES_PER_SECOND_MIN: Final = 128 * 1024
"""A request whose content goes slower than this is broken off and made again."""
COMPLETE_SECONDS_MAX: Final = 120
"""S3 may take minutes to put the parts together, and sends blanks meanwhile."""
ABORT_SECONDS_MAX: Final = 10
UPLOAD_GONE: Final = frozenset({NO_SUCH_UPLOAD, "InvalidPart"})
"""Somebody has aborted it, or it is completed and the answer was lost: beginning anew tells."""

logger = logging.getLogger(__name__)


def content_seconds_max(answer_seconds_max: float, size: int) -> float:
    """Return how long a request with so many bytes of content may take."""
    return answer_seconds_max + size / UPLOAD_BYTES_PER_SECOND_MIN


async def create_upload(
    clients: Clients,
    destination: Destination,
    key: str,
    **arguments: Any,  # noqa: ANN401 - as many as S3 has
) -> str:
    """Begin a multipart upload, of which nothing can be seen; return its id.

    Raises:
        DeliveryError: S3 refuses, or does not answer; if transient, it may have begun one.
    """
    answer = await clients.call(destination, "create_multipart_upload", Key=key, **arguments)
    return str(required(answer, "UploadId"))


async def abort_upload(
    clients: Clients, destination: Destination, key: str, upload_id: str
) -> None:
    """End an upload without an object; one that is not there (any more) is ended already.

    Raises:
        DeliveryError: S3 refuses, or does not answer: the upload stays.
    """
    try:
        await clients.call(destination, "abort_multipart_upload", Key=key, UploadId=upload_id)
    except DeliveryError as error:
        if error.code != NO_SUCH_UPLOAD:
            raise


def required(answer: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - whatever S3 has there
    """Return what each such answer of S3 holds; what lacks it came from somebody else.

    Raises:
        TransientError: It is not there.
    """
    if name not in answer:
        raise TransientError(UNREADABLE, f"there is no {name} in the answer")
    return answer[name]


class Multipart:
    """Uploads in parts; close it after the last one.

    Args:
        clients: Who asks S3.
        abort_seconds_max: How long an upload that failed may take to be aborted.
    """

    def __init__(self, clients: Clients, abort_seconds_max: float = ABORT_SECONDS_MAX) -> None:
        self._clients = clients
        self._abort_seconds_max = abort_seconds_max
        self._under_way = asyncio.Semaphore(PARTS_UNDER_WAY_MAX)
        self._aborts: set[asyncio.Task[None]] = set()
        """Of uploads that were cancelled."""

    def abandon(self, destination: Destination, key: str, upload_id: str) -> None:
        """Abort an upload that nobody goes on with, without waiting for it."""
        self._abort_soon(self._abort(destination, key, upload_id))

    def _abort_soon(self, steps: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(steps)
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    async def aclose(self) -> None:
        """Wait for what is being aborted; that takes twice `ABORT_SECONDS_MAX` at most."""
        await asyncio.gather(*self._aborts)

    async def put(
        self,
        destination: Destination,
        key: str,
        content: bytes,
        *,
        options: Mapping[str, Any],
        condition: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Write an object; return S3's answer, which has its ETag.

        Args:
            destination: Where.
            key: The whole key.
            content: The object's bytes.
            options: What CreateMultipartUpload is told.
            condition: What CompleteMultipartUpload is told.

        Raises:
            DeliveryError: As of PutObject: there is no object, unless the answer to the last
                request was lost. The parts are gone, or a warning says where they are.
        """
        upload_id = await self.begin(destination, key, options=options)
        pieces = list(enumerate(parts(content), start=1))
        try:
            sent = await self.send(destination, key, upload_id, pieces)
            answer = await self.complete(destination, key, upload_id, sent, condition=condition)
        except DeliveryError as error:
            await self._abort(destination, key, upload_id)
            if error.code in UPLOAD_GONE:
                message = f"the upload is gone ({error.message}); beginning anew"
                raise TransientError(error.code, message) from error
            raise
        except BaseException:
            # Cancelled: whoever waits for us must not wait for S3.
            self.abandon(destination, key, upload_id)
            raise
        return answer

    async def begin(self, destination: Destination, key: str, *, options: Mapping[str, Any]) -> str:
        """Begin an upload, whose parts have the destination's checksum; return its id.

        Raises:
            DeliveryError: See `create_upload`.
        """
        announced = ALGORITHMS[destination.checksum].announced
        if announced is not None:
            options = {**options, "ChecksumAlgorithm": announced}
        making = asyncio.create_task(create_upload(self._clients, destination, key, **options))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            # Its name is in an answer that nobody waits for any more.
            self._abort_soon(self._abort_made(destination, key, making))
            raise

    async def complete(
        self,
        destination: Destination,
        key: str,
        upload_id: str,
        sent: Sequence[Mapping[str, Any]],
        *,
        condition: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Make the object visible; return S3's answer, which has its ETag.

        Args:
            destination: Where.
            key: The whole key.
            upload_id: As `begin` returned it.
            sent: What `send` returned for each part, in the order of their numbers.
            condition: What is told beside.

        Raises:
            DeliveryError: Nothing is visible, unless the answer was lost.
        """
        answer = await self._clients.call(
            destination,
            "complete_multipart_upload",
            seconds_max=max(COMPLETE_SECONDS_MAX, self._clients.answer_seconds_max),
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": list(sent)},
            **condition,
        )
        required(answer, "ETag")
        return answer

    async def send(
        self,
        destination: Destination,
        key: str,
        upload_id: str,
        pieces: Sequence[tuple[int, bytes | memoryview]],
        on_sent: Callable[[int, dict[str, Any]], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Upload numbered parts; return what CompleteMultipartUpload wants to know of them.

        Args:
            destination: Where.
            key: The whole key.
            upload_id: As `begin` returned it.
            pieces: Number and content of each.
            on_sent: Told of each as soon as S3 has it: its number, and what will be returned.

        Raises:
            DeliveryError: The first failure; the parts that were told of are there.
        """
        turns = asyncio.Semaphore(PARTS_AT_ONCE_MAX)
        algorithm = ALGORITHMS[destination.checksum]

        async def send_one(number: int, piece: bytes | memoryview) -> dict[str, Any]:
            async with turns, self._under_way:
                sent = {algorithm.argument: await checksum(algorithm, piece)}
                answer = await self._clients.call(
                    destination,
                    "upload_part",
                    seconds_max=content_seconds_max(self._clients.answer_seconds_max, len(piece)),
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=Body(piece),
                    **sent,
                )
            part = {"PartNumber": number, "ETag": required(answer, "ETag")}
            told = part | (sent if algorithm.announced else {})
            if on_sent is not None:
                on_sent(number, told)
            return told

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(send_one(number, piece)) for number, piece in pieces]
        except ExceptionGroup as errors:
            # The first failure has cancelled the other parts.
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        return [task.result() for task in tasks]

    async def _abort_made(
        self, destination: Destination, key: str, making: asyncio.Task[str]
    ) -> None:
        try:
            async with asyncio.timeout(self._abort_seconds_max):
                upload_id = await making
        except (DeliveryError, TimeoutError) as error:
            say(
                *(logger, happenings.NOT_BEGUN, "%s: not known to be begun, so not aborted: %r"),
                *(key, error),
                destination=destination.id,
                bucket=destination.bucket,
                key=key,
                code=_code(error),
                error=str(error),
            )
        else:
            await self._abort(destination, key, upload_id)

    async def _abort(self, destination: Destination, key: str, upload_id: str) -> None:
        try:
            async with asyncio.timeout(self._abort_seconds_max):
                await abort_upload(self._clients, destination, key, upload_id)
        except (DeliveryError, TimeoutError) as error:
            words = str(error) or f"no answer within {self._abort_seconds_max:.3g} s"
            say(
                *(logger, happenings.NOT_ABORTED),
                "upload %s of s3://%s/%s is not aborted: %s; its parts stay until a lifecycle rule "
                "(AbortIncompleteMultipartUpload) or somebody removes them",
                *(upload_id, destination.bucket, key, words),
                destination=destination.id,
                bucket=destination.bucket,
                key=key,
                upload=upload_id,
                code=_code(error),
                error=words,
            )


def _code(error: Exception) -> str:
    return error.code if isinstance(error, DeliveryError) else type(error).__name__
