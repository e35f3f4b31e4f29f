"""The Inspector of a demo that is kept: a process of its own, started as an operator would."""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from stream_app.errors import SetupError

START_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 15.0
_ADDRESS: Final = re.compile(r"http://\S+")


@contextlib.asynccontextmanager
async def inspecting(config: Path, environment: Mapping[str, str], log: Path) -> AsyncIterator[str]:
    """Run an Inspector on a free port; give its address.

    Raises:
        SetupError: It does not start.
    """
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "stream_app", "inspector"),
            *("--config", str(config), "--port", "0"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=environment,
            # Ctrl-C is the demo's to hear; the Inspector is told to stop below.
            start_new_session=True,
        )
    try:
        yield await _address(process, log)
    finally:
        await stop(process)


async def stop(process: asyncio.subprocess.Process) -> None:
    """End a process of the demo: by SIGTERM, and if it does not heed that, at once."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


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
        said = (await asyncio.to_thread(log.read_text, "utf-8", "replace")).strip()
        raise SetupError(f"the Inspector does not start: {said or 'it says nothing'}")
    return found[0]
