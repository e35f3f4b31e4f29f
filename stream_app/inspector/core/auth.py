"""Authorization of requests, and the security headers of responses.

Without a token only clients on this machine are served, and only under a local `Host`: a page of
another site whose name resolves to this machine (DNS rebinding) sends a different one. With a token
a client authenticates by a header, or by a cookie from which the token cannot be derived.

Pure: strings in, decisions out.
"""

import hashlib
import hmac
import ipaddress
import stat
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

COOKIE_NAME: Final = "stream_app_inspector"
TOKEN_LENGTH_MIN: Final = 16
TOKEN_LENGTH_MAX: Final = 1_024
"""Characters; a longer file is taken for something other than a token."""
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
TRUSTED_FETCH_SITES: Final = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site` for a request from our own page, or from the address bar."""
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response."""


def is_exposed(mode: int, *, is_own: bool) -> bool:
    """Return whether a token file can be read by users who need not read it.

    Args:
        mode: Permissions of the file.
        is_own: Whether the file belongs to the user of this process, who then needs no right of
            the group. A Secret in Kubernetes belongs to root, and a pod reads it by its group.
    """
    return bool(mode & (stat.S_IROTH | (stat.S_IRGRP if is_own else 0)))


def is_loopback(bind: str) -> bool:
    """Return whether only this machine can reach an address."""
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False


def is_local_name(host: str | None) -> bool:
    """Return whether a `Host` header names this machine, on any port."""
    try:
        return urlsplit(f"//{host}").hostname in LOCAL_NAMES
    except ValueError:
        return False


def is_cross_site(host: str | None, origin: str | None, site: str | None) -> bool:
    """Return whether the page of another site makes a request, by the browser's headers.

    Args:
        host: The request's `Host`.
        origin: Its `Origin`, which browsers add to a POST.
        site: Its `Sec-Fetch-Site`.
    """
    if site is not None and site not in TRUSTED_FETCH_SITES:
        return True
    return origin is not None and origin.partition("://")[2] != host


def token_mistake(token: str) -> str | None:
    """Return why a string cannot be a token and what to do; None if it can."""
    if not TOKEN_LENGTH_MIN <= len(token) <= TOKEN_LENGTH_MAX:
        return (
            f"it has {len(token)} characters; write {TOKEN_LENGTH_MIN} to {TOKEN_LENGTH_MAX}, "
            "for example by: openssl rand -hex 32"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        return "it is not one word of printable ASCII; write letters, digits and signs on one line"
    return None


class TokenAuth:
    """Authentication by one shared token.

    Args:
        token: The token; None: every request is authorized.
        secret: Random bytes that sign cookies: a cookie is valid while the secret is the same.
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
        """Whether no token is needed."""
        return self._token is None

    @property
    def cookie(self) -> str:
        """Value of the cookie that a client gets for the token."""
        return (self._cookie or b"").decode()

    def matches(self, text: str) -> bool:
        """Return whether a string is the token, compared in constant time."""
        if self._token is None:
            return False
        return hmac.compare_digest(_bytes(text), self._token.encode())

    def authorizes(self, authorization: str | None, cookie: str | None) -> bool:
        """Return whether a request is authorized by its header or its cookie."""
        if self._cookie is None:
            return True
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and self.matches(token.strip()):
            return True
        return hmac.compare_digest(_bytes(cookie or ""), self._cookie)


def _bytes(text: str) -> bytes:
    # aiohttp decodes a header that is not UTF-8 with surrogates.
    return text.encode(errors="surrogatepass")
