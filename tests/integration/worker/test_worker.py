"""A worker as a user runs it, on a real broker and a real S3 server, without faults."""

import asyncio
import gzip
import json
import re
import socket
import time
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from stream_app.embedded.servers import KafkaServer, S3Server, free_ports
from tests.chaos.harness import (
    LONG_SESSION_SECONDS,
    SESSION_SECONDS,
    SETTLED_SECONDS_MAX,
    Lab,
    in_a_loop,
    wait_until,
)
from tests.chaos.oracle import Published, Target

SCHEMA = Path(__file__).parents[3] / "schemas" / "receipt.schema.json"
MINUTE = 60
ORDERS = Target("orders", "orders/", pipeline="orders", payload="$event.body")
EVERYTHING = Target("everything", "everything/")


def lines(lab: Lab, receipt: Published) -> list[str]:
    """The lines of the object that a receipt names."""
    found = {stored.key: stored.body for stored in lab.objects()}
    return gzip.decompress(found[receipt.value["object"]["key"]]).decode().splitlines()


def by_destination(receipts: list[Published]) -> dict[str, Published]:
    assert len({it.value["destination"] for it in receipts}) == len(receipts)
    return {it.value["destination"]: it for it in receipts}


def begins(receipt: Published) -> str:
    return str(receipt.value["window"]["start"])


def valid(receipt: Published) -> Published:
    """Return a receipt that is one by its schema and by CloudEvents."""
    Draft202012Validator(
        json.loads(SCHEMA.read_text("utf-8")), format_checker=FormatChecker()
    ).validate(receipt.value)
    value, headers = receipt.value, dict(receipt.headers)
    assert re.fullmatch(r"[0-9a-f]{64}", headers.pop("ce_id"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", headers.pop("ce_time"))
    source = headers.pop("ce_source")
    assert source.startswith("/chaos-")
    assert source.endswith(f"/{value['destination']}")
    if value["object"]:
        assert headers.pop("ce_subject") == value["object"]["key"]
    assert headers == {
        "ce_specversion": "1.0",
        "ce_type": f"stream-app.delivery.{value['status']}.v1",
        "content-type": "application/json",
    }
    return receipt


@in_a_loop
async def test_thirty_events_of_a_minute_are_thirty_lines_of_one_object_per_destination(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(
        kafka.address, s3, tmp_path, window_seconds=MINUTE, targets=(ORDERS, EVERYTHING)
    ) as lab:
        minute = int(time.time()) // MINUTE * MINUTE - MINUTE
        for number in range(30):
            value = b'{"body":{"id":%d}}' % number
            at = (minute + number) * 1000
            await lab.load.send_raw(value, pipeline="orders", timestamp_ms=at)
        # The next minute's first event closes the window.
        await lab.load.send_raw(b"{}", pipeline="orders")
        await lab.start_worker()
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(minute))

        async def all_published() -> bool:
            return len([it for it in await lab.read_receipts() if begins(it) == start]) == 2

        await wait_until(
            all_published, SETTLED_SECONDS_MAX, "a receipt of the minute for each destination"
        )
        found = by_destination([valid(it) for it in lab.receipts if begins(it) == start])
        for receipt in found.values():
            assert receipt.value["status"] == "delivered"
            assert receipt.value["counts"]["delivered"] == 30
            assert receipt.value["object"]["lines"] == 30
            assert receipt.value["attempts"] == 1
        assert lines(lab, found["orders"]) == [f'{{"id":{it}}}' for it in range(30)]
        assert lines(lab, found["everything"]) == [f'{{"body":{{"id":{it}}}}}' for it in range(30)]


@in_a_loop
async def test_old_timestamps_make_an_object_for_each_window_of_the_clock(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    window, hour, count = 3, 3600, 40
    async with Lab(
        kafka.address, s3, tmp_path, partitions=1, window_seconds=window, targets=(EVERYTHING,)
    ) as lab:
        await lab.start_worker()
        begin = time.time()
        for number in range(count):
            at = (time.time() - hour) * 1000 if number % 2 else time.time()  # late, or a wrong unit
            await lab.load.send_raw(b"%d" % number, pipeline="orders", timestamp_ms=int(at))
            await asyncio.sleep(0.3)  # the pace of live traffic: each is collected on its own
        await lab.settled()
        receipts = await lab.read_receipts()
        sent = [line for it in receipts for line in lines(lab, it)]
        assert sorted(map(int, sent)) == list(range(count))
        # The first windows may be those of the two times, before the partition was idle once; and
        # the time touches one window more than fit into it. An event that a loaded machine holds up
        # beyond its window's grace makes a second one of that window. By its timestamp, nearly each
        # event would have one.
        assert len(receipts) <= 2 * (time.time() - begin) / window + 3


@in_a_loop
async def test_null_is_skipped_and_what_is_no_json_fails_alone(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=(EVERYTHING,)) as lab:
        now = int(time.time() * 1000)
        for value in (b'{"id":1}', None, b"no json", b"\xff", b"", b'{"id":2}'):
            await lab.load.send_raw(value, pipeline="orders", timestamp_ms=now)
        await lab.start_worker()
        await lab.settled()
        (receipt,) = [valid(it) for it in await lab.published(1)]
        assert receipt.value["counts"] == {
            "matched": 6,
            "delivered": 2,
            "skipped": 1,
            "failed": 3,
        }
        assert receipt.value["skipped"] == [[1, 1]]
        assert [entry["offset"] for entry in receipt.value["failed"]] == [2, 3, 4]
        assert all("JSON" in entry["error"] for entry in receipt.value["failed"])
        assert lines(lab, receipt) == ['{"id":1}', '{"id":2}']


@in_a_loop
async def test_window_of_skipped_events_has_a_receipt_and_no_object(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    target = Target("none", "none/", payload="undefined")
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=(target,)) as lab:
        now = int(time.time() * 1000)
        for _ in range(3):
            await lab.load.send_raw(b"{}", pipeline="orders", timestamp_ms=now)
        await lab.start_worker()
        await lab.settled()
        (receipt,) = [valid(it) for it in await lab.published(1)]
        assert receipt.value["status"] == "empty"
        assert receipt.value["skipped"] == [[0, 2]]
        assert lab.keys() == []


@in_a_loop
async def test_only_committed_records_are_delivered_and_a_control_record_keeps_no_window_open(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=(EVERYTHING,)) as lab:
        async with lab.transactions() as producer:
            for number, aborted in enumerate((False, True, False, True)):
                await producer.begin_transaction()
                for _ in range(2):
                    await producer.send_and_wait(lab.events_topic, b'{"n":%d}' % number, key=b"k")
                end = producer.abort_transaction if aborted else producer.commit_transaction
                await end()
        await lab.start_worker()
        await lab.settled()
        found = [json.loads(line)["n"] for it in await lab.published(1) for line in lines(lab, it)]
        assert found == [0, 0, 2, 2]
        # Two records and a marker for each transaction, and the last marker is behind all windows.
        assert (await lab.commits())[0].offset == 12
        assert sum(it.value["counts"]["matched"] for it in lab.receipts) == 4


@in_a_loop
async def test_records_of_an_open_transaction_wait_for_its_end(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=(EVERYTHING,)) as lab:
        async with lab.transactions() as producer:
            await lab.load.send(1)
            await producer.begin_transaction()
            await producer.send_and_wait(lab.events_topic, b'{"id":"t"}', key=b"k")
            await lab.load.send(1)
            await lab.start_worker()
            # What lies before the open transaction is delivered, idle as the partition is.
            (receipt,) = await lab.published(1)
            assert receipt.value["source"]["end_offset"] == 1
            await producer.commit_transaction()
        await lab.settled()
        assert sum(it.value["counts"]["delivered"] for it in await lab.published(2)) == 3


@in_a_loop
async def test_faust_command_runs_workers_beside_each_other(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, session_seconds=LONG_SESSION_SECONDS) as lab:
        command = ("-m", "faust", "-A", "stream_app.app", "worker", "-l", "info")
        environment = {"STREAM_APP_CONFIG": str(lab.configuration)}
        workers = [
            lab.launch_worker(*command, environment=environment),
            lab.launch_worker(*command, environment=environment),
            lab.launch_worker(*command, "--without-web", environment=environment),
        ]
        await asyncio.gather(*[worker.logged("taken over") for worker in workers])
        await lab.load.send(300)
        await lab.settled()
        await lab.verify()
        for worker in workers:
            await worker.terminate()
            assert worker.process.returncode == 0
            assert "Traceback" not in worker.log


@in_a_loop
async def test_start_without_a_needed_thing_ends_with_one_clear_line(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path) as lab:
        nowhere = f"127.0.0.1:{free_ports(1)[0]}"
        cases = {
            "does not accept our credentials (SignatureDoesNotMatch)": {
                "AWS_SECRET_ACCESS_KEY": "wrong"
            },
            "does not accept our credentials (InvalidAccessKeyId)": {"AWS_ACCESS_KEY_ID": "wrong"},
            "topic 'no-such-topic' does not exist": {
                "STREAM_APP_KAFKA_EVENTS_TOPIC": "no-such-topic"
            },
            f"Kafka at {nowhere} does not respond": {
                "STREAM_APP_KAFKA_BROKER": f"kafka://{nowhere}"
            },
        }
        workers = {text: lab.launch_worker(environment=it) for text, it in cases.items()}
        for text, worker in workers.items():
            assert await worker.ended() == 1, worker.log
            complaints = [line for line in worker.log.splitlines() if " INFO " not in line]
            assert len(complaints) == 1, worker.log
            assert text in complaints[0]
            assert "wrong" not in worker.log


@in_a_loop
async def test_worker_goes_on_when_a_broker_that_went_away_is_back(
    own_kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(own_kafka.address, s3, tmp_path) as lab:
        worker = await lab.start_worker()
        await lab.load.send(100)
        await asyncio.to_thread(own_kafka.kill)
        await asyncio.sleep(SESSION_SECONDS + 2)  # longer than its session
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", own_kafka.port), 1)
        assert worker.running
        await asyncio.to_thread(own_kafka.start)
        await lab.load.send(100)
        await lab.settled()
        await lab.verify()
        assert worker.running
        assert "Traceback" not in worker.log
        await worker.terminate()
        assert worker.process.returncode == 0
