"""Producer of events: newline-delimited JSON from files or standard input into the events topic.

    read a chunk ─> split into lines ─> is it JSON? ─> producer (idempotent, acks=all) ─> count
                                          └ no: wait for earlier ones, report FILE:LINE, stop

A line is sent as it is written, without the white space around it. Empty lines are skipped. Order
within a partition is the order of the lines.
"""

import asyncio
import contextlib
import os
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordTooLargeError

from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.kafka.connection import client_options, translate_errors
from stream_app.kafka.topics import require_topics
from stream_app.records import event_mistake

if TYPE_CHECKING:
    from aiokafka.structs import RecordMetadata

STANDARD_INPUT: Final = "-"
EVENT_BYTES_MAX: Final = 1_000_000
"""Size of an event; Kafka's default bound for a whole message is 1 MiB."""
CHUNK_BYTES: Final = 64 * 1024
IN_FLIGHT_MAX: Final = 2_000
"""Events that the producer has, and the broker has not acknowledged."""
ACKNOWLEDGE_SECONDS_MAX: Final = 30.0
"""Timeout of one acknowledgement: long enough for a broker that restarts."""
STOP_SECONDS_MAX: Final = 5.0
LINGER_MS: Final = 5
"""Wait of the producer for more events of a partition before it sends."""


async def send(
    kafka: Kafka,
    names: Iterable[str],
    *,
    pipeline: str | None,
    read: Callable[[int], None],
    acknowledge_seconds_max: float = ACKNOWLEDGE_SECONDS_MAX,
) -> Counter[int]:
    """Send every event; return the number of events by partition.

    Args:
        kafka: The connection.
        names: Files, in this order; `-` is standard input.
        pipeline: The records' key.
        read: Called with the number of bytes after each read.
        acknowledge_seconds_max: Timeout of one acknowledgement.

    Raises:
        SetupError: A line is not an event, a file cannot be read, or Kafka refuses; the text has
            the number of events sent before.
    """
    await require_topics(kafka, kafka.events_topic)
    key = None if pipeline is None else pipeline.encode()
    sending = _Sending(kafka, key, acknowledge_seconds_max)
    try:
        with translate_errors(kafka, topic=kafka.events_topic):
            await sending.run(names, read)
    except SetupError as error:
        raise SetupError(f"{error}; events sent before that: {sending.sent.total()}") from error
    return sending.sent


class _Sending:
    """One run: a producer, and the events that are not acknowledged yet."""

    def __init__(self, kafka: Kafka, key: bytes | None, acknowledge_seconds_max: float) -> None:
        self.sent: Counter[int] = Counter()
        self._kafka = kafka
        self._key = key
        self._acknowledge_seconds_max = acknowledge_seconds_max
        self._in_flight: deque[tuple[str, asyncio.Future[RecordMetadata]]] = deque()
        self._producer = AIOKafkaProducer(
            **client_options(kafka),
            enable_idempotence=True,
            acks="all",
            linger_ms=LINGER_MS,
        )

    async def run(self, names: Iterable[str], read: Callable[[int], None]) -> None:
        try:
            await self._producer.start()
            for name in names:
                async with contextlib.aclosing(_lines(name, read)) as lines:
                    async for position, line in lines:
                        await self._send(position, line)
            await self._await_acknowledgements(0)
        except SetupError:
            # A bad line stops later ones, never earlier ones.
            await self._await_acknowledgements(0)
            raise
        finally:
            await self._stop()

    async def _stop(self) -> None:
        """Close the connections; events in flight are given up."""
        try:
            async with asyncio.timeout(0 if self._in_flight else STOP_SECONDS_MAX):
                # `stop` waits until everything is sent, without a bound if the broker is gone.
                await self._producer.stop()
        except TimeoutError:
            await self._producer.client.close()
        for _, sent in self._in_flight:
            sent.cancel()
        # Otherwise asyncio logs their errors as never retrieved.
        await asyncio.gather(*(sent for _, sent in self._in_flight), return_exceptions=True)

    async def _send(self, position: str, line: bytes) -> None:
        mistake = event_mistake(line)
        if mistake is not None:
            raise SetupError(f"{position}: {mistake}")
        await self._await_acknowledgements(IN_FLIGHT_MAX - 1)
        topic = self._kafka.events_topic
        with _translate_size(position, line):
            self._in_flight.append(
                (position, await self._producer.send(topic, value=line, key=self._key))
            )

    async def _await_acknowledgements(self, most: int) -> None:
        """Count acknowledged events; return when at most so many are in flight."""
        while self._in_flight and (len(self._in_flight) > most or self._in_flight[0][1].done()):
            position, sent = self._in_flight[0]
            with _translate_size(position):
                async with asyncio.timeout(self._acknowledge_seconds_max):
                    record = await sent
            self._in_flight.popleft()
            self.sent[record.partition] += 1


@contextlib.contextmanager
def _translate_size(position: str, line: bytes | None = None) -> Generator[None]:
    """Translate the errors for a message that is too large."""
    try:
        yield
    except (MessageSizeTooLargeError, RecordTooLargeError) as error:
        size = "" if line is None else f" of {len(line)} bytes"
        raise SetupError(
            f"{position}: the event{size} is larger than Kafka accepts; shorten it, or raise the "
            "topic's max.message.bytes"
        ) from error


async def _lines(name: str, read: Callable[[int], None]) -> AsyncGenerator[tuple[str, bytes]]:
    """Yield position (FILE:LINE) and text of every line that is not empty."""
    shown = "standard input" if name == STANDARD_INPUT else name
    number = 0
    rest = b""
    async with contextlib.aclosing(_chunks(name, shown)) as chunks:
        async for chunk in chunks:
            read(len(chunk))
            # The end of the file ends its last line.
            *lines, rest = (rest + (chunk or b"\n")).split(b"\n")
            for line in (*lines, *((rest,) if len(rest) > EVENT_BYTES_MAX else ())):
                number += 1
                if len(line) > EVENT_BYTES_MAX:
                    raise SetupError(
                        f"{shown}:{number}: the line is longer than {EVENT_BYTES_MAX} bytes; write "
                        "one event on each line, and shorten it"
                    )
                if event := line.strip():
                    yield f"{shown}:{number}", event


async def _chunks(name: str, shown: str) -> AsyncGenerator[bytes]:
    """Yield chunks as soon as they can be read, and an empty one at the end."""
    try:
        descriptor = os.dup(0) if name == STANDARD_INPUT else os.open(name, os.O_RDONLY)
        try:
            while chunk := await _chunk(descriptor):
                yield chunk
            yield b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SetupError(f"{shown} cannot be read: {error.strerror or error}") from error


async def _chunk(descriptor: int) -> bytes:
    """Read once when the file is ready; pipes and terminals block until then, files never do."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:
        # epoll refuses regular files: they are always ready.
        return os.read(descriptor, CHUNK_BYTES)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, CHUNK_BYTES)
