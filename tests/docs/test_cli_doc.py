"""docs/reference.md names every exit status, and each is the one a command ends with."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.cli import common as exits
from stream_app.cli.main import stream_app
from tests.docs.blocks import ROOT, section

DOCUMENT = (ROOT / "docs" / "reference.md").read_text("utf-8")
SECONDS_MAX = 180
CONFIG = '[kafka]\nbroker = "kafka://127.0.0.1:1"\n[[destinations]]\nid = "a"\nbucket = "abc"'
"""No server listens on port 1."""
WAITING = '[[destinations]]\nid = "a"\nbucket = "abc"\npayload = "(() => { for (;;); })()"'
"""An expression with an endless loop: each event takes a second, time for an interrupt."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stream_app.toml").write_text(CONFIG, "utf-8")
    return tmp_path


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "stream_app", *arguments],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def status(folder: Path, *arguments: str) -> int:
    with start(folder, *arguments) as process:
        process.communicate(timeout=SECONDS_MAX)
    return process.returncode


def test_every_exit_status_of_the_code_is_documented_and_has_a_meaning() -> None:
    known = {value for name, value in vars(exits).items() if name.startswith("STATUS_")}
    table = section(DOCUMENT, "Exit status")
    documented = {int(it) for it in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert known == set(exits.MEANINGS) == documented


def test_no_command_has_a_status_of_its_own() -> None:
    own = [
        f"{path.name}: {line}"
        for path in (ROOT / "stream_app").rglob("*.py")
        if path != Path(exits.__file__)
        for line in re.findall(r"^STATUS_\w+.*= *\d.*$", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert own == []


def test_general_help_names_every_exit_status() -> None:
    shown = re.findall(r"^ +(\d+) +(.+)$", str(stream_app.help), re.MULTILINE)
    assert {int(number): meaning for number, meaning in shown} == exits.MEANINGS


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--version"], exits.STATUS_DONE),
        (["completion", "bash"], exits.STATUS_DONE),
        (["check", "--offline"], exits.STATUS_DONE),
        (["topics"], exits.STATUS_FAILED),
        (["no-such-command"], exits.STATUS_WRONG),
        (["topics", "--config", "no-such-file"], exits.STATUS_WRONG),
    ],
)
def test_command_ends_with_the_documented_status(
    folder: Path, arguments: list[str], expected: int
) -> None:
    assert status(folder, *arguments) == expected


def test_ctrl_c_ends_a_command_with_the_documented_status(folder: Path) -> None:
    (folder / "stream_app.toml").write_text(WAITING)
    (folder / "events").write_text("1\n" * 30)
    with start(folder, "check", "--offline", "--event", "events") as process:
        assert process.stdout is not None
        # The first trial is printed, so the command is in the middle of its work.
        while "failed" not in (line := process.stdout.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, error.strip()) == (exits.STATUS_INTERRUPTED, "")


def test_sigterm_ends_the_demo_with_the_documented_status(tmp_path: Path) -> None:
    with start(tmp_path, "demo") as process:
        assert process.stdout is not None
        while "started a worker" not in (line := process.stdout.readline()):
            assert line, process.communicate()
        process.terminate()
        process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == exits.STATUS_TERMINATED


def test_documents_of_check_have_the_fields_that_the_page_names(folder: Path) -> None:
    (folder / "events").write_text("1\n")
    (row,) = re.findall(r"^\| `check --json` \| (.*) \|$", DOCUMENT, re.MULTILINE)
    documented = {
        part.partition("`")[2].partition("`")[0]: set(re.findall(r"`(\w+)`", part))
        for part in row.split(" · ")
    }
    documented = {
        ("mistake" if "mistake" in names else kind): names for kind, names in documented.items()
    }
    with start(folder, "check", "--offline", "--json", "--event", "events") as process:
        output, _ = process.communicate(timeout=SECONDS_MAX)
    documents = [json.loads(line) for line in output.splitlines()]
    (folder / "stream_app.toml").write_text("[")
    with start(folder, "check", "--json") as process:
        output, _ = process.communicate(timeout=SECONDS_MAX)
    documents += [json.loads(line) for line in output.splitlines()]
    for document in documents:
        kind = document.pop("kind")
        if kind != "trial":  # whose fields docs/expressions.md shows
            assert set(document) <= documented[kind], kind


def test_documents_of_other_commands_have_the_fields_that_the_page_names() -> None:
    rows = dict(re.findall(r"^\| `(\w+) --json` \| (.*) \|$", DOCUMENT, re.MULTILINE))
    commands = {
        name
        for name, command in stream_app.commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert set(rows) == commands
