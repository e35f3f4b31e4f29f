"""Login tokens: when one is used, renewed or refused, and what a token server has sent. Pure.

    requested                            80 % of its life        its end
        ├────────────── used ───────────────────┼──── due ──────────┤ not used any more
                                                └─ a failed request is repeated after a pause,
                                                   and the token is used until its end

Times are seconds of one monotonic clock. A token's life is counted from its request on, so that it
ends here before it ends at the broker.
"""

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import orjson

from stream_app.config.settings import Kafka, environment_name
from stream_app.errors import SetupError

RENEWAL_SHARE: Final = 0.8
"""Share of its life after which a token, or a session that began with one, is renewed: the rest is
left for a token server that does not respond at once."""
RETRY_SECONDS: Final = 5.0
"""Least time between two requests for a token, if the first has failed or its token was refused:
Kafka's clients connect again ten times a second."""
SESSION_SECONDS_MIN: Final = 1.5
"""Least time from a login to its renewal: a broker refuses a second one within a second."""
LIFE_SECONDS_MAX: Final = 7 * 86_400
"""Longest life of a token; of a longer one no more is used."""
RESPONSE_BYTES_MAX: Final = 256 * 1024
"""Size of a token server's response; a broker takes no login of more than 512 KiB."""
CLIENT_SECRET: Final = "sasl_oidc_client_secret"  # noqa: S105 - a setting's name
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""Characters of a bearer token (RFC 6750): none of them ends the login message of SASL."""
_ERROR_CODES: Final = (
    *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"),
    *("unsupported_grant_type", "invalid_scope", "access_denied", "server_error"),
    "temporarily_unavailable",
)
"""Codes of RFC 6749 that a message may repeat: free text of a server could have anything."""
_OK: Final = 200
_REDIRECTS: Final = range(300, 400)
_CLIENT_REFUSED: Final = 401


@dataclass(frozen=True, slots=True)
class LoginToken:
    """Token for logins to Kafka."""

    value: str = field(repr=False)
    requested_at: float
    life_seconds: float

    @property
    def renewal_at(self) -> float:
        """Time from which another one is requested."""
        return self.requested_at + RENEWAL_SHARE * self.life_seconds

    @property
    def ends_at(self) -> float:
        """Time from which it is not used any more."""
        return self.requested_at + self.life_seconds


@dataclass(slots=True)
class TokenState:
    """The present token of one login, and the last failure to get another one."""

    _token: LoginToken | None = None
    _is_refused: bool = False
    _paused_at: float | None = None
    """Time of the last failure or refusal since there is this token."""
    error: str = ""
    """Why there is no token, or no newer one."""

    def is_due(self, now: float) -> bool:
        """Return whether a token is to be requested now."""
        token = self._token
        if token is not None and not self._is_refused and now < token.renewal_at:
            return False
        return self._paused_at is None or now - self._paused_at >= RETRY_SECONDS

    def usable(self, now: float) -> LoginToken | None:
        """Return the token while it is valid; one that a broker has refused, too."""
        token = self._token
        return token if token is not None and now < token.ends_at else None

    def take(self, token: LoginToken) -> None:
        """Use a new token from now on."""
        self._token, self._is_refused, self._paused_at = token, False, None

    def fail(self, error: str, now: float) -> None:
        """Keep the old token after a failed request."""
        self.error, self._paused_at = error, now

    def refuse(self, token: LoginToken, now: float) -> None:
        """Note that a broker has refused a token: another one is requested after a pause."""
        if self._token == token and not self._is_refused:
            self._is_refused, self._paused_at = True, now


def relogin_seconds(session_ms: int) -> float | None:
    """Return after how many seconds to log in again in a session of so many milliseconds.

    None: not at all, since the session has no end, or one that is too near: the broker then closes
    the connection.
    """
    seconds = RENEWAL_SHARE * session_ms / 1000
    return seconds if seconds >= SESSION_SECONDS_MIN else None


def login_message(token: LoginToken) -> bytes:
    """Return the client's first message of SASL OAUTHBEARER (RFC 7628)."""
    return f"n,,\x01auth=Bearer {token.value}\x01\x01".encode()


def token_refusal(kafka: Kafka) -> str:
    """Return what a broker refuses and what to do, after its name."""
    match kafka.sasl_token_provider:
        case "oidc":
            return (
                f"refuses the token that {kafka.sasl_oidc_token_url} has issued to {kafka.user}; "
                "let the brokers trust that issuer, and set [kafka] sasl_oidc_scope to what they "
                "expect; the broker's log has the reason"
            )
        case _:
            return (
                f"refuses the IAM login of {kafka.user}; allow it kafka-cluster:Connect to the "
                "cluster, and set [kafka] sasl_aws_region to the cluster's region"
            )


def oidc_request(kafka: Kafka, secret: str) -> tuple[dict[str, str], str]:
    """Return form and `Authorization` of the client credentials grant (RFC 6749, 4.4 and 2.3.1).

    Client and secret are encoded before they are joined, so that every character passes.

    Args:
        kafka: The settings.
        secret: The client's secret, which may come from a file.
    """
    form = {"grant_type": "client_credentials"}
    if kafka.sasl_oidc_scope is not None:
        form["scope"] = kafka.sasl_oidc_scope
    joined = ":".join(quote(text, safe="") for text in (kafka.sasl_oidc_client_id or "", secret))
    return form, f"Basic {b64encode(joined.encode()).decode()}"


def oidc_token(kafka: Kafka, status: int, body: bytes, requested_at: float) -> LoginToken:
    """Return the token in a response to `oidc_request`.

    Args:
        kafka: The settings that the request was made from.
        status: The response's status.
        body: Its content, cut after `RESPONSE_BYTES_MAX` and one more.
        requested_at: Time at which the request began.

    Raises:
        SetupError: The response has no token that can be used; one line, without the secret.
    """
    where = f"token server {kafka.sasl_oidc_token_url}"
    if len(body) > RESPONSE_BYTES_MAX:
        raise SetupError(
            f"{where} sends more than {RESPONSE_BYTES_MAX} bytes; is [kafka] sasl_oidc_token_url "
            "its token endpoint?"
        )
    document = _document(body)
    if status != _OK:
        raise SetupError(f"{where} {_refusal(kafka, status, document)}")
    if document is None:
        raise SetupError(
            f"{where} responds with something other than a JSON object; is [kafka] "
            "sasl_oidc_token_url its token endpoint?"
        )
    value = document.get("access_token")
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        found = "no access_token" if value is None else "an access_token that is no bearer token"
        raise SetupError(
            f"{where} responds with {found}; let it issue bearer tokens to {kafka.user} (client "
            "credentials grant)"
        )
    life = _life_seconds(document.get("expires_in"))
    if life is None:
        found = "no expires_in" if "expires_in" not in document else "an unusable expires_in"
        raise SetupError(
            f"{where} responds with {found}; let it state for how many seconds a token of "
            f"{kafka.user} is valid"
        )
    return LoginToken(value, requested_at, life)


def _document(body: bytes) -> dict[str, Any] | None:
    """Return a JSON object; None if it is none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _refusal(kafka: Kafka, status: int, document: dict[str, Any] | None) -> str:
    """Return what was found and what to do, for a status other than 200."""
    code = (document or {}).get("error")
    reason = f"status {status}, {code}" if code in _ERROR_CODES else f"status {status}"
    if status == _CLIENT_REFUSED or code == "invalid_client":
        return (
            f"refuses {kafka.user} ({reason}): wrong client or secret; set [kafka] "
            "sasl_oidc_client_id and "
            f"{kafka.sasl_oidc_client_secret_file or environment_name('kafka', CLIENT_SECRET)}"
        )
    if code == "invalid_scope":
        return f"refuses the scope ({reason}); set [kafka] sasl_oidc_scope to one that it knows"
    if status in _REDIRECTS:
        return (
            f"redirects ({reason}), which no secret follows; set [kafka] sasl_oidc_token_url to "
            "the final address"
        )
    return (
        f"responds with {reason}; is it well, is [kafka] sasl_oidc_token_url its token endpoint, "
        f"and may {kafka.user} use the client credentials grant?"
    )


def _life_seconds(expires_in: object) -> float | None:
    """Return `expires_in` in seconds; some servers send it as text. None: it is unusable."""
    if isinstance(expires_in, str) and re.fullmatch(r"[0-9]{1,18}", expires_in):
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or expires_in <= 0:
        return None
    return float(min(expires_in, LIFE_SECONDS_MAX))
