from pathlib import Path

import pytest

from stream_app.config import parse
from stream_app.configfile import CONFIG_BYTES_MAX, compile_payloads, compile_program, load
from stream_app.errors import ConfigurationError

DESTINATION = '[[destinations]]\nid = "orders"\nbucket = "my-bucket"\n'


def mistakes(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(str(path), {})
    return list(caught.value.mistakes)


def test_file_and_environment_give_settings(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(DESTINATION, "utf-8")
    settings = load(str(path), {"STREAM_APP_KAFKA_GROUP": "g"})
    assert (settings.kafka.group, settings.destinations[0].id) == ("g", "orders")


def test_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    assert mistakes(path) == [
        f"{path}: there is no such file; write one, or name it: --config or STREAM_APP_CONFIG"
    ]


def test_folder_is_no_configuration(tmp_path: Path) -> None:
    assert mistakes(tmp_path) == [
        (
            f"{tmp_path}: it cannot be read: Is a directory; name another: --config or "
            "STREAM_APP_CONFIG"
        )
    ]


def test_name_that_no_file_can_have_is_a_mistake() -> None:
    (mistake,) = mistakes(Path("a\0b"))
    assert "it cannot be read: embedded null byte" in mistake


def test_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"#" * (CONFIG_BYTES_MAX + 1))
    assert mistakes(path) == [f"{path}: it is longer than 16777216 bytes; is it a configuration?"]


def test_file_must_be_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"# \xff")
    assert mistakes(path) == [f"{path}: byte 2 is no UTF-8; save the file as UTF-8"]


def test_right_expressions_compile() -> None:
    compile_payloads(parse(DESTINATION, {}, "x"), "x")


def test_every_wrong_expression_has_a_line() -> None:
    second = DESTINATION.replace("orders", "b")
    text = f'{DESTINATION}payload = "("\n{second}payload = "a.b"\n'
    third = DESTINATION.replace("orders", "c")
    settings = parse(f'{text}{third}payload = ")"\n', {}, "x")
    with pytest.raises(ConfigurationError) as caught:
        compile_payloads(settings, "x.toml")
    assert [mistake.split(" compile")[0] for mistake in caught.value.mistakes] == [
        "x.toml: [[destinations]] 1 (id 'orders'): payload does not",
        "x.toml: [[destinations]] 3 (id 'c'): payload does not",
    ]
    shown = [mistake.splitlines()[1:] for mistake in caught.value.mistakes]
    assert shown == [["  1 | (", "    |  ^"], ["  1 | )", "    | ^"]]
    assert all(line.isprintable() for it in caught.value.mistakes for line in it.splitlines())


def test_destinations_with_one_text_share_its_expression() -> None:
    text = "".join(
        DESTINATION.replace("orders", f"d{number}") + f'payload = "$event.v{number % 2}"\n'
        for number in range(6)
    )
    first, second, *rest = compile_payloads(parse(text, {}, "x"), "x")
    assert (first.text, second.text) == ("$event.v0", "$event.v1")
    assert all(it is (first, second)[place % 2] for place, it in enumerate(rest))


def test_wrong_expression_of_several_destinations_has_a_line_for_each() -> None:
    text = "".join(DESTINATION.replace("orders", it) + 'payload = "("\n' for it in "abc")
    with pytest.raises(ConfigurationError) as caught:
        compile_program(parse(text, {}, "x"), "x")
    found = [mistake.split(": payload")[0] for mistake in caught.value.mistakes]
    assert found == [f"x: [[destinations]] {n} (id '{it}')" for n, it in enumerate("abc", 1)]


def test_program_has_every_destination() -> None:
    text = DESTINATION + DESTINATION.replace("orders", "b")
    assert compile_program(parse(text, {}, "x"), "x").destinations == {"orders", "b"}
