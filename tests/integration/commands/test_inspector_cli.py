"""The command `stream-app inspector`."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream_app.embedded.servers import KafkaServer
from stream_app.inspector.web.metrics import METRICS
from tests.chaos.harness import ROOT

TOKEN = "a-token-of-twenty-characters"  # noqa: S105 - of these tests
SECONDS_MAX = 180


@pytest.fixture
def configuration(kafka: KafkaServer, tmp_path: Path, topic_prefix: str) -> Path:
    path = tmp_path / "stream_app.toml"
    path.write_text(
        f"""
        [kafka]
        broker = "kafka://{kafka.address}"
        group = "{topic_prefix}group"
        events_topic = "{topic_prefix}events"
        receipts_topic = "{topic_prefix}receipts"
        [[destinations]]
        id = "orders"
        bucket = "a-bucket"
        """,
        "utf-8",
    )
    run("topics", "--config", str(path)).check_returncode()
    return path


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stream_app", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


@contextmanager
def running(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run an Inspector for the duration of the context; yield its process and address."""
    with subprocess.Popen(
        [sys.executable, "-m", "stream_app", "inspector", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"inspector: (http://\S+/) \(Ctrl-C ends it\)\n", line)
            assert found, (line, process.communicate(timeout=SECONDS_MAX))
            yield process, found[1]
        finally:
            if process.poll() is None:
                process.kill()


def get(address: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=SECONDS_MAX) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_inspector_prints_its_address_and_ends_in_order(
    configuration: Path, how: signal.Signals
) -> None:
    with running("--config", str(configuration), "--port", "0") as (process, address):
        status, health = get(f"{address}health")
        assert (status, json.loads(health)["status"]) == (200, "ok")
        assert get(f"{address}api/events")[0] == 200
        # A page that follows the events does not delay the end.
        port = int(address.rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as page:
            page.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert page.recv(100).startswith(b"HTTP/1.1 200")
            process.send_signal(how)
            output, error = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, output, error) == (0, "", "")


def test_process_has_metrics_and_logs_in_json(configuration: Path) -> None:
    text = configuration.read_text("utf-8")
    arguments = ("--config", str(configuration), "--port", "0", "--log-format", "json")
    with running(*arguments) as (process, address):
        assert get(f"{address}api/events")[0] == 200
        assert get(f"{address}api/nothing")[0] == 404
        configuration.write_text(f'{text}\nbuckt = "x"\n', "utf-8")
        deadline = time.monotonic() + SECONDS_MAX
        while json.loads(get(f"{address}health")[1])["configuration_taken"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        health = json.loads(get(f"{address}health")[1])
        assert health == {
            "status": "ok",
            "kafka_readable": True,
            "receipts_loaded": True,
            "configuration_taken": False,
        }
        status, metrics = get(f"{address}metrics")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=SECONDS_MAX)
    assert status == 200
    for line in (
        "stream_app_inspector_receipts 0.0",
        "stream_app_inspector_kafka_readable 1.0",
        "stream_app_inspector_configuration_taken 0.0",
        'stream_app_inspector_requests_total{status="404"} 1.0',
    ):
        assert line in metrics.splitlines(), metrics
    for name, _ in METRICS:
        assert f"# TYPE stream_app_inspector_{name} gauge" in metrics
    (line,) = log.splitlines()
    assert "did you mean bucket?" in json.loads(line)["message"]


def test_taken_port_is_reported_with_a_remedy(configuration: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("inspector", "--config", str(configuration), "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == (
        f"stream-app: port {port} of 127.0.0.1 is taken; end the program that has it, or choose "
        "another: --port 0 takes any that is free\n"
    )


def test_address_of_another_machine_is_reported(configuration: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN, "utf-8")
    done = run(
        *("inspector", "--config", str(configuration), "--port", "0"),
        *("--bind", "192.0.2.1", "--token-file", str(token)),
    )
    assert done.returncode == 1
    assert "192.0.2.1 is not an address to listen on" in done.stderr


def test_redelivery_from_the_page_needs_a_token() -> None:
    done = run("inspector", "--allow-redeliver")
    assert done.returncode == 2
    assert "add --token-file FILE, or leave it out" in done.stderr


def test_other_machines_need_a_token() -> None:
    done = run("inspector", "--bind", "0.0.0.0")  # noqa: S104 - it is refused
    assert done.returncode == 2
    assert "--bind 0.0.0.0 lets other machines in; add --token-file FILE" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file or directory"),
        ("short", "it has 5 characters; write 16 to 1024"),
        ("two words of a token", "it is not one word"),
    ],
)
def test_unusable_token_file_is_reported(
    configuration: Path, tmp_path: Path, content: str | None, words: str
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content, "utf-8")
    done = run("inspector", "--config", str(configuration), "--token-file", str(token))
    assert done.returncode == 2
    assert f"--token-file {token}: {words}" in done.stderr
    assert content is None or content not in done.stderr


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o600, False)])
def test_token_file_that_others_can_read_is_warned_about(
    configuration: Path, tmp_path: Path, mode: int, *, warned: bool
) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n", "utf-8")
    token.chmod(mode)
    options = ("--config", str(configuration), "--port", "0", "--token-file", str(token))
    with running(*options, "--bind", "0.0.0.0") as (process, address):  # noqa: S104 - with a token
        here = address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - as it is printed
        assert get(f"{here}api/about")[0] == 401
        assert get(f"{here}api/about", Authorization=f"Bearer {TOKEN}")[0] == 200
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=SECONDS_MAX)
    assert ("chmod 600" in error) is warned
    assert TOKEN not in error


def test_missing_topic_is_reported(configuration: Path) -> None:
    text = configuration.read_text("utf-8")
    configuration.write_text(text.replace('receipts_topic = "', 'receipts_topic = "no-'), "utf-8")
    done = run("inspector", "--config", str(configuration), "--port", "0")
    assert done.returncode == 1
    assert "does not exist in Kafka" in done.stderr
    assert "create it with: stream-app topics" in done.stderr


def test_wheel_holds_the_page(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    static = ROOT / "stream_app" / "inspector" / "static"
    assert (static / "index.html").is_file()
    files = {it.relative_to(ROOT).as_posix() for it in static.rglob("*") if it.is_file()}
    assert {it.rpartition("/")[0] for it in files} >= {
        f"stream_app/inspector/static/{folder}" for folder in ("views", "parts", "lib", "css")
    }
    assert files <= names
