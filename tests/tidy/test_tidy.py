"""Style as a test: sizes, marks, names of places, and a tree without strangers."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 450
FUNCTION_LINES_MAX = 70
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "benchmarks",
    "docker-compose.yml",
    "docs",
    "mkdocs.yml",
    "pyproject.toml",
    "requirements-dev.txt",
    "requirements.txt",
    "schemas",
    "stream_app",
    "tests",
}


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def texts(*suffixes: str) -> list[tuple[Path, str]]:
    found = [(path, path.read_text()) for path in tracked() if path.suffix in suffixes]
    assert found, f"no files with {suffixes}: is this a checkout?"
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_only_known_things_stand_at_the_top() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= TOP_LEVEL


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    long = [
        f"{name(path)}: {len(text.splitlines())} lines"
        for path, text in texts(".py")
        if path.is_relative_to(ROOT / "stream_app") and len(text.splitlines()) > MODULE_LINES_MAX
    ]
    assert long == []


def test_no_function_is_longer_than_a_page() -> None:
    long = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path, text in texts(".py")
        if path.is_relative_to(ROOT / "stream_app")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert long == []


def test_nothing_is_left_open() -> None:
    mark = re.compile(
        r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b"
    )
    marked = [
        f"{name(path)}:{number}"
        for path, text in texts(".py", ".md", ".toml", ".yml", ".yaml", ".json")
        for number, line in enumerate(text.splitlines(), start=1)
        if mark.search(line)
    ]
    assert marked == []


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_lock_file_pins_hashes_and_names_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)
    pins = re.findall(r"^[a-z0-9].*==", text, re.MULTILINE)
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    assert len(pins) > 20
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)


def test_no_file_names_a_place_of_one_machine() -> None:
    place = re.compile(
        r"(?<![\w.])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "ho" + "me")) + r")/\w"
    )
    found = [
        f"{name(path)}:{number}"
        for path, text in texts(".py", ".md", ".toml", ".yml", ".yaml", ".json", ".svg", "")
        for number, line in enumerate(text.splitlines(), start=1)
        if place.search(line)
    ]
    assert found == []
