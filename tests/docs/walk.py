"""The commands of a document, one after the other, as a reader types them."""

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.docs.blocks import block

SECONDS_MAX = 60


@contextmanager
def walked(document: str, place: Path, environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Run the block marked `run` and give the first receipt that its last command prints.

    What the block leaves running runs on until the end of the `with`.
    """
    *commands, follow = [line.removeprefix("$ ") for line in block(document, "run").splitlines()]
    background: list[subprocess.Popen[str]] = []

    def start(command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            shlex.split(command),
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        background.append(process)
        return process

    try:
        for command in commands:
            if command.endswith("&"):
                start(command.removesuffix("&"))
            else:
                subprocess.run(
                    ["bash", "-c", command],  # noqa: S607
                    cwd=place,
                    env=environment,
                    check=True,
                    timeout=SECONDS_MAX,
                )
        receipts = start(follow + " --json")
        assert receipts.stdout
        yield json.loads(receipts.stdout.readline())["receipt"]
    finally:
        for process in background:
            process.terminate()
        for process in background:
            process.communicate(timeout=SECONDS_MAX)
