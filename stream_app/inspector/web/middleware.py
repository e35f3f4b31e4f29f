"""Middleware: authentication before any route, errors as JSON, security headers on every response.

`core.auth` decides; this module has the token file, aiohttp's middlewares, and login and logout.
"""

import logging
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from stream_app.errors import ConfigurationError, SetupError
from stream_app.inspector.core.auth import (
    COOKIE_NAME,
    SECURITY_HEADERS,
    TOKEN_LENGTH_MAX,
    TokenAuth,
    is_cross_site,
    is_exposed,
    is_local_name,
    token_mistake,
)
from stream_app.inspector.service.event_log import InvalidRequestError, NotFoundError
from stream_app.inspector.service.limiter import BusyError
from stream_app.inspector.service.redelivery import (
    RedeliveryForbiddenError,
    RedeliveryRunningError,
)

API_PREFIX: Final = "/api/"
LOGIN: Final = "/api/login"
LOGOUT: Final = "/api/logout"
LOGIN_BYTES_MAX: Final = 16 * 1024

STATUSES: Final[Mapping[type[Exception], HTTPStatus]] = {
    InvalidRequestError: HTTPStatus.BAD_REQUEST,
    NotFoundError: HTTPStatus.NOT_FOUND,
    RedeliveryForbiddenError: HTTPStatus.FORBIDDEN,
    RedeliveryRunningError: HTTPStatus.CONFLICT,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    SetupError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Status of the response to each error that a route raises."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

logger = logging.getLogger(__name__)


def read_token(name: str) -> str:
    """Return the token in a file; log a warning if other users can read the file.

    Raises:
        ConfigurationError: The file cannot be read, or does not hold a token.
    """
    path = Path(name)
    try:
        with path.open("rb") as file:
            status = path.stat()
            content = file.read(4 * TOKEN_LENGTH_MAX)
    except OSError as error:
        raise ConfigurationError(
            [f"--token-file {name}: cannot be read: {error.strerror}; name a file with a token"]
        ) from error
    token = content.decode(errors="replace").strip()
    mistake = token_mistake(token)
    if mistake is not None:
        raise ConfigurationError([f"--token-file {name}: {mistake}"])
    if is_exposed(status.st_mode, is_own=status.st_uid == os.geteuid()):
        logger.warning(
            "--token-file %s can be read by others (mode %o); chmod 600 it",
            name,
            stat.S_IMODE(status.st_mode),
        )
    return token


def json_response(
    document: Any,  # noqa: ANN401 - anything that is JSON
    status: int = HTTPStatus.OK,
) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


def error_response(status: int, text: str) -> web.Response:
    """Return an error response of the API."""
    # The text can quote a request, and so half of a surrogate pair.
    return json_response({"error": text.encode(errors="replace").decode()}, status)


async def read_json(request: web.Request) -> Any:  # noqa: ANN401 - anything that a client sends
    """Return the JSON body of a request.

    Raises:
        InvalidRequestError: The body is not JSON.
    """
    if request.content_type != "application/json":
        raise InvalidRequestError(f"the body is {request.content_type}; send application/json")
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from error


class AuthMiddleware:
    """Authentication of every request of an application.

    Args:
        auth: Check of tokens and cookies.
    """

    def __init__(self, auth: TokenAuth) -> None:
        self._auth = auth

    def register(self, application: web.Application) -> None:
        """Add the middlewares, and the routes for login and logout."""

        @web.middleware
        async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._authorize(request, handler)

        application.on_response_prepare.append(_add_security_headers)
        application.middlewares.append(_translate_errors)
        application.middlewares.append(authorize)
        application.router.add_post(LOGIN, self._login)
        application.router.add_post(LOGOUT, self._logout)

    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._auth.is_open and not is_local_name(request.headers.get("Host")):
            return error_response(
                HTTPStatus.MISDIRECTED_REQUEST,
                "without a token the Inspector serves only this machine, as localhost or "
                "127.0.0.1; start it with --token-file to reach it by another name",
            )
        route = _route(request)
        if not route.startswith(API_PREFIX):
            return await handler(request)
        headers = request.headers
        if is_cross_site(headers.get("Host"), headers.get("Origin"), headers.get("Sec-Fetch-Site")):
            return error_response(
                HTTPStatus.FORBIDDEN, "only the Inspector's own page may send requests"
            )
        if route not in {LOGIN, LOGOUT} and not self._auth.authorizes(
            headers.get("Authorization"), request.cookies.get(COOKIE_NAME)
        ):
            return error_response(
                HTTPStatus.UNAUTHORIZED,
                "no token, or a wrong one; log in, or send Authorization: Bearer TOKEN",
            )
        return await handler(request)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        if self._auth.is_open:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        if (request.content_length or 0) > LOGIN_BYTES_MAX:
            return error_response(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too long for a token"
            )
        document = await read_json(request)
        token = document.get("token") if isinstance(document, dict) else None
        if not isinstance(token, str) or not self._auth.matches(token.strip()):
            return error_response(
                HTTPStatus.UNAUTHORIZED, "this is not the token in the --token-file"
            )
        response = web.Response(status=HTTPStatus.NO_CONTENT)
        response.set_cookie(
            COOKIE_NAME,
            self._auth.cookie,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
        )
        return response

    async def _logout(self, _: web.Request) -> web.StreamResponse:
        response = web.Response(status=HTTPStatus.NO_CONTENT)
        response.del_cookie(COOKIE_NAME, path="/", httponly=True, samesite="Strict")
        return response


def _route(request: web.Request) -> str:
    """Return the pattern of the matched route, however the path is spelled."""
    resource = request.match_info.route.resource
    return request.path if resource is None else resource.canonical


async def _add_security_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY_HEADERS)
    if _route(request).startswith(API_PREFIX):
        response.headers["Cache-Control"] = "no-store"
    response.headers.popall("Server", None)


@web.middleware
async def _translate_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn exceptions of a route into error responses."""
    try:
        return await handler(request)
    except tuple(STATUSES) as error:
        status = next(it for kind, it in STATUSES.items() if isinstance(error, kind))
        return error_response(status, str(error))
    except web.HTTPException as error:
        if not _route(request).startswith(API_PREFIX):
            raise
        return error_response(error.status, f"{request.method} {request.path}: {error.reason}")
    except ConnectionError:
        raise  # The client disconnected.
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return error_response(
            HTTPStatus.INTERNAL_SERVER_ERROR, "the Inspector has a defect; see its log"
        )
