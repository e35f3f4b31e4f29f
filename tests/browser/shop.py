"""A site to look at: real topics, buckets, a worker and an Inspector, run in a thread of their own.

Playwright's synchronous interface has the main thread's event loop; everything else that is
asynchronous runs in the loop of `Background`.
"""

import asyncio
import gzip
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

from stream_app.embedded import S3Server, free_ports
from stream_app.serverprocess import HOST
from tests.chaos.harness import ROOT, Lab

WINDOW_SECONDS: Final = 3
CALL_SECONDS_MAX: Final = 60
START_SECONDS_MAX: Final = 30
POLL_SECONDS: Final = 0.1
PICKY: Final = """
$event.body.test ? undefined : {
  email: $event.body.email,
  plan: $event.body.plan.toLowerCase(),
}
"""

T = TypeVar("T")


class Background:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_SECONDS_MAX)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CALL_SECONDS_MAX)
        self.loop.close()


def wait_for(condition: Callable[[], bool], seconds_max: float, what: str) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds_max:.0f} s: {what}"
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Place:
    """Where an event is."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}@{self.offset}"

    @property
    def path(self) -> str:
        return f"/events/{self.partition}/{self.offset}"


@dataclass
class Counter(Lab):
    """A shop: `orders` go two ways, `signups` are picked over, `returns` find no bucket."""

    window_seconds: int = WINDOW_SECONDS
    partitions: int = 2
    name: str = field(default_factory=lambda: f"shop-{uuid4().hex[:6]}")

    @property
    def late_bucket(self) -> str:
        return f"{self.name}-late"

    def configure(self) -> None:
        self.configuration.write_text(
            f"""
[kafka]
broker = "kafka://{self.broker}"
group = "{self.name}"
events_topic = "{self.events_topic}"
receipts_topic = "{self.receipts_topic}"

[s3]
endpoint_url = "{self.s3.endpoint_url}"

[delivery]
window_seconds = {self.window_seconds}
grace_seconds = 1
give_up_after_seconds = 1

[[destinations]]
id = "orders-archive"
pipeline = "orders"
bucket = "{self.bucket}"
prefix = "orders/"
payload = "$event.body"

[[destinations]]
id = "everything"
bucket = "{self.bucket}"
prefix = "everything/"

[[destinations]]
id = "new-signups"
pipeline = "signups"
bucket = "{self.bucket}"
prefix = "signups/"
payload = '''{PICKY}'''

[[destinations]]
id = "returns-desk"
pipeline = "returns"
bucket = "{self.late_bucket}"
prefix = "returns/"
""",
            "utf-8",
        )

    async def send_now(
        self, value: bytes | None, pipeline: str | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Place:
        """Send an event; return where it is."""
        sent = await self.load._running.send_and_wait(
            self.events_topic,
            value,
            key=None if pipeline is None else pipeline.encode(),
            headers=list(headers),
        )
        return Place(sent.partition, sent.offset)


@dataclass
class Inspector:
    """An Inspector process, and where it is served."""

    process: "subprocess.Popen[bytes]"
    log_file: Path
    url: str

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", errors="replace")

    @property
    def rss_mib_max(self) -> int:
        """The most memory that it has had so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None, "it has ended"
        return int(found[1]) // 1024

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(START_SECONDS_MAX)
        finally:
            self.process.kill()


@dataclass
class Site:
    """What a test sends to, and what it looks at."""

    lab: Counter
    background: Background
    folder: Path
    inspectors: list[Inspector] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.inspectors[0].url

    def window_begins(self) -> None:
        """Return when a window has just begun: what is sent now is pending for a while."""
        seconds = self.lab.window_seconds
        wait_for(lambda: time.time() % seconds < seconds / 6, 2 * seconds, "a window begins")

    def send(
        self,
        value: object,
        pipeline: str | None = "orders",
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Place:
        """Send an event, bytes as they are and everything else as JSON."""
        encoded = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.background.run(self.lab.send_now(encoded, pipeline, headers))

    def send_many(self, values: Sequence[object], pipeline: str = "orders") -> list[Place]:
        async def all_of_them() -> list[Place]:
            return [await self.lab.send_now(json.dumps(it).encode(), pipeline) for it in values]

        return self.background.run(all_of_them())

    def line(self, bucket: str, key: str, number: int) -> bytes:
        """The n-th line of an object, from 1, as it is in S3."""
        with self.lab._client.get_object(Bucket=bucket, Key=key)["Body"] as body:
            return gzip.decompress(body.read()).split(b"\n")[number - 1]

    def redeliver(self, *arguments: str) -> None:
        """Run `stream-app redeliver`."""
        done = subprocess.run(
            [sys.executable, "-m", "stream_app", "redeliver", *arguments],
            env=self._environment({}),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done

    def start_inspector(
        self, *arguments: str, port: int | None = None, environment: Mapping[str, str] | None = None
    ) -> Inspector:
        """Start an Inspector; return once it answers."""
        port = free_ports(1)[0] if port is None else port
        log_file = self.folder / f"inspector-{len(self.inspectors)}.log"
        command = ["inspector", "--config", str(self.lab.configuration), "--port", str(port)]
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "stream_app", *command, *arguments],
                env=self._environment(environment or {}),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        inspector = Inspector(process, log_file, f"http://{HOST}:{port}")
        self.inspectors.append(inspector)

        def is_up() -> bool:
            assert process.poll() is None, f"it has ended:\n{inspector.log}"
            return f":{port}" in inspector.log

        wait_for(is_up, START_SECONDS_MAX, f"the Inspector says where it is:\n{inspector.log}")
        return inspector

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: it for name, it in os.environ.items() if not name.startswith("STREAM_APP_")}
        return {**kept, "PYTHONPATH": str(ROOT), **self.lab.s3.environment, **more}


def start(kafka_address: str, s3: S3Server, folder: Path, background: Background) -> Site:
    """Start a worker and an Inspector on topics of their own."""
    lab = Counter(kafka_address, s3, folder)
    background.run(lab.__aenter__())
    background.run(lab.start_worker())
    site = Site(lab, background, folder)
    site.start_inspector()
    return site


def stop(site: Site) -> None:
    for inspector in site.inspectors:
        inspector.stop()
    site.background.run(site.lab.__aexit__(None, None, None))


def order(number: int, **more: object) -> dict[str, object]:
    """An HTTP event as a source produces it."""
    return {
        "method": "POST",
        "url": "https://in.example.com/orders",
        "headers": {"host": "in.example.com", "user-agent": "shop-checkout/4.2"},
        "client_ip": f"203.0.113.{number % 250 + 1}",
        "body": {
            "order": 1001 + number,
            "customer": f"{('ada', 'grace', 'edsger', 'barbara')[number % 4]}@example.com",
            "item": ("espresso cups", "kettle", "hand grinder", "scale")[number % 4],
            "quantity": number % 3 + 1,
            "total": round(19.9 + 7.25 * number, 2),
            **more,
        },
    }


def signup(number: int) -> dict[str, object]:
    """Every fourth is a test, which is skipped; every seventh has no plan, so that it fails."""
    body: dict[str, object] = {"email": f"person-{number}@example.com", "test": number % 4 == 0}
    if number % 7 != 3:
        body["plan"] = ("Free", "Team", "Enterprise")[number % 3]
    return {"method": "PUT", "url": f"https://in.example.com/signups/{number}", "body": body}
