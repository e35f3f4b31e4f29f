"""The command `stream-app inspector`; `cli` adds it, with `--config`, to the others.

Exit status: 0 it was told to stop (SIGTERM or Ctrl-C) · 1 Kafka, a topic or the port is missing · 2
a wrong command line, configuration or token file.
"""

# What takes long to import is imported where it is used, and click marks paragraphs with a bare
# backslash-b.
# ruff: noqa: PLC0415, D301

import asyncio
import logging
import os
from typing import Final

import click

PORT_DEFAULT: Final = 8080
PORT_MAX: Final = 65_535
QUIET: Final = {
    # Where credentials were found.
    "aiobotocore": logging.WARNING,
    "botocore": logging.WARNING,
    # Requests that are no HTTP: whoever reaches the port could fill the log. Defects are logged by
    # ourselves.
    "aiohttp.server": logging.CRITICAL,
}
"""How grave must be what others log."""


@click.command()
@click.option(
    "--bind",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen at; beyond this machine only with --token-file.",
)
@click.option(
    "--port",
    type=click.IntRange(0, PORT_MAX),
    default=PORT_DEFAULT,
    show_default=True,
    help="The port; 0 takes any that is free.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="A file with the token that lets people in: 16 characters or more.",
)
def inspector(config: str, bind: str, port: int, token_file: str | None) -> None:
    """Serve a web page that shows what became of each event, until Ctrl-C or SIGTERM.

    It reads the events and the receipts topic without a consumer group, and changes nothing.
    Whoever reaches it reads all events: beyond this machine it asks for the token, and belongs
    behind a proxy that speaks TLS.

    \b
    Examples:
      stream-app inspector
      stream-app inspector --bind 0.0.0.0 --token-file /etc/stream-app/token
    """
    from stream_app.inspector.guard import is_loopback

    if token_file is None and not is_loopback(bind):
        raise click.UsageError(
            f"--bind {bind} lets other machines in; add --token-file FILE, or leave --bind out"
        )
    from stream_app.inspector.access import read_token
    from stream_app.inspector.inspection import Inspection
    from stream_app.inspector.server import serve
    from stream_app.logs import log_to_standard_error

    log_to_standard_error("info", "text", os.environ)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    token = None if token_file is None else read_token(token_file)
    inspection = Inspection(config, os.environ)

    def tell(address: str) -> None:
        click.echo(f"inspector: {address} (Ctrl-C ends it)")

    asyncio.run(serve(inspection, bind=bind, port=port, token=token, on_ready=tell))
