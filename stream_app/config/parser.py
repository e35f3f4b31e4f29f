"""Reading the configuration: the operator's TOML text and environment, turned into `Settings`.

    stream_app.toml ─┐
                     ├─ parse() ─> Settings(kafka, s3, delivery, destinations, http)
    STREAM_APP_... ──┘          └> ConfigurationError: every mistake, one line each

A mistake reads `PLACE: NAME is FOUND; write WANTED`. Values of secret settings, and credentials
written into a URL, are never part of one.

Pure: it is handed the text and the environment. `configfile.load` reads the file.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from itertools import permutations
from typing import Any, Final

from stream_app.errors import ConfigurationError
from stream_app.settings import (
    DESTINATIONS_MAX,
    PAYLOAD_DEFAULT,
    S3,
    TABLES,
    Delivery,
    Destination,
    Http,
    Kafka,
    Settings,
    about,
)
from stream_app.values import tag_mistakes

__all__ = [
    "S3",
    "Delivery",
    "Destination",
    "Http",
    "Kafka",
    "Settings",
    "environment_name",
    "parse",
]

ENVIRONMENT_PREFIX: Final = "STREAM_APP_"
_SASL_KEYS: Final = ("sasl_mechanism", "sasl_username", "sasl_password")
_SSL_KEYS: Final = ("ssl_ca_file", "ssl_certificate_file", "ssl_key_file")
_KMS: Final = ("aws:kms", "aws:kms:dsse")
_SHOWN_CHARACTERS_MAX: Final = 60
_SHOWN_NUMBER_MAX: Final = 10**18
"""Beyond it a number is named, not shown; str() refuses some thousand digits."""


def parse(text: str, environment: Mapping[str, str], where: str) -> Settings:
    """Return the settings that TOML `text`, overridden by `environment`, describes.

    Args:
        text: The configuration file's text.
        environment: Variables by name; only `STREAM_APP_<TABLE>_<KEY>` are looked at.
        where: The file's name, as messages should call it.

    Raises:
        ConfigurationError: There are mistakes; it holds a line for each.
    """
    return _Reader(where).settings(_toml(text, where), environment)


def environment_name(table: str, key: str) -> str:
    """Return the variable that overrides `key` of `[table]`."""
    return f"{ENVIRONMENT_PREFIX}{table}_{key}".upper()


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError([f"{where}: values are nested too deeply; flatten them"]) from None
    except ValueError as error:
        # tomllib writes `WHAT (at line 3, column 5)`, or `(at end of document)`.
        what = re.sub(r" \(at (.*)\)$", "", str(error))
        place = re.search(r"\(at (line \d+, column \d+)\)$", str(error))
        lines = text.split("\n")
        at = place[1] if place else f"line {len(lines)}, column {len(lines[-1]) + 1}"
        raise ConfigurationError([f"{where}: {at}: {what}; write valid TOML there"]) from None


@dataclass(slots=True)
class _Reader:
    """One reading: collects mistakes instead of stopping at the first."""

    where: str
    mistakes: list[str] = field(default_factory=list)

    def settings(self, document: dict[str, Any], environment: Mapping[str, str]) -> Settings:
        self._unknown(f"{self.where}: ", "table", document, [*TABLES, "destinations"])
        self._unknown_variables(environment)
        kafka = Kafka(**self._table("kafka", document, environment))
        s3 = S3(**self._table("s3", document, environment))
        delivery = Delivery(**self._table("delivery", document, environment))
        http = Http(**self._table("http", document, environment))
        destinations = self._destinations(document.get("destinations", []))
        if self.mistakes:
            raise ConfigurationError(self.mistakes)
        return Settings(kafka, s3, delivery, destinations, http)

    def _table(
        self, name: str, document: dict[str, Any], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return the right values of one table, the environment's first."""
        place = f"{self.where}: [{name}]: "
        written = document.get(name, {})
        if not isinstance(written, dict):
            self.mistakes.append(
                f"{self.where}: {name} is {_shown(written)}; write a table, [{name}]"
            )
            written = {}
        settings = fields(TABLES[name])
        self._unknown(place, "key", written, [setting.name for setting in settings])
        values: dict[str, Any] = {}
        wrong = set()
        for setting in settings:
            variable = environment_name(name, setting.name)
            if variable in environment:
                value = _from_environment(setting, environment[variable])
                right = self._right("environment: ", variable, setting, value)
            elif setting.name in written:
                value = written[setting.name]
                right = self._right(place, setting.name, setting, value)
            else:
                continue
            if right:
                values[setting.name] = value
            else:
                wrong.add(setting.name)
        if name == "kafka":
            self.mistakes += [place + mistake for mistake in _contradictions(values, wrong)]
        return values

    def _right(self, place: str, name: str, setting: "Field[Any]", value: object) -> bool:
        """Tell whether `value` suits `setting`; if not, add the mistake."""
        declared = about(setting)
        if value is None and setting.default is None:
            return True
        # isinstance() would take a bool for a whole number.
        if type(value) is declared.kind:
            if _is_encodable(value) and declared.allows(value):
                return True
            shown = "not usable" if declared.secret else _shown(value)
        else:
            shown = "not text" if declared.secret else _shown(value)
        self.mistakes.append(f"{place}{name} is {shown}; write {declared.wanted}")
        return False

    def _destinations(self, written: object) -> tuple[Destination, ...]:
        if not isinstance(written, list):
            self.mistakes.append(
                f"{self.where}: destinations is {_shown(written)}; write [[destinations]] in two "
                "pairs of brackets for each destination"
            )
            return ()
        if not 1 <= len(written) <= DESTINATIONS_MAX:
            self.mistakes.append(
                f"{self.where}: there are {len(written)} [[destinations]]; write 1 to "
                f"{DESTINATIONS_MAX} of them, each with id and bucket"
            )
            return ()
        numbers: dict[str, int] = {}
        destinations = []
        for number, entry in enumerate(written, start=1):
            destination = self._destination(number, entry, numbers)
            if destination is not None:
                destinations.append(destination)
        return tuple(destinations)

    def _destination(
        self, number: int, entry: object, numbers: dict[str, int]
    ) -> Destination | None:
        """Read the entry with this number; `numbers` holds the entries before it, by id."""
        place = f"{self.where}: [[destinations]] {number}"
        if not isinstance(entry, dict):
            self.mistakes.append(f"{place}: it is {_shown(entry)}; write a table")
            return None
        name = entry.get("id")
        place += f" (id {_shown(name)}): " if isinstance(name, str) else ": "
        settings = fields(Destination)
        self._unknown(place, "key", entry, [setting.name for setting in settings])
        mistakes_before = len(self.mistakes)
        values: dict[str, Any] = {}
        for setting in settings:
            if setting.name in entry:
                values[setting.name] = self._value(place, setting, entry[setting.name])
            elif setting.default is MISSING:
                self.mistakes.append(
                    f'{place}{setting.name} is missing; write {setting.name} = "NAME"'
                )
        if isinstance(name, str) and numbers.setdefault(name, number) != number:
            self.mistakes.append(
                f"{place}id is also that of [[destinations]] {numbers[name]}; write another one"
            )
        if len(self.mistakes) == mistakes_before:
            self.mistakes += [place + mistake for mistake in _destination_contradictions(values)]
        if len(self.mistakes) > mistakes_before:
            return None
        if not values.get("payload", PAYLOAD_DEFAULT).strip():
            values["payload"] = PAYLOAD_DEFAULT
        return Destination(**values)

    def _value(self, place: str, setting: "Field[Any]", written: object) -> object:
        """Return the value of a destination's setting; if it is not a right one, add mistakes."""
        if about(setting).kind is not dict or not isinstance(written, dict):
            self._right(place, setting.name, setting, written)
            return written
        self.mistakes += [f"{place}{setting.name} {it}" for it in tag_mistakes(written)]
        return tuple(written.items())

    def _unknown(
        self, place: str, noun: str, written: Mapping[str, object], known: list[str]
    ) -> None:
        for key in written:
            if key not in known:
                self.mistakes.append(
                    f"{place}{noun} {_shown(key)} is unknown; {_advice(key, known)}"
                )

    def _unknown_variables(self, environment: Mapping[str, str]) -> None:
        known = [
            environment_name(table, setting.name)
            for table, kind in TABLES.items()
            for setting in fields(kind)
        ]
        tables = tuple(environment_name(table, "") for table in TABLES)
        wrong = {
            variable: ""
            for variable in sorted(environment)
            if variable.startswith(tables) and variable not in known
        }
        self._unknown("environment: ", "variable", wrong, known)


def _contradictions(values: Mapping[str, Any], wrong: set[str]) -> Iterator[str]:
    """Yield a mistake for each two settings of `[kafka]` that cannot both be meant.

    A setting that is `wrong` in itself is neither present nor missing: it has its line already.
    """
    defaults = Kafka()
    events = values.get("events_topic", defaults.events_topic)
    receipts = values.get("receipts_topic", defaults.receipts_topic)
    if events == receipts and not wrong & {"events_topic", "receipts_topic"}:
        yield f"events_topic and receipts_topic are both '{events}'; write two topics"
    present = {key for key, value in values.items() if value is not None}
    for key, other in permutations(("ssl_certificate_file", "ssl_key_file")):
        if key in present and other not in present | wrong:
            yield f"{key} is set without {other}; write both or neither"
    if "security_protocol" in wrong:
        return
    protocol = values.get("security_protocol", defaults.security_protocol)
    if protocol.startswith("sasl_"):
        for key in _SASL_KEYS:
            if key not in present | wrong:
                yield (
                    f'{key} is missing with security_protocol = "{protocol}"; write {key} or set '
                    f"{environment_name('kafka', key)}"
                )
    unused = {key: "sasl_ssl" for key in _SASL_KEYS if not protocol.startswith("sasl_")}
    unused |= {key: "ssl or sasl_ssl" for key in _SSL_KEYS if not protocol.endswith("ssl")}
    for key, needed in unused.items():
        if key in present:
            yield (
                f'{key} is set but security_protocol is "{protocol}"; write {needed} there, or '
                f"remove {key}"
            )


def _destination_contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a mistake for each two settings of a destination that cannot both be meant."""
    sse = values.get("sse")
    if "kms_key_id" in values and sse not in _KMS:
        found = "sse is missing" if sse is None else f'sse is "{sse}"'
        wanted = " or ".join(f'sse = "{kind}"' for kind in _KMS)
        yield f"kms_key_id is set but {found}; write {wanted}, or remove kms_key_id"
    if "external_id" in values and "role_arn" not in values:
        yield "external_id is set without role_arn; write both or neither"


def _from_environment(setting: "Field[Any]", text: str) -> str | int | None:
    """Read a variable by the setting's type; what does not fit stays text, and is a mistake."""
    if about(setting).kind is int:
        # 18 digits: far beyond every bound, and far below what int() refuses to read.
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text
    if setting.default is None and text == "":
        # What can be left out is left out by an empty variable: compose files set such ones.
        return None
    return text


def _is_encodable(value: object) -> bool:
    """Tell whether UTF-8 can spell it: a byte outside UTF-8 in a variable gives a surrogate."""
    return not isinstance(value, str) or re.search(r"[\ud800-\udfff]", value) is None


def _advice(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"remove it, or write one of {', '.join(known)}"


def _shown(value: object) -> str:
    """Return how a message shows a value: short, on one line, without credentials."""
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
            start = "//" if "//" in value else ""
            text = re.sub(rf"{start or '^'}.*@", f"{start}***@", value, flags=re.DOTALL)
            if len(text) > _SHOWN_CHARACTERS_MAX:
                text = text[:_SHOWN_CHARACTERS_MAX] + "…"
            return ascii(text) if not text.isprintable() else f"'{text}'"
        case _:
            return "a date or time"
