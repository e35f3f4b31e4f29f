"""An S3 server that fails on command: HTTP in between a worker and the real one.

    worker ──request──> S3Proxy ──same bytes──> S3 server
           <──answer───         <──answer─────

Heads are forwarded unchanged, `Host` too, so signatures stay valid. Each request is given one
`Fault` by the rule in force. A test can also step in twice, with anything it likes, a kill -9 of
the worker included: `before` the request is forwarded, and `after` S3 has answered but before the
worker learns of it. S3's responses are kept in `log`: a test can see, for instance, that no key was
ever written twice.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final
from urllib.parse import parse_qs, urlsplit

from stream_app.embedded.process import HOST
from tests.chaos.proxy import Proxy
from tests.contract.recorder import read_chunks

SLOW_SECONDS: Final = (0.5, 4.0)
BODILESS_STATUSES: Final = frozenset({204, 304})


class Fault(Enum):
    NONE = auto()
    REFUSE = auto()
    """Close the connection; S3 sees nothing."""
    BROKEN = auto()
    """Answer 500 InternalError; S3 sees nothing."""
    SLOW_DOWN = auto()
    """Answer 503 SlowDown; S3 sees nothing."""
    DENY = auto()
    """Answer 403 AccessDenied; S3 sees nothing."""
    INVALID_PART = auto()
    """Answer 400 InvalidPart, as Cloudflare R2 does to parts of different sizes."""
    TEAR_AT_BODY = auto()
    """S3 gets the head and no byte of the body, then both connections die."""
    TEAR_IN_BODY = auto()
    """S3 gets the head and half of the body, then both connections die."""
    DAMAGE = auto()
    """One bit of the body is turned on the way to S3."""
    LOSE_ANSWER = auto()
    """S3 does it, and the connection dies instead of the answer."""
    SLOW = auto()
    """Wait seconds before forwarding, and seconds before the answer."""
    HOLD = auto()
    """Read the request and do nothing until `release`; then do it, client or not."""
    HANG = auto()
    """Read the head, keep the connection open and do nothing, until the proxy ends."""


ERRORS: Final = {
    Fault.BROKEN: (500, "InternalError", "We encountered an internal error. Please try again."),
    Fault.SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
    Fault.DENY: (403, "AccessDenied", "Access Denied"),
    Fault.INVALID_PART: (400, "InvalidPart", "All non-trailing parts must have the same length."),
}


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    head: bytes
    body: bytes = b""

    @property
    def is_put(self) -> bool:
        return self.method == "PUT"

    @property
    def path(self) -> str:
        """Bucket and key, as they were sent."""
        return urlsplit(self.target).path

    @property
    def part(self) -> int | None:
        """The number of the part that it brings."""
        numbers = self._query.get("partNumber")
        return int(numbers[0]) if numbers and self.is_put else None

    @property
    def upload_id(self) -> str | None:
        """The upload in parts that it is about."""
        return self._query.get("uploadId", [None])[0]

    @property
    def is_complete(self) -> bool:
        """Whether it makes an object visible that came in parts."""
        return self.method == "POST" and self.upload_id is not None

    @property
    def is_abort(self) -> bool:
        """Whether it ends an upload in parts without an object."""
        return self.method == "DELETE" and self.upload_id is not None

    @property
    def makes_visible(self) -> bool:
        """Whether an object stands there when it has been done."""
        return self.is_complete or (self.is_put and self.part is None)

    @property
    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)


@dataclass(frozen=True)
class Exchange:
    """A request that S3 has answered, whether or not the worker learnt of it; without its body."""

    request: Request
    status: int
    learnt: bool


Rule = Callable[[Request], Fault]
Step = Callable[[Request], Awaitable[None]]


def no_fault(_: Request) -> Fault:
    return Fault.NONE


async def nothing(_: Request) -> None:
    """Step in with nothing."""


@dataclass(kw_only=True)
class S3Proxy(Proxy):
    """One proxy before S3."""

    rule: Rule = no_fault
    before: Step = nothing
    after: Step = nothing
    log: list[Exchange] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    """Faults drawn, without `NONE`."""
    _delays: random.Random = field(default_factory=lambda: random.Random(0))
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.address}"

    def heal(self) -> None:
        """Be a plain wire from now on; what hangs goes on hanging."""
        self.rule, self.before, self.after = no_fault, nothing, nothing

    def release(self) -> None:
        """Go on with all requests that are held."""
        self._released.set()
        self._released = asyncio.Event()

    def stored_more_than_once(self) -> list[str]:
        """The paths under which S3 has made an object visible more than once."""
        visible = Counter(
            it.request.path for it in self.log if it.request.makes_visible and it.status == 200
        )
        return [path for path, times in visible.items() if times > 1]

    def accepted_parts(self) -> list[Request]:
        """The parts that S3 has taken, in this order."""
        return [it.request for it in self.log if it.request.part and it.status == 200]

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection goes on."""
        request = await _read_head(reader)
        fault = self.rule(request)
        if fault is not Fault.NONE:
            self.faults.append(fault)
        if fault is Fault.HANG:
            await asyncio.Event().wait()
        if _header(request.head, b"expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(_header(request.head, b"content-length") or 0)
        request = replace(request, body=await reader.readexactly(length))
        await self.before(request)
        match fault:
            case Fault.REFUSE:
                return False
            case Fault.SLOW:
                await asyncio.sleep(self._delays.uniform(*SLOW_SECONDS))
            case Fault.HOLD:
                await self._released.wait()
            case Fault.BROKEN | Fault.SLOW_DOWN | Fault.DENY | Fault.INVALID_PART:
                writer.write(_error(*ERRORS[fault]))
                await writer.drain()
                return True
            case Fault.TEAR_AT_BODY | Fault.TEAR_IN_BODY:
                sent = 0 if fault is Fault.TEAR_AT_BODY else len(request.body) // 2
                await self._tear(request, sent)
                return False
            case Fault.DAMAGE if request.body:
                request = replace(request, body=_damaged(request.body))
        status, answer = await self._forward(request)
        await self.after(request)
        learnt = fault is not Fault.LOSE_ANSWER
        self.log.append(Exchange(replace(request, body=b""), status, learnt))
        if fault is Fault.SLOW:
            await asyncio.sleep(self._delays.uniform(*SLOW_SECONDS))
        if learnt:
            writer.write(answer)
            await writer.drain()
        return learnt

    async def _forward(self, request: Request) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(HOST, self.upstream_port)
        try:
            writer.write(request.head + request.body)
            status = 100
            while status < 200:  # 100 Continue goes before the answer
                head = await reader.readuntil(b"\r\n\r\n")
                status = int(head.split(b" ", 2)[1])
            if request.method == "HEAD" or status in BODILESS_STATUSES:
                return status, head
            if _header(head, b"transfer-encoding") == b"chunked":
                return status, head + await read_chunks(reader)
            length = int(_header(head, b"content-length") or 0)
            return status, head + await reader.readexactly(length)
        finally:
            writer.transport.abort()

    async def _tear(self, request: Request, sent: int) -> None:
        _, writer = await asyncio.open_connection(HOST, self.upstream_port)
        writer.write(request.head + request.body[:sent])
        await writer.drain()
        writer.close()  # an end in good order: S3 reads the head before it meets the end
        await writer.wait_closed()


async def _read_head(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
    return Request(method, target, head)


def _header(head: bytes, wanted: bytes) -> bytes | None:
    for line in head.split(b"\r\n"):
        name, _, text = line.partition(b":")
        if name.lower() == wanted:
            return text.strip()
    return None


def _damaged(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def _error(status: int, code: str, message: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
