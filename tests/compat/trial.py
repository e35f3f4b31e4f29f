"""Trial of an S3 server: what `check --conformance` says of it, and deliveries under kill -9."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from stream_app.embedded.servers import S3Program
from tests.chaos.harness import Lab, Worker, wait_until
from tests.chaos.oracle import Target
from tests.chaos.s3_proxy import Request

EVERYTHING: Final = Target("everything", "everything/")
PARTITIONS: Final = 2
SMALL_EVENTS: Final = 15
LARGE_EVENTS: Final = 24
LARGE_BYTES: Final = 800_000
"""Of an event; 24 of them are an object of 14 MiB, in two parts."""
SECONDS_MAX: Final = 240
CHECK_SECONDS_MAX: Final = 400
BUCKET: Final = "conformance"
OPTIONS: Final[Mapping[str, str]] = {
    "acl": 'acl = "public-read"',
    "expected_bucket_owner": 'expected_bucket_owner = "999999999999"',
    "sse": 'sse = "AES256"',
    "storage_class": 'storage_class = "STANDARD_IA"',
    "tags": 'tags = { team = "orders", retention = "7 years" }',
}


class Deliveries(NamedTuple):
    """Result of deliveries under `kill -9`."""

    sent: int
    lost: int
    repeated: int
    objects: int
    found_again: int
    """Receipts of an object that a killed worker had written."""
    written_again: int
    """Keys under which the server has confirmed an object more than once."""


def new_lab(broker: str, store: S3Program, folder: Path, *, copies: int = 1) -> Lab:
    """Return a lab of workers that deliver to the server, with copies of each partition."""
    targets = (EVERYTHING,)
    return Lab(
        broker, store, folder, partitions=PARTITIONS, replication_factor=copies, targets=targets
    )


async def deliver(lab: Lab) -> Deliveries:
    """Deliver small objects and objects in parts, while workers are killed."""
    worker = await _started(lab)
    await lab.load.send(SMALL_EVENTS)
    worker.kill()  # within the window
    worker = await _started(lab)
    await lab.load.send(SMALL_EVENTS)
    await lab.settled(SECONDS_MAX)
    await worker.terminate()
    await lab.load.send(SMALL_EVENTS)
    await _killed_after(lab, lambda it: it.makes_visible)

    await _send_large(lab)
    await _killed_after(lab, lambda it: it.part is not None)
    worker = await _started(lab)
    await lab.settled(SECONDS_MAX)
    await worker.terminate()
    await _send_large(lab)
    await _killed_after(lab, lambda it: it.is_complete)
    await _started(lab)
    await lab.settled(SECONDS_MAX)
    return await deliveries(lab)


async def _started(lab: Lab) -> Worker:
    worker = lab.launch_worker()
    await worker.logged("ready: ")
    return worker


async def _send_large(lab: Lab) -> None:
    """Send what becomes an object in parts; a worker that ran could close the window meanwhile."""
    lab.load.at_ms = int(time.time() * 1000)  # all in one window
    await lab.load.send(LARGE_EVENTS, pipeline="orders", bulk_bytes=LARGE_BYTES)
    lab.load.at_ms = None


async def _killed_after(lab: Lab, when: Callable[[Request], bool]) -> None:
    """Start a worker, and kill it when S3 has done such a request."""
    killed = asyncio.Event()

    async def kill(request: Request) -> None:
        if when(request) and not killed.is_set():
            worker.kill()
            killed.set()

    worker = lab.launch_worker()
    lab.proxy.after = kill
    await wait_until(killed.is_set, SECONDS_MAX, "the request after which the worker is killed")
    lab.proxy.heal()


async def deliveries(lab: Lab) -> Deliveries:
    """Compare what was sent with what is in the objects."""
    evidence = await lab.evidence()
    ids = Counter(
        json.loads(line)["id"]
        for stored in evidence.objects
        for line in gzip.decompress(stored.body).splitlines()
    )
    sent = {it.event.id for it in evidence.sent}
    return Deliveries(
        len(sent),
        len(sent - ids.keys()),
        ids.total() - len(ids),
        len(evidence.objects),
        sum(it.value["already_existed"] for it in evidence.receipts),
        len(lab.proxy.stored_more_than_once()),
    )


class Verdicts(NamedTuple):
    """What `check --conformance` says."""

    plain: dict[str, dict[str, Any]]
    """Of a destination without options, by question."""
    options: dict[str, str]
    """`passed`, `failed`, `unknown` or `refused`, by option."""


def check(store: S3Program, folder: Path) -> Verdicts:
    """Run `check --conformance` without options, then with all that the server accepts."""
    store.create_bucket(BUCKET)
    plain = checked(store, folder, [])
    left, outcomes = list(OPTIONS), {}
    while left:
        found = checked(store, folder, left)
        if found["write"]["result"] == "passed":
            outcomes |= {it: found[it]["result"] for it in left}
            break
        refused = [it for it in left if it in (found["write"]["setting"] or "")] or left
        outcomes |= dict.fromkeys(refused, "refused")
        left = [it for it in left if it not in refused]
    return Verdicts(plain, outcomes)


def checked(store: S3Program, folder: Path, options: list[str]) -> dict[str, dict[str, Any]]:
    """Return what `check --conformance` says, by question; it asks Kafka too, and finds none."""
    config = folder / "check.toml"
    lines = [f'[s3]\nendpoint_url = "{store.endpoint_url}"', "[[destinations]]"]
    lines += ['id = "a"', f'bucket = "{BUCKET}"', *(OPTIONS[it] for it in options)]
    config.write_text("\n".join(lines), "utf-8")
    return conformance(check_report(config, "--conformance", environment=store.environment))


def conformance(report: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the verdicts on one bucket, by question."""
    return {it["question"]: it for it in report if it["kind"] == "conformance"}


def check_report(
    config: Path, *options: str, environment: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return the documents of `stream-app check --json`, whatever they say; the last sums up."""
    done = subprocess.run(
        [sys.executable, "-m", "stream_app", "check", "--json", *options],
        env={**os.environ, **(environment or {}), "STREAM_APP_CONFIG": str(config)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CHECK_SECONDS_MAX,
        check=False,
    )
    documents: list[dict[str, Any]] = [json.loads(it) for it in done.stdout.splitlines()]
    assert documents and documents[-1]["kind"] == "summary", done.stderr  # noqa: PT018 - one fact
    return documents
