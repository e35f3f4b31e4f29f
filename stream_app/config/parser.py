"""Parser of the configuration: from the operator's TOML text and environment to `Settings`.

    stream_app.toml ─┐
                     ├─ parse() ─> Settings(kafka, s3, delivery, destinations, http)
    STREAM_APP_... ──┘          └> ConfigurationError: every mistake, one line each

A mistake reads `WHERE: NAME is FOUND; write EXPECTED`. Values of secret settings, and credentials
in a URL, are never part of one.

Pure: text and environment are arguments. `config.files.load` reads the file.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from itertools import permutations
from typing import Any, Final

from stream_app.config.bucket_names import is_directory_bucket, needs_virtual_host
from stream_app.config.settings import (
    DESTINATIONS_MAX,
    PAYLOAD_DEFAULT,
    S3,
    TABLES,
    Delivery,
    Destination,
    Http,
    Kafka,
    Settings,
    setting_spec,
)
from stream_app.config.validators import tag_mistakes
from stream_app.errors import ConfigurationError

ENVIRONMENT_PREFIX: Final = "STREAM_APP_"
_SASL_KEYS: Final = ("sasl_mechanism", "sasl_username", "sasl_password")
_SSL_KEYS: Final = ("ssl_ca_file", "ssl_certificate_file", "ssl_key_file")
_KMS: Final = ("aws:kms", "aws:kms:dsse")
_DIRECTORY_CLASSES: Final = ("EXPRESS_ONEZONE", "ONEZONE_IA")
"""Storage classes of directory buckets: in availability zones, and in local zones."""
_SHOWN_CHARACTERS_MAX: Final = 60
_SHOWN_NUMBER_MAX: Final = 10**18
"""Larger numbers are described, not shown; str() refuses some thousand digits."""


def parse(text: str, environment: Mapping[str, str], where: str) -> Settings:
    """Return the settings that TOML `text`, overridden by `environment`, describes.

    Args:
        text: The configuration file's text.
        environment: Variables by name; only `STREAM_APP_<TABLE>_<KEY>` are read.
        where: The file's name in messages.

    Raises:
        ConfigurationError: There are mistakes; a line for each.
    """
    return _Parser(where).settings(_toml(text, where), environment)


def environment_name(table: str, key: str) -> str:
    """Return the variable that overrides `key` of `[table]`."""
    return f"{ENVIRONMENT_PREFIX}{table}_{key}".upper()


def _toml(text: str, where: str) -> dict[str, Any]:
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


@dataclass(slots=True)
class _Parser:
    """State of one parse: collects mistakes instead of stopping at the first."""

    where: str
    mistakes: list[str] = field(default_factory=list)

    def settings(self, document: dict[str, Any], environment: Mapping[str, str]) -> Settings:
        self._unknown(f"{self.where}: ", "table", document, [*TABLES, "destinations"])
        self._unknown_variables(environment)
        kafka = Kafka(**self._table("kafka", document, environment))
        s3 = S3(**self._table("s3", document, environment))
        delivery = Delivery(**self._table("delivery", document, environment))
        http = Http(**self._table("http", document, environment))
        destinations = self._destinations(document.get("destinations", []), s3)
        if self.mistakes:
            raise ConfigurationError(self.mistakes)
        return Settings(kafka, s3, delivery, destinations, http)

    def _table(
        self, name: str, document: dict[str, Any], environment: Mapping[str, str]
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
                is_valid = self._check("environment: ", variable, setting, value)
            elif setting.name in written:
                value = written[setting.name]
                is_valid = self._check(where, setting.name, setting, value)
            else:
                continue
            if is_valid:
                values[setting.name] = value
            else:
                wrong.add(setting.name)
        if name == "kafka":
            self.mistakes += [where + mistake for mistake in _contradictions(values, wrong)]
        return values

    def _check(self, where: str, name: str, setting: "Field[Any]", value: object) -> bool:
        """Return whether `setting` accepts `value`; if not, add the mistake."""
        spec = setting_spec(setting)
        constraint = spec.constraint
        if value is None and setting.default is None:
            return True
        # isinstance() would take a bool for a whole number.
        if type(value) is constraint.kind:
            if _is_encodable(value) and constraint.is_valid(value):
                return True
            shown = "not usable" if spec.secret else _shown(value)
        else:
            shown = "not text" if spec.secret else _shown(value)
        self.mistakes.append(f"{where}{name} is {shown}; write {constraint.expected}")
        return False

    def _destinations(self, written: object, s3: S3) -> tuple[Destination, ...]:
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
            destination = self._destination(number, entry, numbers, s3)
            if destination is not None:
                destinations.append(destination)
        return tuple(destinations)

    def _destination(
        self, number: int, entry: object, numbers: dict[str, int], s3: S3
    ) -> Destination | None:
        """Return entry `number`; `numbers` has the entries before it, by id."""
        where = f"{self.where}: [[destinations]] {number}"
        if not isinstance(entry, dict):
            self.mistakes.append(f"{where}: the entry is {_shown(entry)}; write a table")
            return None
        name = entry.get("id")
        where += f" (id {_shown(name)}): " if isinstance(name, str) else ": "
        settings = fields(Destination)
        self._unknown(where, "key", entry, [setting.name for setting in settings])
        mistakes_before = len(self.mistakes)
        values: dict[str, Any] = {}
        for setting in settings:
            if setting.name in entry:
                values[setting.name] = self._value(where, setting, entry[setting.name])
            elif setting.default is MISSING:
                self.mistakes.append(
                    f'{where}{setting.name} is missing; write {setting.name} = "NAME"'
                )
        if isinstance(name, str) and numbers.setdefault(name, number) != number:
            self.mistakes.append(
                f"{where}id is also that of [[destinations]] {numbers[name]}; write another one"
            )
        if len(self.mistakes) == mistakes_before:
            self.mistakes += [
                where + mistake for mistake in _destination_contradictions(values, s3)
            ]
        if len(self.mistakes) > mistakes_before:
            return None
        if not values.get("payload", PAYLOAD_DEFAULT).strip():
            values["payload"] = PAYLOAD_DEFAULT
        return Destination(**values)

    def _value(self, where: str, setting: "Field[Any]", written: object) -> object:
        """Return the value of a destination's setting; if it is not valid, add mistakes."""
        if setting_spec(setting).constraint.kind is not dict or not isinstance(written, dict):
            self._check(where, setting.name, setting, written)
            return written
        self.mistakes += [f"{where}{setting.name} {it}" for it in tag_mistakes(written)]
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
    """Yield a mistake for each contradiction between settings of `[kafka]`.

    A setting that is `wrong` in itself is neither present nor missing: its line is there already.
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


def _destination_contradictions(values: Mapping[str, Any], s3: S3) -> Iterator[str]:
    """Yield a mistake for each contradiction between settings of a destination."""
    style = values.get("addressing_style") or s3.addressing_style
    if style == "path" and needs_virtual_host(values["bucket"]):
        yield (
            'addressing_style is "path", but access points and directory buckets have virtual '
            'hosts only; write addressing_style = "virtual" for this destination'
        )
    if is_directory_bucket(values["bucket"]):
        yield from _directory_contradictions(values)
    elif values.get("storage_class") == _DIRECTORY_CLASSES[0]:
        yield (
            f'storage_class is "{_DIRECTORY_CLASSES[0]}", which only directory buckets (...--x-s3) '
            "have; name one, or write another class"
        )
    sse = values.get("sse")
    if "kms_key_id" in values and sse not in _KMS:
        found = "sse is missing" if sse is None else f'sse is "{sse}"'
        expected = " or ".join(f'sse = "{kind}"' for kind in _KMS)
        yield f"kms_key_id is set but {found}; write {expected}, or remove kms_key_id"
    if "external_id" in values and "role_arn" not in values:
        yield "external_id is set without role_arn; write both or neither"


def _directory_contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a mistake for each option that S3 refuses for a directory bucket."""
    for name in ("acl", "tags", "content_encoding"):
        if name in values:
            yield f"{name} is set, but a directory bucket takes none; remove {name}"
    storage_class = values.get("storage_class")
    if storage_class is not None and storage_class not in _DIRECTORY_CLASSES:
        yield (
            f'storage_class is "{storage_class}", which directory buckets do not have; remove it'
        )
    if values.get("sse") == "aws:kms:dsse":
        yield (
            'sse is "aws:kms:dsse", which directory buckets do not have; write "aws:kms" or '
            '"AES256", or remove sse'
        )
    if values.get("kms_key_id", "").startswith("alias/"):
        yield "kms_key_id is an alias; write the id or ARN of the directory bucket's own key"
    if values.get("checksum") == "md5":
        yield 'checksum is "md5", which directory buckets ignore; write "sha256" or "crc32"'


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
    return not isinstance(value, str) or re.search(r"[\ud800-\udfff]", value) is None


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
            start = "//" if "//" in value else ""
            text = re.sub(rf"{start or '^'}.*@", f"{start}***@", value, flags=re.DOTALL)
            if len(text) > _SHOWN_CHARACTERS_MAX:
                text = text[:_SHOWN_CHARACTERS_MAX] + "…"
            return ascii(text) if not text.isprintable() else f"'{text}'"
        case _:
            return "a date or time"
