from pathlib import Path

import pytest

from stream_app.config.files import CONFIG_BYTES_MAX, file_version, load
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


def test_message_of_a_missing_file_shows_how_to_name_one(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    assert mistakes(path) == [
        f"{path}: there is no such file; write one, or name it: --config or STREAM_APP_CONFIG"
    ]


def test_folder_is_no_configuration(tmp_path: Path) -> None:
    assert mistakes(tmp_path) == [
        f"{tmp_path}: cannot be read: Is a directory; name another: --config or STREAM_APP_CONFIG"
    ]


def test_name_that_no_file_can_have_is_a_mistake() -> None:
    (mistake,) = mistakes(Path("a\0b"))
    assert ": cannot be read: embedded null byte" in mistake


def test_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"#" * (CONFIG_BYTES_MAX + 1))
    assert mistakes(path) == [f"{path}: longer than 16777216 bytes; is it a configuration?"]


def test_file_must_be_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"# \xff")
    assert mistakes(path) == [f"{path}: byte 2 is not UTF-8; save the file as UTF-8"]


def test_version_of_a_file_changes_with_its_content(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    assert file_version(str(path)) is None
    path.write_text("a", "utf-8")
    first = file_version(str(path))
    assert first is not None
    assert file_version(str(path)) == first
    path.write_text("ab", "utf-8")
    assert file_version(str(path)) not in {first, None}


def test_version_changes_when_another_file_takes_the_place(tmp_path: Path) -> None:
    path, other = tmp_path / "x.toml", tmp_path / "y.toml"
    for it in (path, other):
        it.write_text("a", "utf-8")
    first = file_version(str(path))
    other.replace(path)
    assert file_version(str(path)) != first
