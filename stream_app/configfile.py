"""From the configuration file on disk to `Settings`: the edge where files are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from stream_app.config import parse
from stream_app.errors import ConfigurationError, ExpressionError
from stream_app.expressions import compile_expression
from stream_app.settings import Settings

CONFIG_VARIABLE: Final = "STREAM_APP_CONFIG"
CONFIG_DEFAULT: Final = "stream_app.toml"
CONFIG_BYTES_MAX: Final = 16 * 1024 * 1024


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


def compile_payloads(settings: Settings, where: str) -> None:
    """Compile every destination's expression.

    Raises:
        ConfigurationError: Some do not compile; it holds a line for each.
    """
    mistakes = []
    for number, destination in enumerate(settings.destinations, start=1):
        try:
            compile_expression(destination.payload)
        except ExpressionError as error:
            reason = " ".join(str(error).split())
            mistakes.append(
                f"{where}: [[destinations]] {number} (id '{destination.id}'): payload does not "
                f"compile: {reason}"
            )
    if mistakes:
        raise ConfigurationError(mistakes)
