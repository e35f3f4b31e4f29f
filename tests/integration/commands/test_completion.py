"""Completion by the Tab key at a terminal, in each shell that is installed."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_app.cli.completion import CONFIG_BYTES_MAX, SHELLS
from stream_app.cli.main import stream_app
from tests.integration.commands.test_cli import Shell

SECONDS_MAX = 120
BEGINNING = b"\x01"
"""Ctrl-A: to the beginning of the line."""
STARTS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(stream-app completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit; compinit -u -D; eval "$(stream-app completion zsh)"',
    ),
    "fish": (["fish", "--no-config", "-i"], "stream-app completion fish | source"),
}
DESTINATIONS = """
[[destinations]]
id = "orders-archive"
pipeline = "orders"
bucket = "my-bucket"
[[destinations]]
id = "signups"
pipeline = "new signups"
bucket = "second"
"""


class Terminal:
    """A shell at a terminal, with a folder of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self._leader, follower = pty.openpty()
        termios.tcsetwinsize(follower, (50, 200))
        arguments, self._begin = STARTS[name]
        self._shown = b""
        self.process = subprocess.Popen(
            arguments,
            cwd=folder,
            env={
                "HOME": str(folder),
                "LANG": "C.UTF-8",
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "TERM": "xterm",
            },
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - no thread has started yet
        )
        os.close(follower)

    def begin(self) -> None:
        """Have the shell read the script."""
        self.type(f"{self._begin}; echo set-up'-'done\r".encode())
        self._until(re.compile("^set-up-done", re.MULTILINE))

    def type(self, keys: bytes) -> None:
        os.write(self._leader, keys)

    def completed(self, beginning: str) -> str:
        """Return a line after a press of Tab at its end."""
        self._shown = b""
        self.type(b"stream-app " + beginning.encode() + b"\t")
        self.type(BEGINNING + b"echo RESULT'='\r")
        found = self._until(re.compile("^RESULT= ?stream-app (.*)\n", re.MULTILINE))
        return found[1].strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._leader)

    def _until(self, pattern: "re.Pattern[str]") -> "re.Match[str]":
        deadline = time.monotonic() + SECONDS_MAX
        while not (found := pattern.search(self._text())):
            left = deadline - time.monotonic()
            assert left > 0, self._shown
            if select.select([self._leader], [], [], left)[0]:
                self._shown += os.read(self._leader, 65_536)
        return found

    def _text(self) -> str:
        """Return the terminal's text, without the sequences that move the cursor or set colors."""
        text = self._shown.decode(errors="replace")
        return re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[()].|[=>])", "", text).replace("\r", "\n")


def _take_terminal() -> None:
    os.close(os.open(os.ttyname(0), os.O_RDWR))


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param} on this machine")
    Shell(tmp_path, "127.0.0.1:9", "", DESTINATIONS).configure()
    (tmp_path / "other.toml").write_text('[[destinations]]\nid = "elsewhere"\nbucket = "third"')
    terminal = Terminal(request.param, tmp_path)
    try:
        terminal.begin()
        yield terminal
    finally:
        terminal.end()


def test_shell_completes_commands_options_and_what_is_configured(terminal: Terminal) -> None:
    assert {
        beginning: terminal.completed(beginning)
        for beginning in (
            "red",
            "receipts --from-b",
            "receipts --status fa",
            "receipts --destination o",
            "redeliver --destination s",
            "policy --bucket my",
            "send --pipeline o",
            "check --config other.toml --eve",
            "receipts --config other.toml --destination e",
            "receipts --config oth",
            "completion f",
        )
    } == {
        "red": "redeliver",
        "receipts --from-b": "receipts --from-beginning",
        "receipts --status fa": "receipts --status failed",
        "receipts --destination o": "receipts --destination orders-archive",
        "redeliver --destination s": "redeliver --destination signups",
        "policy --bucket my": "policy --bucket my-bucket",
        "send --pipeline o": "send --pipeline orders",
        "check --config other.toml --eve": "check --config other.toml --event",
        "receipts --config other.toml --destination e": (
            "receipts --config other.toml --destination elsewhere"
        ),
        "receipts --config oth": "receipts --config other.toml",
        "completion f": "completion fish",
    }


def offered(folder: Path, *words: str, config: str | None = None) -> list[str]:
    """Return the completions that the program offers by click's own protocol; stderr is empty."""
    done = subprocess.run(
        [sys.executable, "-m", "stream_app"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "_STREAM_APP_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["stream-app", *words]),
            "COMP_CWORD": str(len(words)),
            **({} if config is None else {"STREAM_APP_CONFIG": config}),
        },
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=True,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_all_commands_are_offered(tmp_path: Path) -> None:
    assert set(offered(tmp_path, "")) == set(stream_app.commands)


def test_variable_names_the_configuration_of_the_offered_ids(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[[destinations]]\nid = "a"\n[[destinations]]\nid = "b"')
    words = ("receipts", "--destination", "")
    assert offered(tmp_path, *words) == []
    assert offered(tmp_path, *words, config="a.toml") == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "destinations = 3",
        "destinations = [3]",
        "[[destinations]]\nid = 7",
        '[[destinations]]\nid = "a\\nb"',
        '[[destinations]]\nid = "$(reboot)"',
        "# " + "x" * CONFIG_BYTES_MAX + '\n[[destinations]]\nid = "a"',
    ],
    ids=[
        "no TOML",
        "a number",
        "a list of numbers",
        "an id that is not text",
        "a line end",
        "a command",
        "too long",
    ],
)
def test_wrong_configuration_offers_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "stream_app.toml").write_text(text)
    assert offered(tmp_path, "receipts", "--destination", "") == []


def test_completion_imports_no_kafka_client_and_no_engine(tmp_path: Path) -> None:
    # A person waits for the key.
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "stream_app"],
        cwd=tmp_path,
        env={
            "_STREAM_APP_COMPLETE": "bash_complete",
            "COMP_WORDS": "stream-app receipts --destination ",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=True,
    )
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "tomllib" in imported
    assert not imported & {"aiokafka", "faust", "quickjs", "rich", "orjson", "botocore"}
