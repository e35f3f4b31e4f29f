"""S3 clients: one per region, endpoint, role and addressing style, opened when it is needed first.

    destination ─> Access: region, endpoint, role, style ─> client ─> S3
                     ▲                                                │
                     └───── the bucket's own region ◄───── redirect ──┘

Requests for a bucket in another region than configured go to that region from then on. botocore
would follow such a redirect too, but needs a right that our policy does not allow (s3:ListBucket),
and its client forgets the region when it is closed; so its handler is disabled.

botocore's own retries are off: `window_delivery` retries, within the configured time, and the
receipt has the number of attempts.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, Self, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError
from botocore.regions import EndpointResolverBuiltins

from stream_app import log_events
from stream_app.config.bucket_names import is_directory_bucket, needs_virtual_host
from stream_app.config.files import FILE_CHECK_SECONDS
from stream_app.config.settings import DESTINATIONS_MAX, S3, AddressingStyle, Destination
from stream_app.config.validators import REGION
from stream_app.errors import DeliveryError, PermanentError, SetupError, TransientError
from stream_app.logs import error_fields, log_event
from stream_app.s3.body import BodyStream
from stream_app.s3.bucket_policy import bucket_region
from stream_app.s3.clock_skew import ClockSkew
from stream_app.s3.credentials import (
    CREDENTIALS_SECONDS_MAX,
    ROLE_SECONDS_MIN,
    STS_SECONDS_MAX,
    AssumedRole,
    OwnCredentials,
    SharedCredentials,
)
from stream_app.s3.errors import (
    NOT_THESE,
    REQUEST_ERRORS,
    UNTRUSTED,
    delivery_error,
    other_region,
    refusal_of_credentials,
)
from stream_app.s3.straight_put import NoRedirectSession, StraightPuts

CLIENTS_MAX: Final = 96
"""More than concurrent uploads, so that one is idle and can be closed. With TLS a client holds a
megabyte."""
CONNECTIONS_MAX: Final = 64
CONNECT_SECONDS_MAX: Final = 5
READ_SECONDS_MAX: Final = 30
KEEPALIVE_SECONDS: Final = 10
"""Shorter than S3 keeps idle sockets: a stale one costs a failed request."""
PUT_OBJECT: Final = "put_object"
CREDENTIALS_ADVICE: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role"
)
_HOME_REGIONS: Final = {"cn-": "cn-north-1", "us-gov-": "us-gov-west-1", "": "us-east-1"}
"""Region of each AWS partition that responds for any bucket, by the prefix of its regions."""

_K = TypeVar("_K")
_V = TypeVar("_V")

logger = logging.getLogger(__name__)


class Access(NamedTuple):
    """Region, endpoint, role and addressing style of requests to S3."""

    region: str
    endpoint_url: str | None
    role_arn: str | None = None
    external_id: str | None = None
    addressing_style: AddressingStyle | None = None
    """None: as the settings of the AWS tools have it, by default `virtual`."""

    @property
    def endpoint(self) -> str:
        """The S3 server, for people and metrics."""
        return self.endpoint_url or f"AWS, region {self.region}"


def access_to(destination: Destination, s3: S3) -> Access:
    """Return the access of a destination: its own options, else those of `[s3]`."""
    endpoint_url = destination.endpoint_url or s3.endpoint_url
    style = destination.addressing_style or s3.addressing_style
    if style is None and needs_virtual_host(destination.bucket):
        style = "virtual"
    return Access(
        destination.region or s3.region,
        endpoint_url,
        destination.role_arn,
        destination.external_id,
        style or _default_style(endpoint_url),
    )


def _default_style(endpoint_url: str | None) -> AddressingStyle | None:
    # A self-hosted server rarely has a host name for each bucket.
    return None if endpoint_url is None else "path"


@dataclass(eq=False, slots=True)
class _Client:
    """A client of aiobotocore; a context manager while it is in use."""

    client: Any
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    users: int = 0

    def __enter__(self) -> Any:  # noqa: ANN401 - botocore's, without types
        self.users += 1
        return self.client

    def __exit__(self, *exception: object) -> None:
        self.users -= 1


class Clients:
    """Pool of the process's S3 clients; an async context manager.

    Args:
        settings: Defaults for destinations. Credentials come from where AWS tools look for them.
        response_seconds_max: Timeout of a request without content.
        role_seconds_min: Least time between two requests to STS for one role.
        check_seconds: Time between two checks whether a file of keys has changed.
        clients_max: Most clients that are kept; more only while all of them are in use.

    Raises:
        SetupError: When entered: the settings of the AWS tools cannot be used.
    """

    def __init__(
        self,
        settings: S3,
        *,
        response_seconds_max: float = READ_SECONDS_MAX,
        role_seconds_min: float = ROLE_SECONDS_MIN,
        check_seconds: float = FILE_CHECK_SECONDS,
        clients_max: int = CLIENTS_MAX,
    ) -> None:
        self.response_seconds_max = response_seconds_max
        self.skew = ClockSkew()
        self._puts = StraightPuts(self.skew)
        self._settings = settings
        self._role_seconds_min = role_seconds_min
        self._clients_max = clients_max
        self._session: Any = None
        self._own = OwnCredentials(check_seconds)
        self._loaded = asyncio.Event()
        """Set when there is a session. Windows that a predecessor has recorded may come before."""
        self._opening = asyncio.Lock()
        self._clients: OrderedDict[Access, _Client] = OrderedDict()
        """In the order of their last use."""
        self._roles: dict[tuple[str, str | None], AssumedRole] = {}
        """By ARN and external id; they outlive their clients."""
        self._regions: dict[tuple[Access, str], str] = {}
        """Regions of buckets, by their configured access, where that has another region."""

    async def __aenter__(self) -> Self:
        endpoint_url = self._settings.endpoint_url
        style = self._settings.addressing_style or _default_style(endpoint_url)
        access = Access(self._settings.region, endpoint_url, addressing_style=style)
        try:
            async with asyncio.timeout(CREDENTIALS_SECONDS_MAX):
                self._session = await self._own.load()
                self._loaded.set()
                await self._opened(access)
                return self
        except (BotoCoreError, DeliveryError, OSError, ValueError) as error:
            # A profile that does not exist, half a key, a program for credentials that fails.
            message = " ".join(str(error).split()) or (
                f"no response within {CREDENTIALS_SECONDS_MAX:.0f} s"
            )
            raise SetupError(
                f"S3 ({access.endpoint}) cannot be used: {type(error).__name__}: {message}; "
                f"{CREDENTIALS_ADVICE}"
            ) from error

    async def __aexit__(self, *exception: object) -> None:
        while self._clients:
            _, client = self._clients.popitem()
            await client.stack.aclose()

    def access(self, destination: Destination) -> Access:
        """Return the access of a destination, with the bucket's own region where it is known."""
        access = access_to(destination, self._settings)
        region = self._regions.get((access, destination.bucket))
        return access if region is None else access._replace(region=region)

    def addressing_style(self, destination: Destination) -> AddressingStyle | None:
        """Return the addressing style in the settings of a destination; None: there is none."""
        return destination.addressing_style or self._settings.addressing_style

    async def call(
        self,
        destination: Destination,
        operation: str,
        *,
        seconds_max: float | None = None,
        **arguments: Any,  # noqa: ANN401 - as many as S3 has
    ) -> Mapping[str, Any]:
        """Call one operation as `ask`, and log that credentials are refused."""
        try:
            return await self.ask(destination, operation, seconds_max=seconds_max, **arguments)
        except DeliveryError as error:
            if error.code in NOT_THESE:
                access = self.access(destination)
                self._credentials(access).log_refusal(access.endpoint, error)
            raise

    async def ask(
        self,
        destination: Destination,
        operation: str,
        *,
        seconds_max: float | None = None,
        **arguments: Any,  # noqa: ANN401 - as many as S3 has
    ) -> Mapping[str, Any]:
        """Call one operation on a destination's bucket.

        Args:
            destination: Its bucket, owner, region, endpoint and role are used.
            operation: Name of the method of botocore's client.
            seconds_max: Timeout; by default that of a request without content.
            **arguments: Parameters of the operation, but for the bucket and its expected owner.

        Raises:
            DeliveryError: S3 refuses, or does not respond.
        """
        seconds_max = seconds_max or self.response_seconds_max
        arguments["Bucket"] = bucket = destination.bucket
        if destination.expected_bucket_owner is not None:
            arguments["ExpectedBucketOwner"] = destination.expected_bucket_owner
        access = self.access(destination)
        try:
            return await self._request(access, operation, seconds_max, arguments)
        except DeliveryError as error:
            region = await self._bucket_region(access, destination, error)
            if region is None or region == access.region:
                raise
        log_event(
            logger,
            log_events.REGION_LEARNED,
            destination=destination.id,
            bucket=bucket,
            region=region,
            configured_region=access.region,
        )
        _add(self._regions, (access_to(destination, self._settings), bucket), region)
        return await self._request(
            access._replace(region=region), operation, seconds_max, arguments
        )

    async def reread_credentials(self) -> None:
        """Read our own credentials again; an error is logged, and the old ones stay."""
        await self._own.reread()

    async def _request(
        self, access: Access, operation: str, seconds_max: float, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Send a request, and once more if its credentials were refused and there are others."""
        credentials = self._credentials(access)
        version = credentials.version
        try:
            return await self._send(access, operation, seconds_max, arguments)
        except DeliveryError as error:
            if error.code not in NOT_THESE:
                raise
            if not await credentials.refused(version):
                raise self._refusal(error) from error.__cause__
        try:
            return await self._send(access, operation, seconds_max, arguments)
        except DeliveryError as error:
            if error.code not in NOT_THESE:
                raise
            raise self._refusal(error) from error.__cause__

    def _refusal(self, error: DeliveryError) -> DeliveryError:
        """Return the error by which a request is retried whose credentials were refused."""
        renewed_at = self._own.renewed_at
        age = None if renewed_at is None else asyncio.get_running_loop().time() - renewed_at
        return refusal_of_credentials(error, age)

    async def _send(
        self, access: Access, operation: str, seconds_max: float, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        body = arguments.get("Body")
        if isinstance(body, BodyStream):
            body.seek(0)  # an earlier attempt may have read from it
        try:
            # aiohttp's read timeout starts only when the content is written, and a server that
            # accepts the connection and then stalls never lets it be written.
            async with asyncio.timeout(seconds_max):
                with await self._opened(access) as client:
                    response: Mapping[str, Any]
                    if operation == PUT_OBJECT:
                        credentials = self._credentials(access)
                        response = await self._puts.put(client, access, credentials, arguments)
                    else:
                        response = await getattr(client, operation)(**arguments)
        except REQUEST_ERRORS as error:
            failure = delivery_error(error, seconds_max)
            if failure.code == UNTRUSTED:
                # The next client reads the file of authorities again.
                await self._close(access)
            raise failure from error
        except RuntimeError as error:
            if not is_directory_bucket(arguments["Bucket"]):
                raise
            # botocore's error for a session of five minutes that is over when it begins.
            raise TransientError("RequestTimeTooSkewed", f"CreateSession: {error}") from error
        return response

    async def _bucket_region(
        self, access: Access, destination: Destination, error: DeliveryError
    ) -> str | None:
        """Return the region of a bucket that is in another one by S3's response, else None."""
        is_elsewhere, region = other_region(error)
        if is_elsewhere and region is None:
            if access.endpoint_url is None:
                home = next(
                    it for start, it in _HOME_REGIONS.items() if access.region.startswith(start)
                )
                access = access._replace(region=home)
            arguments = {"Bucket": destination.bucket}
            if destination.expected_bucket_owner is not None:
                arguments["ExpectedBucketOwner"] = destination.expected_bucket_owner
            try:
                response = await self._request(
                    access, "get_bucket_location", self.response_seconds_max, arguments
                )
            except DeliveryError as refusal:
                log_event(
                    logger,
                    log_events.REGION_UNKNOWN,
                    destination=destination.id,
                    bucket=destination.bucket,
                    **error_fields(refusal),
                )
                return None
            region = bucket_region(response.get("LocationConstraint"))
        return region if is_elsewhere and region is not None and REGION.is_valid(region) else None

    # --- clients --------------------------------------------------------------------------------

    async def _opened(self, access: Access) -> _Client:
        """Return the client for an access; it stays open while it is in use."""
        if access not in self._clients:
            async with self._opening:
                if access not in self._clients:  # another call may have opened it meanwhile
                    await self._close_idle()
                    self._clients[access] = await self._open(access)
        found = self._clients[access]
        self._clients.move_to_end(access)
        return found

    async def _close_idle(self) -> None:
        """Make room for one more client: close the one that was idle for longest."""
        idle = [access for access, it in self._clients.items() if not it.users]
        for access in idle[: max(0, len(self._clients) + 1 - self._clients_max)]:
            await self._close(access)

    async def _close(self, access: Access) -> None:
        """Close a client unless it is in use."""
        found = self._clients.get(access)
        if found is not None and not found.users:
            await self._clients.pop(access).stack.aclose()

    async def _open(self, access: Access) -> _Client:
        await self._loaded.wait()
        style = access.addressing_style
        context = self._session_for(self._credentials(access)).create_client(
            "s3",
            region_name=access.region,
            endpoint_url=access.endpoint_url,
            config=AioConfig(
                connect_timeout=CONNECT_SECONDS_MAX,
                read_timeout=READ_SECONDS_MAX,
                max_pool_connections=CONNECTIONS_MAX,
                retries={"mode": "standard", "total_max_attempts": 1},
                # We send a checksum of our own; botocore's CRC breaks some servers.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3=None if style is None else {"addressing_style": style},
                connector_args={"keepalive_timeout": KEEPALIVE_SECONDS},
                http_session_cls=NoRedirectSession,
            ),
        )
        opened = _Client(None)
        try:
            opened.client = await opened.stack.enter_async_context(context)
        except ValueError as error:
            # botocore rejects some host names that URLs can have: those with an underscore.
            raise PermanentError("InvalidRequest", f"{access.endpoint}: {error}") from error
        events = opened.client.meta.events
        events.register_last("before-parameter-build.s3", _disable_redirect)
        if style == "virtual":
            events.register_last("before-endpoint-resolution.s3", _use_virtual_host)
        events.register_last("after-call.s3", partial(_record_date, self.skew, access.endpoint))
        return opened

    def _credentials(self, access: Access) -> SharedCredentials:
        """Return our own credentials, or those of the role."""
        if access.role_arn is None:
            return self._own
        name = (access.role_arn, access.external_id)
        if name not in self._roles:
            config = AioConfig(
                connect_timeout=CONNECT_SECONDS_MAX,
                read_timeout=STS_SECONDS_MAX,
                retries={"mode": "standard", "total_max_attempts": 1},
                http_session_cls=NoRedirectSession,
            )
            create_client = partial(
                self._session.create_client, region_name=access.region, config=config
            )
            role = AssumedRole(*name, self._own, create_client, self._role_seconds_min)
            _add(self._roles, name, role)
        return self._roles[name]

    def _session_for(self, credentials: SharedCredentials) -> Any:  # noqa: ANN401 - botocore's
        """Return a session that signs with these credentials."""
        if credentials is self._own:
            return self._session
        session = get_session()
        # The descriptions of AWS's services are large: all sessions share them.
        session.register_component("data_loader", self._session.get_component("data_loader"))
        session._credentials = credentials  # noqa: SLF001 - there is no setter
        return session


def _add(cache: dict[_K, _V], key: _K, value: _V) -> None:
    """Add to a cache of at most one entry for each destination."""
    while len(cache) >= DESTINATIONS_MAX:
        del cache[next(iter(cache))]
    cache[key] = value


def _record_date(skew: ClockSkew, endpoint: str, http_response: Any, **_: object) -> None:  # noqa: ANN401 - botocore's
    skew.record(endpoint, http_response.headers.get("date"), time.time())


def _use_virtual_host(builtins: dict[str, Any], **_: object) -> None:
    """Undo botocore's exception: by itself it sends GetBucketLocation in path style always."""
    builtins[EndpointResolverBuiltins.AWS_S3_FORCE_PATH_STYLE] = False


def _disable_redirect(context: Mapping[str, Any], **_: object) -> None:
    """Keep botocore from following a redirect to another region."""
    context["s3_redirect"]["redirected"] = True
