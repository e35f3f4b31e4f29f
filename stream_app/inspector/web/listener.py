"""HTTP server of the Inspector, until SIGTERM or SIGINT."""

import asyncio
import errno
import secrets
import signal
from collections.abc import Callable
from typing import Final

from aiohttp import web

from stream_app.errors import SetupError
from stream_app.inspector.core.auth import TokenAuth
from stream_app.inspector.service.inspector import InspectorService
from stream_app.inspector.web.app import application, read_assets
from stream_app.kafka.record_batches import install_lenient_decoding

SHUTDOWN_SECONDS_MAX: Final = 3.0
"""Time for open requests to end."""
HEADER_BYTES_MAX: Final = 32 * 1024
"""Bytes of the request line, and of each header: a cursor has some bytes for each partition."""
SECRET_BYTES: Final = 32


async def serve(
    service: InspectorService,
    *,
    bind: str,
    port: int,
    token: str | None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        service: Service that the routes read from.
        bind: Address to listen on.
        port: Port to listen on; 0: any free port.
        token: Token that clients need; None: no token.
        on_ready: Called with the URL of the page.

    Raises:
        SetupError: The port is taken, a topic is missing, or Kafka cannot be reached.
    """
    install_lenient_decoding()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    assets = read_assets()
    async with service:
        auth = TokenAuth(token, secrets.token_bytes(SECRET_BYTES))
        runner = runner_of(application(service, auth, assets))
        await runner.setup()
        try:
            await _listen(runner, bind, port)
            on_ready(_url(bind, runner.addresses[0][1]))
            await stop.wait()
        finally:
            await runner.cleanup()


def runner_of(app: web.Application) -> web.AppRunner:
    """Return the runner of an application, with bounds for requests."""
    return web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_SECONDS_MAX,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
    )


async def _listen(runner: web.AppRunner, bind: str, port: int) -> None:
    try:
        await web.TCPSite(runner, bind, port).start()
    except OSError as error:
        raise SetupError(_taken(bind, port, error)) from error


def _taken(bind: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {bind} is taken; end the program that has it, or choose another: "
            "--port 0 takes any that is free"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights; choose one from 1024 on: --port 8080"
    return f"{bind} is not an address to listen on: {error.strerror}; write one of this machine"


def _url(bind: str, port: int) -> str:
    host = f"[{bind}]" if ":" in bind else bind
    return f"http://{host}:{port}/"
