"""The command `stream-app worker`; `cli` adds it, with `--config`, to the others."""

# What takes long to import is imported where it is used, and click marks paragraphs with a bare
# backslash-b.
# ruff: noqa: PLC0415, D301

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING

import click

from stream_app.errors import ConfigurationError, StreamAppError
from stream_app.exits import STATUS_FAILED, STATUS_WRONG

if TYPE_CHECKING:
    from stream_app.logs import Format


@click.command()
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    envvar="STREAM_APP_LOG_LEVEL",
    default="info",
    show_default=True,
    show_envvar=True,
    help="The least grave of the messages that are logged.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    envvar="STREAM_APP_LOG_FORMAT",
    default="auto",
    show_default=True,
    show_envvar=True,
    help="Lines for people, or JSON; auto: text if standard error is a terminal.",
)
def worker(config: str, log_level: str, log_format: "Format") -> None:
    """Run a worker until it is told to stop (SIGTERM or Ctrl-C).

    Any number of workers share the partitions of the events topic.

    \b
    Examples:
      stream-app worker --config production.toml
      stream-app worker --log-format json 2>worker.log
    """
    from stream_app.memory import settle_malloc

    settle_malloc()  # before there is any thread
    from stream_app.logs import is_json, log_to_standard_error

    log_to_standard_error(log_level, log_format, os.environ)
    try:
        _run(config)
    except StreamAppError as error:
        if not is_json(log_format, sys.stderr):
            raise  # `cli` says it in lines
        raise click.exceptions.Exit(_told(error)) from error


def _run(config: str) -> None:
    from stream_app.configfile import compile_program, load

    settings = load(config, os.environ)
    program = compile_program(settings, config)
    from stream_app.kafka import require_topics

    kafka = settings.kafka
    asyncio.run(require_topics(kafka, kafka.events_topic, kafka.receipts_topic))
    from stream_app.app import run_worker

    logging.getLogger("aiokafka").propagate = True
    run_worker(settings, program, config)


def _told(error: StreamAppError) -> int:
    """Log why a worker cannot start; return its exit status."""
    from stream_app.happenings import NOT_STARTED
    from stream_app.logs import say

    logger = logging.getLogger(__name__)
    is_wrong = isinstance(error, ConfigurationError)
    status = STATUS_WRONG if is_wrong else STATUS_FAILED
    for mistake in error.mistakes if isinstance(error, ConfigurationError) else [str(error)]:
        say(logger, NOT_STARTED, "%s", mistake.partition("\n")[0], status=status)
    return status
