"""Log of a real worker: JSON in a file, text on a terminal, and sums that equal the receipts'."""

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stream_app import log_events
from stream_app.embedded.process import free_ports
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.log_declaration import LogEvent
from tests.chaos.harness import LONG_SESSION_SECONDS, ROOT, Lab, Worker, in_a_loop, wait_until
from tests.chaos.s3_proxy import Fault

DECLARED = {it.name: it for it in vars(log_events).values() if isinstance(it, LogEvent)}
ALWAYS = {"time", "level", "event", "message"}
JSON = {"STREAM_APP_LOG_FORMAT": "auto"}
SECONDS_MAX = 120.0
MISSING = '[[destinations]]\nid = "missing"\nbucket = "no-such-bucket"\npipeline = "orders"\n'
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def messages(worker: Worker) -> list[dict[str, Any]]:
    """Return the messages of a worker; each must be a JSON document with declared fields."""
    documents = [json.loads(line) for line in worker.log.split("\n")[:-1]]
    for it in documents:
        event = DECLARED[it["event"]]
        own = {"logger"} if it["event"] == "library" else set(event.fields)
        assert it.keys() >= ALWAYS
        assert it.keys() - ALWAYS - {"traceback"} <= own, it
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", it["time"])
        assert it["event"] == "library" or it["level"] == event.level
    return documents


def only(documents: list[dict[str, Any]], event: str) -> dict[str, Any]:
    (it,) = [it for it in documents if it["event"] == event]
    return it


@in_a_loop
async def test_life_of_a_worker_is_logged_in_json_and_its_summaries_add_up_with_the_receipts(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(
        kafka.address,
        s3,
        tmp_path,
        settings="give_up_after_seconds = 2",
        session_seconds=LONG_SESSION_SECONDS,
    ) as lab:
        with lab.configuration.open("a") as file:
            file.write(MISSING)
        worker = lab.launch_worker(environment=JSON)
        await worker.logged('"event": "ready"')
        await lab.load.send(100)
        await lab.settled()
        lab.proxy.rule = lambda _: Fault.BROKEN
        await lab.load.send(20)
        await worker.logged('"destination everything is broken: ')
        lab.proxy.rule = lambda _: Fault.NONE
        await lab.settled()
        lab.configuration.write_text("nonsense")
        await worker.logged('"event": "reload-failed"')
        await worker.terminate()
        assert worker.process.returncode == 0
        documents = messages(worker)
        receipts = [it.value for it in await lab.read_receipts()]
    order = list(dict.fromkeys(it["event"] for it in documents if it["event"] != "library"))
    assert [it for it in order if it in {"starting", "ready", "stopping", "stopped"}] == [
        *("starting", "ready", "stopping", "stopped")
    ]
    assert order[-1] == "stopped"
    starting = only(documents, "starting")
    assert (starting["group"], starting["destinations"]) == (lab.name, len(lab.targets) + 1)
    assert only(documents, "assigned")["numbers"] == "0-3"
    taken = [it for it in documents if it["event"] == "taken-over"]
    assert sorted(it["partition"] for it in taken) == [0, 1, 2, 3]
    assert only(documents, "stopping")["signal"] == "SIGTERM"
    assert only(documents, "stopped")["status"] == 0
    final = {(it["destination"], it["source"]["partition"], it["source"]["first_offset"]): it
            for it in receipts if it["status"] != "retrying"}  # fmt: skip
    for event, status in (("stored", "delivered"), ("given-up", "failed")):
        found = {
            (it["destination"], it["partition"], it["first_offset"]): it
            for it in documents
            if it["event"] == event
        }
        assert found.keys() == {key for key, it in final.items() if it["status"] == status}
        assert found
        for key, it in found.items():
            assert it["window"] == final[key]["window"]["start"]
            assert it["end_offset"] == final[key]["source"]["end_offset"]
    assert {it["code"] for it in documents if it["event"] == "given-up"} == {"NoSuchBucket"}
    closed = [it["destination"] for it in documents if it["event"] == "breaker-closed"]
    assert "everything" in closed
    assert "missing" not in closed
    sums: Counter[str] = Counter()
    for it in documents:
        if it["event"] == "summary":
            sums.update({name: it[name] for name in ("events", "failed_attempts", *SUMMED)})
    assert sums["events"] == 120
    assert {name: sums[name] for name in SUMMED} == summed(receipts)
    assert sums["failed_attempts"] > 0


SUMMED = ("delivered", "skipped", "failed", "given_up", "objects", "bytes", "receipts")


def summed(receipts: list[dict[str, Any]]) -> dict[str, int]:
    """Return the sums of the receipts."""
    final = [it for it in receipts if it["status"] != "retrying"]
    stored = [it for it in final if it["status"] == "delivered"]
    given_up = [it for it in final if it["status"] == "failed"]
    return {
        "delivered": sum(it["counts"]["delivered"] for it in stored),
        "skipped": sum(it["counts"]["skipped"] for it in final),
        "failed": sum(it["counts"]["failed"] for it in final),
        "given_up": sum(it["counts"]["delivered"] for it in given_up),
        "objects": len(stored),
        "bytes": sum(it["object"]["size"] for it in stored),
        "receipts": len(receipts),
    }


@in_a_loop
async def test_outage_of_the_broker_is_logged_once_with_its_end(
    own_kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(own_kafka.address, s3, tmp_path) as lab:
        worker = lab.launch_worker(environment=JSON)
        await lab.load.send(20)
        await lab.settled()
        await asyncio.to_thread(own_kafka.kill)
        await worker.logged('"event": "broker-away"')
        await asyncio.to_thread(own_kafka.start)
        await worker.logged('"event": "broker-back"')
        await lab.load.send(20)
        await lab.settled()
        await worker.terminate()
    documents = messages(worker)
    assert only(documents, "broker-away")["broker"] == f"kafka://{own_kafka.address}"
    assert only(documents, "broker-back")["seconds"] > 0


@in_a_loop
async def test_memory_pressure_is_logged_when_it_begins_and_ends(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, settings="memory_max_mib = 16") as lab:
        worker = lab.launch_worker(environment=JSON)
        await worker.logged('"event": "ready"')
        lab.proxy.rule = lambda _: Fault.HOLD
        bulk = os.urandom(300_000).hex()
        for _ in range(60):
            await lab.load.send_raw(json.dumps({"body": bulk}).encode(), pipeline="other")
        await worker.logged('"event": "memory-pressure"')
        lab.proxy.rule = lambda _: Fault.NONE
        lab.proxy.release()
        await worker.logged('"event": "memory-relieved"')
        await worker.terminate()
        # What was read after the first relief may be too much again, where S3 is slow.
        changes = [it for it in messages(worker) if it["event"].startswith("memory-")]
        for pressure, relieved in zip(changes[0::2], changes[1::2], strict=False):
            assert (pressure["event"], relieved["event"]) == ("memory-pressure", "memory-relieved")
            assert pressure["bound_mib"] == 16
            assert 0 < relieved["waited_seconds"] <= relieved["seconds"]


# --- before the log, and on a terminal -----------------------------------------------------------


def configure(folder: Path, text: str = "") -> Path:
    file = folder / "stream_app.toml"
    broker = f"kafka://127.0.0.1:{free_ports(1)[0]}"
    file.write_text(
        f'[kafka]\nbroker = "{broker}"\n[[destinations]]\nid = "a"\nbucket = "my-bucket"\n{text}'
    )
    return file


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        ("", 1, "does not respond"),
        ("nonsense = 1\n", 2, "key 'nonsense' is unknown"),
        ('payload = "$event."\n', 2, "payload does not compile: SyntaxError"),
    ],
)
def test_worker_that_cannot_start_logs_that_in_json(
    tmp_path: Path, text: str, status: int, expected: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stream_app", "worker", "--config", str(configure(tmp_path, text))],
        capture_output=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    it = json.loads(line)
    assert (it["event"], it["level"], it["status"]) == ("start-failed", "error", status)
    assert expected in it["message"]


@contextlib.contextmanager
def on_a_terminal(
    lab: Lab, environment: Mapping[str, str]
) -> "Iterator[tuple[subprocess.Popen[bytes], int]]":
    """Run a worker whose standard error is a terminal; give the other end of that."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "stream_app", "worker", "--config", str(lab.configuration)]
    variables = {**os.environ, **lab.s3.environment, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    with subprocess.Popen(
        command, env=variables | environment, stdin=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


@in_a_loop
async def test_terminal_gets_text_with_colours_and_without_them_if_no_color_is_set(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path) as lab:
        for environment, mark in (({}, "\x1b[32mINFO\x1b[0m"), ({"NO_COLOR": "1"}, "INFO")):
            with on_a_terminal(lab, environment) as (process, terminal):
                shown = bytearray()

                def read(terminal: int = terminal, shown: bytearray = shown) -> None:
                    with contextlib.suppress(OSError):  # the other end is closed
                        while piece := os.read(terminal, 4096):
                            shown.extend(piece)

                reading = asyncio.create_task(asyncio.to_thread(read))
                await wait_until(lambda shown=shown: b"ready: " in shown, SECONDS_MAX, "ready")
                process.send_signal(signal.SIGINT)
                await wait_until(
                    lambda process=process: process.poll() is not None, SECONDS_MAX, "it has ended"
                )
                await reading
            lines = shown.decode().replace("\r\n", "\n").splitlines()
            if "NO_COLOR" in environment:
                assert "\x1b" not in shown.decode()
                assert [line for line in lines if not re.match(rf"{TIME} [A-Z]+ \S|  ", line)] == []
            assert any(f"{mark} ready: " in line for line in lines)
            assert lines[-1].endswith("stopped, status 0")
            assert any(line.endswith("stopping: SIGINT") for line in lines)
