"""Credentials of a role, for all who assume it.

botocore's refreshable credentials ask for new ones a quarter of an hour before the old ones end,
one caller at a time, while the others go on with the old; from ten minutes before, all wait. Their
source is `Role.fetch`, which keeps STS from being asked again and again: after an answer of any
kind, not within `ROLE_SECONDS_MIN`, and an STS that fails is hidden for as long as the old
credentials are good.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioDeferredRefreshableCredentials,
)

from stream_app import happenings
from stream_app.errors import DeliveryError, TransientError
from stream_app.logs import say
from stream_app.trouble import NO_CREDENTIALS, TROUBLES, delivery_error

ROLE_SECONDS_MIN: Final = 10.0
"""STS is not asked for the same role twice within this."""
STS_SECONDS_MAX: Final = 30
SESSION_NAME: Final = "stream-app"
"""Stands in CloudTrail and in the assumed role's ARN."""

logger = logging.getLogger(__name__)


class Role:
    """One role, assumed by our own credentials; its `credentials` are for any number of clients.

    Args:
        arn: The role's.
        external_id: What its owner asks for, if anything.
        own: Our own credentials, None if there are none.
        create_client: `Session.create_client`, with region and configuration given.
        seconds_min: Between two requests to STS.
    """

    def __init__(
        self,
        arn: str,
        external_id: str | None,
        own: Any,  # noqa: ANN401 - botocore's, without types
        create_client: Callable[..., Any],
        seconds_min: float = ROLE_SECONDS_MIN,
    ) -> None:
        self._arn = arn
        self._own = own
        self._seconds_min = seconds_min
        extra = {"RoleSessionName": SESSION_NAME}
        if external_id is not None:
            extra["ExternalId"] = external_id
        self._fetcher = AioAssumeRoleCredentialFetcher(
            create_client, own, arn, extra_args=extra, cache={}
        )
        self._asked_at: float | None = None
        self._newest: dict[str, Any] | None = None
        self._error: DeliveryError | None = None
        self.credentials = AioDeferredRefreshableCredentials(self.fetch, "assume-role")

    async def fetch(self) -> dict[str, Any]:
        """Return credentials as botocore's refreshing wants them.

        Raises:
            DeliveryError: There are none.
        """
        now = asyncio.get_running_loop().time()
        if self._asked_at is None or now - self._asked_at >= self._seconds_min:
            await self._ask(now)
        if self._newest is not None and _seconds_left(self._newest) > 0:
            return self._newest
        error = self._error or TransientError(
            "ExpiredToken",
            f"role {self._arn}: STS gave credentials that have ended already; "
            "set this machine's clock",
        )
        raise type(error)(error.code, error.message) from error.__cause__

    async def _ask(self, now: float) -> None:
        if self._own is None:
            self._error = TransientError(
                NO_CREDENTIALS, f"role {self._arn} cannot be assumed: there are no credentials"
            )
            return
        try:
            self._newest = await self._fetcher.fetch_credentials()
        except TROUBLES as error:
            failure = delivery_error(error, STS_SECONDS_MAX)
            message = f"role {self._arn} cannot be assumed: {failure.message}"
            self._error = type(failure)(failure.code, message)
            self._error.__cause__ = error
            if self._newest is not None:
                say(
                    *(logger, happenings.NOT_ASSUMED, "%s; its credentials end at %s"),
                    *(message, self._newest["expiry_time"]),
                    role=self._arn,
                    code=failure.code,
                    error=failure.message,
                )
        else:
            self._error = None
        # Not before: who was cancelled has learnt nothing.
        self._asked_at = now


def _seconds_left(credentials: dict[str, Any]) -> float:
    ends_at = datetime.fromisoformat(credentials["expiry_time"])
    return (ends_at - datetime.now(UTC)).total_seconds()
