"""From the configuration file on disk to `Settings`: the edge where files are read."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Final

from stream_app.batches import Program
from stream_app.config import parse
from stream_app.errors import ConfigurationError, ExpressionError
from stream_app.excerpt import excerpt
from stream_app.expressions import Expression, compile_expression
from stream_app.settings import Settings

CONFIG_VARIABLE: Final = "STREAM_APP_CONFIG"
CONFIG_DEFAULT: Final = "stream_app.toml"
CONFIG_BYTES_MAX: Final = 16 * 1024 * 1024

Look = tuple[int, int, int] | None
"""What a file is like; another look means that it may have changed."""


def look_at(path: str) -> Look:
    """Return what the file is like now; None if there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def load(path: str, environment: Mapping[str, str]) -> Settings:
    """Read the file and the environment's overrides.

    Raises:
        ConfigurationError: The file cannot be read, or holds mistakes.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigurationError(
            [f"{path}: there is no such file; write one, or name it: --config or {CONFIG_VARIABLE}"]
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(
            [f"{path}: it cannot be read: {reason}; name another: --config or {CONFIG_VARIABLE}"]
        ) from None
    if len(content) > CONFIG_BYTES_MAX:
        raise ConfigurationError(
            [f"{path}: it is longer than {CONFIG_BYTES_MAX} bytes; is it a configuration?"]
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            [f"{path}: byte {error.start} is no UTF-8; save the file as UTF-8"]
        ) from None
    return parse(text, environment, path)


def compile_program(settings: Settings, where: str) -> Program:
    """Return the destinations with their expressions compiled.

    Raises:
        ConfigurationError: As for `compile_payloads`.
    """
    return Program(settings.destinations, compile_payloads(settings, where))


def compile_payloads(settings: Settings, where: str) -> list[Expression]:
    """Return every destination's expression, in their order; those with one text share it.

    Raises:
        ConfigurationError: Some do not compile; it holds a line for each, with the place below it.
    """
    compiled: dict[str, Expression] = {}
    mistakes: list[str] = []
    for number, destination in enumerate(settings.destinations, start=1):
        text = destination.payload
        if text in compiled:
            # Thousands of destinations rarely have more than a few texts; one costs 0.1 ms.
            continue
        name = f"{where}: [[destinations]] {number} (id '{destination.id}'): payload"
        try:
            compiled[text] = compile_payload(text, name)
        except ConfigurationError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigurationError(mistakes)
    return [compiled[it.payload] for it in settings.destinations]


def compile_payload(text: str, name: str) -> Expression:
    """Compile an expression that messages call `name`.

    Raises:
        ConfigurationError: It does not compile: a line, with the place below it.
    """
    try:
        return compile_expression(text)
    except ExpressionError as error:
        mistake = f"{name} does not compile: {' '.join(str(error).split())}"
        if error.place is not None:
            mistake += f"\n{indent(excerpt(text, *error.place), '  ')}"
        raise ConfigurationError([mistake]) from error
