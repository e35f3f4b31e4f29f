"""Assets of the page: each is served by its path below `static/`, and every reference resolves."""

import posixpath
import re
from pathlib import Path

import pytest

import stream_app.inspector
from stream_app.inspector.web.app import TYPES, read_assets

STATIC = Path(stream_app.inspector.__file__).parent / "static"
ASSETS = read_assets()
IMPORT = re.compile(r'^(?:import|export) [^;]*?"(\.[^"]+)";', re.MULTILINE)
COLOR = re.compile(r"#[0-9a-f]{3,8}\b|\b(?:rgb|hsl|oklch|light-dark)\(")
REFERENCE = re.compile(r'(?:href|src)="(/static/[^"]+)"')


def test_every_file_is_an_asset_under_its_path() -> None:
    files = {it.relative_to(STATIC).as_posix(): it for it in STATIC.rglob("*") if it.is_file()}
    assert {path: it.content for path, it in ASSETS.items()} == {
        path: file.read_bytes() for path, file in files.items()
    }


def test_assets_lie_in_the_folders_of_the_page() -> None:
    folders = {posixpath.dirname(path) for path in ASSETS}
    assert folders == {"", "views", "parts", "lib", "css"}


@pytest.mark.parametrize("path", sorted(ASSETS))
def test_the_content_type_follows_from_the_suffix(path: str) -> None:
    assert ASSETS[path].content_type == TYPES[posixpath.splitext(path)[1]]


@pytest.mark.parametrize("path", sorted(it for it in ASSETS if it.endswith(".js")))
def test_every_import_names_an_asset(path: str) -> None:
    imported = IMPORT.findall(ASSETS[path].content.decode())
    found = [posixpath.normpath(posixpath.join(posixpath.dirname(path), it)) for it in imported]
    assert [it for it in found if it not in ASSETS] == []


def test_the_page_refers_to_every_stylesheet_and_to_nothing_that_is_missing() -> None:
    referred = REFERENCE.findall(ASSETS["index.html"].content.decode())
    names = [it.removeprefix("/static/") for it in referred]
    assert [it for it in names if it not in ASSETS] == []
    assert {it for it in ASSETS if it.endswith(".css")} <= set(names)


def test_colors_are_in_the_theme_alone() -> None:
    sheets = [it for it in ASSETS if it.endswith(".css") and it != "css/theme.css"]
    assert [it for it in sheets if COLOR.search(ASSETS[it].content.decode())] == []


def test_libraries_import_no_part_and_parts_no_view() -> None:
    allowed = {"lib": {"lib"}, "parts": {"lib", "parts"}, "views": {"lib", "parts", "views"}}
    wrong = [
        f"{path}: {it}"
        for path, asset in ASSETS.items()
        for it in IMPORT.findall(asset.content.decode())
        if (folder := posixpath.dirname(path)) in allowed
        and posixpath.dirname(posixpath.normpath(posixpath.join(folder, it))) not in allowed[folder]
    ]
    assert wrong == []
