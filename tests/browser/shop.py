"""Site under test: real topics, buckets, a worker and an Inspector.

Playwright's synchronous interface occupies the main thread's event loop; all other asynchronous
code runs in the loop of `Background`.
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
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

from stream_app.embedded.process import HOST
from stream_app.embedded.servers import S3Server, free_ports
from tests.chaos.clocked_worker import set_clock
from tests.chaos.harness import ROOT, START_SECONDS_MAX, Lab
from tests.chaos.injector import launch_clocked

WINDOW_SECONDS: Final = 3
CALL_SECONDS_MAX: Final = 180
POLL_SECONDS: Final = 0.1
PICKY: Final = """
$event.body.test ? undefined : {
  email: $event.body.email,
  plan: $event.body.plan.toLowerCase(),
}
"""

T = TypeVar("T")


class Background:
    """Event loop in a thread."""

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
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds_max:.0f} s: {what}"
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Position:
    """Partition and offset of an event."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}@{self.offset}"

    @property
    def path(self) -> str:
        return f"/events/{self.partition}/{self.offset}"


@dataclass
class Shop(Lab):
    """Lab of a shop: `orders` are archived, `signups` selected, `returns` have no bucket."""

    window_seconds: int = WINDOW_SECONDS
    partitions: int = 2
    give_up_after_seconds: int = 1
    has_archive_of_everything: bool = True
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
give_up_after_seconds = {self.give_up_after_seconds}

[[destinations]]
id = "orders-archive"
pipeline = "orders"
bucket = "{self.bucket}"
prefix = "orders/"
payload = "$event.body"

{self._everything}
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

    @property
    def _everything(self) -> str:
        if not self.has_archive_of_everything:
            return ""
        return f"""
[[destinations]]
id = "everything"
bucket = "{self.bucket}"
prefix = "everything/"
"""

    async def send_now(
        self, value: bytes | None, pipeline: str | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Position:
        """Send an event; return its position."""
        sent = await self.load._running.send_and_wait(
            self.events_topic,
            value,
            key=None if pipeline is None else pipeline.encode(),
            headers=list(headers),
        )
        return Position(sent.partition, sent.offset)


@dataclass
class Inspector:
    """Inspector process, its log file and address."""

    process: "subprocess.Popen[bytes]"
    log_file: Path
    url: str

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", errors="replace")

    @property
    def rss_mib_max(self) -> int:
        """Peak resident memory so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None, "the Inspector has exited"
        return int(found[1]) // 1024

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(START_SECONDS_MAX)
        finally:
            self.process.kill()


@dataclass
class Site:
    """Topics to send to, and Inspectors to look at."""

    lab: Shop
    background: Background
    folder: Path
    clock: Path
    """The worker's."""
    inspectors: list[Inspector] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.inspectors[0].url

    @contextmanager
    def window_held_open(self) -> Iterator[None]:
        """Stop the worker's clock: events sent meanwhile are pending until the end of this."""
        set_clock(self.clock, 0.0, stands_at=time.time())
        try:
            yield
        finally:
            set_clock(self.clock, 0.0)

    def send(
        self,
        value: object,
        pipeline: str | None = "orders",
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Position:
        """Send an event: bytes as they are, other values as JSON."""
        encoded = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.background.run(self.lab.send_now(encoded, pipeline, headers))

    def send_many(self, values: Sequence[object], pipeline: str = "orders") -> list[Position]:
        """Send events in one batch, in their order."""

        async def send_all() -> list[Position]:
            producer, topic, key = self.lab.load._running, self.lab.events_topic, pipeline.encode()
            sent = [await producer.send(topic, json.dumps(it).encode(), key=key) for it in values]
            return [Position(it.partition, it.offset) for it in await asyncio.gather(*sent)]

        return self.background.run(send_all())

    def line(self, bucket: str, key: str, number: int) -> bytes:
        """Line of an object in S3, counted from 1."""
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
        """Start an Inspector; return once it serves."""
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

        def is_serving() -> bool:
            assert process.poll() is None, f"the Inspector has exited:\n{inspector.log}"
            return f":{port}" in inspector.log

        wait_for(
            is_serving, START_SECONDS_MAX, f"address of the Inspector in its log:\n{inspector.log}"
        )
        return inspector

    def stop_inspector(self, inspector: Inspector) -> None:
        inspector.stop()
        self.inspectors.remove(inspector)

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: it for name, it in os.environ.items() if not name.startswith("STREAM_APP_")}
        return {**kept, "PYTHONPATH": str(ROOT), **self.lab.s3.environment, **more}


def start(
    kafka_address: str,
    s3: S3Server,
    folder: Path,
    background: Background,
    **options: Any,
) -> Site:
    """Start a worker and an Inspector, side by side, on topics of their own."""
    lab = Shop(kafka_address, s3, folder, **options)
    background.run(lab.__aenter__())
    worker, clock = launch_clocked(lab)
    site = Site(lab, background, folder, clock)
    site.start_inspector()
    background.run(worker.logged("ready: "))
    return site


def stop(site: Site) -> None:
    for inspector in site.inspectors:
        inspector.stop()
    site.background.run(site.lab.__aexit__(None, None, None))


def order(number: int, **more: object) -> dict[str, object]:
    """HTTP event of an order."""
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
    """Signup, an HTTP event: every fourth is skipped (a test), every seventh fails (no plan)."""
    body: dict[str, object] = {"email": f"person-{number}@example.com", "test": number % 4 == 0}
    if number % 7 != 3:
        body["plan"] = ("Free", "Team", "Enterprise")[number % 3]
    return {"method": "PUT", "url": f"https://in.example.com/signups/{number}", "body": body}
