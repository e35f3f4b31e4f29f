"""Real workers on topics, a group and a bucket of their own, watched from outside.

    async with Lab(kafka.address, s3, tmp_path) as lab:
        worker = await lab.start_worker()
        await lab.load.send(30)
        await lab.settled()
        await lab.verify()

All traffic to S3 goes through `lab.proxy`, which a test makes fail; not so to AWS. Nothing here
waits for a time to pass where it can wait for a condition, and each wait has a deadline that says
what was missing.
"""

import asyncio
import functools
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, ParamSpec, Self
from uuid import uuid4

import botocore.session
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupLoadInProgressError, KafkaError
from aiokafka.structs import TopicPartition

from stream_app.config.settings import environment_name
from stream_app.core.commit_metadata import decode
from stream_app.embedded.servers import S3_REGION, KafkaServer, S3Program
from tests.chaos.kafka_proxy import KafkaProxy
from tests.chaos.load import Event, Load
from tests.chaos.oracle import Committed, Evidence, Published, Stored, Target, findings
from tests.chaos.s3_proxy import S3Proxy

ROOT: Final = Path(__file__).parents[2]
SESSION_SECONDS: Final = 6
"""The least that a broker accepts."""
LONG_SESSION_SECONDS: Final = 60
INSTANCE_VARIABLE: Final = environment_name("kafka", "group_instance_id")
WINDOW_SECONDS: Final = 2
GRACE_SECONDS: Final = 1
PARTITIONS: Final = 4
PIPELINES: Final = ("orders", *[f"pipeline-{number}" for number in range(11)])
POLL_SECONDS: Final = 0.05
START_SECONDS_MAX: Final = 240.0
SETTLED_SECONDS_MAX: Final = 240.0
"""Seconds on an idle machine, but a loaded one starts a process in half a minute or more."""
STOP_SECONDS_MAX: Final = 25.0
"""Less than the time-out of one request, 30 s. The promise is ten seconds, of which the worker
allows itself `END_SECONDS_MAX` (`tests/unit/worker/test_faust_app.py`); the rest is for a machine
that gives it no processor."""
TRANSACTION_MILLISECONDS_MAX: Final = 600_000
"""The broker aborts a transaction that is open for longer, by default after one minute."""
LOGS_SHOWN: Final = 5
"""Of the youngest workers, when a test fails."""
LOG_LINES_SHOWN: Final = 60

P = ParamSpec("P")


def _picky(event: Event) -> str:
    if event.n % 7 == 0:
        return "failed"
    return "skipped" if event.n % 3 == 0 else "delivered"


TARGETS: Final = (
    Target("everything", "everything/"),
    Target(
        "orders",
        "orders/",
        payload="{ id: $event.id }",
        pipeline="orders",
        settings='format = "zstd"',
    ),
    Target(
        "picky",
        "picky/",
        payload="$event.n % 7 === 0 ? $event.no.such : $event.n % 3 === 0 ? undefined : $event",
        outcome=_picky,
    ),
)


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test function in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def in_a_lab(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test of the fixture `lab` while that is open, in an event loop of its own."""

    @functools.wraps(test)
    def run(lab: "Lab", **fixtures: Any) -> None:
        async def opened() -> None:
            async with lab:
                await test(lab=lab, **fixtures)

        asyncio.run(opened())

    return run


async def wait_until(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds_max: float, what: str
) -> None:
    """Return once the condition holds; fail, saying `what` was missing, when it does not."""
    deadline = time.monotonic() + seconds_max
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds_max:.0f} s: {what}")
        await asyncio.sleep(POLL_SECONDS)


@dataclass
class Worker:
    """One worker process."""

    process: "subprocess.Popen[bytes]"
    log_file: Path
    instance: int
    """Number of a static member: the least that no running worker has."""

    @property
    def name(self) -> str:
        return self.log_file.stem

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", errors="replace")

    @property
    def rss_mib_max(self) -> int:
        """The most memory that it has had so far; 0 when it has ended."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int((re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE) or [0])[0]) // 1024

    def kill(self) -> None:
        """End it as a crash would, stopped or not."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def terminate(self) -> float:
        """Send SIGTERM; return how many seconds it took to end."""
        started = time.monotonic()
        self.process.terminate()
        await wait_until(
            lambda: not self.running, STOP_SECONDS_MAX, f"SIGTERM ends {self.log_file.name}"
        )
        return time.monotonic() - started

    async def ended(self) -> int:
        """Wait until it ends by itself; return its exit status."""
        await wait_until(
            lambda: not self.running, START_SECONDS_MAX, f"{self.log_file.name} ends by itself"
        )
        return int(self.process.returncode)

    async def logged(self, text: str) -> None:
        await wait_until(
            lambda: text in self.log or not self.running,
            START_SECONDS_MAX,
            f"{text!r} in {self.log_file.name}",
        )
        assert text in self.log, f"ended before it logged {text!r}:\n{self.log}"


@dataclass
class Lab:
    broker: str
    """Address; several are joined by commas."""
    s3: S3Program | None
    """None: AWS, with the credentials of the environment; the bucket is there already."""
    folder: Path
    seed: int = 0
    partitions: int = PARTITIONS
    window_seconds: int = WINDOW_SECONDS
    targets: Sequence[Target] = TARGETS
    pipelines: Sequence[str] = PIPELINES
    settings: str = ""
    """Further lines of the `[delivery]` table."""
    grace_seconds: int = GRACE_SECONDS
    session_seconds: int = SESSION_SECONDS
    """After so long without a heartbeat a worker loses its partitions. `LONG_SESSION_SECONDS` where
    no worker is to lose them: a loaded machine may hold a heartbeat up for seconds."""
    static: bool = False
    """Whether workers are static members of the group: the next one has the place of one that has
    ended."""
    kafka_proxy: KafkaProxy | None = None
    """Before the broker, for its workers; None: they reach it as the test does."""
    clock_step_seconds_max: float = 0
    """How far off a worker's clock may be set; object keys show it."""
    client_options: Mapping[str, Any] = field(default_factory=dict)
    """Of the lab's own clients of the broker, where that wants a login."""
    replication_factor: int = 1
    region: str = S3_REGION
    workers_may_read: bool = True
    """Whether the workers' rights in S3 include s3:GetObject."""
    name: str = field(default_factory=lambda: f"chaos-{uuid4().hex[:12]}")
    workers: list[Worker] = field(default_factory=list)
    receipts: list[Published] = field(default_factory=list)
    """As they appear on the topic."""

    def __post_init__(self) -> None:
        self.proxy = S3Proxy(upstream_port=0 if self.s3 is None else self.s3.port)
        self._options = {"bootstrap_servers": self.broker, **self.client_options}
        self.load = Load(self._options, self.events_topic, self.pipelines, self.seed)
        self._began = datetime.now(UTC)
        self._stack = AsyncExitStack()
        self._folder = self.folder / self.name
        self._folder.mkdir(parents=True)
        self._client: Any = None
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None

    @property
    def events_topic(self) -> str:
        return f"{self.name}-events"

    @property
    def receipts_topic(self) -> str:
        return f"{self.name}-receipts"

    @property
    def bucket(self) -> str:
        return self.name

    @property
    def configuration(self) -> Path:
        return self._folder / "stream_app.toml"

    @property
    def environment(self) -> dict[str, str]:
        """What every worker's environment has."""
        return {
            **os.environ,
            # The package that these tests stand beside, not another that is installed.
            "PYTHONPATH": str(ROOT),
            # For people, and for the texts that tests wait for; a file would get JSON.
            "STREAM_APP_LOG_FORMAT": "text",
            **({} if self.s3 is None else self.s3.environment),
        }

    # --- life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        # Our own clients would fill the report of a failure while a broker is away.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        await self._open_s3()
        if self.kafka_proxy is not None:
            await self._stack.enter_async_context(self.kafka_proxy)
        self._admin = AIOKafkaAdminClient(**self._options)
        await self._admin.start()
        self._stack.push_async_callback(self._admin.close)
        await self._admin.create_topics(
            [
                # Some events claim to be of 1970, and must not be deleted for it.
                NewTopic(
                    self.events_topic,
                    self.partitions,
                    self.replication_factor,
                    topic_configs={"retention.ms": "-1"},
                ),
                NewTopic(self.receipts_topic, 1, self.replication_factor),
            ]
        )
        await wait_until(self._topics_are_known, SETTLED_SECONDS_MAX, "the broker knows the topics")
        await self.load.start()
        self._stack.push_async_callback(self.load.stop)
        self._consumer = AIOKafkaConsumer(
            **self._options, auto_offset_reset="earliest", group_id=None
        )
        self._consumer.assign([TopicPartition(self.receipts_topic, 0)])
        await self._consumer.start()
        self._stack.push_async_callback(_stop, self._consumer)
        self.configure()
        return self

    async def _open_s3(self) -> None:
        session = botocore.session.get_session()
        if self.s3 is None:
            self._client = session.create_client("s3", region_name=self.region)
        else:
            await asyncio.to_thread(self.s3.create_bucket, self.bucket)
            self._client = session.create_client(
                "s3",
                region_name=self.region,
                endpoint_url=self.s3.endpoint_url,
                aws_access_key_id=self.s3.access_key,
                aws_secret_access_key=self.s3.secret_key,
            )
            await self._stack.enter_async_context(self.proxy)
        self._stack.callback(self._client.close)

    async def _topics_are_known(self) -> bool:
        """Whether the broker names the topics; a created topic is known a moment later."""
        assert self._admin is not None
        return {self.events_topic, self.receipts_topic} <= set(await self._admin.list_topics())

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.kill()
        if exc is not None:
            sys.stdout.write(f"logs of {len(self.workers)} workers are in {self._folder}\n")
            for worker in self.workers[-LOGS_SHOWN:]:
                tail = "\n".join(worker.log.splitlines()[-LOG_LINES_SHOWN:])
                sys.stdout.write(f"--- {worker.log_file.name}\n{tail}\n")
        await self._stack.aclose()

    def configure(self) -> None:
        """Write the configuration; workers started from now on have it."""
        brokers = self.broker if self.kafka_proxy is None else self.kafka_proxy.address
        broker = ";".join(f"kafka://{it}" for it in brokers.split(","))
        is_aws = self.s3 is None
        s3 = (
            f'region = "{self.region}"' if is_aws else f'endpoint_url = "{self.proxy.endpoint_url}"'
        )
        text = f"""
            [kafka]
            broker = "{broker}"
            group = "{self.name}"
            events_topic = "{self.events_topic}"
            receipts_topic = "{self.receipts_topic}"
            session_timeout_seconds = {self.session_seconds}
            [s3]
            {s3}
            [delivery]
            window_seconds = {self.window_seconds}
            grace_seconds = {self.grace_seconds}
            {self.settings}
            """
        for target in self.targets:
            pipeline = f'pipeline = "{target.pipeline}"' if target.pipeline else ""
            payload = f"payload = '''{target.payload}'''" if target.payload else ""
            text += f"""
            [[destinations]]
            id = "{target.id}"
            bucket = "{self.bucket}"
            prefix = "{target.prefix}"
            {pipeline}
            {payload}
            {target.settings}
            """
        self.configuration.write_text(text, "utf-8")

    async def limit_receipts(self, bytes_max: int | None) -> None:
        """Let the receipts topic take no message of more bytes; None: as many as by default."""
        assert self._admin is not None
        configs = {} if bytes_max is None else {"max.message.bytes": str(bytes_max)}
        await self._admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, self.receipts_topic, configs)]
        )

    async def delete_topics(self) -> None:
        """Delete both topics; a broker of our own goes with them."""
        assert self._admin is not None
        await self._admin.delete_topics([self.events_topic, self.receipts_topic])

    async def lose_log(self, server: KafkaServer) -> None:
        """Let the broker come back without the events: they were on a disk that was replaced."""
        await asyncio.to_thread(server.stop)
        shutil.rmtree(server.folder / "data" / f"{self.events_topic}-0")
        await asyncio.to_thread(server.start)

    # --- workers ------------------------------------------------------------------------------

    def launch_worker(self, *command: str, environment: Mapping[str, str] | None = None) -> Worker:
        """Start a worker process and do not wait for it.

        Args:
            command: Instead of `stream-app worker`.
            environment: What its environment has beside the tests' own and the keys for S3.
        """
        log_file = self._folder / f"worker-{len(self.workers)}.log"
        taken = {worker.instance for worker in self.running}
        instance = min(set(range(len(taken) + 1)) - taken)
        place = {INSTANCE_VARIABLE: f"worker-{instance}"} if self.static else {}
        usual = ("-m", "stream_app", "worker", "--config", str(self.configuration))
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *(command or usual)],
                cwd=self._folder,
                env={**self.environment, **place, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        worker = Worker(process, log_file, instance)
        self.workers.append(worker)
        return worker

    async def start_worker(self) -> Worker:
        """Start a worker and return once it takes part in the group."""
        worker = self.launch_worker()
        await worker.logged("ready: ")
        return worker

    async def start_workers(self, count: int) -> list[Worker]:
        return list(await asyncio.gather(*[self.start_worker() for _ in range(count)]))

    @property
    def running(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.running]

    # --- looking ------------------------------------------------------------------------------

    async def read_receipts(self) -> list[Published]:
        """Return all receipts so far, also those that came since the last call."""
        assert self._consumer is not None
        tp = TopicPartition(self.receipts_topic, 0)
        end = (await self._consumer.end_offsets([tp]))[tp]
        while await self._consumer.position(tp) < end:
            for record in (await self._consumer.getmany(tp, timeout_ms=200)).get(tp, []):
                headers = {name: value.decode() for name, value in record.headers}
                self.receipts.append(
                    Published(record.key.decode(), headers, json.loads(record.value))
                )
        return self.receipts

    async def published(self, count: int) -> list[Published]:
        """Return all receipts once there are `count` or more."""

        async def enough() -> bool:
            return len(await self.read_receipts()) >= count

        await wait_until(enough, SETTLED_SECONDS_MAX, f"{count} receipts")
        return self.receipts

    def transactions(self) -> AIOKafkaProducer:
        """Return a transactional producer, started by `async with`."""
        return AIOKafkaProducer(
            **self._options,
            transactional_id=f"{self.name}-producer",
            transaction_timeout_ms=TRANSACTION_MILLISECONDS_MAX,
        )

    async def commits(self) -> dict[int, Committed]:
        """Return what the group has committed, and where the logs end."""
        assert self._admin is not None
        assert self._consumer is not None
        tps = [TopicPartition(self.events_topic, it) for it in range(self.partitions)]
        committed = await self._admin.list_consumer_group_offsets(self.name, partitions=tps)
        ends = await self._consumer.end_offsets(tps)
        if committed.keys() != set(tps):
            # aiokafka passes over the error code of a coordinator that is loading its groups.
            raise GroupLoadInProgressError
        found = {}
        for tp in tps:
            offset, metadata = committed[tp].offset, committed[tp].metadata
            # A test may have committed in the name of another program.
            commit = decode(max(0, offset), metadata, accept_unmarked=True)
            closings = len(commit.closings)
            found[tp.partition] = Committed(offset, closings, ends[tp])
        return found

    def keys(self) -> list[str]:
        """The keys of all objects that are visible in S3; blocks."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def objects(self) -> list[Stored]:
        """All objects, read back; blocks."""
        objects = []
        for key in self.keys():
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            with answer["Body"] as body:
                objects.append(Stored(key, body.read(), answer["ETag"].strip('"')))
        return objects

    def uploads(self) -> dict[str, str]:
        """The keys of all uploads in parts that are begun and not ended, by id; blocks."""
        listed = self._client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return {it["UploadId"]: it["Key"] for it in listed}

    def abort_uploads(self) -> list[str]:
        """End all uploads in parts behind the workers' backs; return their ids; blocks."""
        uploads = self.uploads()
        for id_, key in uploads.items():
            self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=id_)
        return list(uploads)

    async def settled(self, seconds_max: float = SETTLED_SECONDS_MAX) -> None:
        """Wait until the group has committed the ends of all logs and nothing else."""
        seen: dict[int, Committed] = {}

        async def at_end() -> bool:
            try:
                seen.update(await self.commits())
            except KafkaError:
                return False  # a broker that is only coming up
            return all(
                not it.log_end or (it.offset == it.log_end and not it.closings)
                for it in seen.values()
            )

        deadline = time.monotonic() + seconds_max
        while not await at_end():
            assert time.monotonic() < deadline, f"not settled within {seconds_max:.0f} s: {seen}"
            await asyncio.sleep(POLL_SECONDS * 4)

    # --- judging ------------------------------------------------------------------------------

    async def evidence(self) -> Evidence:
        """Gather what the run has left behind."""
        return Evidence(
            targets=self.targets,
            bucket=self.bucket,
            sent=self.load.sent,
            objects=await asyncio.to_thread(self.objects),
            receipts=await self.read_receipts(),
            commits=await self.commits(),
            began=self._began - timedelta(seconds=1 + self.clock_step_seconds_max),
            ended=datetime.now(UTC) + timedelta(seconds=self.clock_step_seconds_max),
            workers_may_read=self.workers_may_read,
        )

    async def verify(self) -> None:
        """Fail unless every event has its outcome in a receipt and is delivered exactly once."""
        evidence = await self.evidence()
        assert findings(evidence) == []
        assert self.proxy.stored_more_than_once() == []


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer: aiokafka's `stop` raises between a failed fetch and the next one."""
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        await consumer._client.close()
