"""docs/cli.md names every exit status, and each is what a command really ends with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app import cli, demo

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "cli.md").read_text("utf-8")
DOCUMENTED = {int(it) for it in re.findall(r"^\| (\d+) \|", DOCUMENT, re.MULTILINE)}


def run(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stream_app", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_exit_status_of_the_code_is_documented() -> None:
    known = {value for name, value in vars(cli).items() if name.startswith("STATUS_")}
    assert {0, *known, demo.STATUS_TERMINATED} == DOCUMENTED


def test_the_general_help_names_the_exit_statuses_of_all_commands(tmp_path: Path) -> None:
    text = run("--help", folder=tmp_path).stdout
    said = {int(it) for it in re.findall(r"^\s+(\d+)  +\w", text, re.MULTILINE)}
    assert said == DOCUMENTED - {demo.STATUS_TERMINATED}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["completion", "bash"], 0),
        (["topics"], 1),
        (["no-such-command"], 2),
        (["topics", "--config", "no-such-file"], 2),
    ],
)
def test_commands_end_with_the_documented_status(
    tmp_path: Path, arguments: list[str], status: int
) -> None:
    # Nobody listens on port 1.
    (tmp_path / "stream_app.toml").write_text(
        '[kafka]\nbroker = "kafka://127.0.0.1:1"\n[[destinations]]\nid = "a"\nbucket = "abc"',
        "utf-8",
    )
    assert run(*arguments, folder=tmp_path).returncode == status
