"""The Inspector on real Kafka, a real S3 server and real workers."""

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.inspector.core.auth import SECURITY_HEADERS
from stream_app.inspector.core.event_filter import EventFilter
from stream_app.inspector.service.broadcast import Subscriber
from tests.chaos.harness import Lab, in_a_loop
from tests.chaos.oracle import Target, text_of
from tests.chaos.s3_proxy import Fault
from tests.inspecting import Client, inspecting
from tests.integration.commands.test_redeliver import delete_events, shop

ORDERS = Target("orders", "orders/", pipeline="orders", payload="$event.body")
PICKY = Target(
    "picky",
    "picky/",
    payload="$event.n % 3 === 0 ? undefined : $event.n % 3 === 1 ? $event.no.such : $event",
    settings='format = "zstd"',
)
TOKEN = "a-token-of-twenty-characters"  # noqa: S105 - of these tests


@pytest.fixture(autouse=True)
def _keys(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


NewLab = Callable[..., Lab]
Inspected = Callable[..., AbstractAsyncContextManager[tuple[Lab, Client]]]


@pytest.fixture
def new_lab(kafka: KafkaServer, s3: S3Server, tmp_path: Path) -> NewLab:
    """Return a function that makes a lab on the shared servers."""
    return partial(lab_of, kafka, s3, tmp_path)


@pytest.fixture
def inspected(new_lab: NewLab) -> Inspected:
    """Return a function that runs a lab and an Inspector of it."""

    @asynccontextmanager
    async def run(*, token: str | None = None, **options: Any) -> AsyncIterator[tuple[Lab, Client]]:
        async with (
            new_lab(**options) as lab,
            inspecting(lab.configuration, token=token) as client,
        ):
            yield lab, client

    return run


def lab_of(kafka: KafkaServer, s3: S3Server, folder: Path, **options: Any) -> Lab:
    return Lab(
        kafka.address,
        s3,
        folder,
        partitions=options.pop("partitions", 2),
        targets=options.pop("targets", (ORDERS, PICKY)),
        pipelines=("orders", "signups"),
        window_seconds=2,
        **options,
    )


def lines_of(lab: Lab, key: str) -> list[bytes]:
    """The lines of an object; blocks."""
    with lab._client.get_object(Bucket=lab.bucket, Key=key)["Body"] as body:
        return text_of(key, body.read()).splitlines()


async def delivered(client: Client, row: dict[str, Any], **counts: int) -> dict[str, int]:
    async def poll() -> dict[str, int]:
        return await client.outcome_counts(row)

    found: dict[str, int] = await client.until(
        poll, lambda dest: all(dest[it] == counts[it] for it in counts), f"{row} has {counts}"
    )
    return found


@in_a_loop
async def test_event_turns_from_pending_to_delivered_on_an_open_page(inspected: Inspected) -> None:
    async with (
        inspected() as (lab, client),
        client.live() as stream,
    ):
        sent = await lab.load.send(6, pipeline="orders")
        _, message = await stream.next("rows")
        rows = message["rows"]
        while len(rows) < 6:
            rows = (await stream.next("rows"))[1]["rows"] + rows
        assert {(it["partition"], it["offset"]) for it in rows} == {
            (it.partition, it.offset) for it in sent
        }
        assert rows[0]["dest"] == {
            "matched": 2,
            "delivered": 0,
            "skipped": 0,
            "failed": 0,
            "pending": 2,
            "retrying": 0,
            "unknown": 0,
        }
        await lab.start_worker()
        _, message = await stream.next("receipts")
        assert set(message["destinations"]) <= {"orders", "picky"}
        (run, *_) = message["runs"]
        assert run["partition"] == sent[0].partition
        expected = {0: (1, 1, 0), 1: (1, 0, 1), 2: (2, 0, 0)}
        for number, it in enumerate(sent):
            (row,) = [row for row in rows if row["offset"] == it.offset]
            done, skipped, failed = expected[number % 3]
            dest = await delivered(client, row, delivered=done, skipped=skipped, failed=failed)
            assert dest["matched"] == 2


@in_a_loop
async def test_sent_line_is_the_line_of_the_object_byte_for_byte(inspected: Inspected) -> None:
    async with inspected() as (lab, client):
        sent = await lab.load.send(40)
        await lab.start_worker()
        await lab.settled()
        rows = await client.rows()
        assert len(rows) == 40
        seen = 0
        for it in sent:
            (row,) = [
                row
                for row in rows
                if (row["partition"], row["offset"]) == (it.partition, it.offset)
            ]
            await delivered(client, row, pending=0)
            event = await client.request(f"/api/events/{it.partition}/{it.offset}")
            assert event["row"]["dest"]["matched"] == len(event["destinations"])
            assert json.loads(event["text"])["id"] == it.event.id
            for destination in event["destinations"]:
                path = f"/api/events/{it.partition}/{it.offset}/sent/{destination['id']}"
                sent_line = await client.request(path)
                receipt = (destination["receipt"] or {}).get("receipt")
                if destination["outcome"] != "delivered":
                    assert sent_line["line"] is None
                    assert destination["outcome"] in sent_line["why"]
                    continue
                lines = await asyncio.to_thread(lines_of, lab, receipt["object"]["key"])
                assert sent_line["from"] == "object", sent_line
                assert sent_line["line"].encode() == lines[sent_line["number"] - 1]
                assert destination["line"] == sent_line["number"]
                assert it.event.id in sent_line["line"] or destination["id"] == "orders"
                seen += 1
        assert seen > 20
        assert client.service.sent_lines.can_read


@in_a_loop
async def test_failing_bucket_is_retrying_then_failed_then_redelivered(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        shop(kafka, s3, tmp_path, settings="give_up_after_seconds = 2") as lab,
        inspecting(lab.configuration) as client,
    ):
        await lab.load.send(3, pipeline="orders")
        worker = await lab.start_worker()
        row = (await client.rows())[0]
        path = f"{row['partition']}/{row['offset']}"
        await delivered(client, row, failed=1)
        (one,) = (await client.request(f"/api/events/{path}"))["destinations"]
        assert one["outcome"] == "failed"
        assert "NoSuchBucket" in one["error"]
        assert "stream-app redeliver" in one["reason"]
        assert one["receipts"][0]["receipt"]["status"] == "failed"
        sent_line = await client.request(f"/api/events/{path}/sent/orders")
        assert sent_line["from"] == "computed"
        assert "given up" in sent_line["why"]
        destination = await client.request("/api/destinations/orders")
        assert destination["state"] == "failed"
        assert destination["failed_windows"] == len(destination["failed"]) > 0
        assert "--destination orders" in destination["redeliver"]
        assert destination["failed"][0]["error"].startswith("NoSuchBucket")
        await lab.settled()
        await worker.terminate()
        await lab.create_late_bucket()
        (await lab.redeliver()).done(f"{destination['failed_windows']} redelivered")
        await delivered(client, row, failed=0, delivered=1)
        (one,) = (await client.request(f"/api/events/{path}"))["destinations"]
        assert one["receipt"]["receipt"]["status"] == "redelivered"
        assert {it["receipt"]["status"] for it in one["receipts"]} >= {"failed", "redelivered"}
        sent_line = await client.request(f"/api/events/{path}/sent/orders")
        assert sent_line["from"] == "object"
        assert json.loads(sent_line["line"]) == json.loads(
            (await client.request(f"/api/events/{path}"))["text"]
        )
        assert (await client.request("/api/destinations/orders"))["state"] == "delivering"


@in_a_loop
async def test_line_is_computed_where_the_object_cannot_be_read(
    new_lab: NewLab, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with new_lab(targets=(ORDERS,)) as lab:
        (sent,) = await lab.load.send(1, pipeline="orders")
        await lab.start_worker()
        await lab.settled()
        (key,) = await asyncio.to_thread(lab.keys)
        (line,) = await asyncio.to_thread(lines_of, lab, key)
        path = f"/api/events/{sent.partition}/{sent.offset}/sent/orders"

        async def line_now(**keys: str) -> dict[str, Any]:
            for name, value in keys.items():
                monkeypatch.setenv(name, value)
            async with inspecting(lab.configuration) as client:
                found = await client.request(path)
                about = await client.request("/api/about")
                assert about["can_read_objects"] is ("may not read" not in (found["why"] or ""))
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
            return found

        found = await line_now()
        assert (found["from"], found["number"], found["why"]) == ("object", 1, None)
        assert found["line"].encode() == line
        lab.proxy.rule = lambda _: Fault.DENY
        found = await line_now()
        assert (found["from"], found["line"].encode()) == ("computed", line)
        assert found["why"] == "the Inspector may not read the object: AccessDenied"
        lab.proxy.heal()
        found = await line_now(AWS_SECRET_ACCESS_KEY="wrong")  # noqa: S106 - not a key
        assert (found["from"], found["line"].encode()) == ("computed", line)
        assert "SignatureDoesNotMatch" in found["why"]
        lab._client.put_object(Bucket=lab.bucket, Key=key, Body=gzip.compress(b'"forged"\n'))
        found = await line_now()
        assert found["line"].encode() == line
        assert found["why"] == "another object has replaced it"
        lab._client.delete_object(Bucket=lab.bucket, Key=key)
        found = await line_now()
        assert found["line"].encode() == line
        assert "the object no longer exists" in found["why"]
        text = lab.configuration.read_text("utf-8")
        lab.configuration.write_text(text.replace(lab.bucket, f"{lab.bucket}-other"), "utf-8")
        # The topics have the lab's name too.
        lab.configuration.write_text(
            lab.configuration.read_text("utf-8")
            .replace(f"{lab.name}-other-", f"{lab.name}-")
            .replace(f'group = "{lab.name}-other"', f'group = "{lab.name}"'),
            "utf-8",
        )
        found = await line_now()
        assert found["line"].encode() == line
        assert f"no destination of {lab.configuration} has the bucket {lab.bucket}" in found["why"]


HOSTILE: list[tuple[bytes | None, bytes | None]] = [
    (b"orders", None),
    (b"orders", b""),
    (b"orders", b"\xff\xfe\x00"),
    (b"orders", b"<script>alert(1)</script>"),
    (b"orders", b'{"a":"\\ud800","method":"\\udfff","path":"\\ud800"}'),
    (b"orders", b"[" * 100_000 + b"]" * 100_000),
    (b"orders", b'{"a":' * 2_000 + b"1" + b"}" * 2_000),
    (b"orders", json.dumps({"body": "x" * 1_000_000}).encode()),
    (b"orders", b'{"method":"GET","path":"/' + b"\\u0001" * 40_000 + b'"}'),
    (b"\xff\x00key", b"1e999999"),
    (None, b'{"constructor":{"prototype":1},"__proto__":null}'),
    (b"orders", b'"\xe2\x80\xae\xe2\x80\xa8</script><!--"'),
    (b"orders", b"123456789012345678901234567890.5"),
    (b"orders", b"NaN"),
]


@in_a_loop
async def test_hostile_events_are_shown_and_break_no_list(inspected: Inspected) -> None:
    async with (
        inspected(partitions=1) as (lab, client),
        client.live() as stream,
        client.live(search="nowhere-to-be-found") as searching,
    ):
        producer: AIOKafkaProducer = lab.load._running
        headers = [("na\u0000me", b"\xff"), ("", b"")]
        for key, value in HOSTILE:
            await producer.send_and_wait(lab.events_topic, value, key=key, headers=headers)
        for time_ms in (0, 1, 2**62):
            # The broker may refuse such a time.
            with contextlib.suppress(KafkaError):
                await producer.send_and_wait(lab.events_topic, b"1", timestamp_ms=time_ms)
        rows = await client.rows()
        assert len(rows) >= len(HOSTILE) + 2
        live = 0
        while live < len(rows):
            live += len((await stream.next("rows"))[1]["rows"])
        for number in range(len(rows)):
            event = await client.request(f"/api/events/0/{number}")
            assert len(event["row"]["summary"]) <= 200
            assert event["row"]["summary"].isprintable()
        for number, (key, value) in enumerate(HOSTILE):
            event = await client.request(f"/api/events/0/{number}")
            assert event["is_json"] or event["why"]
            assert (event["text"] is None) == (value is None)
            assert event["row"]["size"] == len(value or b"")
            assert event["row"]["pipeline"] == (
                None if key is None else key.decode(errors="replace")
            )
            assert event["headers"] == [["na\u0000me", "\ufffd"], ["", ""]]
            for destination in event["destinations"]:
                await client.request(f"/api/events/0/{number}/sent/{destination['id']}")
        assert (await client.rows(search="alert(1)"))[0]["summary"] == HOSTILE[3][1].decode()
        assert [it["offset"] for it in await client.rows(search="\x01")] == [8]
        assert await client.rows(search="no such thing \ufffd\u0130") == []
        assert (await client.rows(pipeline="\ufffd\x00key")) == []
        await lab.start_worker()
        await lab.settled()
        await delivered(client, rows[-1], pending=0)
        for number in range(len(rows)):
            for destination in (await client.request(f"/api/events/0/{number}"))["destinations"]:
                assert destination["outcome"] in {"delivered", "skipped", "failed"}
                sent_line = await client.request(f"/api/events/0/{number}/sent/{destination['id']}")
                assert (sent_line["line"] is None) == (destination["outcome"] != "delivered")
        # No event matches this search, so the page got no message about rows.
        assert not searching.response.content._buffer or b"event: rows" not in b"".join(
            searching.response.content._buffer
        )


@in_a_loop
async def test_hostile_receipts_are_counted_and_change_no_outcome(inspected: Inspected) -> None:
    async with inspected(partitions=1) as (lab, client):
        await lab.load.send(2, pipeline="orders")
        await lab.start_worker()
        await lab.settled()
        row = (await client.rows())[0]
        await delivered(client, row, pending=0)
        consumer = AIOKafkaConsumer(
            lab.receipts_topic, bootstrap_servers=lab.broker, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            true = await consumer.getone()
            while json.loads(true.value)["object"] is None:
                true = await consumer.getone()
        finally:
            await consumer.stop()
        document = json.loads(true.value)
        forged = [
            document | {"destination": ["a"]},
            document | {"pipeline": 7},
            document | {"skipped": {}},
            document | {"failed": [7]},
            document | {"source": document["source"] | {"partition": -1}},
            document | {"object": document["object"] | {"key": "elsewhere", "bucket": "other"}},
        ]
        values = [json.dumps(it).encode() for it in forged]
        values += [b"", b"\xff", b"[" * 100_000, None, b"1"]
        for number, value in enumerate(values):
            headers = [(name, it) for name, it in true.headers if name != "ce_id"]
            headers.append(("ce_id", b"%064d" % number))
            await lab.load._running.send_and_wait(
                lab.receipts_topic, value, key=b"k", headers=headers
            )
        await lab.load._running.send_and_wait(
            lab.receipts_topic, true.value, headers=[("ce_type", b"\xff")]
        )

        async def poll() -> int:
            about = await client.request("/api/about")
            return int(about["receipts"]["not_receipts"])

        count = len(values) + 1
        assert await client.until(poll, lambda seen: seen == count, f"{count} are counted")
        await client.request("/api/destinations")
        event = await client.request(f"/api/events/0/{row['offset']}")
        assert [it["outcome"] for it in event["destinations"]] != []
        assert (await client.rows())[0]["dest"]["pending"] == 0


@in_a_loop
async def test_hostile_requests_get_responses(inspected: Inspected) -> None:
    async with inspected() as (_, client):
        host, port = client.address.removeprefix("http://").split(":")
        expected = {
            "/api/events?search=%ED%A0%80%00": 200,
            "/api/events?pipeline=%FF": 200,
            "/api/events?at=%ED%A0%80": 400,
            "/api/events?cursor=" + "1." * 5_000 + "1": 400,
            "/api/destinations/%ED%A0%80%00": 404,
            "/api/destinations/..%2f..%2fetc%2fpasswd": 404,
            "/%61pi/about": 200,
            "//api/about": 404,
            "/api//about": 404,
            "/api/windows/x/999999999/999999999999999999": 404,
            "/api/events/999999999/999999999999999999": 404,
            "/api/events/9999999999/1": 404,
            "/static/..%2f..%2fapi.py": 404,
            "/static/%2e%2e/%2e%2e/api.py": 404,
            "/static/css/../../web/api.py": 404,
            "/static/css/..%2f..%2fweb%2fapi.py": 404,
            "/static/css/%2e%2e/app.js": 404,
            "/static//etc/passwd": 404,
            "/static/%2fetc%2fpasswd": 404,
        }
        for path, status in expected.items():
            reader, writer = await asyncio.open_connection(host, int(port), limit=2**20)
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            response = (await asyncio.wait_for(reader.read(), 120)).decode()
            writer.close()
            head, _, body = response.partition("\r\n\r\n")
            assert head.startswith(f"HTTP/1.1 {status} "), (path, head)
            assert "Content-Security-Policy" in head
            if "application/json" in head:
                assert isinstance(json.loads(body), dict)


@in_a_loop
async def test_older_events_come_page_by_page_each_of_them_once(inspected: Inspected) -> None:
    async with inspected(partitions=3) as (lab, client):
        lab.load.at_ms = int(time.time() * 1000) - 60_000
        started = lab.load.at_ms
        for step in range(5):
            lab.load.at_ms = started + 1_000 * step
            await lab.load.send(50)
        rows = await client.rows(limit="7")
        places = [(it["partition"], it["offset"]) for it in rows]
        assert sorted(places) == sorted((it.partition, it.offset) for it in lab.load.sent)
        for partition in range(3):
            offsets = [offset for number, offset in places if number == partition]
            assert offsets == sorted(offsets, reverse=True)
        times = [it["time"] for it in rows]
        assert times == sorted(times, reverse=True)
        assert await client.rows(limit="500") == rows

        middle = rows[100]
        at = f"{middle['partition']}@{middle['offset']}"
        (first, *_) = await client.rows(at=at)
        assert (await client.rows(at=at))[0]["time"] == middle["time"]
        assert (first["partition"], first["offset"]) in places
        found = await client.rows(at=at)
        assert (middle["partition"], middle["offset"]) in {
            (it["partition"], it["offset"]) for it in found
        }
        moment = datetime.fromtimestamp(started / 1000 + 2, UTC)
        found = await client.rows(at=moment.isoformat())
        assert len(found) == 150
        earlier = moment - timedelta(seconds=0.5)
        assert len(await client.rows(at=earlier.isoformat())) == 100

        found = await client.rows(pipeline="orders", limit="9")
        assert len(found) == sum(it.pipeline == "orders" for it in lab.load.sent)
        event = lab.load.sent[77].event
        (one,) = await client.rows(search=event.id.upper())
        assert event.id in one["summary"]
        document = await client.request("/api/events", search="nothing has this")
        assert (document["rows"], document["cursor"], document["complete"]) == ([], None, True)
        assert document["searched"] == 250
        assert document["searched_to"] == times[-1]

        for at in ("9@1", "0@999999", "no time", "0@x"):
            assert (await client.request("/api/events", 400, at=at))["error"]
        for cursor in ("?", "1.2.3.4", ""):
            assert (await client.request("/api/events", 400, cursor=cursor))["error"]
        for limit in ("0", "501", "x"):
            assert (await client.request("/api/events", 400, limit=limit))["error"]
        assert (await client.request("/api/events", 400, search="x" * 501))["error"]


@in_a_loop
async def test_event_has_its_neighbors_and_a_missing_one_a_reason(inspected: Inspected) -> None:
    async with inspected(partitions=1) as (lab, client):
        await lab.load.send(5)
        event = await client.request("/api/events/0/2")
        assert (event["older"], event["newer"]) == ("0@1", "0@3")
        assert (await client.request("/api/events/0/0"))["older"] is None
        assert (await client.request("/api/events/0/4"))["newer"] is None
        assert (
            "is not there yet; the next is 0@5"
            in (await client.request("/api/events/0/5", 404))["error"]
        )
        assert (
            "the topic has 1 partition," in (await client.request("/api/events/1/0", 404))["error"]
        )
        await delete_events(lab, 3)
        document = await client.request("/api/events/0/2", 404)
        assert "was deleted by the topic's retention; the oldest is 0@3" in document["error"]
        assert [it["offset"] for it in await client.rows()] == [4, 3]
        assert (await client.request("/api/events/0/3"))["older"] is None
        document = await client.request("/api/events/0/4/sent/nobody", 404)
        assert "is not an event of destination 'nobody'" in document["error"]


@in_a_loop
async def test_window_shows_its_object_and_its_events_with_their_lines(
    inspected: Inspected,
) -> None:
    async with inspected(partitions=1) as (lab, client):
        lab.load.at_ms = int(time.time()) * 1000
        await lab.load.send(300)
        await lab.start_worker()
        await lab.settled()
        row = (await client.rows(limit="500"))[-1]
        await delivered(client, row, pending=0)
        for id_ in ("orders", "picky"):
            (window,) = (await client.request(f"/api/destinations/{id_}"))["windows"]
            path = f"/api/windows/{id_}/0/{window['first_offset']}"
            document = await client.request(path)
            receipt = document["receipt"]["receipt"]
            lines = await asyncio.to_thread(lines_of, lab, receipt["object"]["key"])
            rows = document["rows"]
            while document["cursor"] is not None:
                assert len(document["rows"]) == 100
                document = await client.request(path, cursor=document["cursor"])
                rows += document["rows"]
            assert len(rows) == receipt["counts"]["matched"] == window["counts"]["matched"]
            assert [it["offset"] for it in rows] == sorted(it["offset"] for it in rows)
            numbered = [it["line"] for it in rows if it["outcome"] == "delivered"]
            assert numbered == list(range(1, len(lines) + 1))
            assert all(it["line"] is None for it in rows if it["outcome"] != "delivered")
        assert (await client.request("/api/windows/orders/0/99999", 404))["error"]
        assert (await client.request("/api/windows/orders/0/0", 400, cursor="x"))["error"]


@in_a_loop
async def test_destinations_are_summarized(inspected: Inspected) -> None:
    async with inspected() as (lab, client):
        about = await client.request("/api/about")
        assert about["receipts"]["held"] == 0
        assert about["receipts"]["oldest"] is None
        assert (about["events_partitions"], about["destinations"]) == (2, 2)
        assert about["kafka"] is None
        assert about["configuration_mistakes"] == []
        quiet = await client.request("/api/destinations")
        assert [it["state"] for it in quiet["destinations"]] == ["quiet", "quiet"]
        lab.load.at_ms = int(time.time()) * 1000
        await lab.load.send(30, pipeline="orders")
        await lab.start_worker()
        await lab.settled()
        rows = await client.rows()
        await delivered(client, rows[-1], pending=0)

        async def poll() -> dict[str, Any]:
            return await client.request("/api/destinations")

        document = await client.until(
            poll,
            lambda it: [one["state"] for one in it["destinations"]] == ["delivering", "degraded"],
            "both deliver, one of them with failed events",
        )
        orders, picky = document["destinations"]
        assert orders["totals"]["events"] == 30
        assert picky["totals"] == {
            "events": 10,
            "bytes": picky["totals"]["bytes"],
            "objects": picky["totals"]["objects"],
            "skipped": 10,
            "failed": 10,
        }
        assert len(orders["minutes"]["freshness_seconds"]) == 60
        assert orders["bucket"] == lab.bucket
        assert document["since"] is not None
        one = await client.request("/api/destinations/picky")
        assert one["payload"] == PICKY.payload
        path = "/api/destinations/picky/policy"
        assert (await client.request(path))["policy"] is None, "nobody has said who writes"
        role = "arn:aws:iam::999999999999:role/writer"
        document = json.loads((await client.request(f"{path}?principal={role}"))["policy"])
        assert {it["Principal"]["AWS"] for it in document["Statement"]} == {role}
        refused = await client.request(f"{path}?principal=arn:aws:iam::ACCOUNT:role/ROLE", 400)
        assert refused["error"].startswith("the principal is 'arn:aws:iam::ACCOUNT:role/ROLE'")
        assert (await client.request("/api/destinations/nobody/policy", 404))["error"]
        assert (await client.request("/api/destinations/nobody", 404))["error"]
        assert (await client.request("/api/about"))["receipts"]["held"] >= 2


@in_a_loop
async def test_expression_is_tried_on_an_event(inspected: Inspected) -> None:
    async with inspected(partitions=1) as (lab, client):
        await lab.load.send_raw(b'{"a":{"b":"c"}}', pipeline="orders")
        await lab.load.send_raw(None, pipeline="orders")

        async def tried(expression: str, **event: Any) -> dict[str, Any]:
            return await client.request("/api/try", post={"expression": expression, **event})

        trial = await tried("$event.a", partition=0, offset=0)
        assert (trial["outcome"], trial["line"], trial["path"]) == (
            "delivered",
            '{"b":"c"}',
            "fast",
        )
        assert trial["microseconds"] > 0
        trial = await tried("$event.a.b.length + 1", event='{"a": {"b": "cd"}}')
        assert (trial["outcome"], trial["line"], trial["path"]) == ("delivered", "3", "engine")
        assert (await tried("undefined", partition=0, offset=0))["outcome"] == "skipped"
        assert (await tried("$event", partition=0, offset=1))["outcome"] == "skipped"
        trial = await tried("$event.no.such", partition=0, offset=0)
        assert trial["outcome"] == "failed"
        assert trial["error"].startswith("TypeError")
        assert "^" in trial["place"]
        trial = await tried("return 1", event="1")
        assert trial["outcome"] == "failed"
        assert "does not compile" in trial["error"]
        assert "^" in trial["place"]
        trial = await tried("$event", event="{")
        assert (trial["outcome"], trial["line"]) == ("failed", None)
        looping = "(() => { for (;;) {} })()"
        post = {"expression": looping, "event": "1"}
        answers = await asyncio.gather(
            *[client.session.post(f"{client.address}/api/try", json=post) for _ in range(6)]
        )
        # Two at a time are evaluated; who waits for too long is trial so.
        assert {it.status for it in answers} <= {200, 503}
        assert len([it for it in answers if it.status == 200]) >= 2
        for it in answers:
            trial = await it.json()
            assert trial.get("outcome") == "failed" or "try again" in trial["error"]
        for wrong in (
            [],
            {},
            {"expression": 1},
            {"expression": "1"},
            {"expression": "1", "partition": -1, "offset": 0},
            {"expression": "1", "event": 7},
            {"expression": "1", "event": "x" * 1_100_000},
        ):
            assert (await client.request("/api/try", 400, post=wrong))["error"]
        assert (
            await client.request(
                "/api/try", 404, post={"expression": "1", "partition": 0, "offset": 9}
            )
        )["error"]


@in_a_loop
async def test_index_is_bounded_and_older_events_are_unknown(new_lab: NewLab) -> None:
    async with new_lab(partitions=1) as lab:
        start = int(time.time()) // 60 * 60 - 3600
        for number in range(30):
            lab.load.at_ms = (start + 100 * number) * 1000
            await lab.load.send(2, pipeline="orders")
        await lab.start_worker()
        await lab.settled()
        receipts = len(await lab.published(60))
        async with inspecting(lab.configuration) as client:
            await client.request("/api/events")
            assert (await client.request("/api/about"))["receipts"]["held"] == receipts
        async with inspecting(lab.configuration, receipts_max=6) as client:
            rows = await client.rows()
            about = await client.request("/api/about")
            assert about["receipts"]["held"] == about["receipts"]["held_max"] == 6
            # Each receipt covers the two events of a window at one destination.
            with_receipt = [
                it["dest"][name] for it in rows for name in ("delivered", "skipped", "failed")
            ]
            assert sum(with_receipt) == 2 * 6
            older = next(it for it in rows if not it["dest"]["delivered"])
            path = f"/api/events/0/{older['offset']}"
            for one in (await client.request(path))["destinations"]:
                # All receipts were published at about the same time here, so an event that is
                # older than the index can be pending instead of unknown.
                assert one["outcome"] in {"pending", "unknown", "skipped", "failed"}
            sent_line = await client.request(f"{path}/sent/orders")
            assert sent_line["from"] == "computed"
        async with inspecting(lab.configuration, bytes_max=10_000) as client:
            await client.request("/api/events")
            assert (await client.request("/api/about"))["receipts"]["bytes"] <= 10_000


@in_a_loop
async def test_stream_sends_matches_and_counts_further_events(inspected: Inspected) -> None:
    async with (
        inspected() as (lab, client),
        client.live() as everything,
        client.live(search="chaos-needle") as found,
        client.live(pipeline="signups") as signups,
    ):
        came, messages, began = 0, 0, time.monotonic()
        await lab.load.send(2_000, pipeline="orders")
        await lab.load.send_raw(b'{"a":"CHAOS-needle"}', pipeline="signups")
        while came < 2_001:
            _, message = await everything.next("rows")
            assert len(message["rows"]) <= 50
            came += len(message["rows"]) + message["more"]
            messages += 1
        assert came == 2_001
        assert messages <= 4 * (time.monotonic() - began) + 4
        _, message = await found.next("rows")
        while not message["rows"]:
            _, message = await found.next("rows")
        assert [it["summary"] for it in message["rows"]] == ['{"a":"CHAOS-needle"}']
        _, message = await signups.next("rows")
        while not message["rows"]:
            _, message = await signups.next("rows")
        assert [it["pipeline"] for it in message["rows"]] == ["signups"]


@in_a_loop
async def test_number_of_pages_is_bounded_and_a_slot_is_released(inspected: Inspected) -> None:
    async with inspected() as (lab, client):
        client.service.broadcaster._subscribers_max = 2
        async with client.live():
            async with client.live():
                document = await client.request("/api/live", 503)
                assert "2 pages follow the events already" in document["error"]

            async def poll() -> int:
                return client.service.broadcaster.subscriber_count

            await client.until(poll, lambda count: count == 1, "one has left")
            async with client.live() as stream:
                await lab.load.send(1)
                assert (await stream.next("rows"))[1]["rows"]


@in_a_loop
async def test_page_that_reads_nothing_is_behind() -> None:
    subscriber = Subscriber(EventFilter())
    for number in range(100):
        subscriber.put(b"%d" % number)
    messages = subscriber.messages()
    assert b'event: behind\ndata: {"missed":100}' in await anext(messages)
    subscriber.put(b"next")
    assert await anext(messages) == b"next"
    subscriber.close()
    assert [it async for it in messages] == []


@in_a_loop
async def test_every_response_has_the_security_headers(inspected: Inspected) -> None:
    async with inspected() as (lab, client):
        await lab.load.send_raw(b"<script>alert(1)</script>", pipeline="orders", timestamp_ms=1)
        row = (await client.rows())[-1]
        event = f"/events/{row['partition']}/{row['offset']}"
        pages = {
            **dict.fromkeys(("/", event, "/destinations", "/destinations/x", "/login"), 200),
            **dict.fromkeys(("/windows/x/0/0", "/static/app.js", "/health"), 200),
            **dict.fromkeys(("/static/css/app.css", "/static/css%2fapp.css"), 200),
            **dict.fromkeys(("/nothing", "/static/nothing", "/static/..%2fapi.py"), 404),
            **dict.fromkeys(("/static/", "/static/css", "/static/css/"), 404),
            **dict.fromkeys(("/api/about", f"/api{event}"), 200),
            **dict.fromkeys(("/api/nothing", "/api/events/0/x", "/api/"), 404),
            "/api/outcomes": 404,
        }
        for path, status in pages.items():
            async with client.session.get(client.address + path) as response:
                body = await response.read()
                assert response.status == status, path
                for name, value in SECURITY_HEADERS.items():
                    assert response.headers[name] == value, (path, name)
                assert "Server" not in response.headers
                if path.startswith("/api") or path == "/health":
                    assert response.content_type == "application/json"
                    assert isinstance(json.loads(body), dict)
                elif status == 200 and not path.startswith("/static"):
                    assert response.content_type == "text/html"
                    assert b"<title>page</title>" in body
        async with client.session.get(
            client.address + "/static/app.js", headers={"If-None-Match": '"2"'}
        ) as response:
            assert response.status == 304
        async with client.session.post(client.address + "/api/outcomes", data="{") as response:
            assert response.status == 400
        for wrong in (b"{", b"\xff", b"[1]", b'{"events":[{}]}'):
            async with client.session.post(
                client.address + "/api/outcomes",
                data=wrong,
                headers={"Content-Type": "application/json"},
            ) as response:
                assert response.status == 400
                assert (await response.json())["error"]


@in_a_loop
async def test_without_a_token_only_local_names_are_served(inspected: Inspected) -> None:
    async with inspected() as (_, client):
        client.headers = {"Host": "events.example.com"}
        async with client.session.get(client.address + "/", headers=client.headers) as response:
            assert response.status == 421
            assert "--token-file" in (await response.json())["error"]
        client.headers = {"Origin": "http://example.com"}
        assert (await client.request("/api/try", 403, post={"expression": "1", "event": "1"}))[
            "error"
        ]
        client.headers = {"Sec-Fetch-Site": "cross-site"}
        assert (await client.request("/api/events", 403))["error"]
        client.headers = {"Sec-Fetch-Site": "same-origin", "Host": "localhost"}
        assert "rows" in await client.request("/api/events")


@in_a_loop
async def test_with_a_token_no_request_without_it_reads_anything(inspected: Inspected) -> None:
    async with inspected(token=TOKEN) as (_, client):
        for path in ("/api/about", "/api/events", "/api/live", "/api/nothing", "/api/events/0/0"):
            assert "no token" in (await client.request(path, 401))["error"]
        assert (await client.request("/api/try", 401, post={}))["error"]
        for path in ("/", "/login", "/static/app.js", "/health"):
            async with client.session.get(client.address + path) as response:
                assert response.status == 200
        client.headers = {"Authorization": f"Bearer {TOKEN}", "Host": "events.example.com"}
        assert "rows" in await client.request("/api/events")
        client.headers = {"Authorization": f"Bearer {TOKEN}x"}
        await client.request("/api/events", 401)
        client.headers = {}
        for wrong in ({"token": "wrong"}, {"token": 7}, [], {}):
            assert (await client.request("/api/login", 401, post=wrong))["error"]
        assert (await client.request("/api/login", 413, post={"token": "x" * 20_000}))["error"]
        async with client.session.post(
            client.address + "/api/login", json={"token": f"{TOKEN}\n"}
        ) as response:
            assert response.status == 204
            cookie = response.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        value = cookie.partition(";")[0]
        client.headers = {"Cookie": value}
        assert "rows" in await client.request("/api/events")
        client.headers = {"Cookie": value[:-1]}
        await client.request("/api/events", 401)
        async with client.session.post(
            client.address + "/api/logout", headers={"Cookie": value}
        ) as response:
            assert response.status == 204
            assert "Max-Age=0" in response.headers["Set-Cookie"]


@in_a_loop
async def test_only_a_valid_change_of_the_configuration_applies(inspected: Inspected) -> None:
    async with inspected() as (lab, client):
        await lab.load.send(1, pipeline="orders")
        (row,) = await client.rows()
        assert row["dest"]["matched"] == 2
        text = lab.configuration.read_text("utf-8")
        lab.configuration.write_text(f"{text}\n[[destinations]]\nid = 'third'", "utf-8")
        await asyncio.sleep(3)
        assert (await client.request("/api/about"))["destinations"] == 2
        lab.configuration.write_text(
            f"{text}\n[[destinations]]\nid = 'third'\nbucket = 'a-bucket'", "utf-8"
        )
        await delivered(client, row, matched=3)


@in_a_loop
async def test_absence_of_kafka_is_reported_and_survived(s3: S3Server, tmp_path: Path) -> None:
    with KafkaServer(tmp_path / "kafka") as kafka:
        async with (
            lab_of(kafka, s3, tmp_path) as lab,
            inspecting(lab.configuration) as client,
            client.live() as stream,
        ):
            await lab.load.send(3)
            await client.rows()
            await asyncio.to_thread(kafka.kill)
            _, message = await stream.next("kafka")
            assert "does not respond" in message["error"]
            assert "does not respond" in (await client.request("/api/events", 503))["error"]
            assert "does not respond" in (await client.request("/api/about"))["kafka"]
            await asyncio.to_thread(kafka.start)
            _, message = await stream.next("kafka")
            while message["error"] is not None:
                _, message = await stream.next("kafka")

            async def poll() -> int:
                return len(await client.rows())

            assert await client.until(poll, lambda count: count == 3, "all are read") == 3


@in_a_loop
async def test_nothing_is_committed_and_no_group_is_joined(new_lab: NewLab) -> None:
    async with new_lab() as lab:
        assert lab._admin is not None
        before = {name for name, _ in await lab._admin.list_consumer_groups()}
        async with inspecting(lab.configuration) as client, client.live():
            await lab.load.send(3)
            await client.rows()
        after = {name for name, _ in await lab._admin.list_consumer_groups()}
        assert lab.name not in after
        assert not {it for it in after - before if it.startswith(lab.name)}
        consumer = AIOKafkaConsumer(bootstrap_servers=lab.broker, group_id=None)
        await consumer.start()
        try:
            ends = await consumer.end_offsets([TopicPartition(lab.receipts_topic, 0)])
        finally:
            await consumer.stop()
        assert set(ends.values()) == {0}
