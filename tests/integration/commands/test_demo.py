"""The demo as a user sees it, on servers of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.integration.test_cli import Shell, on_a_terminal, plain

SECONDS_MAX = 150


def start(folder: Path, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "stream_app", "demo", *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 1):
            return True
    except OSError:
        return False


def test_demo_shows_objects_and_receipts_and_ends_by_itself(tmp_path: Path) -> None:
    # Settings of the user's own must not lead the demo to another broker.
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
    assert text.endswith(" s: 27 delivered in 2 objects, 3 skipped, 0 failed\n")
    assert list(tmp_path.iterdir()) == []
    shown = block_of_the_readme()
    for first in ("KEY", "DESTINATION", "orders-archive", "new-signups"):
        ours, theirs = (it.partition(f"\n{first} ")[2].partition("\n")[0] for it in (text, shown))
        assert ours.split() == [it for it in theirs.split() if it != "✓"]


def block_of_the_readme() -> str:
    """Return what the README shows of the demo."""
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    return text.partition("```text\nobjects in ")[2].partition("```")[0]


def test_terminal_sees_the_demo_in_its_width(tmp_path: Path) -> None:
    shown = plain(on_a_terminal(Shell(tmp_path, "", ""), "demo", columns=80))
    # The clock before it moves on one line.
    results = shown.partition("objects in s3://")[2]
    assert max(map(len, results.splitlines())) <= 80
    assert results.count("✓ delivered") == 2


def test_demo_as_json_is_one_document_and_the_rest_are_notes(tmp_path: Path) -> None:
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


def test_reader_that_goes_away_ends_the_demo_quietly(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while b"started a worker" not in (line := process.stdout.readline()):
            assert line, process.communicate()
        process.stdout.close()
        assert process.wait(SECONDS_MAX) == 1
        assert process.stderr.read() == b""
    assert list(tmp_path.iterdir()) == []


def test_kept_demo_says_where_it_is_and_ends_on_interrupt(tmp_path: Path) -> None:
    with start(tmp_path, "--keep") as process:
        assert process.stdout is not None
        lines = []
        while not lines or "stream-app receipts --config" not in lines[-1]:
            lines.append(process.stdout.readline().decode())
            assert lines[-1], process.communicate()
        text = "".join(lines)
        inspector, kafka, s3 = re.findall(r"(?:kafka|http)://(127\.0\.0\.1:\d+)", text)
        assert answers(kafka)
        assert answers(s3)
        with urllib.request.urlopen(f"http://{inspector}/api/events") as response:
            rows = json.load(response)["rows"]
        assert len(rows) == 30
        assert sum(it["dest"]["delivered"] for it in rows) == 27
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, error.strip()) == (0, b"")
    assert not answers(inspector)
    assert not answers(kafka)
    assert not answers(s3)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_demo_takes_its_servers_with_it(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        while b"started a worker" not in (line := process.stdout.readline()):
            assert line, process.communicate()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, error.strip()) == (130, b"")
    assert list(tmp_path.iterdir()) == []


def test_terminated_demo_takes_its_worker_with_it(tmp_path: Path) -> None:
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
