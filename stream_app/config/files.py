"""Reader of the configuration: from the files on disk and the environment to `Settings`.

    stream_app.toml ──────────┐
    destinations_dir/*.toml ──┼─ ConfigSource.load() ─> Settings
    STREAM_APP_... ───────────┘         └─ has_changed(): a file, or the folder, has another version

Read again, a file of the folder that has not changed is not parsed: its destinations are the same
objects as before, and so are those of a changed file that are equal. So what follows can be done
for the changed ones alone.

Without the file the environment can be the whole configuration: it then describes one destination,
or names the folder.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final

from stream_app.config.parser import ENVIRONMENT, folder_of, is_whole, settings_of, toml
from stream_app.config.settings import DESTINATIONS_DIR, Destination, Settings
from stream_app.errors import ConfigurationError

CONFIG_VARIABLE: Final = "STREAM_APP_CONFIG"
CONFIG_DEFAULT: Final = "stream_app.toml"
CONFIG_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of the configuration file, and of all files of the folder together: 600 bytes for each of
`DESTINATIONS_MAX` destinations."""
FOLDER_FILES_MAX: Final = 1_000
"""Files of the folder: a file for each team, and each is looked at every `FILE_CHECK_SECONDS`."""
TEST_SUFFIX: Final = ".test.toml"
"""End of the name of a file with test cases, beside the file whose destinations it tests."""
FILE_CHECK_SECONDS: Final = 2.0
"""Interval between two checks of the files for a change."""

FileVersion = tuple[int, int, int] | None
"""Modification time (ns), size (bytes) and inode; None for a missing file.

Another version means that the file may have changed: its content is not compared. A folder has
another one when a file in it is added, removed or renamed."""


def file_version(path: str) -> FileVersion:
    """Return the file's present version, cheaply enough to poll; None if it is missing."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class ConfigSource:
    """Source of one program's configuration, which can be read again.

    Args:
        path: The configuration file.
        environment: Variables by name, which override the file.
    """

    def __init__(self, path: str, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment
        self._versions: dict[str, FileVersion] = {}
        """Versions that the files and the folder had before they were last read, by path."""
        self._parsed: dict[str, tuple[FileVersion, tuple[Destination, ...]]] = {}
        """Destinations of each file of the last right configuration, with its version then."""
        self._parsed_under: tuple[FileVersion] | None = None
        """Version of the configuration file then."""

    def has_changed(self) -> bool:
        """Return whether anything that the last `load` has read, or missed, may have changed."""
        return any(file_version(path) != seen for path, seen in self._versions.items())

    def load(self, *, whole: bool = False) -> Settings:
        """Return the settings of the files and the environment.

        Args:
            whole: Parse every file, also those that seem to be the same.

        Raises:
            ConfigurationError: A file cannot be read, or there are mistakes: a line for each.
        """
        self._versions = {self._path: file_version(self._path)}
        try:
            text, name = self._read(self._path, CONFIG_BYTES_MAX), self._path
        except FileNotFoundError:
            if self._path != CONFIG_DEFAULT or not is_whole(self._environment):
                advice = f"write one, or name it: --config or {CONFIG_VARIABLE}"
                raise ConfigurationError(
                    [f"{self._path}: there is no such file; {advice}"]
                ) from None
            text, name = "", ENVIRONMENT
        document = toml(text, name)
        folder = folder_of(document, self._environment)
        # What this file says of S3 decides what is right in the files of the folder, too.
        is_same = not whole and self._parsed_under == (self._versions[self._path],)
        files = {} if folder is None else self._read_folder(name, folder, is_same=is_same)
        return self._kept(settings_of(document, self._environment, name, files))

    def _kept(self, settings: Settings) -> Settings:
        """Return the same settings, with the former object for each destination that is equal."""
        parsed: dict[str, tuple[FileVersion, tuple[Destination, ...]]] = {}
        for file, found in settings.origins:
            _, former = self._parsed.get(file, (None, ()))
            if found is not former:
                by_id = {it.id: it for it in former}
                known = [(it, by_id.get(it.id)) for it in found]
                found = tuple(it if it != old else old for it, old in known)  # noqa: PLW2901
            parsed[file] = self._versions.get(file), found
        self._parsed, self._parsed_under = parsed, (self._versions[self._path],)
        origins = tuple((file, found) for file, (_, found) in parsed.items())
        destinations = tuple(chain.from_iterable(found for _, found in origins))
        return replace(settings, destinations=destinations, origins=origins)

    def _read_folder(
        self, name: str, folder: str, *, is_same: bool
    ) -> dict[str, str | tuple[Destination, ...]]:
        """Return the files in the folder of destinations, by name, in its order.

        Each is its text; or its destinations, if they are known and what is outside is the same.
        """
        path = Path(self._path).parent / folder
        self._versions[str(path)] = file_version(str(path))
        where = f"{name}: {DESTINATIONS_DIR} '{folder}'"
        try:
            paths = sorted(
                str(path / it.name)
                for it in path.iterdir()
                if it.name.endswith(".toml")
                and not it.name.startswith(".")
                and not it.name.endswith(TEST_SUFFIX)
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                [f"{where}: {path} cannot be read: {_reason(error)}; write the name of a folder"]
            ) from None
        if len(paths) > FOLDER_FILES_MAX:
            raise ConfigurationError(
                [f"{where}: {path} has {len(paths)} files; write at most {FOLDER_FILES_MAX}"]
            )
        files: dict[str, str | tuple[Destination, ...]] = {}
        mistakes: list[str] = []
        left = CONFIG_BYTES_MAX
        for file in paths:
            version = self._versions[file] = file_version(file)
            seen, found = self._parsed.get(file, (None, ()))
            if is_same and version is not None and version == seen and version[1] <= left:
                files[file] = found
                left -= version[1]
                continue
            try:
                text = self._read(file, left)
            except FileNotFoundError:
                mistakes.append(f"{file}: there is no such file any more; read the folder again")
            except ConfigurationError as error:
                mistakes += error.mistakes
            else:
                files[file] = text
                left -= len(text.encode())
        if mistakes:
            raise ConfigurationError(mistakes)
        return files

    def _read(self, path: str, bytes_max: int) -> str:
        """Return the text of a file.

        Raises:
            ConfigurationError: It cannot be read, is too long, or is not UTF-8.
            FileNotFoundError: There is none.
        """
        try:
            with Path(path).open("rb") as file:
                content = file.read(bytes_max + 1)
        except (OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            advice = f"name another: --config or {CONFIG_VARIABLE}"
            if path != self._path:
                advice = "let this user read it, or remove it"
            raise ConfigurationError(
                [f"{path}: cannot be read: {_reason(error)}; {advice}"]
            ) from None
        if len(content) > bytes_max:
            what = f"longer than {CONFIG_BYTES_MAX} bytes"
            if path != self._path:
                what += ", with the files before it in this folder"
            raise ConfigurationError([f"{path}: {what}; is it a configuration?"])
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                [f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"]
            ) from None


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
