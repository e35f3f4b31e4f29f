"""The demo: real Kafka, real S3 and a worker on this machine, in under a minute.

    1. start Kafka and an S3 server, create topics and bucket
    2. start one worker, as an operator would: `stream-app worker --config FILE`
    3. send 30 HTTP events, 18 of pipeline `orders` and 12 of `signups`
    4. wait until the window has closed and the receipts account for all 30 events
    5. show the objects, the first lines of one, the receipts, and the next steps

Every wait has a condition and a deadline, and ends at once when the worker ends early. The output
is for people; a terminal gets colors and a countdown, a pipe plain lines.
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

from stream_app.cli.common import STATUS_DONE, STATUS_TERMINATED
from stream_app.cli.demo.events import EVENT_COUNTS, write_events
from stream_app.cli.demo.next_steps import kept_demo, next_steps
from stream_app.cli.demo.processes import inspector, running
from stream_app.cli.demo.results import DemoObject, document, show, summary
from stream_app.cli.tables import Cell
from stream_app.cli.terminal import Output
from stream_app.config.files import ConfigSource
from stream_app.config.settings import Delivery, Settings, environment_name
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.errors import SetupError
from stream_app.kafka.event_producer import send
from stream_app.kafka.receipts_topic import PublishedReceipt, receipts
from stream_app.kafka.record_batches import install_lenient_decoding
from stream_app.kafka.topics import create_topics
from stream_app.records import Undecodable

WINDOW_SECONDS: Final = 10
WINDOW_LEFT_SECONDS_MIN: Final = 4
"""Sending starts with at least this much of a window left, so that one window takes all events."""
PARTITIONS: Final = 2
RECEIPTS_SECONDS_MAX: Final = 180.0
"""From sending to the last receipt: worker start, window, grace and uploads, with a wide margin."""
COUNTDOWN_SECONDS: Final = 0.5
LOG_LINES_SHOWN: Final = 20
BUCKET: Final = "stream-app-archive"
OWN_BUCKET: Final = "my-bucket"
"""Bucket of docs/start.md, for a worker of the user's own."""
CONFIG: Final = """\
[kafka]
broker = "kafka://{broker}"
# Topics and group of the demo's own: other workers can use this Kafka with the usual names.
events_topic = "demo-events"
receipts_topic = "demo-receipts"
group = "demo"

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
        keep: Keep all of it running until Ctrl-C.
        as_json: Print the result as a document, and all else to standard error.

    Raises:
        SetupError: A server does not start, the worker ends, or receipts do not arrive in time.
    """
    install_lenient_decoding()
    output = Output(sys.stderr if as_json else sys.stdout)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stream-app-demo-")))
        with _step(output, "starting Kafka and S3"):
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
        demo = _Demo(output, folder, config, s3, keep=keep, as_json=as_json)
        try:
            asyncio.run(demo.run())
        except KeyboardInterrupt:
            # With `keep`, Ctrl-C is how the demo ends.
            if not demo.finished:
                raise
        except asyncio.CancelledError:
            return STATUS_TERMINATED
    return STATUS_DONE


class _Demo:
    """One run of the demo on servers that have started."""

    def __init__(
        self,
        output: Output,
        folder: Path,
        config: Path,
        s3: S3Server,
        *,
        keep: bool,
        as_json: bool,
    ) -> None:
        self.finished = False
        self._output = output
        self._folder = folder
        self._config = config
        self._s3 = s3
        self._keep = keep
        self._as_json = as_json
        # The user's own settings must not lead the demo to another broker.
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("STREAM_APP_")
        } | s3.environment
        self._settings: Settings = ConfigSource(str(config), {}).load()
        self._log = folder / "worker.log"
        self._events = write_events(folder)

    async def run(self) -> None:
        # By these signals, too, the demo stops its worker and its servers.
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
                    await self._stay(ended)
            finally:
                ended.cancel()

    async def _deliver(self) -> None:
        output, count = self._output, sum(EVENT_COUNTS.values())
        await self._window_start()
        sent_at = time.time()
        for pipeline, file in self._events.items():
            await send(self._settings.kafka, [str(file)], pipeline=pipeline, read=lambda _: None)
        _print(output, f"sent {count} events to pipelines {' and '.join(EVENT_COUNTS)}")
        default = Delivery().window_seconds
        _print(output, f"windows last {WINDOW_SECONDS} s in this demo, {default} s by default")
        async with self._countdown(sent_at):
            published = await self._receipts(count)
        # Uploads end in any order; the same demo should show the same.
        published.sort(key=lambda receipt: str(receipt.receipt["pipeline"]))
        objects = [
            await self._read_back(receipt.receipt["object"])
            for receipt in published
            if receipt.receipt["object"] is not None
        ]
        totals = summary(objects, published, events=count, seconds=time.time() - sent_at)
        if self._as_json:
            click.echo(document(objects, published, totals))
        else:
            show(output, objects, published, totals)
        if not self._keep:
            _print(output, "", *next_steps())
        self.finished = True

    async def _window_start(self) -> None:
        """Wait for the next window if this one is nearly over."""
        left = WINDOW_SECONDS - time.time() % WINDOW_SECONDS
        if left < WINDOW_LEFT_SECONDS_MIN:
            with _step(self._output, "waiting for the next window to begin"):
                await asyncio.sleep(left)

    async def _receipts(self, count: int) -> list[PublishedReceipt]:
        """Return the receipts as soon as they account for `count` events."""
        published: dict[str | None, PublishedReceipt] = {}
        following = receipts(
            self._settings.kafka,
            from_beginning=True,
            exit_at_end=False,
            on_ready=lambda: None,
            on_undecodable=_refuse,
        )
        try:
            async with asyncio.timeout(RECEIPTS_SECONDS_MAX), contextlib.aclosing(following):
                async for receipt in following:
                    # The same receipt can be published twice, and a late window has an early one.
                    if receipt.receipt["status"] != "retrying":
                        published[receipt.id] = receipt
                    if _matched(published.values()) == count:
                        break
        except TimeoutError as error:
            raise self._failure(
                f"receipts account for {_matched(published.values())} of {count} events after "
                f"{RECEIPTS_SECONDS_MAX:.0f} s"
            ) from error
        return list(published.values())

    @contextlib.asynccontextmanager
    async def _countdown(self, sent_at: float) -> AsyncIterator[None]:
        """Show how long the window still takes: moving on a terminal, else as one line."""
        left = WINDOW_SECONDS - sent_at % WINDOW_SECONDS + Delivery().grace_seconds
        if not self._output.is_terminal:
            _print(self._output, f"waiting for the window to close, about {left:.0f} s")
        with self._output.status("waiting for the window to close") as update:

            async def tick() -> None:
                while (rest := sent_at + left - time.time()) > 0:
                    update(f"the window closes in {rest:.0f} s")
                    await asyncio.sleep(COUNTDOWN_SECONDS)
                update("the window is closing: objects, then receipts")

            ticking = asyncio.create_task(tick())
            try:
                yield
            finally:
                ticking.cancel()

    async def _read_back(self, stored: Mapping[str, Any]) -> DemoObject:
        content = await asyncio.to_thread(self._s3.read, stored["bucket"], stored["key"])
        lines = gzip.decompress(content).splitlines()
        return DemoObject(stored["bucket"], stored["key"], len(content), lines)

    @contextlib.asynccontextmanager
    async def _worker(self) -> AsyncIterator[asyncio.subprocess.Process]:
        async with running(
            *("worker", "--config", str(self._config), "--log-format", "text"),
            environment=self._environment,
            log=self._log,
        ) as worker:
            _print(self._output, f"started a worker (process {worker.pid})")
            yield worker

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

    async def _stay(self, ended: "asyncio.Task[int]") -> None:
        """Keep everything running, with an Inspector, until the demo is stopped."""
        kafka, s3 = self._settings.kafka, self._s3
        await asyncio.to_thread(s3.create_bucket, OWN_BUCKET)
        pipeline, events = next(iter(self._events.items()))
        async with inspector(
            self._config, environment=self._environment, log=self._folder / "inspector.log"
        ) as address:
            lines = kept_demo(
                self._config,
                {
                    "Inspector": address,
                    "Kafka": kafka.broker,
                    "S3": s3.endpoint_url,
                    "configuration": str(self._config),
                    "worker's log": str(self._log),
                },
                events=events,
                pipeline=pipeline,
                own_bucket=OWN_BUCKET,
                environment={
                    environment_name("kafka", "broker"): kafka.broker,
                    environment_name("s3", "endpoint_url"): s3.endpoint_url,
                    **s3.environment,
                },
            )
            _print(self._output, "", *lines)
            await ended
        raise self._failure(f"the worker ended with status {ended.result()}")

    def _failure(self, what: str) -> SetupError:
        """Return the error that ends the demo, with the end of the worker's log."""
        lines = self._log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        tail = "".join(f"\n  {line}" for line in lines) or " (empty)"
        return SetupError(f"{what}; the end of the worker's log:{tail}")


@contextlib.contextmanager
def _step(output: Output, what: str) -> Iterator[None]:
    """Show what is done, and afterwards how long it took."""
    started_at = time.monotonic()
    if not output.is_terminal:
        _print(output, what)
    with output.status(what):
        yield
    _print(output, f"{what}: {time.monotonic() - started_at:.1f} s")


def _print(output: Output, *lines: str) -> None:
    for line in lines:
        output.line(Cell(line))


def _refuse(partition: int, batch: Undecodable) -> None:
    """Raise, since the demo's own broker has no such batch."""
    raise SetupError(f"receipts {partition}@{batch.offsets} cannot be decoded: {batch.reason}")


def _matched(published: Iterable[PublishedReceipt]) -> int:
    return sum(receipt.receipt["counts"]["matched"] for receipt in published)
