"""Programs of others, installed once into the user's cache.

The package manager of its language installs a program: `go`, `cargo`, `npm`, Python's `venv` and
`pip`, or (for Java) jgo with a pinned digest, as Kafka is.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stream_app.embedded.kafka_jars import locked
from stream_app.embedded.packages import optional_module
from stream_app.embedded.process import cache_folder
from stream_app.errors import SetupError

INSTALL_SECONDS_MAX: Final = 3600.0
"""A Go server is compiled, once."""


@dataclass(frozen=True)
class Package:
    """Package of a program, and how it is installed."""

    title: str
    """As the document names it."""
    version: str
    package: str
    """As the document names it: kind and name."""
    install: Callable[[Any, Path], None]
    """Puts the program into an empty folder."""
    sha256: str = field(default="", kw_only=True)
    """Of the one file of a program whose package manager pins no digest."""


def installed(program: Package) -> Path:
    """Return the folder of an installed program; install it if it is missing."""
    name = f"{program.title.lower().replace(' ', '-')}-{program.version}"
    folder = cache_folder() / "programs" / name
    if folder.exists():
        return folder
    folder.parent.mkdir(exist_ok=True)
    with locked(folder.with_name(f"{name}.lock")):
        if not folder.exists():
            # pip writes the folder's name into programs: it is installed where it stays.
            try:
                folder.mkdir()
                program.install(program, folder)
            except BaseException:
                shutil.rmtree(folder)
                raise
    return folder


def run(*command: str, **environment: str) -> None:
    """Run a command to its end; its failure is a SetupError."""
    if shutil.which(command[0]) is None:
        raise SetupError(f"{command[0]} is not installed, and builds or fetches this program")
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def by_go(program: Package, folder: Path) -> None:
    """Compile a Go program."""
    module = program.package.rpartition(" ")[2]
    run("go", "install", f"{module}@{program.version}", GOBIN=str(folder))


def by_cargo(program: Package, folder: Path) -> None:
    """Compile a Rust program, with the features in brackets."""
    name, *features = program.package.rpartition(" ")[2].rstrip("]").split("[")
    run(
        *("cargo", "install", "--locked", "--quiet", "--root", str(folder)),
        *("--features", ",".join(features), "--version", program.version, name),
    )


def by_npm(program: Package, folder: Path) -> None:
    """Install an npm package."""
    package = f"{program.package.rpartition(' ')[2]}@{program.version}"
    run("npm", "install", "--prefix", str(folder), "--ignore-scripts", package)


def by_pip(program: Package, folder: Path) -> None:
    """Install a Python package into an environment of its own."""
    run(sys.executable, "-m", "venv", str(folder))
    package = f"{program.package.rpartition(' ')[2]}=={program.version}"
    run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", package)


def by_jgo(program: Package, folder: Path) -> None:
    """Fetch one jar that needs no other, and verify it."""
    group, name, classifier = program.package.rpartition(" ")[2].split(":")
    context = optional_module("jgo.maven").MavenContext(repo_cache=folder / "repository")
    version = context.project(group, name).at_version(program.version)
    jar = folder / "server.jar"
    shutil.copy(version.artifact(classifier, "jar").resolve(), jar)
    shutil.rmtree(folder / "repository")
    digest = hashlib.sha256(jar.read_bytes()).hexdigest()
    if digest != program.sha256:
        raise SetupError(f"{program.package} {program.version} has the digest {digest}: try again")
