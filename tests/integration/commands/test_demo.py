"""The demo as a user runs it, on servers of its own."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_app.cli.demo.run import OWN_BUCKET
from stream_app.embedded.process import becomes_true
from tests.integration.commands.test_cli import Shell, on_a_terminal, plain

SECONDS_MAX = 300


@contextlib.contextmanager
def start(folder: Path, *arguments: str, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "stream_app", "demo", *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        except BaseException:
            process.terminate()  # a kept demo would not end by itself
            raise


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 1):
            return True
    except OSError:
        return False


def test_demo_shows_objects_and_receipts_and_ends_by_itself(tmp_path: Path) -> None:
    # The user's own settings must not lead the demo to another broker.
    with start(tmp_path, STREAM_APP_KAFKA_BROKER="kafka://127.0.0.1:1") as process:
        output, error = process.communicate(timeout=SECONDS_MAX)
    text = output.decode()
    assert (process.returncode, error) == (0, b"")
    assert "windows last 10 s in this demo, 60 s by default" in text
    name = r"\d{4}/\d\d/\d\d/\d\d/\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-[0-9a-f]{64}\.gz"
    assert re.findall(rf"^(orders|signups)/{name} +(\d+) +\d+ B$", text, re.MULTILINE) == [
        ("orders", "18"),
        ("signups", "9"),
    ]
    assert '\n  {"order":1001,"customer":"ada@example.com"' in text
    rows = re.findall(
        r"^(\S+) +delivered +\d@[\d-]+ +(\d+) +(\d+) +(\d+) +(\d+)$", text, re.MULTILINE
    )
    assert rows == [
        ("orders-archive", "18", "18", "0", "0"),
        ("new-signups", "12", "9", "3", "0"),
    ]
    _, found, after = text.partition(" s: 27 delivered in 2 objects, 3 skipped, 0 failed\n")
    assert found
    keep = re.findall(r"Inspector: (.+) demo --keep$", after, re.MULTILINE)
    assert len(keep) == 1
    version = subprocess.run([*shlex.split(keep[0]), "--version"], check=True, cwd=tmp_path)
    assert version.returncode == 0
    assert "docs/start.md" in after
    assert list(tmp_path.iterdir()) == []
    shown = block_of_the_readme()
    for first in ("KEY", "DESTINATION", "orders-archive", "new-signups"):
        ours, theirs = (it.partition(f"\n{first} ")[2].partition("\n")[0] for it in (text, shown))
        assert ours.split() == [it for it in theirs.split() if it != "✓"]


def block_of_the_readme() -> str:
    """Return the output of the demo in the README."""
    text = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
    return text.partition("```text\nobjects in ")[2].partition("```")[0]


def test_demo_fits_the_terminals_width(tmp_path: Path) -> None:
    shown = plain(on_a_terminal(Shell(tmp_path, "", ""), "demo", columns=80))
    # The clock before it moves on one line.
    results, _, steps = shown.partition("objects in s3://")[2].partition("\nnext steps\n")
    assert max(map(len, results.splitlines())) <= 80
    assert results.count("✓ delivered") == 2
    # A command is never cut, whatever its path.
    assert " demo --keep\n" in steps


def test_demo_as_json_is_one_document_beside_the_progress(tmp_path: Path) -> None:
    with start(tmp_path, "--json", FORCE_COLOR="1") as process:
        output, error = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0
    document = json.loads(output)
    assert output.count(b"\n") == 1
    assert [len(it["lines"]) for it in document["objects"]] == [18, 9]
    assert json.loads(document["objects"][0]["lines"][0])["order"] == 1001
    assert [it["object"]["key"] for it in document["receipts"]] == [
        it["key"] for it in document["objects"]
    ]
    assert document["summary"].pop("seconds") > 0
    assert document["summary"] == {
        "events": 30,
        "matched": 30,
        "delivered": 27,
        "skipped": 3,
        "failed": 0,
        "objects": 2,
        "receipts": 2,
    }
    assert b"started a worker" in error
    assert b"\x1b" not in error


def test_reader_that_goes_away_ends_the_demo_silently(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while b"started a worker" not in (line := process.stdout.readline()):
            assert line, process.communicate()
        process.stdout.close()
        assert process.wait(SECONDS_MAX) == 1
        assert process.stderr.read() == b""
    assert list(tmp_path.iterdir()) == []


def test_kept_demo_prints_commands_that_work_and_ends_on_interrupt(tmp_path: Path) -> None:
    with start(tmp_path, "--keep") as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "export AWS_REGION=" not in lines[-1]:
            lines.append(process.stdout.readline().decode())
            assert lines[-1], process.communicate()
        text = "".join(lines)
        addresses = dict(re.findall(r"^  (\w+): \w+://(127\.0\.0\.1:\d+)/?$", text, re.MULTILINE))
        assert list(addresses) == ["Inspector", "Kafka", "S3"]
        assert all(map(answers, addresses.values()))
        _, _, typed = text.partition("in another terminal, ")
        commands = re.findall(r"^  (.+)$", typed, re.MULTILINE)
        shown = in_bash(
            tmp_path,
            "shopt -s expand_aliases",
            *(f"{it} --exit-at-end" if " receipts " in it else it for it in commands),
        )
        assert "18 events sent to demo-events" in shown
        assert shown.count(" delivered ") >= 2
        # The Inspector follows the topic, and may see the last events a moment later.
        assert becomes_true(lambda: len(rows(addresses["Inspector"])) == 48, SECONDS_MAX)
        assert sum(it["dest"]["delivered"] for it in rows(addresses["Inspector"])) >= 27
        own_worker_can_start(tmp_path, [it for it in commands if it.startswith("export ")])
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, error.strip()) == (0, b"")
    assert not any(map(answers, addresses.values()))
    assert [it.name for it in tmp_path.iterdir()] == ["stream_app.toml"]


def rows(address: str) -> list[dict[str, Any]]:
    """Return the events that an Inspector shows."""
    with urllib.request.urlopen(f"http://{address}/api/events") as response:
        shown: list[dict[str, Any]] = json.load(response)["rows"]
    return shown


def own_worker_can_start(folder: Path, exports: list[str]) -> None:
    """Create the topics of docs/start.md on the demo's servers, and check its configuration."""
    page = (Path(__file__).parents[3] / "docs" / "start.md").read_text("utf-8")
    config = page.partition("```toml\n")[2].partition("```")[0]
    assert f'bucket = "{OWN_BUCKET}"' in config
    (folder / "stream_app.toml").write_text(config, "utf-8")
    program = f"{shlex.quote(sys.executable)} -m stream_app"
    shown = in_bash(folder, *exports, f"{program} topics --partitions 1", f"{program} check")
    assert "no mistakes; 1 destination, all can be written" in shown
    assert "events: created" in shown


def in_bash(folder: Path, *lines: str) -> str:
    """Return the output of lines that are typed into a shell; all must succeed."""
    return subprocess.run(
        ["/bin/bash", "-ec", "\n".join(lines)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS_MAX,
        check=True,
    ).stdout


def test_interrupted_demo_stops_its_servers(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        while b"started a worker" not in (line := process.stdout.readline()):
            assert line, process.communicate()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, error.strip()) == (130, b"")
    assert list(tmp_path.iterdir()) == []


def test_terminated_demo_stops_its_worker(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        while b"started a worker" not in (line := process.stdout.readline()):
            assert line, process.communicate()
        worker = int(re.findall(rb"process (\d+)", line)[0])
        process.terminate()
        process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 143
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert list(tmp_path.iterdir()) == []
