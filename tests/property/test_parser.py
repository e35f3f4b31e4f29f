import tomllib
from dataclasses import MISSING, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.config.parser import parse
from stream_app.config.settings import TABLES, Destination, Settings, environment_name, setting_spec
from stream_app.errors import ConfigurationError

SETTINGS = [(table, setting) for table, kind in TABLES.items() for setting in fields(kind)]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def toml(value: object) -> str:
    """Spell a value in TOML; None becomes text."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case list():
            return "[" + ", ".join(toml(item) for item in value) + "]"
        case dict():
            items = (f"{toml(name)} = {toml(item)}" for name, item in value.items())
            return "{" + ", ".join(items) + "}"
        case _:
            return '"' + "".join(f"\\U{ord(character):08x}" for character in str(value)) + '"'


def outcome(text: str, environment: dict[str, str]) -> Settings | tuple[str, ...]:
    """Return the settings, or the mistakes."""
    try:
        return parse(text, environment, "file.toml")
    except ConfigurationError as error:
        return error.mistakes


def readable(text: str) -> bool:
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True


@given(st.text(max_size=200))
def test_any_text_gives_settings_or_lines_that_name_the_file(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, {}, "file.toml")
    for mistake in caught.value.mistakes:
        assert mistake.startswith("file.toml: ")
        assert mistake.isprintable()


@given(
    st.lists(
        st.dictionaries(st.sampled_from([setting.name for setting in fields(Destination)]), VALUES),
        max_size=4,
    ),
    st.dictionaries(st.sampled_from(SETTINGS), VALUES, max_size=5),
)
def test_any_values_give_settings_within_bounds_or_lines(
    destinations: list[dict[str, object]], written: dict[object, object]
) -> None:
    lines = [
        f"{table}.{setting.name} = {toml(value)}" for (table, setting), value in written.items()
    ]
    for entry in destinations:
        lines += ["[[destinations]]", *(f"{name} = {toml(value)}" for name, value in entry.items())]
    text = "\n".join(lines)
    settings = outcome(text, {})
    if isinstance(settings, tuple):
        assert settings
        assert all(line.startswith("file.toml: ") and line.isprintable() for line in settings)
        return
    for part in (settings.kafka, settings.s3, settings.delivery, *settings.destinations):
        for setting in fields(part):
            value = getattr(part, setting.name)
            optional = setting.default is None and value is None
            assert optional or setting_spec(setting).constraint.is_valid(value)
    assert len({destination.id for destination in settings.destinations}) == len(destinations)


@given(st.sampled_from(SETTINGS), st.text(st.characters(codec="utf-8"), max_size=30))
def test_variable_means_what_the_file_means(item: tuple[str, object], text: str) -> None:
    table, setting = item
    destination = '[[destinations]]\nid = "a"\nbucket = "abc"\n'
    spelt = text if setting.type is int and text.isascii() and text.isdigit() else toml(text)
    written = f"[{table}]\n{setting.name} = {spelt}\n{destination}"
    by_variable = outcome(destination, {environment_name(table, setting.name): text})
    by_file = outcome(written, {})
    if text == "" and setting.default is None:
        assert by_variable == outcome(destination, {})
    elif readable(written):
        # Lines about mistakes name the place, which differs.
        alike = isinstance(by_file, tuple) and isinstance(by_variable, tuple)
        assert alike or by_variable == by_file


@given(st.integers(), st.sampled_from([item for item in SETTINGS if item[1].type is int]))
def test_number_is_accepted_exactly_within_its_bounds(
    number: int, item: tuple[str, object]
) -> None:
    table, setting = item
    assert setting.default is not MISSING
    text = f'[{table}]\n{setting.name} = {number}\n[[destinations]]\nid = "a"\nbucket = "abc"\n'
    result = outcome(text, {})
    if setting_spec(setting).constraint.is_valid(number):
        assert getattr(getattr(result, table), setting.name) == number
    else:
        assert len(result) == 1
