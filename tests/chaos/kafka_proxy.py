"""A broker that fails on command: Kafka's protocol in between a worker and the real one.

    worker ──request──> KafkaProxy ──same bytes──> broker
           <─response──            <──response───

Two faults that no broker can be made to show. Connections go silent and stay open, as where a
firewall or NAT has forgotten them or a host has lost its power (`freeze`). And a response becomes
an error: the broker has done what was asked, and the worker reads another thing (`rule`).
"""

import asyncio
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final, cast

from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import Array, Schema

from stream_app.embedded.process import HOST
from stream_app.kafka.leader_epochs import EpochEndRequest
from stream_app.kafka.static_member import StaticCommit, StaticHeartbeat
from tests.chaos.proxy import Proxy

GROUP_MAX_SIZE_REACHED: Final = 81
ERRORS: Final[dict[type[Request[Any]], tuple[int, ...]]] = {
    # Not the leader, no such partition, a disk that fails.
    FetchRequest: (6, 3, 56),
    # Not the leader, timed out, too few replicas before and after the record was appended.
    ProduceRequest: (6, 7, 19, 20),
    # The coordinator loads, is away, or is another; the generation is over, the member unknown.
    OffsetCommitRequest: (14, 15, 16, 7, 27, 22, 25),
    OffsetFetchRequest: (14, 16),
    JoinGroupRequest: (14, 15, 16, 25, GROUP_MAX_SIZE_REACHED),
    SyncGroupRequest: (15, 16, 22, 25, 27),
    # The last one is "unknown server error", of which aiokafka knows nothing.
    HeartbeatRequest: (15, 16, 22, 25, 27, -1),
    # Not the leader, no such partition, a disk that fails, an unknown server error.
    EpochEndRequest: (6, 3, 56, -1),
    # As those of other members.
    StaticCommit: (14, 15, 16, 7, 27, 22, 25),
    StaticHeartbeat: (15, 16, 22, 25, 27, -1),
}
"""Codes that a broker may return for each request."""
_RESPONSES: Final = {
    (it.API_KEY, it.API_VERSION): (request, it.RESPONSE_TYPE)
    for request in ERRORS
    for it in request._CLASSES
}
_HEAD: Final = struct.Struct(">hhi")
"""Key and version of the API, and the number of the request."""


Rule = Callable[[type[Request[Any]]], int | None]
"""Returns the error code that replaces those of the response to a request; None: it stays."""


def no_error(_: type[Request[Any]]) -> int | None:
    return None


@dataclass(kw_only=True)
class KafkaProxy(Proxy):
    """One proxy before a broker, whose workers are given its address by the broker too."""

    rule: Rule = no_error
    frozen: int = 0
    """Connections that have gone silent so far."""
    replaced: int = 0
    """Responses that became errors."""
    _silences: dict[object, asyncio.Event] = field(default_factory=dict)
    """Of each open connection: set when it has gone silent."""

    def freeze(self, share: float = 1.0, chance: random.Random | None = None) -> None:
        """Let this share of the open connections go silent for good; new ones work."""
        for silence in self._silences.values():
            if chance is None or chance.random() < share:
                self.frozen += not silence.is_set()
                silence.set()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        upstream, to_upstream = await asyncio.open_connection(HOST, self.upstream_port)
        connection, silence = object(), asyncio.Event()
        self._silences[connection] = silence
        asked: dict[int, tuple[int, int]] = {}
        ways = (
            asyncio.create_task(self._forward(reader, to_upstream, asked, silence, self._asked)),
            asyncio.create_task(self._forward(upstream, writer, asked, silence, self._answered)),
        )
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if silence.is_set():
                await asyncio.Event().wait()  # Neither side learns of an end.
            for way in done:
                way.result()
        finally:
            del self._silences[connection]
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_upstream.transport.abort()
        return False

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        asked: dict[int, tuple[int, int]],
        silence: asyncio.Event,
        seen: Callable[[bytes, dict[int, tuple[int, int]]], bytes],
    ) -> None:
        while True:
            size = await reader.readexactly(4)
            frame = await reader.readexactly(int.from_bytes(size, "big"))
            if silence.is_set():
                await asyncio.Event().wait()
            frame = seen(frame, asked)
            writer.write(len(frame).to_bytes(4, "big") + frame)
            await writer.drain()

    def _asked(self, frame: bytes, asked: dict[int, tuple[int, int]]) -> bytes:
        key, version, number = _HEAD.unpack_from(frame)
        if (key, version) in _RESPONSES:
            asked[number] = (key, version)
        return frame

    def _answered(self, frame: bytes, asked: dict[int, tuple[int, int]]) -> bytes:
        (number,) = struct.unpack_from(">i", frame)
        api = asked.pop(number, None)
        if api is None:
            return frame
        request, response = _RESPONSES[api]
        code = self.rule(request)
        if code is None:
            return frame
        self.replaced += 1
        values = response.SCHEMA.decode(BytesIO(frame[4:]))
        changed = _with_error(response.SCHEMA, values, code)
        return frame[:4] + response.SCHEMA.encode(cast("Any", changed))


def _with_error(kind: object, value: Any, code: int) -> Any:
    """Return a value of the protocol in which each field `error_code` has this code."""
    if isinstance(kind, Array):
        return None if value is None else [_with_error(kind.array_of, it, code) for it in value]
    if isinstance(kind, Schema):
        return tuple(
            code if name == "error_code" else _with_error(field, it, code)
            for name, field, it in zip(kind.names, kind.fields, value, strict=True)
        )
    return value
