"""The command `stream-app worker`: runs a worker until it is stopped."""

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING

import click

from stream_app.cli.common import STATUS_FAILED, STATUS_WRONG, with_config, with_logging
from stream_app.errors import ConfigurationError, StreamAppError

if TYPE_CHECKING:
    from stream_app.logs import Format


@click.command()
@with_logging
@with_config
def worker(config: str, log_level: str, log_format: "Format") -> None:
    """Run a worker until SIGTERM or Ctrl-C.

    Any number of workers share the partitions of the events topic.

    \b
    Examples:
      stream-app worker --config production.toml
      stream-app worker --log-format json 2>worker.log
    """
    from stream_app.worker.memory import tune_collector, tune_malloc

    tune_malloc()  # before there is any thread
    tune_collector()  # before destinations are made, of which none is garbage
    from stream_app.logs import is_json, log_to_standard_error

    log_to_standard_error(log_level, log_format, os.environ)
    try:
        _run(config)
    except StreamAppError as error:
        if not is_json(log_format, sys.stderr):
            raise  # `main` prints the error in lines
        raise click.exceptions.Exit(_log_start_failure(error)) from error


def _run(config: str) -> None:
    from stream_app.config.files import ConfigSource
    from stream_app.core.router import compile_router

    source = ConfigSource(config, os.environ)
    settings = source.load()
    router = compile_router(settings)
    from stream_app.kafka.topics import require_topics

    kafka = settings.kafka
    asyncio.run(require_topics(kafka, kafka.events_topic, kafka.receipts_topic))
    from stream_app.worker.process import run_worker

    logging.getLogger("aiokafka").propagate = True
    run_worker(settings, router, source)


def _log_start_failure(error: StreamAppError) -> int:
    """Log why the worker cannot start; return its exit status."""
    from stream_app.log_events import START_FAILED
    from stream_app.logs import log_event

    is_wrong = isinstance(error, ConfigurationError)
    status = STATUS_WRONG if is_wrong else STATUS_FAILED
    logger = logging.getLogger(__name__)
    for mistake in error.mistakes if isinstance(error, ConfigurationError) else [str(error)]:
        log_event(logger, START_FAILED, mistake=mistake.partition("\n")[0], status=status)
    return status
