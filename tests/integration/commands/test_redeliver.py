"""`stream-app redeliver` as a user runs it, after real workers have given up real windows."""

import asyncio
import gzip
import json
import os
import pty
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from jsonschema import Draft202012Validator, FormatChecker

from stream_app.core.commit_metadata import Commit, encode
from stream_app.core.object_key import identifier, object_key
from stream_app.core.receipt import Problem, Receipt, Source, Status, Tally
from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import ROOT, Lab, in_a_loop, wait_until
from tests.chaos.oracle import Published, Target
from tests.chaos.s3_proxy import Fault, Request

SCHEMA = json.loads((ROOT / "schemas" / "receipt.schema.json").read_text("utf-8"))
ORDERS = Target("orders", "orders/", pipeline="orders")
SIGNUPS = Target("signups", "signups/", pipeline="signups")
PIPELINES = ("orders", "signups")
GIVE_UP = "give_up_after_seconds = 1"
SECONDS_MAX = 180
REFUSED = Problem("NoSuchBucket", "The specified bucket does not exist", retryable=False)
UNANSWERED = Problem("TimeoutError", "no answer within 30 s", retryable=True)


@dataclass(frozen=True)
class Outcome:
    status: int
    output: str
    error: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.splitlines()]

    def done(self, summary: str) -> "Outcome":
        """Return a good outcome whose last line is this one."""
        assert self.status == 0, self
        assert self.error == "", self
        assert self.output.splitlines()[-1] == summary, self
        return self


@dataclass
class Pawnshop(Lab):
    """A lab where objects of `orders` go to a bucket that does not exist yet."""

    @property
    def late_bucket(self) -> str:
        return f"{self.name}-late"

    def configure(self) -> None:
        super().configure()
        self.edit(f'bucket = "{self.bucket}"', f'bucket = "{self.late_bucket}"', "orders")

    def edit(self, old: str, new: str, destination: str) -> None:
        """Change the entry of one destination."""
        text = self.configuration.read_text("utf-8")
        head, mark, tail = text.partition(f'id = "{destination}"')
        entry, more, rest = tail.partition("[[destinations]]")
        assert old in entry
        entry = entry.replace(old, new)
        self.configuration.write_text(head + mark + entry + more + rest, "utf-8")

    async def create_late_bucket(self) -> None:
        await asyncio.to_thread(self.s3.create_bucket, self.late_bucket)

    async def begin(
        self, *arguments: str, output: int = asyncio.subprocess.PIPE
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "stream_app", "redeliver", "--config", str(self.configuration), *arguments),
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.s3.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.PIPE,
        )

    async def redeliver(self, *arguments: str) -> Outcome:
        process = await self.begin(*arguments)
        try:
            output, error = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Outcome(process.returncode, output.decode(), error.decode())

    async def kill_after_put(self, *arguments: str) -> None:
        """Run until S3 has the object, and end then as a crash would."""
        process = await self.begin(*arguments)

        async def kill(request: Request) -> None:
            if request.is_put and process.returncode is None:
                process.kill()
                await process.wait()

        self.proxy.after = kill
        await asyncio.wait_for(process.communicate(), SECONDS_MAX)
        self.proxy.heal()
        assert process.returncode == -9

    async def given_up(self, count: int) -> list[Published]:
        """Send events of both pipelines; return the failed receipts when all is settled."""
        for pipeline in PIPELINES:
            await self.load.send(count, pipeline=pipeline)
        await self.run_worker()
        return await self.of("failed")

    async def one_given_up(self, *values: bytes, problem: Problem = REFUSED) -> str:
        """Leave what a worker leaves that gave up a window of these events; return the key."""
        for value in values:
            await self.load.send_raw(value, pipeline="orders", timestamp_ms=1000)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.broker, group_id=self.name, enable_auto_commit=False
        )
        tp = TopicPartition(self.events_topic, 0)
        consumer.assign([tp])
        await consumer.start()
        try:
            end = (await consumer.end_offsets([tp]))[tp]
            metadata = encode(Commit(end, ()))
            await consumer.commit({tp: OffsetAndMetadata(end, metadata)})
        finally:
            await consumer.stop()
        key = object_key("orders/", 60, identifier(self.events_topic, 0, 0, None, "orders"))
        receipt = Receipt(
            status=Status.FAILED,
            group=self.name,
            destination="orders",
            pipeline="orders",
            window_start=0,
            window_end=2,
            source=Source(self.events_topic, 0, 0, end),
            tally=Tally(len(values)),
            bucket=self.late_bucket,
            key=key,
            size_uncompressed=len(b"\n".join(values)) + 1,
            closed_at=60,
            attempts=2,
            problem=problem,
        )
        message = receipt.message(70)
        await self.load._running.send_and_wait(
            self.receipts_topic, message.value, key=message.key, headers=list(message.headers)
        )
        return key

    async def run_worker(self) -> None:
        """Let a worker settle all there is."""
        worker = await self.start_worker()
        await self.settled()
        await worker.terminate()

    async def of(self, status: str) -> list[Published]:
        """All receipts of a status so far, each valid by its schema, each id once."""
        found = {
            it.headers["ce_id"]: it
            for it in await self.read_receipts()
            if it.value["status"] == status
        }
        for it in found.values():
            Draft202012Validator(SCHEMA, format_checker=FormatChecker()).validate(it.value)
            assert it.headers["ce_type"] == f"stream-app.delivery.{status}.v1"
        return list(found.values())

    def lines(self, bucket: str) -> dict[str, list[Any]]:
        """The lines of every object of a bucket, by key; blocks."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        found = {}
        for key in [it["Key"] for page in pages for it in page.get("Contents", [])]:
            with self._client.get_object(Bucket=bucket, Key=key)["Body"] as body:
                text = gzip.decompress(body.read()).decode()
            found[key] = [json.loads(line) for line in text.splitlines()]
        return found

    def ids(self, receipt: Published) -> list[str]:
        """The ids of the events that a receipt's destination matched in its window."""
        source, pipeline = receipt.value["source"], receipt.value["pipeline"]
        run = range(source["first_offset"], source["end_offset"])
        sent = sorted(self.load.sent, key=lambda it: it.offset)
        return [
            it.event.id
            for it in sent
            if (it.partition, it.pipeline) == (source["partition"], pipeline) and it.offset in run
        ]


def shop(kafka: KafkaServer, s3: S3Server, folder: Path, **options: Any) -> Pawnshop:
    return Pawnshop(
        kafka.address,
        s3,
        folder,
        partitions=options.pop("partitions", 1),
        targets=options.pop("targets", (ORDERS, SIGNUPS)),
        pipelines=PIPELINES,
        settings=options.pop("settings", GIVE_UP),
        **options,
    )


@in_a_loop
async def test_windows_of_a_bucket_that_comes_late_are_redelivered_once_under_their_original_keys(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        failed = await lab.given_up(20)
        assert {it.value["destination"] for it in failed} == {"orders"}
        before = lab.lines(lab.bucket)
        await lab.create_late_bucket()
        outcome = await lab.redeliver()
        outcome.done(f"{len(failed)} redelivered")
        assert len(outcome.output.splitlines()) == len(failed) + 1
        redelivered = {it.window: it for it in await lab.of("redelivered")}
        found = lab.lines(lab.late_bucket)
        assert len(found) == len(failed)
        for it in failed:
            receipt = redelivered[it.window].value
            assert receipt["object"]["key"] == it.value["object"]["key"]
            assert receipt["object"]["bucket"] == lab.late_bucket
            assert receipt["counts"] == it.value["counts"]
            assert not receipt["already_existed"]
            assert "answers" not in receipt
            assert [line["id"] for line in found[it.value["object"]["key"]]] == lab.ids(it)
        assert sum(map(len, found.values())) == 20
        assert lab.lines(lab.bucket) == before

        published = len(await lab.read_receipts())
        (await lab.redeliver()).done("nothing to redeliver")
        assert len(await lab.read_receipts()) == published
        assert lab.lines(lab.late_bucket) == found


@in_a_loop
async def test_two_runs_at_the_same_time_make_each_object_once(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path, window_seconds=1) as lab:
        failed = await lab.given_up(20)
        await lab.create_late_bucket()
        # Both are held right before their first put, so that they do meet.
        arrived: Counter[str] = Counter()
        both = asyncio.Event()

        async def meet(request: Request) -> None:
            if request.is_put:
                arrived[request.target] += 1
                if arrived[request.target] == 2:
                    both.set()
                await asyncio.wait_for(both.wait(), SECONDS_MAX)

        lab.proxy.before = meet
        outcomes = await asyncio.gather(lab.redeliver("--json"), lab.redeliver("--json"))
        assert [it.status for it in outcomes] == [0, 0], outcomes
        kinds = Counter(it["outcome"] for outcome in outcomes for it in outcome.documents)
        assert kinds["redelivered"] == len(failed)
        assert kinds["already-existed"] >= 1
        found = lab.lines(lab.late_bucket)
        assert len(found) == len(failed)
        assert sum(map(len, found.values())) == 20
        assert len(await lab.of("redelivered")) == len(failed)


@in_a_loop
async def test_run_beside_workers_under_load_neither_loses_nor_repeats(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path, partitions=2, window_seconds=1) as lab:
        await lab.start_workers(2)
        runs: list[Outcome] = []

        async def given_up() -> bool:
            return len(await lab.of("failed")) > 3

        async with lab.load.steady(60):
            await wait_until(given_up, SECONDS_MAX, "windows are given up")
            await lab.create_late_bucket()
            # Windows are given up and settled meanwhile, or healed by their worker.
            runs += [await lab.redeliver("--json") for _ in range(3)]
        await lab.settled()
        runs.append(await lab.redeliver("--json"))
        assert runs[-1].status == 0, runs[-1]
        done = [it for run in runs for it in run.documents if it["outcome"] != "not-done"]
        assert {it["outcome"] for it in done} == {"redelivered"}
        for run in runs:
            for it in run.documents:
                if it["outcome"] == "not-done":
                    assert "workers have not settled the window yet" in it["reason"]
        delivered = [line["id"] for lines in lab.lines(lab.late_bucket).values() for line in lines]
        sent = [it.event.id for it in lab.load.sent if it.pipeline == "orders"]
        assert len(sent) > 100
        assert sorted(delivered) == sorted(sent)
        final = [it.window for it in (*await lab.of("delivered"), *await lab.of("redelivered"))]
        assert len(final) == len(set(final))


@in_a_loop
async def test_redelivery_can_be_filtered(kafka: KafkaServer, s3: S3Server, tmp_path: Path) -> None:
    async with shop(kafka, s3, tmp_path, window_seconds=60) as lab:
        lab.edit(lab.bucket, lab.late_bucket, "signups")
        minutes = [int(time.time()) // 60 * 60 - 600 + 60 * number for number in range(3)]
        for minute in minutes:
            for pipeline in PIPELINES:
                await lab.load.send_raw(b"1", pipeline=pipeline, timestamp_ms=minute * 1000)
        await lab.run_worker()
        failed = await lab.of("failed")
        starts = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(minute)) for minute in minutes]
        every = {(name, start) for name in PIPELINES for start in starts}
        one = failed[0]

        async def chosen(*arguments: str) -> set[tuple[str, str]]:
            outcome = await lab.redeliver("--dry-run", "--json", *arguments)
            assert outcome.status == 0, outcome
            assert {it["outcome"] for it in outcome.documents} <= {"planned"}
            return {(it["destination"], it["window_start"]) for it in outcome.documents}

        assert await chosen() == every
        # The time without a zone is in UTC.
        assert await chosen("--since", starts[1][:-1], "--until", starts[2]) == {
            (name, starts[1]) for name in PIPELINES
        }
        assert await chosen("--destination", "orders") == {("orders", it) for it in starts}
        # A dry run does nothing.
        assert not [it for it in await lab.read_receipts() if "retrying" in it.value["status"]]
        await lab.create_late_bucket()
        (await lab.redeliver("--id", one.headers["ce_id"])).done("1 redelivered")
        assert list(lab.lines(lab.late_bucket)) == [one.value["object"]["key"]]
        (await lab.redeliver("--id", one.headers["ce_id"])).done("nothing to redeliver")
        assert len(await chosen()) == 5


@in_a_loop
async def test_failed_events_of_a_corrected_expression_become_objects_of_their_own(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    first = "$event.n === 0 ? $event.n : $event.no.such"
    second = "$event.n === 3 ? undefined : $event.n < 3 ? $event.n : $event.no.such"
    third = "$event.n"
    target = Target("orders", "orders/", pipeline="orders", payload=first)
    async with shop(kafka, s3, tmp_path, targets=(target,)) as lab:
        lab.edit(lab.late_bucket, lab.bucket, "orders")
        now = int(time.time() * 1000)
        for number in range(6):
            value = b'{"n":%d}' % number
            await lab.load.send_raw(value, pipeline="orders", timestamp_ms=now)
        await lab.run_worker()
        (whole,) = await lab.of("delivered")
        assert [it["offset"] for it in whole.value["failed"]] == [1, 2, 3, 4, 5]

        # Not corrected: nothing changes, and nothing is written.
        outcome = await lab.redeliver("--failed-events")
        assert (outcome.status, outcome.output.splitlines()[-1]) == (1, "1 still-failed")
        assert len(await lab.read_receipts()) == 1

        lab.edit(first, second, "orders")
        outcome = await lab.redeliver("--failed-events")
        assert (outcome.status, outcome.output.splitlines()[-1]) == (1, "1 redelivered")
        assert "2 lines" in outcome.output
        assert "2 fail" in outcome.output
        (one,) = await lab.of("redelivered")
        assert one.value["answers"] == [1, 2, 3, 4, 5]
        assert one.value["counts"] == {"matched": 5, "delivered": 2, "skipped": 1, "failed": 2}
        assert one.value["skipped"] == [[3, 3]]
        assert one.value["source"] == whole.value["source"]

        lab.edit(second, third, "orders")
        (await lab.redeliver("--failed-events")).done("1 redelivered")
        (two,) = [it for it in await lab.of("redelivered") if it.value != one.value]
        assert two.value["answers"] == [4, 5]
        assert two.value["counts"] == {"matched": 2, "delivered": 2, "skipped": 0, "failed": 0}
        (await lab.redeliver("--failed-events")).done("nothing to redeliver")

        keys = [it.value["object"]["key"] for it in (whole, one, two)]
        found = lab.lines(lab.bucket)
        assert [found[key] for key in keys] == [[0], [1, 2], [4, 5]]
        assert len(found) == 3
        (await lab.redeliver()).done("nothing to redeliver")


@in_a_loop
async def test_failed_events_that_are_skipped_now_have_a_receipt_and_no_object(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    target = Target("orders", "orders/", pipeline="orders", payload="$event.no.such")
    async with shop(kafka, s3, tmp_path, targets=(target,)) as lab:
        at = int(time.time() * 1000)
        for _ in range(3):
            await lab.load.send_raw(b"{}", pipeline="orders", timestamp_ms=at)
        await lab.run_worker()
        lab.edit("$event.no.such", "undefined", "orders")
        (await lab.redeliver("--failed-events")).done("1 empty")
        (receipt,) = [it for it in await lab.of("empty") if "answers" in it.value]
        assert receipt.value["answers"] == [0, 1, 2]
        assert receipt.value["skipped"] == [[0, 2]]
        (await lab.redeliver("--failed-events")).done("nothing to redeliver")


@in_a_loop
async def test_receipts_topic_that_takes_less_gets_shortened_ones_but_whole_answers(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    first, second = "$event.n === 0 ? 0 : $event.no.such", "$event.n < 5 ? $event.n : $event.no.no"
    target = Target("orders", "orders/", pipeline="orders", payload=first)
    async with shop(kafka, s3, tmp_path, targets=(target,)) as lab:
        at = int(time.time() * 1000)
        for number in range(60):
            await lab.load.send_raw(b'{"n":%d}' % number, pipeline="orders", timestamp_ms=at)
        await lab.run_worker()
        (failed,) = await lab.of("failed")
        await lab.limit_receipts(2_000)
        await lab.create_late_bucket()
        outcome = await lab.redeliver()
        assert (outcome.status, outcome.output.splitlines()[-1]) == (1, "1 redelivered")
        (whole,) = await lab.of("redelivered")
        assert whole.value["counts"] == failed.value["counts"]
        assert 0 < len(whole.value["failed"]) == whole.value["lists_end_offset"] - 1 < 59
        (await lab.redeliver()).done("nothing to redeliver")

        # A failed event that an answer does not list would count as delivered.
        lab.edit(first, second, "orders")
        listed = [it["offset"] for it in whole.value["failed"]]
        before = lab.lines(lab.late_bucket)
        await lab.limit_receipts(1_000)
        outcome = await lab.redeliver("--failed-events")
        assert (outcome.status, outcome.output.splitlines()[-1]) == (1, "1 not-done")
        assert "raise the topic's max.message.bytes" in outcome.output
        assert lab.lines(lab.late_bucket) == before
        await lab.limit_receipts(None)
        outcome = await lab.redeliver("--failed-events")
        assert outcome.output.splitlines()[-1] == "1 redelivered"
        (answer,) = [it for it in await lab.of("redelivered") if "answers" in it.value]
        assert answer.value["answers"] == listed
        assert [it["offset"] for it in answer.value["failed"]] == listed[4:]


@in_a_loop
async def test_window_with_deleted_events_is_not_delivered_in_part(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        await lab.one_given_up(b"0", b"1")
        await lab.create_late_bucket()
        for before, left in ((1, 1), (2, 0)):
            await delete_events(lab, before)
            outcome = await lab.redeliver()
            assert outcome.status == 1
            text = f"of the 2 events that its receipt counts the topic has {left}: retention has"
            assert text in outcome.output
        assert lab.lines(lab.late_bucket) == {}
        assert await lab.of("redelivered") == []


@in_a_loop
async def test_window_of_which_only_others_events_are_deleted_is_delivered(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        await lab.load.send_raw(b"0", pipeline="signups", timestamp_ms=1000)
        await lab.one_given_up(b"1")
        await lab.create_late_bucket()
        await delete_events(lab, 1)
        (await lab.redeliver()).done("1 redelivered")
        assert list(lab.lines(lab.late_bucket).values()) == [[1]]


@in_a_loop
async def test_events_of_aborted_transactions_are_not_redelivered(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        async with lab.transactions() as producer:
            for number, end in enumerate(
                (producer.commit_transaction, producer.abort_transaction) * 2
            ):
                await producer.begin_transaction()
                for _ in range(2):
                    await producer.send_and_wait(
                        lab.events_topic, b"%d" % number, key=b"orders", timestamp_ms=1000
                    )
                await end()
        await lab.run_worker()
        await lab.create_late_bucket()
        (await lab.redeliver()).done("1 redelivered")
        assert list(lab.lines(lab.late_bucket).values()) == [[0, 0, 2, 2]]


@in_a_loop
async def test_run_that_is_killed_after_the_put_is_finished_by_the_next(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        key = await lab.one_given_up(b"0", b"1")
        await lab.create_late_bucket()
        await lab.kill_after_put()
        assert await lab.of("redelivered") == []
        (await lab.redeliver()).done("1 already-existed")
        (receipt,) = await lab.of("redelivered")
        assert receipt.value["already_existed"]
        assert lab.lines(lab.late_bucket) == {key: [0, 1]}
        (await lab.redeliver()).done("nothing to redeliver")


@in_a_loop
async def test_destination_corrected_after_a_kill_repeats_nothing(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        key = await lab.one_given_up(b"0", b"1")
        await lab.create_late_bucket()
        await lab.kill_after_put()
        before = lab.configuration.read_text("utf-8")
        for old, new in (
            ("-late", ""),
            ('prefix = "orders/"', 'prefix = "elsewhere/"'),
            ('pipeline = "orders"', 'pipeline = "orders"\n            payload = "-1"'),
            ('pipeline = "orders"', 'pipeline = "orders"\n            payload = "undefined"'),
        ):
            lab.edit(old, new, "orders")
            outcome = await lab.redeliver()
            assert outcome.status == 1
            place = f"s3://{lab.late_bucket}/{key}"
            assert (
                f"{place} may exist: an earlier attempt ended without a response" in outcome.output
            )
            # As the message demands, set back for this run.
            lab.configuration.write_text(before, "utf-8")
        (await lab.redeliver()).done("1 already-existed")
        assert lab.lines(lab.late_bucket) == {key: [0, 1]}
        assert lab.lines(lab.bucket) == {}


@in_a_loop
async def test_window_that_was_refused_goes_to_the_corrected_location(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        original = await lab.one_given_up(b"0", b"1")
        outcome = await lab.redeliver()
        assert outcome.status == 1
        assert "not-done: NoSuchBucket" in outcome.output
        lab.edit("-late", "", "orders")
        lab.edit('"orders/"', '"corrected"', "orders")
        (await lab.redeliver()).done("1 redelivered")
        key = original.replace("orders/", "corrected/")
        assert lab.lines(lab.bucket) == {key: [0, 1]}
        (receipt,) = await lab.of("redelivered")
        assert receipt.value["object"]["key"] == key


@in_a_loop
async def test_window_whose_response_was_lost_goes_elsewhere_only_on_request(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        key = await lab.one_given_up(b"0", problem=UNANSWERED)
        lab.edit("-late", "", "orders")
        outcome = await lab.redeliver()
        assert outcome.status == 1
        assert "if it does not exist, add --in-doubt" in outcome.output
        (await lab.redeliver("--in-doubt")).done("1 redelivered")
        assert lab.lines(lab.bucket) == {key: [0]}


@in_a_loop
async def test_another_object_under_the_key_is_not_taken_for_the_windows_own(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        key = await lab.one_given_up(b"0")
        await lab.create_late_bucket()
        lab._client.put_object(Bucket=lab.late_bucket, Key=key, Body=gzip.compress(b"789\n"))
        outcome = await lab.redeliver()
        assert outcome.status == 1
        assert "not-done: ObjectDiffers" in outcome.output
        assert lab.lines(lab.late_bucket) == {key: [789]}
        lab._client.delete_object(Bucket=lab.late_bucket, Key=key)
        (await lab.redeliver()).done("1 redelivered")


@in_a_loop
async def test_what_cannot_be_redelivered_is_explained_and_the_rest_is_done(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        lab.edit(lab.bucket, lab.late_bucket, "signups")
        await lab.load.send_raw(b"0", pipeline="signups", timestamp_ms=1000)
        await lab.load.send_raw(b"1", pipeline="orders", timestamp_ms=1000)
        await lab.run_worker()
        await lab.create_late_bucket()
        await lab.load._running.send_and_wait(lab.receipts_topic, b"no receipt")
        lab.edit('pipeline = "signups"', 'pipeline = "orders"', "signups")
        outcome = await lab.redeliver("--destination", "orders", "--destination", "signup")
        assert outcome == Outcome(1, "", outcome.error)
        assert "has no destination 'signup'; did you mean 'signups'?" in outcome.error
        outcome = await lab.redeliver("--id", "0" * 64)
        assert outcome == Outcome(1, "nothing to redeliver\n", outcome.error)
        assert f"can be redelivered has the id {'0' * 64}; see: stream-app" in outcome.error
        outcome = await lab.redeliver()
        assert outcome.status == 1
        assert outcome.output.splitlines()[-1] == "1 not-done, 1 redelivered"
        assert "took pipeline 'signups' then and takes pipeline 'orders' now" in outcome.output
        assert outcome.error == (
            f"stream-app: note: skipped 1 message of {lab.receipts_topic} that this version "
            "cannot read as receipts\n"
        )
        text = lab.configuration.read_text("utf-8")
        lab.configuration.write_text(text.replace('id = "signups"', 'id = "renamed"'), "utf-8")
        outcome = await lab.redeliver()
        assert outcome.status == 1
        assert "the destination is not in the configuration" in outcome.output


@in_a_loop
async def test_window_that_workers_have_not_settled_is_left_to_them(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    # One window at two destinations: `orders` is given up, `signups` is retried.
    signups = Target("signups", "signups/", pipeline="orders")
    async with shop(kafka, s3, tmp_path, targets=(ORDERS, signups)) as lab:
        lab.proxy.rule = lambda request: (
            Fault.BROKEN if request.is_put and "/signups/" in request.target else Fault.NONE
        )
        await lab.load.send_raw(b"0", pipeline="orders", timestamp_ms=1000)
        await lab.start_worker()

        async def given_up() -> bool:
            return len(await lab.of("failed")) == 1

        await wait_until(given_up, SECONDS_MAX, "the window is given up")
        await lab.create_late_bucket()
        outcome = await lab.redeliver()
        assert outcome.status == 1
        assert "workers have not settled the window yet" in outcome.output
        assert lab.lines(lab.late_bucket) == {}
        lab.proxy.heal()
        await lab.settled()
        (await lab.redeliver()).done("1 redelivered")


@in_a_loop
async def test_terminal_shows_each_result_and_a_bar_for_what_takes_time(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with shop(kafka, s3, tmp_path) as lab:
        await lab.one_given_up(b"0")

        async def on_terminal(*arguments: str) -> tuple[int | None, str]:
            terminal, end = pty.openpty()
            try:
                process = await lab.begin(*arguments, output=end)
                await asyncio.wait_for(process.communicate(), SECONDS_MAX)
                return process.returncode, os.read(terminal, 1 << 16).decode()
            finally:
                os.close(terminal)
                os.close(end)

        status, shown = await on_terminal("--dry-run")
        assert status == 0
        assert "redelivering" not in shown
        assert ": planned at s3://" in shown
        assert shown.endswith("1 planned\r\n")
        status, shown = await on_terminal()
        assert status == 1
        assert "redelivering" in shown
        assert "NoSuchBucket" in shown
        assert shown.endswith("1 not-done\r\n")
        await lab.create_late_bucket()
        status, shown = await on_terminal()
        assert status == 0
        assert ": redelivered, 1 line at s3://" in shown


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--since", "yesterday"], "'yesterday' is not a time; write one as 2026-11-24T16:31:00Z"),
        (["--since", "2026-11-25", "--until", "2026-11-24"], "--since is not before --until"),
        (["--id", "ABC"], "'ABC' is not the id of a receipt; write its 64 hex digits"),
        (["orders"], "Got unexpected extra argument (orders)"),
    ],
)
def test_wrong_command_line_is_one_line_and_status_2(arguments: Sequence[str], text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stream_app", "redeliver", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


async def delete_events(lab: Lab, before: int) -> None:
    """Delete records as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=lab.broker)
    await admin.start()
    try:
        tp = TopicPartition(lab.events_topic, 0)
        await admin.delete_records({tp: RecordsToDelete(before_offset=before)})
    finally:
        await admin.close()
