"""Next steps after the demo, with commands that can be typed as they are printed."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from stream_app.cli.completion import PROGRAM

PAGE: Final = Path("docs", "start.md")
"""The page of the documentation that goes on where the demo ends."""


def next_steps() -> list[str]:
    """Return the lines at the end of a demo that is not kept."""
    return [
        "next steps",
        f"  keep all of it running, with the Inspector: {_program(os.curdir)} demo --keep",
        f"  use your own Kafka and S3: {_page()}",
    ]


def kept_demo(
    config: Path,
    addresses: Mapping[str, str],
    *,
    events: Path,
    pipeline: str,
    own_bucket: str,
    environment: Mapping[str, str],
) -> list[str]:
    """Return the lines at the beginning of the time that a demo is kept.

    Args:
        config: The configuration of the demo.
        addresses: Where its parts are, by their names.
        events: A file with events that can be sent again.
        pipeline: The key of these events.
        own_bucket: A bucket that no destination of the demo writes to.
        environment: Variables that direct another worker to the demo's Kafka and S3.
    """
    program = _program()
    return [
        "everything keeps running until Ctrl-C",
        *(f"  {name}: {address}" for name, address in addresses.items()),
        "in another terminal, send events again and follow the receipts:",
        *([] if program == PROGRAM else [f"  alias {PROGRAM}={shlex.quote(program)}"]),
        f"  {PROGRAM} send --config {config} --pipeline {pipeline} {events}",
        f"  {PROGRAM} receipts --config {config} --from-beginning",
        f"a worker of your own ({_page()}) can use this Kafka and S3, and the bucket {own_bucket}:",
        *(f"  export {name}={shlex.quote(value)}" for name, value in environment.items()),
    ]


def _program(folder: str | None = None) -> str:
    """Return the command that runs this program, as a shell takes it.

    Args:
        folder: The shell's folder, from which a path may be relative; None: unknown.
    """
    if shutil.which(PROGRAM) is not None:
        return PROGRAM
    script = Path(sys.executable).with_name(PROGRAM)
    if not script.exists():  # a checkout that is not installed
        return f"{shlex.quote(sys.executable)} -m stream_app"
    return shlex.quote(str(script) if folder is None else _shortest(script, folder))


def _page() -> str:
    page = Path(__file__).parents[3] / PAGE
    return _shortest(page, os.curdir) if page.exists() else f"{PAGE} in the source code"


def _shortest(path: Path, folder: str) -> str:
    return min(str(path), os.path.relpath(path, folder), key=len)
