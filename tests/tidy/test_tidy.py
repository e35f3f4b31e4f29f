"""Style as a test: sizes, marks, names of places, and a tree without strangers."""

import ast
import re
import subprocess
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 600
"""Limit of a reader's memory; a module is split where two concerns meet, not for this limit."""
FUNCTION_LINES_MAX = 70
TOP_LEVEL = {
    ".ci",
    ".dockerignore",
    ".git-blame-ignore-revs",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "benchmarks",
    "docker-compose.yml",
    "docs",
    "mkdocs.yml",
    "pyproject.toml",
    "requirements-demo.txt",
    "requirements-dev.txt",
    "requirements-release.txt",
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


def test_rooms_init_has_at_most_one_sentence() -> None:
    for path, text in texts(".py"):
        if path.name == "__init__.py" and path.parent != ROOT / "stream_app":
            assert re.fullmatch(r'("""[^.\n]+\."""\n)?', text), f"{name(path)}: {text}"


def test_no_two_modules_are_one_letter_apart() -> None:
    stems = {
        path.stem
        for path in tracked()
        # A command's module is named after the command.
        if path.suffix == ".py"
        and path.is_relative_to(ROOT / "stream_app")
        and "cli" not in path.parts
    }
    assert [(a, b) for a, b in combinations(sorted(stems), 2) if one_letter_apart(a, b)] == []


def one_letter_apart(one: str, other: str) -> bool:
    """Whether one letter is to be changed, added or left out to make the same word of both."""
    short, long = sorted((one, other), key=len)
    same = next(
        (n for n, pair in enumerate(zip(short, long, strict=False)) if pair[0] != pair[1]),
        len(short),
    )
    return long[same + 1 :] in {short[same:], short[same + 1 :]}


def test_blame_leaves_out_commits_that_exist() -> None:
    for line in (ROOT / ".git-blame-ignore-revs").read_text().splitlines():
        if line.startswith("#"):
            continue
        found = subprocess.run(
            ["git", "cat-file", "-t", line],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        assert found == "commit\n", line


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


def test_words_of_the_field_are_used() -> None:
    # Servers respond, logs log, receipts record, one fixes a fault: see docs/glossary.md.
    stems = ("to" + "ld", "tel" + "ls?", "tel" + "ling", "trou" + "bles?", "happe" + "nings?")
    stems += ("who" + "ever", "me" + "nd(?:s|ed|ing)?", "heard" + "_at", "nobody" + "'s")
    word = re.compile(rf"(?<![a-z])(?:{'|'.join(stems)})(?![a-z])", re.IGNORECASE)
    kinds = (".py", ".md", ".toml", ".yml", ".yaml", ".json", ".js", ".css", ".html")
    found = [
        f"{name(path)}:{number}: {match[0]}"
        for path, text in texts(*kinds)
        for number, line in enumerate(text.splitlines(), start=1)
        # The method of a file that returns its position has its name from Python.
        if (match := word.search(line)) and "def tell(self)" not in line
    ]
    assert found == []


@pytest.mark.parametrize(
    "lock",
    [
        "requirements.txt",
        "requirements-demo.txt",
        "requirements-dev.txt",
        "requirements-release.txt",
    ],
)
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
