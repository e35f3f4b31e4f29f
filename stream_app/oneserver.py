"""HTTP for S3 clients that asks the server it is told to, and no other.

aiobotocore leaves aiohttp's default on: a redirect is followed, with the content and the session
token, to whatever host it names, and that host's 200 is taken for S3's. A login page in between
would so turn an upload into a success that stored nothing. Here the redirect itself is the answer.
"""

from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession


class OneServer(AIOHTTPSession):  # type: ignore[misc] # aiobotocore has no types
    """aiobotocore's HTTP session without redirects: `AioConfig(http_session_cls=OneServer)`."""

    async def _get_session(self, proxy_url: str | None) -> "_Straight":
        return _Straight(await super()._get_session(proxy_url))


class _Straight:
    """As much of an aiohttp session as aiobotocore uses."""

    __slots__ = ("_session",)

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:  # noqa: ANN401
        return await self._session.request(method, allow_redirects=False, **options)
