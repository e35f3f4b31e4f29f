"""What a destination was sent for an event: the exact line, read back from its object.

    delivered ─> the line's number ─> GetObject, unpacked up to the line ─> the line as it stands
         └─ may not be read, is gone, is another one ─┐
    not delivered ────────────────────────────────────┴─> the expression again, and it is said so

The right to read is not needed by workers, and an Inspector may be without it. Only buckets that
the configuration names are read: a receipt is what somebody wrote who may write receipts.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from stream_app.clients import Clients
from stream_app.errors import DeliveryError, SetupError
from stream_app.inspector.answers import line_number
from stream_app.inspector.configured import Configured
from stream_app.inspector.evaluating import Evaluations
from stream_app.inspector.outcomes import Answer, Entry, Outcome
from stream_app.inspector.paging import Log
from stream_app.inspector.places import Place
from stream_app.inspector.turns import Turns
from stream_app.inspector.unpacking import LineFinder
from stream_app.settings import Destination
from stream_app.told import uploaded_at
from stream_app.trouble import NOT_FOUND, PRECONDITION_FAILED, TROUBLES, delivery_error

OBJECT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Compressed bytes that are read of an object."""
CHUNK_BYTES: Final = 256 * 1024
READ_SECONDS_MAX: Final = 30.0
"""For one object."""
AT_ONCE_MAX: Final = 2
DENIED: Final = frozenset({"AccessDenied", "403"})
UNCOUNTED: Final = (
    "its line could not be counted: its window is too large, or not in the topic any more"
)
NO_RECEIPT: Final = "no receipt that is held speaks of it; computed by the expression of now"
NOT_SENT_YET: Final = "not sent yet; computed by the expression of now"
NOT_SENT: Final = "its window was given up and is not sent; computed by the expression of now"


@dataclass(frozen=True, slots=True)
class Sent:
    """A line, and where it comes from."""

    line: bytes | None = None
    source: str | None = None
    """`object` or `computed`."""
    number: int | None = None
    why: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as the page asks for it."""
        line = None if self.line is None else self.line.decode(errors="replace")
        return {"line": line, "from": self.source, "number": self.number, "why": self.why}


class UnreadError(Exception):
    """The line cannot be read from the object; the text says why."""


class SentLines:
    """Tells what was sent; close it at the end.

    Args:
        configured: The destinations.
        log: Counts lines.
        evaluations: Computes them.
        object_bytes_max: What is read of an object.
    """

    def __init__(
        self,
        configured: Configured,
        log: Log,
        evaluations: Evaluations,
        *,
        object_bytes_max: int = OBJECT_BYTES_MAX,
    ) -> None:
        self.can_read = True
        """Whether S3 let us read the last time, as far as is known."""
        self._configured = configured
        self._log = log
        self._evaluations = evaluations
        self._object_bytes_max = object_bytes_max
        self._turns = Turns(AT_ONCE_MAX, "read objects")
        self._opening = asyncio.Lock()
        self._clients: Clients | None = None
        self._stack = AsyncExitStack()

    async def aclose(self) -> None:
        """Close the connections to S3."""
        await self._stack.aclose()

    async def sent(self, record: Any, id_: str, answer: Answer) -> Sent:  # noqa: ANN401 - aiokafka's
        """Return the line of an event at a destination.

        Args:
            record: The event's.
            id_: The destination.
            answer: The event's outcome there.

        Raises:
            BusyError: Too many ask.
            SetupError: Kafka cannot be read.
        """
        if answer.outcome is Outcome.SKIPPED:
            return Sent(why="skipped: the expression gave undefined")
        if answer.outcome is Outcome.FAILED and answer.entry is not None and answer.entry.is_final:
            return Sent(why=f"failed: {answer.error}")
        if answer.outcome is not Outcome.DELIVERED or answer.entry is None:
            why = {Outcome.UNKNOWN: NO_RECEIPT, Outcome.FAILED: NOT_SENT}
            return await self._computed(record, id_, None, why.get(answer.outcome, NOT_SENT_YET))
        number = await self._number(record, answer.entry)
        if number is None:
            return await self._computed(record, id_, None, UNCOUNTED)
        try:
            line = await self._read_back(answer.entry, id_, number)
        except UnreadError as error:
            return await self._computed(record, id_, number, str(error))
        return Sent(line, "object", number)

    async def _number(self, record: Any, entry: Entry) -> int | None:  # noqa: ANN401 - aiokafka's
        number = await asyncio.to_thread(line_number, entry, record.offset)
        if number is None and entry.answers is None:
            place = Place(record.partition, record.offset)
            number = (await self._log.numbers(place, {entry.destination: entry}))[entry.destination]
        return number

    async def _computed(
        self,
        record: Any,  # noqa: ANN401 - aiokafka's
        id_: str,
        number: int | None,
        why: str,
    ) -> Sent:
        destination = self._configured.destinations.get(id_)
        if destination is None:
            return Sent(
                None, None, number, f"{why}; the configuration has no such destination any more"
            )
        line, reason = await self._evaluations.line(record, destination.payload, id_)
        if line is None:
            return Sent(None, None, number, f"{why}; {reason}")
        return Sent(line, "computed", number, why)

    async def _read_back(self, entry: Entry, id_: str, number: int) -> bytes:
        reached = self._reached(entry, id_)
        async with self._turns.turn():
            try:
                clients = await self._opened()
                arguments: dict[str, Any] = {"Key": entry.key}
                etag = (entry.document()["object"] or {}).get("etag")
                if isinstance(etag, str):
                    # An object that somebody put in its place is not what was sent.
                    arguments["IfMatch"] = f'"{etag}"'
                answer = await clients.call(reached, "get_object", **arguments)
                line = await self._find(answer["Body"], LineFinder(number))
            except TROUBLES as error:
                raise UnreadError(
                    f"the object could not be read: {delivery_error(error, READ_SECONDS_MAX)}"
                ) from error
            except DeliveryError as error:
                self.can_read = self.can_read and error.code not in DENIED
                raise UnreadError(_reason(error)) from error
            except (SetupError, ValueError) as error:
                raise UnreadError(f"the object could not be read: {error}") from error
        self.can_read = True
        return line

    async def _find(self, body: Any, finder: LineFinder) -> bytes:  # noqa: ANN401 - aiobotocore's
        left = self._object_bytes_max
        async with asyncio.timeout(READ_SECONDS_MAX), body as stream:
            while left > 0 and (content := await stream.read(min(CHUNK_BYTES, left))):
                left -= len(content)
                if await asyncio.to_thread(finder.feed, content):
                    break
        if finder.line is not None:
            return finder.line
        if left <= 0:
            raise ValueError(f"the line is beyond {self._object_bytes_max} bytes of it")
        raise ValueError("it has fewer lines than its receipt says")

    def _reached(self, entry: Entry, id_: str) -> Destination:
        """Return how the object's bucket is reached: by a destination that has it."""
        destination = self._configured.destinations.get(id_)
        if destination is None or destination.bucket != entry.bucket:
            destination = self._configured.of_bucket(entry.bucket or "")
        if destination is None or not isinstance(entry.key, str):
            raise UnreadError(
                f"the object is not read: no destination of {self._configured.path} has the "
                f"bucket {entry.bucket}"
            )
        try:
            uploaded_at(entry.key)
        except ValueError as error:
            raise UnreadError(f"the object is not read: {error}") from error
        return destination

    async def _opened(self) -> Clients:
        # Credentials can be slow to find, and many an Inspector never asks S3.
        async with self._opening:
            if self._clients is None:
                clients = Clients(self._configured.settings.s3)
                self._clients = await self._stack.enter_async_context(clients)
            return self._clients


def _reason(error: DeliveryError) -> str:
    if error.code in DENIED:
        return f"the reader may not read the object: {error.code}"
    if error.code == PRECONDITION_FAILED:
        return "another object stands in its place now"
    if error.code in NOT_FOUND:
        return f"the object is not there any more: {error.code}"
    return f"the object could not be read: {error}"
