"""The demo: all of it on this machine, with real servers, in under a minute.

    1. start Kafka and an S3 server, create topics and bucket
    2. start one worker, as an operator would: `stream-app worker --config FILE`
    3. send 30 HTTP events, 18 of pipeline `orders` and 12 of `signups`
    4. wait for the window to close: until receipts have answered for all 30
    5. show the objects, the first lines of one, and the receipts

Every wait has a condition and a deadline, and ends at once when the worker ends before its time.
What it prints is for people; a terminal gets colours and a moving clock, anything else plain lines.
"""

import asyncio
import contextlib
import gzip
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from aiobotocore.session import get_session
from rich.console import Console

from stream_app.configfile import load
from stream_app.demo_events import EVENT_COUNTS, events
from stream_app.demo_inspector import inspecting, stop
from stream_app.demo_results import Stored, document, show, summary
from stream_app.embedded import KafkaServer, S3Server
from stream_app.errors import SetupError
from stream_app.exits import STATUS_DONE, STATUS_TERMINATED
from stream_app.follow import Published, receipts
from stream_app.kafka import create_topics
from stream_app.screen import Screen, console_on
from stream_app.send import send
from stream_app.settings import Delivery, Settings

WINDOW_SECONDS: Final = 10
WINDOW_REST_SECONDS_MIN: Final = 4
"""Sending starts with at least this much of a window left, so that one window takes all events."""
PARTITIONS: Final = 2
ANSWER_SECONDS_MAX: Final = 90.0
"""From sending to the last receipt: worker start, window, grace and uploads, with much to spare."""
CLOCK_SECONDS: Final = 0.5
LOG_LINES_SHOWN: Final = 20
LINE_WIDTH: Final = 140
BUCKET: Final = "stream-app-archive"
CONFIG: Final = """\
[kafka]
broker = "kafka://{broker}"

[s3]
endpoint_url = "{endpoint_url}"

[delivery]
window_seconds = {window_seconds}

[[destinations]]
id = "orders-archive"
pipeline = "orders"
bucket = "{bucket}"
prefix = "orders/"
payload = "$event.body"

[[destinations]]
id = "new-signups"
pipeline = "signups"
bucket = "{bucket}"
prefix = "signups/"
payload = '''
$event.body.test ? undefined : {{
  email: $event.body.email,
  plan: $event.body.plan,
  agent: $event.headers["user-agent"],
}}
'''
"""


def run_demo(*, keep: bool, as_json: bool = False) -> int:
    """Run the demo and return its exit status.

    Args:
        keep: Stay up until Ctrl-C.
        as_json: Print a document of what came of it, and all else to standard error.

    Raises:
        SetupError: A server does not start, the worker ends, or receipts do not come in time.
    """
    # What is no terminal has no width of its own: keys stay on one line.
    console = console_on(sys.stderr if as_json else sys.stdout, width=LINE_WIDTH)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stream-app-demo-")))
        with _step(console, "starting Kafka and S3"):
            # The first time, Kafka's jars are downloaded: that takes longer.
            kafka = stack.enter_context(KafkaServer())
            s3 = stack.enter_context(S3Server())
            s3.create_bucket(BUCKET)
        config = folder / "stream_app.toml"
        config.write_text(
            CONFIG.format(
                broker=kafka.address,
                endpoint_url=s3.endpoint_url,
                window_seconds=WINDOW_SECONDS,
                bucket=BUCKET,
            ),
            "utf-8",
        )
        demo = _Demo(console, folder, config, s3.environment, keep=keep, as_json=as_json)
        try:
            asyncio.run(demo.run())
        except KeyboardInterrupt:
            # With `keep`, Ctrl-C is how it ends.
            if not demo.finished:
                raise
        except asyncio.CancelledError:
            return STATUS_TERMINATED
    return STATUS_DONE


class _Demo:
    """One run, once the servers are up."""

    def __init__(
        self,
        console: Console,
        folder: Path,
        config: Path,
        aws: Mapping[str, str],
        *,
        keep: bool,
        as_json: bool,
    ) -> None:
        self.finished = False
        self._console = console
        self._folder = folder
        self._config = config
        self._aws = aws
        self._keep = keep
        self._as_json = as_json
        # The environment of whoever runs the demo must not turn it to another broker.
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("STREAM_APP_")
        } | dict(aws)
        self._settings: Settings = load(str(config), {})
        self._log = folder / "worker.log"

    async def run(self) -> None:
        # Stopped from outside, it takes its worker and servers with it.
        task = asyncio.current_task()
        if task is not None:
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        kafka = self._settings.kafka
        await create_topics(kafka, partitions=PARTITIONS, replication_factor=1)
        async with self._worker() as worker:
            ended = asyncio.create_task(worker.wait())
            try:
                await self._unless(ended, self._deliver())
                if self._keep:
                    log = self._folder / "inspector.log"
                    async with inspecting(self._config, self._environment, log) as address:
                        await self._stay(ended, address)
            finally:
                ended.cancel()

    async def _deliver(self) -> None:
        console, count = self._console, sum(EVENT_COUNTS.values())
        await self._window_begins()
        sent_at = time.time()
        for pipeline, file in events(self._folder).items():
            await send(self._settings.kafka, [str(file)], pipeline=pipeline, read=lambda _: None)
        console.print(f"sent {count} events to pipelines {' and '.join(EVENT_COUNTS)}")
        default = Delivery().window_seconds
        console.print(f"windows last {WINDOW_SECONDS} s in this demo, {default} s by default")
        with self._clock(sent_at):
            published = await self._answers(count)
        # Uploads end in any order; the same demo should show the same.
        published.sort(key=lambda receipt: str(receipt.receipt["pipeline"]))
        objects = [
            await self._read_back(receipt.receipt["object"])
            for receipt in published
            if receipt.receipt["object"] is not None
        ]
        told = summary(objects, published, events=count, seconds=time.time() - sent_at)
        if self._as_json:
            click.echo(document(objects, published, told))
        else:
            show(Screen(sys.stdout), objects, published, told)
        self.finished = True

    async def _window_begins(self) -> None:
        """Wait for the next window when this one is nearly over."""
        rest = WINDOW_SECONDS - time.time() % WINDOW_SECONDS
        if rest < WINDOW_REST_SECONDS_MIN:
            with _step(self._console, "waiting for the next window to begin"):
                await asyncio.sleep(rest)

    async def _answers(self, count: int) -> list[Published]:
        """Return the receipts once they answer for `count` events."""
        published: dict[str | None, Published] = {}
        following = receipts(self._settings.kafka, from_beginning=True, exit_at_end=False)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX), contextlib.aclosing(following):
                async for receipt in following:
                    # The same receipt can be published twice; a late window's first says so only.
                    if receipt.receipt["status"] != "retrying":
                        published[receipt.id] = receipt
                    if _answered(published.values()) == count:
                        break
        except TimeoutError as error:
            raise self._failure(
                f"receipts answer for {_answered(published.values())} of {count} events after "
                f"{ANSWER_SECONDS_MAX:.0f} s"
            ) from error
        return list(published.values())

    @contextlib.contextmanager
    def _clock(self, sent_at: float) -> Iterator[None]:
        """Show how long the window still takes; for people at a terminal, a moving clock."""
        left = WINDOW_SECONDS - sent_at % WINDOW_SECONDS + Delivery().grace_seconds
        if not self._console.is_terminal:
            self._console.print(f"waiting for the window to close, about {left:.0f} s")
            yield
            return

        async def tick() -> None:
            while True:
                rest = sent_at + left - time.time()
                status.update(
                    f"the window closes in {rest:.0f} s"
                    if rest > 0
                    else "the window is closing: objects, then receipts"
                )
                await asyncio.sleep(CLOCK_SECONDS)

        with self._console.status("waiting for the window to close") as status:
            ticking = asyncio.create_task(tick())
            try:
                yield
            finally:
                ticking.cancel()

    async def _read_back(self, stored: Mapping[str, Any]) -> Stored:
        async with get_session().create_client(
            "s3",
            endpoint_url=self._settings.s3.endpoint_url,
            region_name=self._settings.s3.region,
            aws_access_key_id=self._aws["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self._aws["AWS_SECRET_ACCESS_KEY"],
        ) as client:
            answer = await client.get_object(Bucket=stored["bucket"], Key=stored["key"])
            content = await answer["Body"].read()
        lines = gzip.decompress(content).splitlines()
        return Stored(stored["bucket"], stored["key"], len(content), lines)

    @contextlib.asynccontextmanager
    async def _worker(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a worker, as an operator would, and stop it at the end."""
        with self._log.open("wb") as log:
            worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "stream_app", "worker", "--config", str(self._config)),
                *("--log-format", "text"),  # for whoever reads it
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                # Ctrl-C is ours to hear; the worker is told to stop below.
                start_new_session=True,
            )
        self._console.print(f"started a worker (process {worker.pid})")
        try:
            yield worker
        finally:
            await stop(worker)

    async def _unless(self, ended: "asyncio.Task[int]", work: Coroutine[Any, Any, None]) -> None:
        """Do `work`; a worker that ends meanwhile is a failure."""
        working = asyncio.create_task(work)
        try:
            await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise self._failure(f"the worker ended with status {ended.result()}")
            await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _stay(self, ended: "asyncio.Task[int]", inspector: str) -> None:
        console, kafka, s3 = self._console, self._settings.kafka, self._settings.s3
        console.print("all of it stays up; Ctrl-C ends it")
        for name, value in (
            ("Inspector", inspector),
            ("Kafka", kafka.broker),
            ("S3", s3.endpoint_url),
            ("configuration", str(self._config)),
            ("worker's log", str(self._log)),
        ):
            console.print(f"  {name}: {value}")
        console.print("in another terminal:")
        for name, value in self._aws.items():
            console.print(f"  export {name}={value}")
        console.print(f"  stream-app send --config {self._config} --pipeline orders FILE")
        console.print(f"  stream-app receipts --config {self._config}")
        await ended
        raise self._failure(f"the worker ended with status {ended.result()}")

    def _failure(self, what: str) -> SetupError:
        """Return the error that ends the demo, with the end of the worker's log."""
        lines = self._log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        tail = "".join(f"\n  {line}" for line in lines) or " (empty)"
        return SetupError(f"{what}; the end of the worker's log:{tail}")


@contextlib.contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    """Say what is going on, and afterwards how long it took."""
    started_at = time.monotonic()
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(what)
        yield
    console.print(f"{what}: {time.monotonic() - started_at:.1f} s")


def _answered(published: Iterable[Published]) -> int:
    return sum(receipt.receipt["counts"]["matched"] for receipt in published)
