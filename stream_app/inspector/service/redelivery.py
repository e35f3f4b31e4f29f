"""Runs of `stream-app redeliver` that people start from the page; only with `--allow-redeliver`.

The command is a process of its own, as if an operator had typed it: its rules and its progress are
the command's. There is one run at a time, and the last one is kept.
"""

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from stream_app import log_events
from stream_app.errors import StreamAppError
from stream_app.inspector.core.rows import iso_milliseconds
from stream_app.logs import log_event
from stream_app.text import printable

LINES_MAX: Final = 200
"""Lines of the output that are kept, the newest."""
LINE_LENGTH_MAX: Final = 1_000
"""Characters of a line that are kept."""
READ_BYTES_MAX: Final = 64 * 1024
"""Bytes of a line; a longer one is passed over in pieces."""
COMMAND: Final = ("-m", "stream_app")
"""How Python runs `stream-app`."""
END_SECONDS_MAX: Final = 10.0
"""Time for the command to end when the Inspector ends."""

logger = logging.getLogger(__name__)


class RedeliveryForbiddenError(StreamAppError):
    """The Inspector was started without `--allow-redeliver`."""


class RedeliveryRunningError(StreamAppError):
    """Another run has not ended."""


class RedeliveryRuns:
    """Runs of `stream-app redeliver`, one at a time.

    Args:
        environment: Environment variables of the command.
        is_allowed: Whether there may be any.
    """

    def __init__(self, environment: Mapping[str, str], *, is_allowed: bool) -> None:
        self.is_allowed = is_allowed
        self._environment = environment
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._run: dict[str, Any] | None = None
        self._lines: deque[str] = deque(maxlen=LINES_MAX)

    def document(self) -> dict[str, Any]:
        """Return whether runs are allowed, and the last one with its output."""
        run = self._run and self._run | {"lines": list(self._lines)}
        return {"allowed": self.is_allowed, "run": run}

    def start(self, destination: str, arguments: Sequence[str], client: str) -> None:
        """Start a run.

        Args:
            destination: Id of the destination.
            arguments: Arguments of `stream-app`.
            client: Who asks for it, for the log.

        Raises:
            RedeliveryForbiddenError: Runs are not allowed.
            RedeliveryRunningError: A run has not ended.
        """
        if not self.is_allowed:
            raise RedeliveryForbiddenError(
                "the Inspector was started without --allow-redeliver; run the command yourself"
            )
        if self._task is not None:
            raise RedeliveryRunningError("another redelivery runs already; wait until it has ended")
        log_event(
            logger,
            log_events.REDELIVERY_STARTED,
            destination=destination,
            arguments=" ".join(arguments),
            client=client,
        )
        self._lines.clear()
        self._run = {
            "destination": destination,
            "started_at": iso_milliseconds(time.time()),
            "ended_at": None,
            "status": None,
        }
        self._task = asyncio.create_task(self._perform(self._run, arguments))

    async def aclose(self) -> None:
        """End the run, as SIGTERM ends the command: what is delivered by then is recorded."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=END_SECONDS_MAX)

    async def _perform(self, run: dict[str, Any], arguments: Sequence[str]) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, *COMMAND, *arguments),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=READ_BYTES_MAX,
            )
            await self._read(self._process)
            run["status"] = await self._process.wait()
        except OSError as error:
            self._lines.append(f"the command cannot be started: {error.strerror}")
            run["status"] = -1
        finally:
            run["ended_at"] = iso_milliseconds(time.time())
            self._process = self._task = None
            log_event(
                logger,
                log_events.REDELIVERY_ENDED,
                destination=run["destination"],
                status=run["status"],
            )

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        output = process.stdout
        assert output is not None  # noqa: S101 - it is a pipe
        while chunk := await _line(output):
            text = chunk[: 4 * LINE_LENGTH_MAX].decode(errors="replace").rstrip()
            self._lines.append(printable(text)[:LINE_LENGTH_MAX])


async def _line(output: asyncio.StreamReader) -> bytes:
    """Return the next line, or a piece of one that is too long; empty at the end."""
    try:
        return await output.readuntil()
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await output.read(error.consumed or READ_BYTES_MAX)
