"""The worker process: log filters, a check of the credentials, then Faust until a signal."""

import asyncio
import logging
from typing import Final, NoReturn

from stream_app.config.files import ConfigSource
from stream_app.config.settings import Settings
from stream_app.core.router import Router
from stream_app.errors import StreamAppError
from stream_app.s3.storage import Storage
from stream_app.worker import log_messages
from stream_app.worker.app import create_app
from stream_app.worker.faust_app import Worker, end_process
from stream_app.worker.memory import tune_collector

REPEATED_SECONDS: Final = 10.0
"""Least time between two equal messages of aiokafka in the log."""


class Readable(logging.Filter):
    """Log filter: no tracebacks of our own errors; aiokafka's messages seldom, and as warnings."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a message is logged, which may be changed."""
        if record.exc_info and isinstance(record.exc_info[1], StreamAppError):
            # The text of our own errors has the advice; a traceback would only hide it.
            record.exc_info = None
        if not record.name.startswith("aiokafka"):
            return True
        # While a broker is down, aiokafka logs that ten times a second.
        template = str(record.msg)
        if record.levelno == logging.ERROR and not record.exc_info:
            # aiokafka logs attempts as errors that it repeats with success: the first look-up of a
            # new cluster's coordinator, the end of each SASL session. What it cannot recover from
            # is an error of ours.
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            if not logging.getLogger().isEnabledFor(logging.WARNING):
                return False
        if record.created - self._passed.get(template, 0.0) < REPEATED_SECONDS:
            return False
        self._passed[template] = record.created
        return True


async def _require_credentials(settings: Settings) -> None:
    async with Storage(settings.s3) as storage:
        await storage.require_credentials(settings.destinations[0])


def run_worker(settings: Settings, router: Router, source: ConfigSource) -> NoReturn:
    """Run a worker until SIGTERM or Ctrl-C, and end the process with its status.

    Args:
        settings: The settings at the start.
        router: Their destinations, compiled.
        source: Where they were read from; the destinations follow its changes.

    Raises:
        SetupError: S3 does not accept the credentials.
    """
    for name in ("faust", "mode", "aiokafka", "aiobotocore", "botocore"):
        # Their messages below warnings concern their internals, not the worker.
        logging.getLogger(name).setLevel(logging.WARNING)
    # `s3.credentials` logs a failed refresh in one line; this logger adds a traceback to each.
    logging.getLogger("aiobotocore.credentials").setLevel(logging.CRITICAL)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Readable())
    log_messages.starting(settings)
    asyncio.run(_require_credentials(settings))
    worker = Worker(
        create_app(settings, router, source),
        override_logging=False,
        redirect_stdouts=False,
        quiet=True,  # Faust would write to standard error past the log
    )
    worker.spinner = None
    tune_collector()
    try:
        worker.execute_from_commandline()
    except SystemExit as exit_:
        status = worker.status or (exit_.code if isinstance(exit_.code, int) else 1)
    # Not a return: Python would wait for a thread in which an expression may still run.
    end_process(status)
