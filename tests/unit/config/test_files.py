import os
from pathlib import Path

import pytest

from stream_app.config.files import (
    CONFIG_BYTES_MAX,
    CONFIG_DEFAULT,
    FOLDER_FILES_MAX,
    ConfigSource,
    file_version,
)
from stream_app.errors import ConfigurationError

DESTINATION = '[[destinations]]\nid = "orders"\nbucket = "my-bucket"\n'


def mistakes(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        ConfigSource(str(path), {}).load()
    return list(caught.value.mistakes)


def test_file_and_environment_give_settings(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(DESTINATION, "utf-8")
    settings = ConfigSource(str(path), {"STREAM_APP_KAFKA_GROUP": "g"}).load()
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
    assert mistakes(path) == [f"{path}: longer than 67108864 bytes; is it a configuration?"]


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


# --- a folder of destinations ---------------------------------------------------------------------


@pytest.fixture
def teams(tmp_path: Path) -> Path:
    """Return the folder that `x.toml` beside it names."""
    (tmp_path / "x.toml").write_text('destinations_dir = "teams"\n' + DESTINATION, "utf-8")
    folder = tmp_path / "teams"
    folder.mkdir()
    return folder


def source(teams: Path) -> ConfigSource:
    return ConfigSource(str(teams.parent / "x.toml"), {})


def entry(id_: str) -> str:
    return f'[[destinations]]\nid = "{id_}"\nbucket = "my-bucket"\n'


def ids(found: ConfigSource) -> list[str]:
    return [it.id for it in found.load().destinations]


def test_folder_is_beside_the_file_and_read_in_the_order_of_names(teams: Path) -> None:
    for name in ("b", "a"):
        (teams / f"{name}.toml").write_text(entry(name), "utf-8")
    for name in ("notes.txt", ".hidden.toml", "c.toml~"):
        (teams / name).write_text("no TOML", "utf-8")
    assert ids(source(teams)) == ["orders", "a", "b"]


def test_folder_can_be_named_by_its_whole_path(teams: Path, tmp_path: Path) -> None:
    (teams / "a.toml").write_text(entry("a"), "utf-8")
    path = tmp_path / "y.toml"
    path.write_text("", "utf-8")
    assert ids(ConfigSource(str(path), {"STREAM_APP_DESTINATIONS_DIR": str(teams)})) == ["a"]


def test_missing_folder_is_a_mistake(teams: Path) -> None:
    teams.rmdir()
    file = teams.parent / "x.toml"
    assert mistakes(file) == [
        (
            f"{file}: destinations_dir 'teams': {teams} cannot be read: No such file or directory; "
            "write the name of a folder"
        )
    ]


def test_every_file_that_cannot_be_read_is_a_mistake(teams: Path) -> None:
    (teams / "a.toml").mkdir()
    (teams / "b.toml").write_bytes(b"\xff")
    (teams / "c.toml").symlink_to(teams / "nowhere")
    assert mistakes(teams.parent / "x.toml") == [
        f"{teams}/a.toml: cannot be read: Is a directory; let this user read it, or remove it",
        f"{teams}/b.toml: byte 0 is not UTF-8; save the file as UTF-8",
        f"{teams}/c.toml: there is no such file any more; read the folder again",
    ]


def test_files_of_the_folder_are_bounded_together(teams: Path) -> None:
    (teams / "a.toml").write_bytes(b"#" * CONFIG_BYTES_MAX)
    (teams / "b.toml").write_bytes(b"#")
    assert mistakes(teams.parent / "x.toml") == [
        (
            f"{teams}/b.toml: longer than 67108864 bytes, with the files before it in this folder; "
            "is it a configuration?"
        )
    ]


def test_files_of_the_folder_are_bounded_in_number(teams: Path) -> None:
    for number in range(FOLDER_FILES_MAX + 1):
        (teams / f"{number}.toml").touch()
    file = teams.parent / "x.toml"
    assert mistakes(file) == [
        f"{file}: destinations_dir 'teams': {teams} has 1001 files; write at most 1000"
    ]


def test_change_of_a_file_or_of_the_folder_is_noticed(teams: Path) -> None:
    (teams / "a.toml").write_text(entry("a"), "utf-8")
    found = source(teams)
    assert not found.has_changed()  # nothing was read yet
    found.load()
    changes = [
        lambda: (teams / "b.toml").write_text(entry("b"), "utf-8"),
        lambda: (teams / "a.toml").write_text(entry("another"), "utf-8"),
        lambda: (teams / "b.toml").rename(teams / "c.toml"),
        (teams / "c.toml").unlink,
        lambda: (teams.parent / "x.toml").write_text(DESTINATION, "utf-8"),
    ]
    seen = []
    for change in changes:
        assert not found.has_changed()
        change()
        assert found.has_changed()
        seen.append(ids(found))
    assert seen == [
        ["orders", "a", "b"],
        ["orders", "another", "b"],
        ["orders", "another", "b"],
        ["orders", "another"],
        ["orders"],
    ]


def test_file_that_was_wrong_is_read_again_once_it_has_changed(teams: Path) -> None:
    (teams / "a.toml").write_text("x", "utf-8")
    (teams / "b.toml").write_text("x", "utf-8")
    found = source(teams)
    with pytest.raises(ConfigurationError):
        found.load()
    assert not found.has_changed()
    (teams / "b.toml").write_text("", "utf-8")
    assert found.has_changed()


def test_file_that_has_not_changed_is_not_parsed_and_equal_destinations_are_the_same_objects(
    teams: Path,
) -> None:
    (teams / "a.toml").write_text(entry("a"), "utf-8")
    (teams / "b.toml").write_text(entry("b") + entry("c"), "utf-8")
    found = source(teams)
    orders, a, b, _ = found.load().destinations
    (teams / "b.toml").write_text(entry("d") + entry("b"), "utf-8")
    settings = found.load()
    assert [it.id for it in settings.destinations] == ["orders", "a", "d", "b"]
    assert [it for it in settings.destinations if it in (orders, a, b)] == [orders, a, b]
    assert all(any(it is old for it in settings.destinations) for old in (orders, a, b))
    assert settings.place(3) == f"{teams}/b.toml: [[destinations]] 2"
    assert (settings.origins[1][1], settings.origins[1][1][0]) == ((a,), a)


def test_whole_configuration_can_be_read_again_though_no_version_differs(teams: Path) -> None:
    file = teams / "a.toml"
    file.write_text(entry("a"), "utf-8")
    found = source(teams)
    found.load()
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    with file.open("r+b") as written:  # The same inode, as well.
        written.write(entry("b").encode())
    os.utime(file, ns=times)
    assert not found.has_changed()
    assert ids(found) == ["orders", "a"]
    assert [it.id for it in found.load(whole=True).destinations] == ["orders", "b"]


def test_change_of_the_configuration_file_is_checked_against_every_file(teams: Path) -> None:
    (teams / "a.toml").write_text(entry("a").replace("my-bucket", "x--use1-az4--x-s3"), "utf-8")
    found = source(teams)
    found.load()
    file = teams.parent / "x.toml"
    file.write_text(f'{file.read_text("utf-8")}[s3]\naddressing_style = "path"\n', "utf-8")
    with pytest.raises(ConfigurationError, match=r"a\.toml: .*addressing_style"):
        found.load()


def test_files_that_have_not_changed_count_for_the_bound_and_for_ids(teams: Path) -> None:
    (teams / "a.toml").write_text(entry("a"), "utf-8")
    found = source(teams)
    found.load()
    (teams / "b.toml").write_text(entry("a"), "utf-8")
    with pytest.raises(ConfigurationError, match=rf"id is also that .* 1 of {teams}/a\.toml"):
        found.load()
    (teams / "b.toml").write_bytes(b"#" * CONFIG_BYTES_MAX)
    with pytest.raises(ConfigurationError, match=r"b\.toml: longer than"):
        found.load()
    (teams / "0.toml").write_bytes(b"#" * CONFIG_BYTES_MAX)
    (teams / "b.toml").unlink()
    with pytest.raises(ConfigurationError, match=r"a\.toml: longer than"):
        found.load()


def test_folder_of_the_environment_is_parsed_once_as_well(
    teams: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    (teams / "a.toml").write_text(entry("a"), "utf-8")
    found = ConfigSource("stream_app.toml", {"STREAM_APP_DESTINATIONS_DIR": str(teams)})
    (a,) = found.load().destinations
    (teams / "b.toml").write_text(entry("b"), "utf-8")
    assert found.load().destinations[0] is a


# --- no file ------------------------------------------------------------------------------------

ONE = {"STREAM_APP_DESTINATION_ID": "orders", "STREAM_APP_DESTINATION_BUCKET": "my-bucket"}


def test_environment_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = ConfigSource(CONFIG_DEFAULT, ONE)
    settings = found.load()
    assert (settings.name, settings.destinations[0].id) == ("environment", "orders")
    assert not found.has_changed()
    Path(CONFIG_DEFAULT).write_text('[kafka]\ngroup = "g"\n', "utf-8")
    assert found.has_changed()
    settings = found.load()
    assert (settings.name, settings.kafka.group) == (CONFIG_DEFAULT, "g")


def test_file_that_was_named_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with pytest.raises(ConfigurationError, match="there is no such file; write one, or name it"):
        ConfigSource(str(path), ONE).load()
