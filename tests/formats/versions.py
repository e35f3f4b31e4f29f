"""Versions of stream-app that others may run still, each by the last commit of it."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
COMMITS: Final = {"0.1.0": "4328fcfc5af1e0f8d9b256f563eac70cbc1fe7be"}


def unpacked(version: str, folder: Path) -> Path:
    """Return a folder that has the package of a version; `PYTHONPATH` takes it.

    Raises:
        CalledProcessError: The history of this clone does not go back so far.
    """
    archive = subprocess.run(
        ["git", "archive", COMMITS[version], "stream_app"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
    return folder
