"""The door: who is let in is asked before any route, and every answer has the security headers.

`guard` decides; here are the token's file, aiohttp's middlewares, and logging in and out.
"""

import logging
import stat
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web
from aiokafka.errors import KafkaError

from stream_app.errors import ConfigurationError, SetupError
from stream_app.inspector.guard import (
    COOKIE,
    HEADERS,
    TOKEN_LENGTH_MAX,
    Gate,
    is_foreign,
    is_local_name,
    token_mistake,
)
from stream_app.inspector.paging import MistakeError, NotThereError
from stream_app.inspector.turns import BusyError

API: Final = "/api/"
LOGIN: Final = "/api/login"
LOGOUT: Final = "/api/logout"
LOGIN_BYTES_MAX: Final = 16 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

logger = logging.getLogger(__name__)


def read_token(name: str) -> str:
    """Return the token that a file holds; warn where others can read it.

    Raises:
        ConfigurationError: It cannot be read, or holds no token.
    """
    path = Path(name)
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            content = file.read(4 * TOKEN_LENGTH_MAX)
    except OSError as error:
        raise ConfigurationError(
            [f"--token-file {name}: it cannot be read: {error.strerror}; name a file with a token"]
        ) from error
    token = content.decode(errors="replace").strip()
    mistake = token_mistake(token)
    if mistake is not None:
        raise ConfigurationError([f"--token-file {name}: {mistake}"])
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning(
            "--token-file %s can be read by others (mode %o); chmod 600 it", name, mode & 0o777
        )
    return token


def answer(
    document: Any,  # noqa: ANN401 - anything that is JSON
    status: int = HTTPStatus.OK,
) -> web.Response:
    """Return JSON."""
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


def refusal(status: int, why: str) -> web.Response:
    """Return an error."""
    # What a client sent can be quoted, and can be half of a pair of surrogates.
    return answer({"error": why.encode(errors="replace").decode()}, status)


async def body(request: web.Request) -> Any:  # noqa: ANN401 - whatever a client sends
    """Return the JSON that was posted.

    Raises:
        MistakeError: It is none.
    """
    if request.content_type != "application/json":
        raise MistakeError(f"the body is {request.content_type}; send application/json")
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise MistakeError(f"the body is no JSON: {error}") from error


class Door:
    """The middlewares of an application.

    Args:
        gate: Knows the token.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def hang(self, application: web.Application) -> None:
        """Ask at every route of an application, and add what logs in and out."""

        @web.middleware
        async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._ask(request, handler)

        application.on_response_prepare.append(_harden)
        application.middlewares.append(_explain)
        application.middlewares.append(ask)
        application.router.add_post(LOGIN, self._login)
        application.router.add_post(LOGOUT, self._logout)

    async def _ask(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._gate.is_open and not is_local_name(request.headers.get("Host")):
            return refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "without a token only this machine is answered, as localhost or 127.0.0.1; start "
                "the Inspector with --token-file to reach it by another name",
            )
        route = _route(request)
        if not route.startswith(API):
            return await handler(request)
        headers = request.headers
        if is_foreign(headers.get("Host"), headers.get("Origin"), headers.get("Sec-Fetch-Site")):
            return refusal(HTTPStatus.FORBIDDEN, "only the Inspector's own page may ask")
        if route not in {LOGIN, LOGOUT} and not self._gate.admits(
            headers.get("Authorization"), request.cookies.get(COOKIE)
        ):
            return refusal(
                HTTPStatus.UNAUTHORIZED,
                "no token, or a wrong one; log in, or send Authorization: Bearer TOKEN",
            )
        return await handler(request)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        if self._gate.is_open:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        if (request.content_length or 0) > LOGIN_BYTES_MAX:
            return refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "this is too long for a token")
        document = await body(request)
        token = document.get("token") if isinstance(document, dict) else None
        if not isinstance(token, str) or not self._gate.is_token(token.strip()):
            return refusal(
                HTTPStatus.UNAUTHORIZED, "this is not the token that the --token-file holds"
            )
        response = web.Response(status=HTTPStatus.NO_CONTENT)
        response.set_cookie(
            COOKIE,
            self._gate.cookie,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
        )
        return response

    async def _logout(self, _: web.Request) -> web.StreamResponse:
        response = web.Response(status=HTTPStatus.NO_CONTENT)
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
        return response


def _route(request: web.Request) -> str:
    """Return the pattern of the route that will answer, however its path is spelt."""
    resource = request.match_info.route.resource
    return request.path if resource is None else resource.canonical


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    if _route(request).startswith(API):
        response.headers["Cache-Control"] = "no-store"
    response.headers.popall("Server", None)


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a route raises into an error of the API."""
    try:
        return await handler(request)
    except MistakeError as error:
        return refusal(HTTPStatus.BAD_REQUEST, str(error))
    except NotThereError as error:
        return refusal(HTTPStatus.NOT_FOUND, str(error))
    except (BusyError, SetupError, KafkaError) as error:
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    except web.HTTPException as error:
        if not _route(request).startswith(API):
            raise
        return refusal(error.status, f"{request.method} {request.path}: {error.reason}")
    except ConnectionError:
        raise  # The page has gone.
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return refusal(
            HTTPStatus.INTERNAL_SERVER_ERROR, "the Inspector has a defect; its log says more"
        )
