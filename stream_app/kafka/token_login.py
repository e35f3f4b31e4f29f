"""Login to Kafka by tokens (SASL OAUTHBEARER): a provider of tokens, and connections that use it.

    oidc ────────┐
                 ├─> TokenProvider ─> TokenConnection: login ─┬─ 80 % of the session ─> login again
    aws_msk_iam ─┘   one for each login of the process        └─ refused ─> another token

A broker ends a session when its token ends, and closes the connection at the next request. Java's
clients log in again on the connection before that (KIP-368); aiokafka does not. Its requests then
fail, and a commit whose outcome is unknown costs a rebalance. Nor does it notice a refusal, which
comes as the content of a response: it takes the login for done. So `TokenConnection` replaces its
connections, under the name by which its client makes them.
"""

import asyncio
import logging
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final

from aiokafka import client
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import (
    KafkaError,
    NoError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    for_code,
)
from aiokafka.protocol.admin import SaslAuthenticateRequest, SaslHandShakeRequest

from stream_app import log_events
from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.kafka.login_tokens import (
    RETRY_SECONDS,
    LoginToken,
    TokenState,
    login_message,
    relogin_seconds,
)
from stream_app.logs import log_event

OAUTHBEARER: Final = "OAUTHBEARER"
TOKEN_SECONDS_MAX: Final = 10.0
"""Timeout of one request for a token: a tenth of what is left of a short-lived one."""
PROVIDERS_MAX: Final = 16
"""Logins of one process whose tokens are kept: one, unless its configuration changes."""
_ACKNOWLEDGED: Final = b"\x01"
"""The client's answer to a refusal (RFC 7628, 3.2.3), upon which the broker logs the reason."""

logger = logging.getLogger(__name__)


class TokenError(KafkaError):  # type: ignore[misc] # aiokafka has no types
    """There is no token to log in with; a client tries again, as with a broker that is down."""

    retriable = True


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc] # as above
    """Provider of the tokens of one login, for clients in any number of threads and loops.

    Args:
        name: The setting `sasl_token_provider`.
        request: Returns a new token; blocks, and raises SetupError. It runs in a thread, one call
            at a time.
        now: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        name: str,
        request: Callable[[], LoginToken],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._request = request
        self._now = now
        self._state = TokenState()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="login-token")

    async def token(self) -> str:
        """Return the text of a valid token, as aiokafka's own connections want it.

        Raises:
            TokenError: There is none.
        """
        return (await self.valid_token()).value

    async def valid_token(self) -> LoginToken:
        """Return a valid token, after a request for a new one where that is due.

        Raises:
            TokenError: There is none.
        """
        if self._state.is_due(self._now()):
            await asyncio.get_running_loop().run_in_executor(self._thread, self._renew)
        token = self._state.usable(self._now())
        if token is None:
            raise TokenError(self._state.error)
        return token

    def refuse(self, token: LoginToken) -> None:
        """Note that a broker refuses a token; another one is requested after a pause."""
        self._state.refuse(token, self._now())

    def _renew(self) -> None:
        """Request a token, unless another call has done so meanwhile; runs in the thread."""
        if not self._state.is_due(self._now()):
            return
        try:
            token = self._request()
        except SetupError as error:
            now = self._now()
            self._state.fail(str(error), now)
            kept = self._state.usable(now)
            if kept is not None:
                log_event(
                    logger,
                    log_events.TOKEN_KEPT,
                    provider=self._name,
                    seconds=kept.ends_at - now,
                    error=str(error),
                )
        else:
            self._state.take(token)
            log_event(
                logger,
                log_events.TOKEN_RENEWED,
                provider=self._name,
                seconds=token.life_seconds,
            )


@lru_cache(PROVIDERS_MAX)
def token_provider(kafka: Kafka) -> TokenProvider:
    """Return the provider of a login; the same one for all clients of the process."""
    name = kafka.sasl_token_provider or ""
    request = {"oidc": _oidc, "aws_msk_iam": _aws_msk_iam}[name]
    return TokenProvider(name, lambda: request(kafka))


def _oidc(kafka: Kafka) -> LoginToken:
    from stream_app.kafka.token_server import request_token  # noqa: PLC0415 - aiohttp is slow

    return request_token(kafka, TOKEN_SECONDS_MAX)


def _aws_msk_iam(kafka: Kafka) -> LoginToken:
    from stream_app.s3.iam_token import iam_token  # noqa: PLC0415 - botocore is slow

    requested_at = time.monotonic()
    value, seconds = iam_token(
        kafka.sasl_aws_region or "", kafka.sasl_aws_role_arn, TOKEN_SECONDS_MAX
    )
    return LoginToken(value, requested_at, seconds)


class TokenConnection(AIOKafkaConnection):  # type: ignore[misc] # as above
    """Connection to a broker that logs in by a token, and again before its session ends."""

    _relogin: asyncio.TimerHandle | asyncio.Task[None] | None = None
    _login_ended: asyncio.Event | None = None
    """Set when the login on a connection in use is over; None: there is no such login."""

    def send(self, request: Any, expect_response: bool = True) -> Any:  # noqa: ANN401, FBT001, FBT002 - aiokafka's
        """Send a request, or hold it up while a login is under way.

        To anything else the broker would respond with an error of SASL, for which no client of
        aiokafka knows a remedy.
        """
        if self._login_ended is None:
            return super().send(request, expect_response)
        return self._send_after(self._login_ended, request, expect_response)

    async def _send_after(self, ended: asyncio.Event, *request: Any) -> Any:  # noqa: ANN401 - as above
        await ended.wait()
        return await self.send(*request)

    async def _do_sasl_handshake(self) -> None:
        """Log in on a new connection.

        Raises:
            KafkaError: The broker refuses, or there is no token; the connection is closed then.
        """
        await self._shake_hands()
        await self._authenticate(await self._sasl_oauth_token_provider.valid_token())

    async def _shake_hands(self) -> None:
        response = await super().send(SaslHandShakeRequest(self._sasl_mechanism))
        error = for_code(response.error_code)
        if error is NoError and self._sasl_mechanism not in response.enabled_mechanisms:
            error = UnsupportedSaslMechanismError
        if error is not NoError:
            raise error(", ".join(response.enabled_mechanisms))

    async def _authenticate(self, token: LoginToken) -> None:
        """Log in by a token, and plan the next login.

        Raises:
            KafkaError: The broker refuses the token.
        """
        response = await super().send(SaslAuthenticateRequest(login_message(token)))
        error = for_code(response.error_code)
        if error is NoError and response.sasl_auth_bytes:
            response = await super().send(SaslAuthenticateRequest(_ACKNOWLEDGED))
            error = for_code(response.error_code)
            error = SaslAuthenticationFailed if error is NoError else error
        if error is not NoError:
            self._sasl_oauth_token_provider.refuse(token)
            raise error(response.error_message)
        # Version 0 of the response has no such field: no session ends with such a broker.
        seconds = relogin_seconds(getattr(response, "session_lifetime_ms", 0))
        if seconds is not None:
            self._log_in_after(seconds)

    def _log_in_after(self, seconds: float) -> None:
        # A connection that nobody closes goes away with its last reference, as aiokafka has it.
        self._relogin = self._loop.call_later(seconds, _begin_relogin, weakref.ref(self))

    async def _log_in_again(self) -> None:
        """Log in on a connection in use, whose requests before that are answered first."""
        try:
            token = await self._sasl_oauth_token_provider.valid_token()
        except TokenError:
            # Until the session's end: then the connection is closed, and made anew.
            self._log_in_after(RETRY_SECONDS)
            return
        self._login_ended = ended = asyncio.Event()
        try:
            await self._shake_hands()
            await self._authenticate(token)
        except (KafkaError, OSError, TimeoutError) as error:
            self._relogin = None  # this task, which `close` would cancel
            self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
        finally:
            self._login_ended = None
            ended.set()

    def close(self, reason: CloseReason | None = None, exc: BaseException | None = None) -> Any:  # noqa: ANN401 - aiokafka's
        """Close the connection, and log in no more."""
        if self._relogin is not None:
            self._relogin.cancel()
            self._relogin = None
        return super().close(reason, exc)


def _begin_relogin(reference: "weakref.ref[TokenConnection]") -> None:
    connection = reference()
    if connection is not None and connection.connected():
        connection._relogin = connection._loop.create_task(connection._log_in_again())  # noqa: SLF001


async def create_connection(host: str, port: int, **options: Any) -> AIOKafkaConnection:  # noqa: ANN401 - aiokafka's
    """Return a connection, with the login done; in place of aiokafka's function of its own."""
    is_by_token = options.get("sasl_mechanism") == OAUTHBEARER
    connection = (TokenConnection if is_by_token else AIOKafkaConnection)(host, port, **options)
    await connection.connect()
    return connection


def token_options(kafka: Kafka) -> dict[str, Any]:
    """Return the options of a client that logs in by tokens; its connections are ours."""
    client.create_conn = create_connection
    return {
        "sasl_mechanism": OAUTHBEARER,
        "sasl_oauth_token_provider": token_provider(kafka),
    }
