"""Multipart uploads: created, sent in parts, and made visible by one last request.

    create ─> parts, a few at a time ─> complete, under If-None-Match
       │           │                        │
       └───────────┴── any failure ─────────┴─> abort; a retry creates a new upload

`put` takes all these steps with a content in memory. An object whose parts are sent while its
window is open takes the same steps one by one: sent parts are no longer in memory, so a failure is
retried, and the upload is aborted only when it is given up.

Nothing is visible before the last request. S3 keeps and bills the parts of an unfinished upload: so
every one is aborted, also when it was cancelled, but never for longer than `ABORT_SECONDS_MAX`; a
lifecycle rule (AbortIncompleteMultipartUpload) removes those of a worker that has died. A part is
never resumed: our policy has no right to list parts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from stream_app import log_events
from stream_app.config.settings import Destination
from stream_app.errors import DeliveryError, TransientError
from stream_app.logs import error_fields, log_event
from stream_app.s3.body import ALGORITHMS, BodyStream, checksum, parts
from stream_app.s3.clients import Clients
from stream_app.s3.encryption import EncryptionMonitor
from stream_app.s3.errors import NO_SUCH_UPLOAD, OBJECT_VANISHED, UNREADABLE, delivery_error

PARTS_AT_ONCE_MAX: Final = 4
"""Concurrent parts of one object."""
PARTS_IN_FLIGHT_MAX: Final = 16
"""Concurrent parts of all objects: each takes a connection."""
UPLOAD_BYTES_PER_SECOND_MIN: Final = 128 * 1024
"""Bytes per second; a request whose content is slower times out and is retried."""
COMPLETE_SECONDS_MAX: Final = 120
"""S3 may take minutes to assemble the parts, and sends blanks meanwhile."""
ABORT_SECONDS_MAX: Final = 10
UPLOAD_GONE: Final = frozenset({NO_SUCH_UPLOAD, "InvalidPart", OBJECT_VANISHED})
"""Codes of an upload that was aborted, or completed with its response lost; a new one decides."""

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


def content_seconds_max(response_seconds_max: float, size: int) -> float:
    """Return the timeout of a request with a content of so many bytes."""
    return response_seconds_max + size / UPLOAD_BYTES_PER_SECOND_MIN


async def create_upload(
    clients: Clients,
    destination: Destination,
    key: str,
    **arguments: Any,  # noqa: ANN401 - as many as S3 has
) -> str:
    """Create a multipart upload, which makes nothing visible; return its id.

    Raises:
        DeliveryError: S3 refuses, or does not respond; if transient, an upload may exist.
    """
    response = await clients.call(destination, "create_multipart_upload", Key=key, **arguments)
    return str(require_field(response, "UploadId"))


async def abort_upload(
    clients: Clients, destination: Destination, key: str, upload_id: str
) -> None:
    """Abort an upload; one that does not exist is aborted already.

    Raises:
        DeliveryError: S3 refuses, or does not respond: the upload stays.
    """
    try:
        await clients.call(destination, "abort_multipart_upload", Key=key, UploadId=upload_id)
    except DeliveryError as error:
        if error.code != NO_SUCH_UPLOAD:
            raise


async def send_part(
    clients: Clients,
    destination: Destination,
    key: str,
    upload_id: str,
    piece: tuple[int, bytes | memoryview],
    *,
    digest: str | None = None,
) -> Mapping[str, Any]:
    """Upload a part with the destination's checksum; return S3's response, which has its ETag.

    Args:
        clients: The S3 clients.
        destination: The destination.
        key: The whole key.
        upload_id: As `create_upload` returned it.
        piece: Number and content of the part.
        digest: The content's checksum in base64; by default it is computed.

    Raises:
        DeliveryError: S3 refuses, or does not respond.
    """
    algorithm = ALGORITHMS[destination.checksum]
    number, content = piece
    response = await clients.call(
        destination,
        "upload_part",
        seconds_max=content_seconds_max(clients.response_seconds_max, len(content)),
        Key=key,
        UploadId=upload_id,
        PartNumber=number,
        Body=BodyStream(content),
        **{algorithm.argument: digest or await checksum(algorithm, content)},
    )
    require_field(response, "ETag")
    return response


def require_field(response: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - S3's value
    """Return a field that each such response of S3 has.

    Raises:
        TransientError: The field is missing: the response is not one of S3.
    """
    if name not in response:
        raise TransientError(UNREADABLE, f"the response has no {name}")
    return response[name]


class Multipart:
    """Multipart uploads of all objects; to be closed after the last one.

    Args:
        clients: The S3 clients.
        encryption: Observes the responses to first parts.
        abort_seconds_max: Timeout of an abort.
    """

    def __init__(
        self,
        clients: Clients,
        encryption: EncryptionMonitor,
        abort_seconds_max: float = ABORT_SECONDS_MAX,
    ) -> None:
        self._clients = clients
        self._encryption = encryption
        self._abort_seconds_max = abort_seconds_max
        self._in_flight = asyncio.Semaphore(PARTS_IN_FLIGHT_MAX)
        self._aborts: set[asyncio.Task[None]] = set()
        """Aborts in the background."""

    async def abort(self, destination: Destination, key: str, upload_id: str) -> None:
        """Abort an upload; a failure is logged."""
        try:
            await self._within_bound(abort_upload(self._clients, destination, key, upload_id))
        except DeliveryError as error:
            log_event(
                logger,
                log_events.MULTIPART_ABORT_FAILED,
                destination=destination.id,
                bucket=destination.bucket,
                key=key,
                upload=upload_id,
                **error_fields(error),
            )

    def abandon(self, destination: Destination, key: str, upload_id: str) -> None:
        """Abort an upload in the background."""
        self._abort_soon(self.abort(destination, key, upload_id))

    def _abort_soon(self, steps: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(steps)
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    async def aclose(self) -> None:
        """Wait for aborts in the background; that takes twice `ABORT_SECONDS_MAX` at most."""
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
        """Write an object; return S3's response, which has its ETag.

        Args:
            destination: The destination.
            key: The whole key.
            content: The object's bytes.
            options: Parameters of CreateMultipartUpload.
            condition: Parameters of CompleteMultipartUpload.

        Raises:
            DeliveryError: As of PutObject: there is no object, unless the response to the last
                request was lost. The upload is aborted, or a warning names it.
        """
        upload_id = await self.begin(destination, key, options=options)
        pieces = list(enumerate(parts(content), start=1))
        try:
            sent = await self.send(destination, key, upload_id, pieces)
            response = await self.complete(destination, key, upload_id, sent, condition=condition)
        except DeliveryError as error:
            await self.abort(destination, key, upload_id)
            if error.code in UPLOAD_GONE:
                message = f"the upload is gone ({error.message}); trying again with a new one"
                raise TransientError(error.code, message) from error
            raise
        except BaseException:
            # Cancelled: the caller must not wait for S3.
            self.abandon(destination, key, upload_id)
            raise
        return response

    async def begin(self, destination: Destination, key: str, *, options: Mapping[str, Any]) -> str:
        """Create an upload, whose parts have the destination's checksum; return its id.

        Raises:
            DeliveryError: See `create_upload`.
        """
        algorithm = ALGORITHMS[destination.checksum].multipart_name
        if algorithm is not None:
            options = {**options, "ChecksumAlgorithm": algorithm}
        creation = asyncio.create_task(create_upload(self._clients, destination, key, **options))
        try:
            return await asyncio.shield(creation)
        except asyncio.CancelledError:
            # The response has the id of the upload, and is no longer awaited here.
            self._abort_soon(self._abort_created(destination, key, creation))
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
        """Make the object visible; return S3's response, which has its ETag.

        Args:
            destination: The destination.
            key: The whole key.
            upload_id: As `begin` returned it.
            sent: What `send` returned for each part, in the order of their numbers.
            condition: Further parameters of CompleteMultipartUpload.

        Raises:
            DeliveryError: Nothing is visible, unless the response was lost.
        """
        response = await self._clients.call(
            destination,
            "complete_multipart_upload",
            seconds_max=max(COMPLETE_SECONDS_MAX, self._clients.response_seconds_max),
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": list(sent)},
            **condition,
        )
        require_field(response, "ETag")
        return response

    async def send(
        self,
        destination: Destination,
        key: str,
        upload_id: str,
        pieces: Sequence[tuple[int, bytes | memoryview]],
        on_sent: Callable[[int, dict[str, Any]], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Upload numbered parts; return their entries in CompleteMultipartUpload.

        Args:
            destination: The destination.
            key: The whole key.
            upload_id: As `begin` returned it.
            pieces: Number and content of each part.
            on_sent: Called for each part that S3 has, with its number and its entry.

        Raises:
            DeliveryError: The first failure; parts that `on_sent` was called for are at S3.
        """
        slots = asyncio.Semaphore(PARTS_AT_ONCE_MAX)
        algorithm = ALGORITHMS[destination.checksum]

        async def send_one(number: int, piece: bytes | memoryview) -> dict[str, Any]:
            async with slots, self._in_flight:
                digest = await checksum(algorithm, piece)
                response = await send_part(
                    self._clients, destination, key, upload_id, (number, piece), digest=digest
                )
            entry = {"PartNumber": number, "ETag": response["ETag"]}
            if algorithm.multipart_name is not None:
                entry[algorithm.argument] = digest
            if number == 1:
                self._encryption.observe(destination, response)
            if on_sent is not None:
                on_sent(number, entry)
            return entry

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(send_one(number, piece)) for number, piece in pieces]
        except ExceptionGroup as errors:
            # The first failure has cancelled the other parts.
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        return [task.result() for task in tasks]

    async def _abort_created(
        self, destination: Destination, key: str, creation: asyncio.Task[str]
    ) -> None:
        try:
            upload_id = await self._within_bound(creation)
        except DeliveryError as error:
            log_event(
                logger,
                log_events.MULTIPART_BEGIN_FAILED,
                destination=destination.id,
                bucket=destination.bucket,
                key=key,
                **error_fields(error),
            )
        else:
            await self.abort(destination, key, upload_id)

    async def _within_bound(self, steps: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(self._abort_seconds_max):
                return await steps
        except TimeoutError as error:
            raise delivery_error(error, self._abort_seconds_max) from error
