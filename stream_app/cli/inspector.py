"""The command `stream-app inspector`: serves the Inspector until it is stopped."""

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final

import click

from stream_app.cli.common import with_config, with_logging

if TYPE_CHECKING:
    from stream_app.logs import Format

PORT_DEFAULT: Final = 8080
PORT_MAX: Final = 65_535
LIBRARY_LEVELS: Final = {
    # Where credentials were found.
    "aiobotocore": logging.WARNING,
    "botocore": logging.WARNING,
    # Requests that are not HTTP: anybody who reaches the port could fill the log. Defects are
    # logged by the Inspector itself.
    "aiohttp.server": logging.CRITICAL,
}
"""Minimum log level of each library."""


@click.command()
@click.option(
    "--bind",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on; beyond this machine only with --token-file.",
)
@click.option(
    "--port",
    type=click.IntRange(0, PORT_MAX),
    default=PORT_DEFAULT,
    show_default=True,
    help="The port; 0 takes any free one.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="A file with the token that people log in with: 16 characters or more.",
)
@click.option(
    "--allow-redeliver",
    is_flag=True,
    help="Let people who log in run `stream-app redeliver` from the page; only with --token-file.",
)
@with_logging
@with_config
def inspector(
    config: str,
    *,
    bind: str,
    port: int,
    token_file: str | None,
    allow_redeliver: bool,
    log_level: str,
    log_format: "Format",
) -> None:
    """Serve a web page that shows the outcome of each event.

    The Inspector runs until SIGTERM or Ctrl-C, reads the events topic and the receipts topic
    without a consumer group, and changes nothing, unless --allow-redeliver is given.

    Anybody who reaches the page can read all events: beyond this machine it requires the token, and
    belongs behind a proxy that terminates TLS.

    \b
    Examples:
      stream-app inspector
      stream-app inspector --bind 0.0.0.0 --token-file /etc/stream-app/token
    """
    from stream_app.inspector.core.auth import is_loopback

    if token_file is None and not is_loopback(bind):
        raise click.UsageError(
            f"--bind {bind} lets other machines in; add --token-file FILE, or leave --bind out"
        )
    if allow_redeliver and token_file is None:
        raise click.UsageError(
            "--allow-redeliver lets everybody who reaches the page write to S3 and to Kafka; add "
            "--token-file FILE, or leave it out"
        )
    from stream_app.inspector.service.inspector import InspectorService
    from stream_app.inspector.web.listener import serve
    from stream_app.inspector.web.middleware import read_token
    from stream_app.logs import log_to_standard_error

    log_to_standard_error(log_level, log_format, os.environ)
    for name, level in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    token = None if token_file is None else read_token(token_file)
    service = InspectorService(config, os.environ, can_redeliver=allow_redeliver)

    def announce(address: str) -> None:
        click.echo(f"inspector: {address} (Ctrl-C ends it)")

    asyncio.run(serve(service, bind=bind, port=port, token=token, on_ready=announce))
