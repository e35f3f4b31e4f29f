"""Kafka's jars: resolved once by `jgo`, checked against one digest, kept in the user's cache."""

import contextlib
import fcntl
import hashlib
import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

from stream_app.errors import SetupError
from stream_app.serverprocess import becomes_true

KAFKA_VERSION: Final = "4.1.1"
"""The broker that the facts in this project's documents were measured on."""
SLF4J_VERSION: Final = "1.7.36"
"""The slf4j that this Kafka is built with; its binding `slf4j-simple` logs to standard error."""
JARS: Final = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.slf4j:slf4j-simple:{SLF4J_VERSION}",
)
JARS_SHA256: Final = "1b99f073a43e87b2736a310489b83812e46b68a9b65835edd475056461ae1646"
"""SHA-256 over name and SHA-256 of every resolved jar: pins what the two above depend on, and
catches a download cut short."""
RESOLVE_SECONDS_MAX: Final = 600.0
"""How long to wait for another process that resolves the jars; each request has its own bound."""


def kafka_jars() -> Path:
    """The folder with Kafka's jars in the user's cache, resolved first if it is not there.

    Processes that need it at the same time wait for the first of them. The folder appears whole,
    by one rename, so what exists is complete.

    Raises:
        SetupError: `jgo` is missing, a jar cannot be had, or the jars are not the pinned ones.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stream-app"
    jars = cache / f"kafka-{KAFKA_VERSION}-{JARS_SHA256[:12]}"
    if jars.exists():
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{jars.name}.lock"):
        if not jars.exists():
            partial = cache / f"{jars.name}.partial"
            if partial.exists():  # a process was killed here; jgo would take a torn jar for whole
                shutil.rmtree(partial)
            _resolve(partial)
            (partial / "jars").rename(jars)
            shutil.rmtree(partial)
    return jars


def _resolve(folder: Path) -> None:
    """Put every jar that JARS need at run time into `folder`/jars and check them."""
    maven = extra("jgo.maven")
    # Not jgo's EnvironmentBuilder: to sort jars from modules it downloads a JDK of its own.
    context = maven.MavenContext(repo_cache=folder / "repository")
    jars = folder / "jars"
    jars.mkdir(parents=True)
    try:
        wanted, needed = context.resolver.resolve([context.create_dependency(jar) for jar in JARS])
        for dependency in (*wanted, *needed):
            if dependency.scope in {None, "compile", "runtime"}:
                shutil.copy(dependency.artifact.resolve(), jars)
    except (OSError, RuntimeError, ValueError, SyntaxError) as error:
        # jgo's own errors, RuntimeError and ValueError; its HTTP client's, OSError; and the XML
        # parser's, SyntaxError, when something in between answers with a page of its own.
        raise SetupError(
            f"cannot resolve {' and '.join(JARS)}: {error}; "
            "they are fetched once, from the Maven repository; check the network and try again"
        ) from error
    lines = [
        f"{jar.name} {hashlib.sha256(jar.read_bytes()).hexdigest()}\n"
        for jar in sorted(jars.iterdir())
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    if digest != JARS_SHA256:
        raise SetupError(
            f"the {len(lines)} jars resolved for {' and '.join(JARS)} have the digest {digest} "
            f"and not {JARS_SHA256}: a download was cut short or changed; try again"
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system frees it when the process ends."""
    with path.open("w") as file:

        def locks() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not becomes_true(locks, RESOLVE_SECONDS_MAX):
            raise SetupError(
                f"another process has held {path} for {RESOLVE_SECONDS_MAX:.0f} s to resolve "
                "Kafka's jars; end it and try again"
            )
        yield


def extra(module: str) -> ModuleType:
    """A module of the extra `embedded`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SetupError(not_installed(module.partition(".")[0])) from error


def not_installed(package: str) -> str:
    """Say which package is missing and how to get it."""
    return (
        f"the embedded servers need the package {package}, which is not installed; "
        "run: pip install 'stream-app[embedded]'"
    )
