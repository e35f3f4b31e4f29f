"""Credentials for S3, shared by all clients that use them: our own, and those of assumed roles.

    files, environment, metadata server ─> OwnCredentials ─> STS ─> AssumedRole
                                             │                        │
                                             └──────> signatures <────┘

botocore keeps what it found in a file for as long as a session lives. `OwnCredentials` reads the
sources again when one of the files has changed, when S3 or STS refuses what was found, and on
request; requests from then on are signed with what was found last.

Credentials of a role end: botocore's refreshable credentials request new ones a quarter of an hour
before, one caller at a time, while the others use the old ones; from ten minutes before, all wait.
Their source is `AssumedRole.fetch`, which limits the requests to STS: after a response of any kind
there is none within `ROLE_SECONDS_MIN`, and a failure is hidden while the old credentials are
valid.
"""

import asyncio
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioDeferredRefreshableCredentials,
)
from aiobotocore.session import get_session
from botocore.credentials import RefreshableCredentials

from stream_app import log_events
from stream_app.config.files import FileVersion, file_version
from stream_app.errors import DeliveryError, TransientError
from stream_app.logs import error_fields, log_event
from stream_app.s3.errors import NO_CREDENTIALS, NOT_THESE, REQUEST_ERRORS, delivery_error

ROLE_SECONDS_MIN: Final = 10.0
"""Least time between two requests to STS for one role."""
READ_SECONDS_MIN: Final = 10.0
"""Least time between two readings because of a refusal, while no file changes."""
CREDENTIALS_SECONDS_MAX: Final = 30.0
"""Credentials may come from another program or server, which takes its time too."""
STS_SECONDS_MAX: Final = 30
SESSION_NAME: Final = "stream-app"
"""Name of the session in CloudTrail and in the assumed role's ARN."""
_SETTINGS: Final = {"shared-credentials-file": "credentials_file", "config-file": "config_file"}
_VARIABLES: Final = {"ec2-credentials-file": "AWS_CREDENTIAL_FILE", "boto-config": "BOTO_CONFIG"}
"""Settings and variables that name files of keys, by botocore's name of such a source."""
_READ_ERRORS: Final = (*REQUEST_ERRORS, DeliveryError, ValueError)

logger = logging.getLogger(__name__)


class SharedCredentials(ABC):
    """Credentials in place of botocore's, which clients keep while their content is renewed."""

    version = 0
    """Number of renewals so far."""
    _logged_version: int | None = None

    @property
    @abstractmethod
    def source(self) -> str:
        """The source for people."""

    @property
    @abstractmethod
    def method(self) -> str | None:
        """Name of their source in botocore; None: there are no credentials."""

    @abstractmethod
    async def get_frozen_credentials(self) -> Any:  # noqa: ANN401 - botocore's, without types
        """Return the present key, secret and token for one request; None: there are none."""

    async def get_account_id(self) -> str | None:
        """Return the account, where the source names one."""
        frozen = await self.get_frozen_credentials()
        return None if frozen is None else frozen.account_id

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """Return a getter of the account, the only property that botocore reads later."""
        assert name == "account_id", name  # noqa: S101
        return self.get_account_id

    @abstractmethod
    async def refused(self, version: int) -> bool:
        """Renew what was refused, if it is time to; return whether there are others by now.

        Args:
            version: The version that the refused request was signed with.
        """

    def log_refusal(self, endpoint: str, error: DeliveryError) -> None:
        """Log, once for each version, that S3 refuses them, and where others are expected."""
        if self._logged_version != self.version:
            self._logged_version = self.version
            log_event(
                logger,
                log_events.CREDENTIALS_REFUSED,
                endpoint=endpoint,
                source=self.source,
                **error_fields(error),
            )


class OwnCredentials(SharedCredentials):
    """Credentials of the process, from where AWS tools look for them.

    Args:
        check_seconds: Between two checks whether a file has changed.
    """

    def __init__(self, check_seconds: float) -> None:
        self.renewed_at: float | None = None
        """Time of the last renewal by a person or program, by the event loop's clock."""
        self._data_loader: Any = None
        """botocore's descriptions of services, which are large: all sessions share them."""
        self._check_seconds = check_seconds
        self._reading = asyncio.Lock()
        self._found: Any = None
        self._used: Any = None
        """Key, secret and token that are or were in use; None before the first issue of them."""
        self._files: dict[str, Path] = {}
        """Files of keys by botocore's name of such a source."""
        self._seen: list[FileVersion] = []
        self._checked_at = 0.0
        self._requested_at: float | None = None
        """Time of the last reading because of a refusal."""

    @property
    def method(self) -> str | None:
        """Name of their source in botocore; None: there are no credentials."""
        return getattr(self._found, "method", None)

    @property
    def source(self) -> str:
        """The source for people, with its path where it is a file."""
        if self.method is None:
            return "no source"
        file = self._files.get(self.method)
        return self.method if file is None else f"{self.method} {file}"

    async def load(self) -> Any:  # noqa: ANN401 - botocore's, without types
        """Read the sources for the first time; return a session whose clients use them.

        Raises:
            BotoCoreError: A profile does not exist, a program for credentials fails.
            OSError: A file cannot be read.
            ValueError: A file has another format.
        """
        session, self._found = await self._find()
        if not isinstance(self._found, RefreshableCredentials):
            self._used = await _frozen(self._found)
        self._checked_at = asyncio.get_running_loop().time()
        self._data_loader = session.get_component("data_loader")
        session._credentials = self  # noqa: SLF001 - there is no setter
        return session

    async def get_frozen_credentials(self) -> Any:  # noqa: ANN401 - botocore's, without types
        """Return the present key, secret and token for one request; None: there are none.

        Raises:
            TransientError: Their source gives only credentials that have ended.
        """
        if not self._reading.locked():  # else the old ones are good enough
            now = asyncio.get_running_loop().time()
            if now - self._checked_at >= self._check_seconds:
                async with self._reading:
                    self._checked_at = now
                    if await self._has_changed():
                        await self._read()
        self._used = await _frozen(self._found)
        return self._used

    async def refused(self, version: int) -> bool:
        """Read the sources again; return whether there are others by now."""
        async with self._reading:
            if self.version == version:
                now = asyncio.get_running_loop().time()
                is_time = self._requested_at is None or (
                    now - self._requested_at >= READ_SECONDS_MIN
                )
                if is_time or await self._has_changed():
                    self._requested_at = now
                    await self._read()
        return self.version != version

    async def reread(self) -> None:
        """Read the sources again, whether their files have changed or not."""
        async with self._reading:
            await self._read()

    async def _has_changed(self) -> bool:
        return await asyncio.to_thread(_versions, self._files) != self._seen

    async def _find(self) -> tuple[Any, Any]:
        """Return a new session and what it finds; its files are noted before they are read."""
        session, self._files, self._seen = await asyncio.to_thread(_new_session)
        if self._data_loader is not None:
            session.register_component("data_loader", self._data_loader)
        return session, await session.get_credentials()

    async def _read(self) -> None:
        """Take what the sources have now; keep the old credentials where that is unusable."""
        before = self._found
        try:
            async with asyncio.timeout(CREDENTIALS_SECONDS_MAX):
                _, found = await self._find()
                frozen = await _frozen(found)
        except _READ_ERRORS as error:
            message = " ".join(str(error).split()) or type(error).__name__
            log_event(logger, log_events.CREDENTIALS_KEPT, source=self.source, error=message)
            return
        if before is not None and (found is None or found.method != before.method):
            # A file that is just being written can be empty, and the next source in botocore's
            # order is another identity.
            message = f"{getattr(found, 'method', 'no source')} would be used instead"
            log_event(logger, log_events.CREDENTIALS_KEPT, source=self.source, error=message)
        elif frozen is not None and frozen != self._used:
            self._found = found
            self.version += 1
            if not isinstance(found, RefreshableCredentials):
                # Others are issued at each reading, and would be fresh for ever.
                self.renewed_at = asyncio.get_running_loop().time()
            log_event(logger, log_events.CREDENTIALS_RENEWED, source=self.source)


def _new_session() -> tuple[Any, dict[str, Path], list[FileVersion]]:
    """Return a session, the files that its credentials can come from, and their versions."""
    session = get_session()
    named = {method: session.get_config_variable(name) for method, name in _SETTINGS.items()}
    named |= {method: os.environ.get(name) for method, name in _VARIABLES.items()}
    files = {
        method: Path(os.path.expandvars(name)).expanduser()
        for method, name in named.items()
        if name
    }
    versions = _versions(files)
    session.full_config  # noqa: B018 - reads them here, in a thread
    return session, files, versions


def _versions(files: Mapping[str, Path]) -> list[FileVersion]:
    return [file_version(str(path)) for path in files.values()]


async def _frozen(found: Any) -> Any:  # noqa: ANN401 - botocore's, without types
    """Return the present key, secret and token; None: there are none.

    Raises:
        TransientError: Their source gives only credentials that have ended.
    """
    try:
        return None if found is None else await found.get_frozen_credentials()
    except RuntimeError as error:  # so says botocore
        raise TransientError("ExpiredToken", f"credentials of {found.method}: {error}") from error


class AssumedRole(SharedCredentials):
    """Role that our own credentials assume; any number of clients share it.

    Args:
        arn: The role's ARN.
        external_id: The external id that its trust policy requires, if any.
        own: Our own credentials.
        create_client: `Session.create_client`, with region and configuration given.
        seconds_min: Between two requests to STS.
    """

    def __init__(
        self,
        arn: str,
        external_id: str | None,
        own: OwnCredentials,
        create_client: Callable[..., Any],
        seconds_min: float = ROLE_SECONDS_MIN,
    ) -> None:
        self._arn = arn
        self._own = own
        self._seconds_min = seconds_min
        extra = {"RoleSessionName": SESSION_NAME}
        if external_id is not None:
            extra["ExternalId"] = external_id
        self._cache: dict[str, Any] = {}
        self._fetcher = AioAssumeRoleCredentialFetcher(
            create_client, own, arn, extra_args=extra, cache=self._cache
        )
        self._renewing = asyncio.Lock()
        self._requested_at: float | None = None
        self._newest: dict[str, Any] | None = None
        self._error: DeliveryError | None = None
        self._issued = AioDeferredRefreshableCredentials(self.fetch, self.method)

    @property
    def method(self) -> str:
        """Name of such a source in botocore."""
        return "assume-role"

    @property
    def source(self) -> str:
        """The role, and what assumes it, for people."""
        return f"role {self._arn}, assumed by {self._own.source}"

    async def get_frozen_credentials(self) -> Any:  # noqa: ANN401 - botocore's, without types
        """Return the present key, secret and token for one request.

        Raises:
            DeliveryError: There are no valid ones.
        """
        return await self._issued.get_frozen_credentials()

    async def refused(self, version: int) -> bool:
        """Request new credentials of STS; return whether there are others by now."""
        async with self._renewing:
            now = asyncio.get_running_loop().time()
            if self.version == version and self._may_request(now):
                self._cache.clear()
                await self._refresh(now)
                if self.version != version:
                    self._issued = AioDeferredRefreshableCredentials(self.fetch, self.method)
        return self.version != version

    async def fetch(self) -> dict[str, Any]:
        """Return credentials in the form that botocore's refreshable credentials take.

        Raises:
            DeliveryError: There are no valid ones.
        """
        now = asyncio.get_running_loop().time()
        if self._may_request(now):
            await self._refresh(now)
        if self._newest is not None and _seconds_left(self._newest) > 0:
            return self._newest
        error = self._error or TransientError(
            "ExpiredToken",
            f"role {self._arn}: STS returned credentials that have expired already; "
            "set this machine's clock",
        )
        raise type(error)(error.code, error.message) from error.__cause__

    def _may_request(self, now: float) -> bool:
        return self._requested_at is None or now - self._requested_at >= self._seconds_min

    async def _refresh(self, now: float) -> None:
        if self._own.method is None:
            self._error = TransientError(
                NO_CREDENTIALS, f"role {self._arn} cannot be assumed: there are no credentials"
            )
            return
        version = self._own.version
        try:
            try:
                self._newest = await self._fetcher.fetch_credentials()
            except REQUEST_ERRORS as error:
                code = delivery_error(error, STS_SECONDS_MAX).code
                if code not in NOT_THESE or not await self._own.refused(version):
                    raise
                self._newest = await self._fetcher.fetch_credentials()
        except REQUEST_ERRORS as error:
            failure = delivery_error(error, STS_SECONDS_MAX)
            message = f"role {self._arn} cannot be assumed: {failure.message}"
            self._error = type(failure)(failure.code, message)
            self._error.__cause__ = error
            if self._newest is not None:
                log_event(
                    logger,
                    log_events.ROLE_REFRESH_FAILED,
                    role=self._arn,
                    expiry=self._newest["expiry_time"],
                    **error_fields(failure),
                )
        else:
            self._error = None
            self.version += 1
        # Not before: a cancelled request has no result.
        self._requested_at = now


def _seconds_left(credentials: dict[str, Any]) -> float:
    ends_at = datetime.fromisoformat(credentials["expiry_time"])
    return (ends_at - datetime.now(UTC)).total_seconds()
