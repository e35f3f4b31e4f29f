"""Serving the Inspector until it is told to stop."""

import asyncio
import errno
import secrets
import signal
from collections.abc import Callable
from typing import Final

from aiohttp import web

from stream_app.errors import SetupError
from stream_app.inspector.guard import Gate
from stream_app.inspector.inspection import Inspection
from stream_app.inspector.pages import application, read_assets

STOP_SECONDS_MAX: Final = 3.0
"""How long requests may take to end."""
HEAD_BYTES_MAX: Final = 32 * 1024
"""Of a request's line and of each header: a cursor has some bytes for each partition."""
SECRET_BYTES: Final = 32


async def serve(
    inspection: Inspection,
    *,
    bind: str,
    port: int,
    token: str | None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        inspection: What there is to tell.
        bind: The address to listen at.
        port: The port; 0: any that is free.
        token: What must be known to be let in; None: nothing.
        on_ready: Is told the address of the page.

    Raises:
        SetupError: The port is taken, a topic is missing, or Kafka cannot be asked.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    assets = read_assets()
    async with inspection:
        gate = Gate(token, secrets.token_bytes(SECRET_BYTES))
        runner = runner_of(application(inspection, gate, assets))
        await runner.setup()
        try:
            await _listen(runner, bind, port)
            on_ready(_url(bind, runner.addresses[0][1]))
            await stop.wait()
        finally:
            await runner.cleanup()


def runner_of(served: web.Application) -> web.AppRunner:
    """Return what runs an application, with the bounds of a request."""
    return web.AppRunner(
        served,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=STOP_SECONDS_MAX,
        max_line_size=HEAD_BYTES_MAX,
        max_field_size=HEAD_BYTES_MAX,
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
        return f"port {port} may not be opened; choose one from 1024 on: --port 8080"
    return f"{bind} cannot be listened at: {error.strerror}; write an address of this machine"


def _url(bind: str, port: int) -> str:
    host = f"[{bind}]" if ":" in bind else bind
    return f"http://{host}:{port}/"
