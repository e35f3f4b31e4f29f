"""Parser of the configuration: from the operator's TOML text and environment to `Settings`.

    stream_app.toml ─┐
    teams/*.toml ────┼─ settings() ─> Settings(kafka, s3, delivery, destinations, http)
    STREAM_APP_... ──┘             └> ConfigurationError: every mistake, one line each

A mistake reads `WHERE: NAME is FOUND; write EXPECTED`. Values of secret settings, and credentials
in a URL, are never part of one.

Pure: texts and environment are arguments. `config.files` reads the files.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from stream_app.config.contradictions import destination_contradictions, kafka_contradictions
from stream_app.config.settings import (
    DESTINATION_VARIABLES,
    DESTINATIONS_DIR,
    DESTINATIONS_DIR_SPEC,
    DESTINATIONS_MAX,
    DESTINATIONS_TABLE,
    ENVIRONMENT_PREFIX,
    PAYLOAD_DEFAULT,
    S3,
    TABLES,
    Delivery,
    Destination,
    Http,
    Kafka,
    Settings,
    SettingSpec,
    environment_name,
    setting_spec,
)
from stream_app.config.validators import tag_mistakes
from stream_app.errors import ConfigurationError

_DIR_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}{DESTINATIONS_DIR}".upper()
ENVIRONMENT: Final = "environment"
"""Name of the environment in messages, and of a configuration without a file."""
_ENVIRONMENT: Final = f"{ENVIRONMENT}: "
SHARED_TEXTS_MAX: Final = 10_000
"""Values that are checked once and kept once, as the bucket that thousands of destinations have."""
_DESTINATION_FIELDS: Final = fields(Destination)
_DESTINATION_KEYS: Final = [it.name for it in _DESTINATION_FIELDS]
_UNIQUE_KEYS: Final = frozenset({"id", "pipeline", "prefix"})
"""Settings whose values destinations rarely share."""
_SHOWN_CHARACTERS_MAX: Final = 60
_SHOWN_NUMBER_MAX: Final = 10**18
"""Larger numbers are described, not shown; str() refuses some thousand digits."""


def parse(text: str, environment: Mapping[str, str], where: str) -> Settings:
    """Return the settings of a configuration file without a folder of destinations.

    Args:
        text: The file's text.
        environment: See `settings_of`.
        where: The file's name in messages.

    Raises:
        ConfigurationError: There are mistakes; a line for each.
    """
    return settings_of(toml(text, where), environment, where)


def settings_of(
    document: Mapping[str, Any],
    environment: Mapping[str, str],
    where: str,
    files: Mapping[str, str | tuple[Destination, ...]] = MappingProxyType({}),
) -> Settings:
    """Return the settings that a TOML document, overridden by `environment`, describes.

    Args:
        document: Content of the configuration file.
        environment: Variables by name; only `STREAM_APP_<TABLE>_<KEY>`, those of one destination
            and that of `destinations_dir` are read.
        where: The document's name in messages.
        files: The files in the folder that `folder_of` returns, by name: their texts, or what was
            parsed of them with the same document and environment.

    Raises:
        ConfigurationError: There are mistakes; a line for each.
    """
    return _Parser(where).settings(document, environment, files)


def folder_of(document: Mapping[str, Any], environment: Mapping[str, str]) -> str | None:
    """Return `destinations_dir`, if it is set to a text that can be one."""
    value = environment.get(_DIR_VARIABLE) or document.get(DESTINATIONS_DIR)
    is_valid = isinstance(value, str) and DESTINATIONS_DIR_SPEC.constraint.is_valid(value)
    return value if is_valid else None


def is_whole(environment: Mapping[str, str]) -> bool:
    """Return whether the environment alone can be a configuration: it says where events go."""
    return bool(environment.get(_DIR_VARIABLE) or _destination_variables(environment))


def _destination_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the variables that describe the one destination of the environment.

    Empty ones do not: compose files set all variables that they know of.
    """
    prefix = environment_name(DESTINATION_VARIABLES, "")
    return sorted(it for it in environment if it.startswith(prefix) and environment[it])


def toml(text: str, where: str) -> dict[str, Any]:
    """Return the content of TOML text.

    Raises:
        ConfigurationError: It is not valid; one line with the place in it.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError([f"{where}: values are nested too deeply; flatten them"]) from None
    except ValueError as error:
        # tomllib's message is `REASON (at line 3, column 5)`, or `(at end of document)`.
        reason = re.sub(r" \(at (.*)\)$", "", str(error))
        match = re.search(r"\(at (line \d+, column \d+)\)$", str(error))
        lines = text.split("\n")
        position = match[1] if match else f"line {len(lines)}, column {len(lines[-1]) + 1}"
        raise ConfigurationError(
            [f"{where}: {position}: {reason}; write valid TOML there"]
        ) from None


class _Entries(NamedTuple):
    """Entries of one file."""

    ids: Sequence[object]
    """The id of each, whatever it is."""
    destinations: tuple[Destination, ...]
    """Those that are valid."""


@dataclass(slots=True)
class _Parser:
    """State of one parse: collects mistakes instead of stopping at the first."""

    where: str
    mistakes: list[str] = field(default_factory=list)
    _shared: dict[tuple[str, str], str] = field(default_factory=dict)
    """Valid texts by setting and text, so that destinations with the same have one object."""
    _count: int = 0
    """Destinations that were parsed so far: those beyond the bound are not."""

    def settings(
        self,
        document: Mapping[str, Any],
        environment: Mapping[str, str],
        files: Mapping[str, str | tuple[Destination, ...]],
    ) -> Settings:
        known = [*TABLES, DESTINATIONS_TABLE, DESTINATIONS_DIR]
        self._unknown(f"{self.where}: ", "table", document, known)
        self._unknown_variables(environment)
        kafka = Kafka(**self._table("kafka", document, environment))
        s3 = S3(**self._table("s3", document, environment))
        delivery = Delivery(**self._table("delivery", document, environment))
        http = Http(**self._table("http", document, environment))
        found = self._all_destinations(document, environment, files, s3)
        if self.mistakes:
            raise ConfigurationError(self.mistakes)
        destinations = tuple(chain.from_iterable(found.values()))
        return Settings(kafka, s3, delivery, destinations, http, self.where, tuple(found.items()))

    def _table(
        self, name: str, document: Mapping[str, Any], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return the valid values of one table; the environment overrides the file."""
        where = f"{self.where}: [{name}]: "
        written = document.get(name, {})
        if not isinstance(written, dict):
            self.mistakes.append(
                f"{self.where}: {name} is {_shown(written)}; write a table, [{name}]"
            )
            written = {}
        settings = fields(TABLES[name])
        self._unknown(where, "key", written, [setting.name for setting in settings])
        values: dict[str, Any] = {}
        wrong = set()
        for setting in settings:
            variable = environment_name(name, setting.name)
            if variable in environment:
                value = _from_environment(setting, environment[variable])
                is_valid = self._check_field(_ENVIRONMENT, variable, setting, value)
            elif setting.name in written:
                value = written[setting.name]
                is_valid = self._check_field(where, setting.name, setting, value)
            else:
                continue
            if is_valid:
                values[setting.name] = value
            else:
                wrong.add(setting.name)
        if name == "kafka":
            self.mistakes += [where + mistake for mistake in kafka_contradictions(values, wrong)]
        return values

    def _check_field(self, where: str, name: str, setting: "Field[Any]", value: object) -> bool:
        """Return whether `setting` accepts `value`; if not, add the mistake."""
        if value is None and setting.default is None:
            return True
        return self._check(where, name, setting_spec(setting), value)

    def _check(self, where: str, name: str, spec: SettingSpec, value: object) -> bool:
        """Return whether a specification accepts `value`; if not, add the mistake."""
        constraint = spec.constraint
        # isinstance() would take a bool for a whole number.
        if type(value) is constraint.kind:
            if _is_encodable(value) and constraint.is_valid(value):
                return True
            shown = "not usable" if spec.secret else _shown(value)
        else:
            shown = "not text" if spec.secret else _shown(value)
        self.mistakes.append(f"{where}{name} is {shown}; write {constraint.expected}")
        return False

    def _all_destinations(
        self,
        document: Mapping[str, Any],
        environment: Mapping[str, str],
        files: Mapping[str, str | tuple[Destination, ...]],
        s3: S3,
    ) -> dict[str, tuple[Destination, ...]]:
        """Return the destinations of each file, by its name; those of the environment by its."""
        self._check_folder(document, environment)
        folder = folder_of(document, environment)
        own = self._list_of(self.where, document)
        variables = _destination_variables(environment)
        if not variables:
            entries = {self.where: self._entries(self.where, own, s3)}
            entries |= {name: self._entries_of_file(name, it, s3) for name, it in files.items()}
            self._check_entries(entries, folder)
            return {name: it.destinations for name, it in entries.items() if it is not None}
        if own or folder:
            other = f"there are [[destinations]] in {self.where}"
            if not own:
                other = f"{DESTINATIONS_DIR} is '{folder}'"
            self.mistakes.append(
                f"{_ENVIRONMENT}{variables[0]} describes a destination, but {other}; remove that, "
                f"or all variables {environment_name(DESTINATION_VARIABLES, '')}..."
            )
            return {}
        destination = self._destination_of(environment, s3)
        return {} if destination is None else {ENVIRONMENT: (destination,)}

    def _check_entries(self, entries: Mapping[str, _Entries | None], folder: str | None) -> None:
        """Check the number of all destinations, and that each has an id of its own."""
        found = {file: it.ids for file, it in entries.items() if it is not None}
        count = sum(map(len, found.values()))
        is_none = count == 0 and len(found) == len(entries)  # None is a mistake of its own
        if is_none or count > DESTINATIONS_MAX:
            inside = f" in it and in {DESTINATIONS_DIR} '{folder}'" if folder else ""
            self.mistakes.append(
                f"{self.where}: there are {count} [[destinations]]{inside}; write 1 to "
                f"{DESTINATIONS_MAX} of them, each with id and bucket"
            )
        named = [it for ids in found.values() for it in ids if isinstance(it, str)]
        if len(set(named)) < len(named):
            self._list_repeated(found)

    def _list_repeated(self, found: Mapping[str, Sequence[object]]) -> None:
        """Add a mistake for each entry whose id an earlier one has."""
        places: dict[str, tuple[str, int]] = {}
        for file, ids in found.items():
            for number, id_ in enumerate(ids, start=1):
                if not isinstance(id_, str):
                    continue
                first_file, first = places.setdefault(id_, (file, number))
                if (first_file, first) != (file, number):
                    other = f"{first}" if first_file == file else f"{first} of {first_file}"
                    self.mistakes.append(
                        f"{_place(file, number, id_)}id is also that of [[destinations]] {other}; "
                        "write another one"
                    )

    def _check_folder(self, document: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        if environment.get(_DIR_VARIABLE):
            value = environment[_DIR_VARIABLE]
            self._check(_ENVIRONMENT, _DIR_VARIABLE, DESTINATIONS_DIR_SPEC, value)
        elif DESTINATIONS_DIR in document:
            value = document[DESTINATIONS_DIR]
            self._check(f"{self.where}: ", DESTINATIONS_DIR, DESTINATIONS_DIR_SPEC, value)

    def _entries_of_file(
        self, name: str, file: str | tuple[Destination, ...], s3: S3
    ) -> _Entries | None:
        """Return the entries of a file in the folder of destinations; None: it has a mistake."""
        if not isinstance(file, str):
            return _Entries([it.id for it in file], file)
        try:
            document = toml(file, name)
        except ConfigurationError as error:
            self.mistakes += error.mistakes
            return None
        self._unknown(f"{name}: ", "key", document, [DESTINATIONS_TABLE])
        return self._entries(name, self._list_of(name, document), s3)

    def _list_of(self, name: str, document: Mapping[str, Any]) -> list[object] | None:
        written = document.get(DESTINATIONS_TABLE, [])
        if isinstance(written, list):
            return written
        self.mistakes.append(
            f"{name}: {DESTINATIONS_TABLE} is {_shown(written)}; write [[destinations]] in two "
            "pairs of brackets for each destination"
        )
        return None

    def _entries(self, name: str, written: list[object] | None, s3: S3) -> _Entries | None:
        if written is None:
            return None
        ids = [it.get("id") if isinstance(it, dict) else None for it in written]
        self._count += len(ids)
        if self._count > DESTINATIONS_MAX:
            return _Entries(ids, ())
        found = (self._destination(name, number, it, s3) for number, it in enumerate(written, 1))
        return _Entries(ids, tuple(it for it in found if it is not None))

    def _destination_of(self, environment: Mapping[str, str], s3: S3) -> Destination | None:
        """Return the one destination that variables describe; None if it is not valid."""
        mistakes_before = len(self.mistakes)
        values: dict[str, Any] = {}
        for setting in _variable_settings(DESTINATION_VARIABLES):
            variable = environment_name(DESTINATION_VARIABLES, setting.name)
            text = environment.get(variable, "")
            if text:
                values[setting.name] = _from_environment(setting, text)
                self._check_field(_ENVIRONMENT, variable, setting, values[setting.name])
            elif setting.default is MISSING:
                self.mistakes.append(f"{_ENVIRONMENT}{variable} is missing; set it")
        return self._valid_destination(_ENVIRONMENT, values, mistakes_before, s3)

    def _destination(self, file: str, number: int, entry: object, s3: S3) -> Destination | None:
        """Return the destination of an entry; None if it is not valid."""
        if not isinstance(entry, dict):
            self.mistakes.append(
                f"{file}: [[destinations]] {number}: the entry is {_shown(entry)}; write a table"
            )
            return None
        where = _place(file, number, entry.get("id"))
        self._unknown(where, "key", entry, _DESTINATION_KEYS)
        mistakes_before = len(self.mistakes)
        values: dict[str, Any] = {}
        for setting in _DESTINATION_FIELDS:
            if setting.name in entry:
                values[setting.name] = self._value(where, setting, entry[setting.name])
            elif setting.default is MISSING:
                self.mistakes.append(
                    f'{where}{setting.name} is missing; write {setting.name} = "NAME"'
                )
        return self._valid_destination(where, values, mistakes_before, s3)

    def _valid_destination(
        self, where: str, values: dict[str, Any], mistakes_before: int, s3: S3
    ) -> Destination | None:
        """Return the destination, if there is no mistake in its values, nor between them."""
        if len(self.mistakes) == mistakes_before:
            self.mistakes += [where + mistake for mistake in destination_contradictions(values, s3)]
        if len(self.mistakes) > mistakes_before:
            return None
        if not values.get("payload", PAYLOAD_DEFAULT).strip():
            values["payload"] = PAYLOAD_DEFAULT
        return Destination(**values)

    def _value(self, where: str, setting: "Field[Any]", written: object) -> object:
        """Return the value of a destination's setting; if it is not valid, add mistakes."""
        name = setting.name
        if isinstance(written, str) and (shared := self._shared.get((name, written))) is not None:
            return shared
        if setting_spec(setting).constraint.kind is not dict or not isinstance(written, dict):
            is_shared = name not in _UNIQUE_KEYS and len(self._shared) < SHARED_TEXTS_MAX
            is_valid = self._check_field(where, name, setting, written)
            if is_valid and is_shared and isinstance(written, str):
                self._shared[name, written] = written
            return written
        self.mistakes += [f"{where}{name} {it}" for it in tag_mistakes(written)]
        return tuple(written.items())

    def _unknown(
        self, where: str, noun: str, written: Mapping[str, object], known: list[str]
    ) -> None:
        for key in written:
            if key not in known:
                self.mistakes.append(
                    f"{where}{noun} {_shown(key)} is unknown; {_advice(key, known)}"
                )

    def _unknown_variables(self, environment: Mapping[str, str]) -> None:
        known = [
            environment_name(table, setting.name)
            for table in (*TABLES, DESTINATION_VARIABLES)
            for setting in _variable_settings(table)
        ]
        tables = tuple(environment_name(table, "") for table in (*TABLES, DESTINATION_VARIABLES))
        wrong = {
            variable: ""
            for variable in sorted(environment)
            if variable.startswith(tables) and variable not in known
        }
        self._unknown(_ENVIRONMENT, "variable", wrong, known)


def _place(file: str, number: int, id_: object) -> str:
    """Return the beginning of a mistake in an entry."""
    shown = f" (id {_shown(id_)})" if isinstance(id_, str) else ""
    return f"{file}: [[destinations]] {number}{shown}: "


def _variable_settings(table: str) -> list["Field[Any]"]:
    """Return the settings that have a variable, of a table or of the environment's destination."""
    settings = fields(TABLES.get(table, Destination))
    return [it for it in settings if setting_spec(it).constraint.kind is not dict]


def _from_environment(setting: "Field[Any]", text: str) -> str | int | bool | None:
    """Convert a variable to the setting's type; text that does not fit stays text: a mistake."""
    kind = setting_spec(setting).constraint.kind
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    if kind is int:
        # 18 digits: far beyond every bound, and far fewer than int() refuses to parse.
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text
    if setting.default is None and text == "":
        # An empty variable leaves an optional setting out: compose files set such variables.
        return None
    return text


def _is_encodable(value: object) -> bool:
    """Return whether UTF-8 can encode the value; bytes that are not UTF-8 in a variable cannot."""
    return (
        not isinstance(value, str)
        or value.isascii()
        or re.search(r"[\ud800-\udfff]", value) is None
    )


def _advice(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"remove it, or write one of {', '.join(known)}"


def _shown(value: object) -> str:
    """Return a value for a message: short, on one line, without credentials."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value) if abs(value) < _SHOWN_NUMBER_MAX else "a number too large"
        case dict():
            return "a table"
        case list():
            return "a list"
        case str():
            # With a scheme in front of the credentials, and without.
            text = value
            if "@" in value:
                start = "//" if "//" in value else ""
                text = re.sub(rf"{start or '^'}.*@", f"{start}***@", value, flags=re.DOTALL)
            if len(text) > _SHOWN_CHARACTERS_MAX:
                text = text[:_SHOWN_CHARACTERS_MAX] + "…"
            return ascii(text) if not text.isprintable() else f"'{text}'"
        case _:
            return "a date or time"
