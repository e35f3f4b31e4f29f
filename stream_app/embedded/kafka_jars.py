"""Kafka's jars: resolved once by `jgo`, checked against one digest, kept in the user's cache."""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stream_app.embedded.packages import optional_module
from stream_app.embedded.process import becomes_true, cache_folder
from stream_app.errors import SetupError


@dataclass(frozen=True)
class KafkaRelease:
    """Version of Kafka, and what its jars must be."""

    version: str
    sha256: str
    """SHA-256 over name and SHA-256 of every resolved jar: pins the dependencies of `jars`, and
    detects a truncated download."""
    slf4j: str = "1.7.36"
    """The slf4j that this Kafka is built with; `slf4j-simple` logs to standard error."""

    @property
    def jars(self) -> tuple[str, ...]:
        """Coordinates of the jars that are resolved, with their dependencies at run time."""
        return (
            f"org.apache.kafka:kafka_2.13:{self.version}",
            f"org.slf4j:slf4j-simple:{self.slf4j}",
        )


KAFKA: Final = KafkaRelease(
    "4.1.1", "1b99f073a43e87b2736a310489b83812e46b68a9b65835edd475056461ae1646"
)
"""The broker that the facts in this project's documents were measured on."""
RESOLVE_SECONDS_MAX: Final = 600.0
"""Wait for another process that fetches the same; each of its requests has a bound of its own."""


def kafka_jars(release: KafkaRelease = KAFKA) -> Path:
    """Return the folder with a Kafka's jars in the user's cache; resolve them if it is missing.

    Processes that need it at the same time wait for the first of them. The folder is created
    complete, by one rename.

    Raises:
        SetupError: `jgo` is missing, a download fails, or the jars are not the pinned ones.
    """
    cache = cache_folder()
    jars = cache / f"kafka-{release.version}-{release.sha256[:12]}"
    if jars.exists():
        return jars
    with locked(cache / f"{jars.name}.lock"):
        if not jars.exists():
            partial = cache / f"{jars.name}.partial"
            if (
                partial.exists()
            ):  # left by a killed process; jgo would take an incomplete jar for complete
                shutil.rmtree(partial)
            _resolve(release, partial)
            (partial / "jars").rename(jars)
            shutil.rmtree(partial)
    return jars


def _resolve(release: KafkaRelease, folder: Path) -> None:
    """Download the jars with their dependencies at run time into `folder`/jars, and check them."""
    maven = optional_module("jgo.maven")
    # jgo's EnvironmentBuilder would download a JDK, to separate jars from modules.
    context = maven.MavenContext(repo_cache=folder / "repository")
    jars = folder / "jars"
    jars.mkdir(parents=True)
    try:
        wanted = [context.create_dependency(it) for it in release.jars]
        own, transitive = context.resolver.resolve(wanted)
        for dependency in (*own, *transitive):
            if dependency.scope in {None, "compile", "runtime"}:
                shutil.copy(dependency.artifact.resolve(), jars)
    except (OSError, RuntimeError, ValueError, SyntaxError) as error:
        # jgo raises RuntimeError and ValueError; its HTTP client OSError; and the XML parser
        # SyntaxError, when a proxy responds with a page of its own.
        raise SetupError(
            f"cannot resolve {' and '.join(release.jars)}: {error}; "
            "they are downloaded once, from the Maven repository; check the network and try again"
        ) from error
    lines = [
        f"{jar.name} {hashlib.sha256(jar.read_bytes()).hexdigest()}\n"
        for jar in sorted(jars.iterdir())
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    if digest != release.sha256:
        raise SetupError(
            f"the {len(lines)} jars resolved for {' and '.join(release.jars)} have the digest "
            f"{digest} and not {release.sha256}: a download was truncated or altered; try again"
        )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system releases it when the process ends."""
    with path.open("w") as file:

        def locks() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not becomes_true(locks, RESOLVE_SECONDS_MAX):
            raise SetupError(
                f"another process has held {path} for {RESOLVE_SECONDS_MAX:.0f} s; end it and try "
                "again"
            )
        yield
