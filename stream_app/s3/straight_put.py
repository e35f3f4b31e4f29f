"""Straight puts: PutObject of small objects, each made from one that aiobotocore has sent before.

    first put of some options ──> aiobotocore ──> request ──> template
    later puts ──> template, key, checksum, date, signature ──> the same connections ──> S3
                                                                                    │
    aiobotocore <── as the response to its own request <── any but a plain success ─┘

aiobotocore computes for each request what is the same for all objects of a destination: endpoint,
headers, validation. A template keeps the request that it has sent, and which of its headers depend
on the object. There is one only if it repeats that very request, signature included; so what it
does not know (a directory bucket's session, other signatures) stays with aiobotocore.

An exception, and a response that is no plain success, is handed to a call of aiobotocore at the
seam between it and aiohttp: errors are read by the same code, whichever way a request went.
"""

import asyncio
import re
import time
from collections.abc import Hashable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp.helpers import TimerNoop
from botocore.auth import SIGV4_TIMESTAMP, UNSIGNED_PAYLOAD, S3SigV4Auth, _host_from_url
from botocore.compat import get_current_datetime
from multidict import CIMultiDict
from yarl import URL

from stream_app.s3.clock_skew import ClockSkew
from stream_app.s3.credentials import SharedCredentials

if TYPE_CHECKING:
    from stream_app.s3.clients import Access

STRAIGHT_BYTES_MAX: Final = 64 * 1024
"""Largest content: asyncio writes so much without waiting for the server to read."""
TEMPLATES_MAX: Final = 4_096
"""Templates that are kept, one for each bucket and its options; an older one is made again."""
_SUCCESS: Final = 200
_DATE: Final = "x-amz-date"
_HASH: Final = "x-amz-content-sha256"
_INVOCATION: Final = "amz-sdk-invocation-id"
_LENGTH: Final = "content-length"
_TOKEN: Final = "x-amz-security-token"  # noqa: S105 - the name of a header
_AUTHORIZATION: Final = "authorization"
_METADATA: Final = "x-amz-meta-"
_CHECKSUMS: Final = {
    "ChecksumCRC32": "x-amz-checksum-crc32",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentMD5": "content-md5",
}
"""Headers of checksums, by their parameters of PutObject."""
_OF_OBJECT: Final = frozenset({"Body", "Key", "Metadata", *_CHECKSUMS})
"""Parameters of PutObject that differ from object to object."""
_FIELDS: Final = {
    "etag": "ETag",
    "x-amz-checksum-crc32": "ChecksumCRC32",
    "x-amz-checksum-sha256": "ChecksumSHA256",
    "x-amz-checksum-type": "ChecksumType",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "x-amz-version-id": "VersionId",
}
"""Fields of a response to PutObject that are read, by their headers."""
_SLOTS: Final = frozenset(
    {_AUTHORIZATION, _DATE, _HASH, _INVOCATION, _LENGTH, _TOKEN, *_CHECKSUMS.values()}
)
"""Headers that differ from object to object, beside those of metadata."""
_WRITTEN: Final[Any] = SimpleNamespace(output_size=0)
"""In place of aiohttp's writer, which a response asks for this number only."""
_STEPS_MAX: Final = 8
"""Steps of deriving keys that are kept: four for each day."""
_SIGNATURE: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/]+/[0-9]{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request,"
    r" SignedHeaders=(?P<names>[^,]+), Signature=[0-9a-f]{64}"
)


@dataclass(slots=True)
class _Exchange:
    """What passes the seam between aiobotocore and aiohttp in one call."""

    outcome: aiohttp.ClientResponse | Exception | None = None
    """What aiobotocore is given in place of a response; None: its request is sent."""
    session: aiohttp.ClientSession | None = None
    """Where aiobotocore has sent its request, and had a response."""
    sent: Mapping[str, Any] | None = None
    """The arguments of `ClientSession.request` by which it was sent."""


_exchange: ContextVar[_Exchange | None] = ContextVar("exchange", default=None)
"""The exchange of the call under way."""


class NoRedirectSession(AIOHTTPSession):  # type: ignore[misc] # aiobotocore has no types
    """aiobotocore's HTTP session without redirects, for `AioConfig(http_session_cls=...)`."""

    async def _get_session(self, proxy_url: str | None) -> "_Seam":
        return _Seam(await super()._get_session(proxy_url))


class _Seam:
    """The part of an aiohttp session that aiobotocore uses."""

    __slots__ = ("_session",)

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:  # noqa: ANN401
        exchange = _exchange.get()
        if exchange is not None:
            if isinstance(exchange.outcome, Exception):
                raise exchange.outcome
            if exchange.outcome is not None:
                return exchange.outcome
        response = await self._session.request(method, allow_redirects=False, **options)
        if exchange is not None:
            exchange.session, exchange.sent = self._session, options
        return response


@dataclass(frozen=True, slots=True)
class _Signed:
    """What botocore's signer reads of a request whose canonical form is known."""

    context: dict[str, str]


class _Signer(S3SigV4Auth):  # type: ignore[misc] # botocore has no types
    """botocore's signer, which derives the key of a day once."""

    def __init__(self, credentials: Any, service: str, region: str) -> None:  # noqa: ANN401
        super().__init__(credentials, service, region)
        self._derived: dict[tuple[bytes, str], bytes] = {}

    def _sign(self, key: bytes, msg: str, hex: bool = False) -> Any:  # noqa: A002, ANN401, FBT001, FBT002
        if hex:
            return super()._sign(key, msg, hex)
        found = self._derived.get((key, msg))
        if found is None:
            if len(self._derived) >= _STEPS_MAX:
                self._derived.clear()
            found = self._derived[key, msg] = super()._sign(key, msg)
        return found


class Template:
    """Request of aiobotocore, in which what depends on the object is replaced.

    Args:
        session: Where aiobotocore has sent it.
        sent: The arguments of `ClientSession.request`.
        base: Its URL without the key.
        signature: Its header `Authorization`, taken apart.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        sent: Mapping[str, Any],
        base: str,
        signature: re.Match[str],
    ) -> None:
        self.session = session
        headers: CIMultiDict[str] = sent["headers"]
        self._base, self._path = base, urlsplit(base).path
        self._service, self._region = signature["service"], signature["region"]
        self._names: str = signature["names"]
        self._hash = headers[_HASH] if headers[_HASH] == UNSIGNED_PAYLOAD else None
        """What is signed in place of the content's hash."""
        self._has_token = _TOKEN in headers
        lines = "".join(self._canonical_line(name, headers) for name in self._names.split(";"))
        self._canonical = f"PUT\n%(path)s\n\n{lines}\n{self._names}\n%({_HASH})s"
        self._signer: _Signer | None = None
        self._request = aiohttp.ClientRequest(
            "PUT",
            URL(base, encoded=True),
            headers=headers,
            skip_auto_headers=session.skip_auto_headers,
            loop=asyncio.get_running_loop(),
            proxy=URL(sent["proxy"]) if sent["proxy"] else None,
            proxy_headers=CIMultiDict(sent["proxy_headers"]) if sent["proxy"] else None,
            session=session,
        )
        """aiohttp's request, for the connections and the headers that it adds."""
        self._head = ""

    def _canonical_line(self, name: str, headers: Mapping[str, str]) -> str:
        if _is_of_object(name):
            return f"{name}:%({name})s\n"
        value = _host_from_url(self._base) if name == "host" else headers[name]
        return f"{name}:{_escaped(' '.join(value.split()))}\n"

    def values(
        self,
        arguments: Mapping[str, Any],
        credentials: Any,  # noqa: ANN401 - botocore's, without types
        at: str,
        invocation: str,
    ) -> dict[str, str] | None:
        """Return what depends on the object, by the names of headers, signed.

        Args:
            arguments: Parameters of PutObject.
            credentials: Key, secret and token; None: there are none.
            at: The time, as signatures have it.
            invocation: Value of the header that names the call.

        Returns:
            The values; None if the request has other headers than the template.
        """
        if credentials is None or (credentials.token is not None) != self._has_token:
            return None
        body: bytes = arguments["Body"]
        metadata: Mapping[str, str] = arguments.get("Metadata", {})
        values = {f"{_METADATA}{name}": text for name, text in metadata.items()}
        for name, header in _CHECKSUMS.items():
            if name in arguments:
                values[header] = arguments[name]
        values |= {
            "path": self._path + _encoded(arguments["Key"]),
            _DATE: at,
            _HASH: self._hash or sha256(body).hexdigest(),
            _INVOCATION: invocation,
            _LENGTH: str(len(body)),
        }
        if self._has_token:
            values[_TOKEN] = credentials.token
        signer = self._signer
        if signer is None or signer.credentials != credentials:
            signer = self._signer = _Signer(credentials, self._service, self._region)
        signed = _Signed({"timestamp": at})
        signature = signer.signature(
            signer.string_to_sign(signed, self._canonical % values), signed
        )
        values[_AUTHORIZATION] = (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(signed)}, SignedHeaders={self._names}, "
            f"Signature={signature}"
        )
        return values

    @property
    def is_usable(self) -> bool:
        """Whether its session is open, and adds no cookies of a server to requests."""
        return not self.session.closed and not len(self.session.cookie_jar)

    async def send(self, values: Mapping[str, str], body: bytes) -> aiohttp.ClientResponse:
        """Send a request and return its response, once more if its connection has gone."""
        try:
            return await self._send(values, body)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            return await self._send(values, body)

    async def _send(self, values: Mapping[str, str], body: bytes) -> aiohttp.ClientResponse:
        request, session = self._request, self.session
        connector = session.connector
        if connector is None:
            raise aiohttp.ClientConnectionError("the session is closed")
        connection = await connector.connect(request, traces=[], timeout=session.timeout)
        try:
            protocol, transport = connection.protocol, connection.transport
            assert protocol is not None  # noqa: S101 - it is connected
            assert transport is not None  # noqa: S101
            protocol.set_response_params(
                read_until_eof=True, auto_decompress=False, read_timeout=session.timeout.sock_read
            )
            if not self._head:
                self._head = _head(request)  # now it has what the connector adds for a proxy
            transport.write((self._head % values).encode() + body)
            protocol.start_timeout()
            response = aiohttp.ClientResponse(
                "PUT",
                request.url,
                writer=None,
                continue100=None,
                timer=TimerNoop(),
                request_info=request.request_info,
                traces=[],
                loop=request.loop,
                session=session,
                stream_writer=_WRITTEN,
            )
            return await response.start(connection)
        except BaseException:
            connection.close()
            raise


def _head(request: aiohttp.ClientRequest) -> str:
    """Return first line and headers of a template's requests."""
    target = "%(path)s"
    if request.proxy and not request.is_ssl():
        target = f"{_escaped(str(request.url.origin()))}{target}"
    lines = [f"PUT {target} HTTP/1.1"]
    for name, value in request.headers.items():
        is_of_object = _is_of_object(name.lower())
        lines.append(f"{name}: {f'%({name.lower()})s' if is_of_object else _escaped(value)}")
    return "\r\n".join([*lines, "", ""])


class StraightPuts:
    """Put requests of all clients, and their templates.

    Args:
        skew: Where the `Date` of responses is recorded.
    """

    def __init__(self, skew: ClockSkew) -> None:
        self._skew = skew
        self._templates: dict[Hashable, Template] = {}

    async def put(
        self,
        client: Any,  # noqa: ANN401 - botocore's, without types
        access: "Access",
        credentials: SharedCredentials,
        arguments: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Put an object as `client.put_object` does, with its response and its exceptions.

        Args:
            client: aiobotocore's client.
            access: Region, endpoint and role of the client.
            credentials: What it signs with.
            arguments: Parameters of PutObject.
        """
        if not _is_small(arguments):
            response: Mapping[str, Any] = await client.put_object(**arguments)
            return response
        name = _name(access, arguments)
        frozen = await credentials.get_frozen_credentials()
        template = self._templates.get(name)
        values = None
        if template is not None and template.is_usable:
            at, invocation = get_current_datetime().strftime(SIGV4_TIMESTAMP), str(uuid4())
            values = template.values(arguments, frozen, at, invocation)
        exchange = _Exchange()
        if template is not None and values is not None:
            try:
                answer = await template.send(values, arguments["Body"])
                if answer.status == _SUCCESS and not await answer.read():
                    found = answer.headers
                    self._skew.record(access.endpoint, found.get("date"), time.time())
                    return {field: found[it] for it, field in _FIELDS.items() if it in found}
                exchange.outcome = answer
            except Exception as error:  # noqa: BLE001 - aiobotocore raises it again
                exchange.outcome = error
        before = _exchange.set(exchange)
        try:
            response = await client.put_object(**arguments)
        finally:
            _exchange.reset(before)
            learned = _learned(exchange, arguments, frozen)
            if learned is not None:
                self._keep(name, learned)
        return response

    def _keep(self, name: Hashable, template: Template) -> None:
        self._templates.pop(name, None)
        while len(self._templates) >= TEMPLATES_MAX:
            del self._templates[next(iter(self._templates))]
        self._templates[name] = template


def _is_small(arguments: Mapping[str, Any]) -> bool:
    body = arguments["Body"]
    return isinstance(body, bytes) and 0 < len(body) <= STRAIGHT_BYTES_MAX


def _name(access: "Access", arguments: Mapping[str, Any]) -> Hashable:
    """Return what all requests of one template have in common."""
    options = frozenset(it for it in arguments.items() if it[0] not in _OF_OBJECT)
    return access, options, frozenset(arguments), tuple(arguments.get("Metadata", ()))


def _learned(
    exchange: _Exchange,
    arguments: Mapping[str, Any],
    credentials: Any,  # noqa: ANN401
) -> Template | None:
    """Return the template of a request that was sent, if it repeats the request."""
    if exchange.session is None or exchange.sent is None:
        return None
    url, key = str(exchange.sent["url"]), _encoded(arguments["Key"])
    headers: CIMultiDict[str] = exchange.sent["headers"]
    sent = {name.lower(): text for name, text in headers.items() if _is_of_object(name.lower())}
    signature = _SIGNATURE.fullmatch(sent.get(_AUTHORIZATION, ""))
    is_known = {_DATE, _HASH, _INVOCATION, _LENGTH} <= sent.keys() and url.endswith(f"/{key}")
    if signature is None or not is_known or exchange.sent["chunked"]:
        return None
    template = Template(exchange.session, exchange.sent, url.removesuffix(key), signature)
    values = template.values(arguments, credentials, sent[_DATE], sent[_INVOCATION])
    return template if values == {**sent, "path": urlsplit(url).path} else None


def _is_of_object(name: str) -> bool:
    """Whether a header, by its name in lower case, differs from object to object."""
    return name in _SLOTS or name.startswith(_METADATA)


def _encoded(key: str) -> str:
    """Return a key as it is in a URL."""
    return quote(key, safe="/~")


def _escaped(text: str) -> str:
    """Return a text as a part of a format that yields it."""
    return text.replace("%", "%%")
