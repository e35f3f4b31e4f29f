"""Who is let in, and what a browser may do with an answer.

Without a token only this machine is answered, and only under its own name: a page of another site
that has its name point here (DNS rebinding) sends another `Host`. With a token whoever knows it is
let in, by a header or by a cookie that does not hold it.

Pure: texts in, decisions out.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

COOKIE: Final = "stream_app_inspector"
TOKEN_LENGTH_MIN: Final = 16
TOKEN_LENGTH_MAX: Final = 1_024
"""Characters; more are no token but another file."""
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
OWN_SITES: Final = frozenset({"same-origin", "none"})
"""What a browser says of a request from our own page, or typed by a person."""
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer."""


def is_loopback(bind: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False


def is_local_name(host: str | None) -> bool:
    """Tell whether a `Host` header names this machine, whatever the port."""
    try:
        return urlsplit(f"//{host}").hostname in LOCAL_NAMES
    except ValueError:
        return False


def is_foreign(host: str | None, origin: str | None, site: str | None) -> bool:
    """Tell whether a browser says that another site's page makes a request.

    Args:
        host: The request's `Host`.
        origin: Its `Origin`, which browsers add to what is posted.
        site: Its `Sec-Fetch-Site`.
    """
    if site is not None and site not in OWN_SITES:
        return True
    return origin is not None and origin.partition("://")[2] != host


def token_mistake(token: str) -> str | None:
    """Say why a text is no token, and what to do; None when it is one."""
    if not TOKEN_LENGTH_MIN <= len(token) <= TOKEN_LENGTH_MAX:
        return (
            f"it holds {len(token)} characters; write {TOKEN_LENGTH_MIN} to {TOKEN_LENGTH_MAX}, "
            "for example by: openssl rand -hex 32"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        return "it holds more than one word of ASCII; write letters, digits and signs on one line"
    return None


class Gate:
    """Knows the token.

    Args:
        token: It; None: everybody is let in.
        secret: Random bytes: cookies are good for as long as these are used.
    """

    def __init__(self, token: str | None, secret: bytes) -> None:
        self._token = token
        self._cookie = (
            None
            if token is None
            else hmac.new(secret, token.encode(), hashlib.sha256).hexdigest().encode()
        )

    @property
    def is_open(self) -> bool:
        """Whether there is no token."""
        return self._token is None

    @property
    def cookie(self) -> str:
        """What the cookie of somebody holds who knows the token."""
        return (self._cookie or b"").decode()

    def is_token(self, text: str) -> bool:
        """Tell whether this is the token, in a time that does not depend on what is wrong."""
        if self._token is None:
            return False
        return hmac.compare_digest(_bytes(text), self._token.encode())

    def admits(self, authorization: str | None, cookie: str | None) -> bool:
        """Tell whether a request may be answered, by its header and its cookie."""
        if self._cookie is None:
            return True
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(token.strip()):
            return True
        return hmac.compare_digest(_bytes(cookie or ""), self._cookie)


def _bytes(text: str) -> bytes:
    # A header is decoded with surrogates where it is no UTF-8.
    return text.encode(errors="surrogatepass")
