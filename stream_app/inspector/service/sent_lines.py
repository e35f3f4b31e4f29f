"""The line that a destination was sent for an event, read back from its object.

    delivered ─> line number ─> GetObject, unpacked up to the line ─> the exact line
         └─ access denied, object gone or replaced ─┐
    not delivered ──────────────────────────────────┴─> evaluate the expression, marked as such

Workers do not need the right to read objects, and an Inspector may lack it. Only buckets of the
configuration are read, since anybody who may write to the receipts topic can name any bucket there.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from stream_app.config.settings import Destination
from stream_app.core.object_format import format_of
from stream_app.core.object_key import key_time
from stream_app.errors import DeliveryError, SetupError
from stream_app.inspector.core.cursors import RecordPosition
from stream_app.inspector.core.documents import line_number
from stream_app.inspector.core.index import Entry, EventOutcome, EventStatus
from stream_app.inspector.core.line_finder import LineFinder
from stream_app.inspector.service.config_watcher import ConfigWatcher
from stream_app.inspector.service.evaluator import Evaluator
from stream_app.inspector.service.event_log import EventLog
from stream_app.inspector.service.limiter import Limiter
from stream_app.s3.clients import Clients
from stream_app.s3.errors import NOT_FOUND, PRECONDITION_FAILED, REQUEST_ERRORS, delivery_error

OBJECT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Compressed bytes of one object that are read at most."""
OBJECT_CHUNK_BYTES: Final = 256 * 1024
OBJECT_SECONDS_MAX: Final = 30.0
"""Time to read one object."""
CONCURRENT_READS_MAX: Final = 2
DENIED: Final = frozenset({"AccessDenied", "403"})
UNCOUNTED: Final = (
    "its line number is unknown: the window is too large, or its events were deleted from the topic"
)
NO_RECEIPT: Final = "no receipt in memory covers it; computed by the current expression"
NOT_SENT_YET: Final = "not sent yet; computed by the current expression"
NOT_SENT: Final = "its window was given up and is not sent; computed by the current expression"


@dataclass(frozen=True, slots=True)
class SentLine:
    """A line and its source."""

    line: bytes | None = None
    source: str | None = None
    """`object` or `computed`; None without a line."""
    number: int | None = None
    """Number of the line in the object, from 1."""
    why: str | None = None
    """Why the line is missing, or does not come from the object."""

    def document(self) -> dict[str, Any]:
        """Return the JSON document of the API."""
        line = None if self.line is None else self.line.decode(errors="replace")
        return {"line": line, "from": self.source, "number": self.number, "why": self.why}


class UnreadableError(Exception):
    """The line cannot be read from the object; the message says why."""


class SentLines:
    """Reader of sent lines; call `aclose` at the end.

    Args:
        config: Destinations and S3 options.
        log: Events topic, to count lines.
        evaluator: Evaluator of expressions.
        object_bytes_max: Compressed bytes of one object that are read at most.
    """

    def __init__(
        self,
        config: ConfigWatcher,
        log: EventLog,
        evaluator: Evaluator,
        *,
        object_bytes_max: int = OBJECT_BYTES_MAX,
    ) -> None:
        self.can_read = True
        """Whether S3 allowed the last read; True before the first."""
        self._config = config
        self._log = log
        self._evaluator = evaluator
        self._object_bytes_max = object_bytes_max
        self._limiter = Limiter(CONCURRENT_READS_MAX, "read objects")
        self._opening = asyncio.Lock()
        self._clients: Clients | None = None
        self._stack = AsyncExitStack()

    async def aclose(self) -> None:
        """Close the connections to S3."""
        await self._stack.aclose()

    async def line(
        self,
        record: Any,  # noqa: ANN401 - aiokafka's
        id_: str,
        outcome: EventOutcome,
    ) -> SentLine:
        """Return the line of an event at a destination.

        Args:
            record: Record of the event.
            id_: Id of the destination.
            outcome: Outcome of the event there.

        Raises:
            BusyError: Too many requests read objects.
            SetupError: Kafka cannot be read.
        """
        status, entry = outcome.status, outcome.entry
        if status is EventStatus.SKIPPED:
            return SentLine(why=f"skipped: {outcome.reason}")
        if status is EventStatus.FAILED and entry is not None and entry.is_final:
            return SentLine(why=f"failed: {outcome.error}")
        if status is not EventStatus.DELIVERED or entry is None:
            why = {EventStatus.UNKNOWN: NO_RECEIPT, EventStatus.FAILED: NOT_SENT}
            return await self._computed(record, id_, None, why.get(status, NOT_SENT_YET))
        number = await self._number(record, entry)
        if number is None:
            return await self._computed(record, id_, None, UNCOUNTED)
        try:
            line = await self._read_back(entry, id_, number)
        except UnreadableError as error:
            return await self._computed(record, id_, number, str(error))
        return SentLine(line, "object", number)

    async def _number(self, record: Any, entry: Entry) -> int | None:  # noqa: ANN401 - aiokafka's
        number = await asyncio.to_thread(line_number, entry, record.offset)
        if number is None and entry.answers is None:
            position = RecordPosition(record.partition, record.offset)
            numbers = await self._log.numbers(position, {entry.destination: entry})
            return numbers[entry.destination]
        return number

    async def _computed(
        self,
        record: Any,  # noqa: ANN401 - aiokafka's
        id_: str,
        number: int | None,
        why: str,
    ) -> SentLine:
        destination = self._config.destinations.get(id_)
        if destination is None:
            return SentLine(
                None, None, number, f"{why}; the configuration no longer has the destination"
            )
        line, reason = await self._evaluator.line(record, destination.payload, id_)
        if line is None:
            return SentLine(None, None, number, f"{why}; {reason}")
        return SentLine(line, "computed", number, why)

    async def _read_back(self, entry: Entry, id_: str, number: int) -> bytes:
        destination = self._destination(entry, id_)
        async with self._limiter.slot():
            try:
                clients = await self._open_clients()
                arguments: dict[str, Any] = {"Key": entry.key}
                etag = (entry.document()["object"] or {}).get("etag")
                if isinstance(etag, str):
                    # An object that replaced it does not hold the sent line.
                    arguments["IfMatch"] = f'"{etag}"'
                response = await clients.call(destination, "get_object", **arguments)
                line = await self._find(
                    response["Body"], LineFinder(number, format_of(entry.key or ""))
                )
            except REQUEST_ERRORS as error:
                raise UnreadableError(
                    f"the object could not be read: {delivery_error(error, OBJECT_SECONDS_MAX)}"
                ) from error
            except DeliveryError as error:
                self.can_read = self.can_read and error.code not in DENIED
                raise UnreadableError(_reason(error)) from error
            except (SetupError, ValueError) as error:
                raise UnreadableError(f"the object could not be read: {error}") from error
        self.can_read = True
        return line

    async def _find(self, body: Any, finder: LineFinder) -> bytes:  # noqa: ANN401 - aiobotocore's
        left = self._object_bytes_max
        async with asyncio.timeout(OBJECT_SECONDS_MAX), body as stream:
            while left > 0 and (content := await stream.read(min(OBJECT_CHUNK_BYTES, left))):
                left -= len(content)
                if await asyncio.to_thread(finder.feed, content):
                    break
        if finder.line is not None:
            return finder.line
        if left <= 0:
            raise ValueError(f"the line is beyond its first {self._object_bytes_max} bytes")
        raise ValueError("it has fewer lines than its receipt states")

    def _destination(self, entry: Entry, id_: str) -> Destination:
        """Return a configured destination with the object's bucket; its options give access."""
        destination = self._config.destinations.get(id_)
        if destination is None or destination.bucket != entry.bucket:
            destination = self._config.destination_for(entry.bucket or "")
        if destination is None or not isinstance(entry.key, str):
            raise UnreadableError(
                f"the object is not read: no destination of {self._config.settings.name} has the "
                f"bucket {entry.bucket}"
            )
        try:
            key_time(entry.key)
        except ValueError as error:
            raise UnreadableError(f"the object is not read: {error}") from error
        return destination

    async def _open_clients(self) -> Clients:
        # Finding credentials can be slow, and many Inspectors never read from S3.
        async with self._opening:
            if self._clients is None:
                clients = Clients(self._config.settings.s3)
                self._clients = await self._stack.enter_async_context(clients)
            return self._clients


def _reason(error: DeliveryError) -> str:
    if error.code in DENIED:
        return f"the Inspector may not read the object: {error.code}"
    if error.code == PRECONDITION_FAILED:
        return "another object has replaced it"
    if error.code in NOT_FOUND:
        return f"the object no longer exists: {error.code}"
    return f"the object could not be read: {error}"
