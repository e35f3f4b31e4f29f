"""Reader of the configuration file: from the file on disk to `Settings`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from stream_app.config.parser import parse
from stream_app.config.settings import Settings
from stream_app.errors import ConfigurationError

CONFIG_VARIABLE: Final = "STREAM_APP_CONFIG"
CONFIG_DEFAULT: Final = "stream_app.toml"
CONFIG_BYTES_MAX: Final = 16 * 1024 * 1024
FILE_CHECK_SECONDS: Final = 2.0
"""Interval between two checks of the file for a change."""

FileVersion = tuple[int, int, int] | None
"""Modification time (ns), size (bytes) and inode; None for a missing file.

Another version means that the file may have changed: its content is not compared."""


def file_version(path: str) -> FileVersion:
    """Return the file's present version, cheaply enough to poll; None if it is missing."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class ConfigFile(NamedTuple):
    """Configuration file, in the version that it had before it was read."""

    path: str
    version: FileVersion


def load(path: str, environment: Mapping[str, str]) -> Settings:
    """Return the settings of the file and the environment, which overrides the file.

    Args:
        path: The file, at most CONFIG_BYTES_MAX long.
        environment: Variables by name.

    Raises:
        ConfigurationError: The file cannot be read, or has mistakes: a line for each.
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
            [f"{path}: cannot be read: {reason}; name another: --config or {CONFIG_VARIABLE}"]
        ) from None
    if len(content) > CONFIG_BYTES_MAX:
        raise ConfigurationError(
            [f"{path}: longer than {CONFIG_BYTES_MAX} bytes; is it a configuration?"]
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            [f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"]
        ) from None
    return parse(text, environment, path)
