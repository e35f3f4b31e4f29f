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
    assert sorted(
        re.findall(rf"^  (orders|signups)/{name} +(\d+) +\d+ *$", text, re.MULTILINE)
    ) == [
        ("orders", "18"),
        ("signups", "9"),
    ]
    assert '\n  {"order":1001,"customer":"ada@example.com"' in text
    rows = re.findall(
        r"^  (\S+) +delivered +\d, [\d-]+ +(\d+) +(\d+) +(\d+) +(\d+) *$", text, re.MULTILINE
    )
    assert sorted(rows) == [
        ("new-signups", "12", "9", "3", "0"),
        ("orders-archive", "18", "18", "0", "0"),
    ]
    assert list(tmp_path.iterdir()) == []


def test_demo_as_json_is_one_document_and_the_rest_are_notes(tmp_path: Path) -> None:
    with start(tmp_path, "--json") as process:
        output, error = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0
    document = json.loads(output)
    assert {len(it["lines"]) for it in document["objects"]} == {18, 9}
    assert {it["status"] for it in document["receipts"]} == {"delivered"}
    assert b"started a worker" in error


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
