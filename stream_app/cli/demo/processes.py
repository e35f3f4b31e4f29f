"""Processes of the demo: a worker and an Inspector, each started as an operator would."""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from stream_app.errors import SetupError

START_SECONDS_MAX: Final = 120.0
STOP_SECONDS_MAX: Final = 15.0
_ADDRESS: Final = re.compile(r"http://\S+")


@contextlib.asynccontextmanager
async def running(
    *arguments: str,
    environment: Mapping[str, str],
    log: Path,
    output: int = asyncio.subprocess.STDOUT,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `stream-app` in a process of its own, and stop it at the end.

    Args:
        arguments: The command and its options.
        environment: All of its environment.
        log: File for standard error.
        output: `PIPE` for standard output; left out: into the log as well.
    """
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "stream_app", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file if output == asyncio.subprocess.STDOUT else output,
            stderr=file,
            env=environment,
            # Ctrl-C is for the demo alone, which stops its processes itself.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        await _stop(process)


@contextlib.asynccontextmanager
async def inspector(
    config: Path, *, environment: Mapping[str, str], log: Path
) -> AsyncIterator[str]:
    """Run an Inspector on a free port; yield its address.

    Raises:
        SetupError: The Inspector does not start.
    """
    async with running(
        *("inspector", "--config", str(config), "--port", "0"),
        environment=environment,
        log=log,
        output=asyncio.subprocess.PIPE,
    ) as process:
        yield await _address(process, log)


async def _address(process: asyncio.subprocess.Process, log: Path) -> str:
    if process.stdout is None:
        raise SetupError("the Inspector has no output to be read")
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            line = await process.stdout.readline()
    except TimeoutError as error:
        raise SetupError(
            f"the Inspector does not start within {START_SECONDS_MAX:.0f} s"
        ) from error
    found = _ADDRESS.search(line.decode())
    if found is None:
        reason = (await asyncio.to_thread(log.read_text, "utf-8", "replace")).strip()
        raise SetupError(f"the Inspector does not start: {reason or 'its log is empty'}")
    return found[0]


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End a process by SIGTERM, and after a bound by SIGKILL."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
