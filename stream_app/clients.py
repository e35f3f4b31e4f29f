"""S3 clients: one for each way of asking, made when the first destination needs it.

    destination ─> Access: region, endpoint, role ─> client ─> S3
                     ▲                                         │
                     └── the bucket's own region ◄── "moved" ──┘

A bucket that is in another region than configured is asked there from then on. botocore would
follow such a redirect too, but needs a right that our policy does not give (s3:ListBucket), and
forgets what it learnt with each client; so its handler is held back.

botocore's own retries are off: `delivery` retries, knows how long, and says so in the receipt.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, Self, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError

from stream_app import happenings
from stream_app.clockskew import ClockSkew
from stream_app.contents import Body
from stream_app.errors import DeliveryError, PermanentError, SetupError
from stream_app.logs import say
from stream_app.oneserver import OneServer
from stream_app.policy import bucket_region
from stream_app.roles import ROLE_SECONDS_MIN, STS_SECONDS_MAX, Role
from stream_app.settings import DESTINATIONS_MAX, S3, Destination
from stream_app.trouble import TROUBLES, delivery_error, region_named
from stream_app.values import is_region

CLIENTS_MAX: Final = 96
"""More than uploads are under way at a time, so that there is an idle one to be closed. With TLS a
client holds a megabyte."""
CONNECTIONS_MAX: Final = 64
CONNECT_SECONDS_MAX: Final = 5
READ_SECONDS_MAX: Final = 30
START_SECONDS_MAX: Final = 30
"""Credentials may come from another program or server, which has to answer as well."""
KEEPALIVE_SECONDS: Final = 10
"""Shorter than S3 keeps idle sockets: a stale one costs a failed request."""
CREDENTIALS_ADVICE: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role"
)
_HOMES: Final = {"cn-": "cn-north-1", "us-gov-": "us-gov-west-1", "": "us-east-1"}
"""The region of each AWS partition that can be asked about any bucket, by how regions begin."""

_K = TypeVar("_K")
_V = TypeVar("_V")

logger = logging.getLogger(__name__)


class Access(NamedTuple):
    """Where and as whom S3 is asked."""

    region: str
    endpoint_url: str | None
    role_arn: str | None = None
    external_id: str | None = None

    @property
    def place(self) -> str:
        """Where S3 is, for people."""
        return self.endpoint_url or f"AWS, region {self.region}"


def access_to(destination: Destination, s3: S3) -> Access:
    """Return how a destination is reached: its own options, else the `[s3]` table's."""
    return Access(
        destination.region or s3.region,
        destination.endpoint_url or s3.endpoint_url,
        destination.role_arn,
        destination.external_id,
    )


@dataclass(eq=False, slots=True)
class _Client:
    client: Any
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    users: int = 0


class Clients:
    """All S3 clients of this process; an async context manager.

    Args:
        settings: What holds where a destination says nothing. Credentials come from where AWS
            tools look for them.
        answer_seconds_max: How long S3 may take to answer a request without content.
        role_seconds_min: STS is not asked for a role more often.
        clients_max: Most clients that are kept; more only while all of them are in use.

    Raises:
        SetupError: When entered: what the AWS tools' settings say cannot be used.
    """

    def __init__(
        self,
        settings: S3,
        *,
        answer_seconds_max: float = READ_SECONDS_MAX,
        role_seconds_min: float = ROLE_SECONDS_MIN,
        clients_max: int = CLIENTS_MAX,
    ) -> None:
        self.answer_seconds_max = answer_seconds_max
        self.skew = ClockSkew()
        self._settings = settings
        self._role_seconds_min = role_seconds_min
        self._clients_max = clients_max
        self._session: Any = None
        self._own_credentials: Any = None
        self._opening = asyncio.Lock()
        self._clients: OrderedDict[Access, _Client] = OrderedDict()
        """The one that was used last is the last."""
        self._roles: dict[tuple[str, str | None], Role] = {}
        """By ARN and external id; kept when their clients are closed."""
        self._regions: dict[tuple[Access, str], str] = {}
        """Of the buckets that are not where they were looked for."""

    async def __aenter__(self) -> Self:
        access = Access(self._settings.region, self._settings.endpoint_url)
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                self._session = get_session()
                self._own_credentials = await self._session.get_credentials()
                async with self._using(access):
                    return self
        except (BotoCoreError, DeliveryError, OSError, ValueError) as error:
            # A profile that is not there, half a key, a program for credentials that fails.
            words = " ".join(str(error).split()) or f"nothing within {START_SECONDS_MAX} s"
            raise SetupError(
                f"S3 ({access.place}) cannot be asked: {type(error).__name__}: {words}; "
                f"{CREDENTIALS_ADVICE}"
            ) from error

    async def __aexit__(self, *exception: object) -> None:
        while self._clients:
            _, client = self._clients.popitem()
            await client.stack.aclose()

    def access(self, destination: Destination) -> Access:
        """Return how a destination is reached, its bucket's own region included."""
        access = access_to(destination, self._settings)
        region = self._regions.get((access, destination.bucket), access.region)
        return access._replace(region=region)

    async def call(
        self,
        destination: Destination,
        operation: str,
        *,
        seconds_max: float | None = None,
        **arguments: Any,  # noqa: ANN401 - as many as S3 has
    ) -> Mapping[str, Any]:
        """Do one operation on a destination's bucket.

        Args:
            destination: Whose bucket, owner, region, endpoint and role.
            operation: As botocore's clients call it.
            seconds_max: How long it may take; left out: as for a request without content.
            **arguments: All beside the bucket and its expected owner.

        Raises:
            DeliveryError: S3 refuses, or does not answer.
        """
        seconds_max = seconds_max or self.answer_seconds_max
        arguments["Bucket"] = bucket = destination.bucket
        if destination.expected_bucket_owner is not None:
            arguments["ExpectedBucketOwner"] = destination.expected_bucket_owner
        access = self.access(destination)
        try:
            return await self._ask(access, operation, seconds_max, arguments)
        except DeliveryError as error:
            region = await self._region(access, destination, error)
            if region is None or region == access.region:
                raise
        say(
            *(logger, happenings.REGION_LEARNT),
            "bucket %s is in region %s, not in %s, and is asked there from now on; set region",
            *(bucket, region, access.region),
            destination=destination.id,
            bucket=bucket,
            region=region,
        )
        _keep(self._regions, (access_to(destination, self._settings), bucket), region)
        return await self._ask(access._replace(region=region), operation, seconds_max, arguments)

    async def _ask(
        self, access: Access, operation: str, seconds_max: float, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        body = arguments.get("Body")
        if isinstance(body, Body):
            body.seek(0)  # an attempt before this one may have read of it
        try:
            # aiohttp counts its read timeout only from when the content is written, and a server
            # that accepts and then says nothing never lets it be written.
            async with asyncio.timeout(seconds_max), self._using(access) as client:
                answer: Mapping[str, Any] = await getattr(client, operation)(**arguments)
        except TROUBLES as error:
            raise delivery_error(error, seconds_max) from error
        return answer

    async def _region(
        self, access: Access, destination: Destination, error: DeliveryError
    ) -> str | None:
        """Return the region in which S3 says that the bucket is; None if it does not say so."""
        is_elsewhere, region = region_named(error)
        if is_elsewhere and region is None:
            if access.endpoint_url is None:
                home = next(it for start, it in _HOMES.items() if access.region.startswith(start))
                access = access._replace(region=home)
            arguments = {"Bucket": destination.bucket}
            if destination.expected_bucket_owner is not None:
                arguments["ExpectedBucketOwner"] = destination.expected_bucket_owner
            try:
                answer = await self._ask(
                    access, "get_bucket_location", self.answer_seconds_max, arguments
                )
            except DeliveryError as refusal:
                say(
                    *(logger, happenings.REGION_UNKNOWN, "the region of bucket %s: %s"),
                    *(destination.bucket, refusal),
                    destination=destination.id,
                    bucket=destination.bucket,
                    code=refusal.code,
                    error=refusal.message,
                )
                return None
            region = bucket_region(answer.get("LocationConstraint"))
        return region if is_elsewhere and region is not None and is_region(region) else None

    # --- clients --------------------------------------------------------------------------------

    @asynccontextmanager
    async def _using(self, access: Access) -> AsyncGenerator[Any]:
        if access not in self._clients:
            async with self._opening:
                if access not in self._clients:  # another one may have waited for the same
                    await self._close_idle()
                    self._clients[access] = await self._open(access)
        found = self._clients[access]
        self._clients.move_to_end(access)
        found.users += 1
        try:
            yield found.client
        finally:
            found.users -= 1

    async def _close_idle(self) -> None:
        """Make room for one more client by closing the one that was idle for longest."""
        idle = [access for access, it in self._clients.items() if not it.users]
        for access in idle[: max(0, len(self._clients) + 1 - self._clients_max)]:
            await self._clients.pop(access).stack.aclose()

    async def _open(self, access: Access) -> _Client:
        own_endpoint = access.endpoint_url is not None
        context = self._session_for(access).create_client(
            "s3",
            region_name=access.region,
            endpoint_url=access.endpoint_url,
            config=AioConfig(
                connect_timeout=CONNECT_SECONDS_MAX,
                read_timeout=READ_SECONDS_MAX,
                max_pool_connections=CONNECTIONS_MAX,
                retries={"mode": "standard", "total_max_attempts": 1},
                # We send a checksum ourselves; botocore's own CRC breaks some servers.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                # A server of one's own rarely has a name for each bucket.
                s3={"addressing_style": "path"} if own_endpoint else None,
                connector_args={"keepalive_timeout": KEEPALIVE_SECONDS},
                http_session_cls=OneServer,
            ),
        )
        opened = _Client(None)
        try:
            opened.client = await opened.stack.enter_async_context(context)
        except ValueError as error:
            # botocore takes fewer host names than URLs can have: none with an underscore.
            raise PermanentError("InvalidRequest", f"{access.place}: {error}") from error
        events = opened.client.meta.events
        events.register_last("before-parameter-build.s3", _stay)
        events.register_last("after-call.s3", partial(_look_at_clock, self.skew, access.place))
        return opened

    def _session_for(self, access: Access) -> Any:  # noqa: ANN401 - botocore's, without types
        """Return the session with the credentials that are meant: our own, or a role's."""
        if access.role_arn is None:
            return self._session
        name = (access.role_arn, access.external_id)
        if name not in self._roles:
            config = AioConfig(
                connect_timeout=CONNECT_SECONDS_MAX,
                read_timeout=STS_SECONDS_MAX,
                retries={"mode": "standard", "total_max_attempts": 1},
                http_session_cls=OneServer,
            )
            create_client = partial(
                self._session.create_client, region_name=access.region, config=config
            )
            role = Role(*name, self._own_credentials, create_client, self._role_seconds_min)
            _keep(self._roles, name, role)
        session = get_session()
        # The descriptions of AWS's services are large: all sessions share them.
        session.register_component("data_loader", self._session.get_component("data_loader"))
        session._credentials = self._roles[name].credentials  # noqa: SLF001 - there is no setter
        return session


def _keep(kept: dict[_K, _V], name: _K, value: _V) -> None:
    """Add to what is kept, of which there is at most one for each destination."""
    while len(kept) >= DESTINATIONS_MAX:
        del kept[next(iter(kept))]
    kept[name] = value


def _look_at_clock(skew: ClockSkew, place: str, http_response: Any, **_: object) -> None:  # noqa: ANN401 - botocore's
    skew.answered(place, http_response.headers.get("date"), time.time())


def _stay(context: Mapping[str, Any], **_: object) -> None:
    """Keep botocore from following a redirect to another region by itself."""
    context["s3_redirect"]["redirected"] = True
