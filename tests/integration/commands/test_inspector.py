"""The Inspector on real Kafka, a real S3 server and real workers."""

import asyncio
import contextlib
import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from stream_app.embedded import KafkaServer, S3Server
from stream_app.inspector.guard import HEADERS
from stream_app.inspector.hub import Client as Follower
from stream_app.inspector.hub import Filter
from tests.chaos.harness import Lab, in_a_loop
from tests.chaos.oracle import Target
from tests.chaos.s3_proxy import Fault
from tests.inspecting import Client, inspecting
from tests.integration.test_redeliver import delete_events, shop

ORDERS = Target("orders", "orders/", pipeline="orders", payload="$event.body")
PICKY = Target(
    "picky",
    "picky/",
    payload="$event.n % 3 === 0 ? undefined : $event.n % 3 === 1 ? $event.no.such : $event",
)
TOKEN = "a-token-of-twenty-characters"  # noqa: S105 - of these tests


@pytest.fixture(autouse=True)
def _keys(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


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
        return gzip.decompress(body.read()).splitlines()


async def delivered(client: Client, row: dict[str, Any], **counts: int) -> dict[str, int]:
    async def look() -> dict[str, int]:
        return await client.dest(row)

    found: dict[str, int] = await client.until(
        look, lambda dest: all(dest[it] == counts[it] for it in counts), f"{row} has {counts}"
    )
    return found


@in_a_loop
async def test_event_turns_from_pending_to_delivered_while_a_page_looks(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        lab_of(kafka, s3, tmp_path) as lab,
        inspecting(lab.configuration) as client,
        client.live() as stream,
    ):
        sent = await lab.load.send(6, pipeline="orders")
        _, told = await stream.next("rows")
        rows = told["rows"]
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
        _, told = await stream.next("receipts")
        assert set(told["destinations"]) <= {"orders", "picky"}
        (run, *_) = told["runs"]
        assert run["partition"] == sent[0].partition
        wanted = {0: (1, 1, 0), 1: (1, 0, 1), 2: (2, 0, 0)}
        for number, it in enumerate(sent):
            (row,) = [row for row in rows if row["offset"] == it.offset]
            done, skipped, failed = wanted[number % 3]
            dest = await delivered(client, row, delivered=done, skipped=skipped, failed=failed)
            assert dest["matched"] == 2


@in_a_loop
async def test_what_was_sent_is_the_line_of_the_object_byte_for_byte(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_of(kafka, s3, tmp_path) as lab, inspecting(lab.configuration) as client:
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
            event = await client.ask(f"/api/events/{it.partition}/{it.offset}")
            assert event["row"]["dest"]["matched"] == len(event["destinations"])
            assert json.loads(event["text"])["id"] == it.event.id
            for destination in event["destinations"]:
                path = f"/api/events/{it.partition}/{it.offset}/sent/{destination['id']}"
                told = await client.ask(path)
                receipt = (destination["receipt"] or {}).get("receipt")
                if destination["outcome"] != "delivered":
                    assert told["line"] is None
                    assert destination["outcome"] in told["why"]
                    continue
                lines = await asyncio.to_thread(lines_of, lab, receipt["object"]["key"])
                assert told["from"] == "object", told
                assert told["line"].encode() == lines[told["number"] - 1]
                assert destination["line"] == told["number"]
                assert it.event.id in told["line"] or destination["id"] == "orders"
                seen += 1
        assert seen > 20
        assert client.inspection.sent.can_read


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
        place = f"{row['partition']}/{row['offset']}"
        await delivered(client, row, failed=1)
        (one,) = (await client.ask(f"/api/events/{place}"))["destinations"]
        assert one["outcome"] == "failed"
        assert "NoSuchBucket" in one["error"]
        assert "stream-app redeliver" in one["reason"]
        assert one["receipts"][0]["receipt"]["status"] == "failed"
        told = await client.ask(f"/api/events/{place}/sent/orders")
        assert told["from"] == "computed"
        assert "given up" in told["why"]
        destination = await client.ask("/api/destinations/orders")
        assert destination["state"] == "failed"
        assert destination["failed_windows"] == len(destination["failed"]) > 0
        assert "--destination orders" in destination["redeliver"]
        assert destination["failed"][0]["error"].startswith("NoSuchBucket")
        await lab.settled()
        await worker.terminate()
        await lab.create_late_bucket()
        (await lab.redeliver()).done(f"{destination['failed_windows']} redelivered")
        await delivered(client, row, failed=0, delivered=1)
        (one,) = (await client.ask(f"/api/events/{place}"))["destinations"]
        assert one["receipt"]["receipt"]["status"] == "redelivered"
        assert {it["receipt"]["status"] for it in one["receipts"]} >= {"failed", "redelivered"}
        told = await client.ask(f"/api/events/{place}/sent/orders")
        assert told["from"] == "object"
        assert json.loads(told["line"]) == json.loads(
            (await client.ask(f"/api/events/{place}"))["text"]
        )
        assert (await client.ask("/api/destinations/orders"))["state"] == "delivering"


@in_a_loop
async def test_line_is_computed_and_said_so_where_the_object_cannot_be_read(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab_of(kafka, s3, tmp_path, targets=(ORDERS,)) as lab:
        (sent,) = await lab.load.send(1, pipeline="orders")
        await lab.start_worker()
        await lab.settled()
        (key,) = await asyncio.to_thread(lab.keys)
        (line,) = await asyncio.to_thread(lines_of, lab, key)
        path = f"/api/events/{sent.partition}/{sent.offset}/sent/orders"

        async def told(**keys: str) -> dict[str, Any]:
            for name, value in keys.items():
                monkeypatch.setenv(name, value)
            async with inspecting(lab.configuration) as client:
                answer = await client.ask(path)
                about = await client.ask("/api/about")
                assert about["can_read_objects"] is ("may not read" not in (answer["why"] or ""))
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
            return answer

        answer = await told()
        assert (answer["from"], answer["number"], answer["why"]) == ("object", 1, None)
        assert answer["line"].encode() == line
        lab.proxy.rule = lambda _: Fault.DENY
        answer = await told()
        assert (answer["from"], answer["line"].encode()) == ("computed", line)
        assert answer["why"] == "the reader may not read the object: AccessDenied"
        lab.proxy.heal()
        answer = await told(AWS_SECRET_ACCESS_KEY="wrong")  # noqa: S106 - not a key
        assert (answer["from"], answer["line"].encode()) == ("computed", line)
        assert "SignatureDoesNotMatch" in answer["why"]
        lab._client.put_object(Bucket=lab.bucket, Key=key, Body=gzip.compress(b'"forged"\n'))
        answer = await told()
        assert answer["line"].encode() == line
        assert answer["why"] == "another object stands in its place now"
        lab._client.delete_object(Bucket=lab.bucket, Key=key)
        answer = await told()
        assert answer["line"].encode() == line
        assert "the object is not there any more" in answer["why"]
        text = lab.configuration.read_text("utf-8")
        lab.configuration.write_text(text.replace(lab.bucket, f"{lab.bucket}-other"), "utf-8")
        # The topics have the lab's name too.
        lab.configuration.write_text(
            lab.configuration.read_text("utf-8")
            .replace(f"{lab.name}-other-", f"{lab.name}-")
            .replace(f'group = "{lab.name}-other"', f'group = "{lab.name}"'),
            "utf-8",
        )
        answer = await told()
        assert answer["line"].encode() == line
        assert f"no destination of {lab.configuration} has the bucket {lab.bucket}" in answer["why"]


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
async def test_hostile_events_are_shown_and_break_no_list(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        lab_of(kafka, s3, tmp_path, partitions=1) as lab,
        inspecting(lab.configuration) as client,
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
            event = await client.ask(f"/api/events/0/{number}")
            assert len(event["row"]["summary"]) <= 200
            assert event["row"]["summary"].isprintable()
        for number, (key, value) in enumerate(HOSTILE):
            event = await client.ask(f"/api/events/0/{number}")
            assert event["is_json"] or event["why"]
            assert (event["text"] is None) == (value is None)
            assert event["row"]["size"] == len(value or b"")
            assert event["row"]["pipeline"] == (
                None if key is None else key.decode(errors="replace")
            )
            assert event["headers"] == [["na\u0000me", "\ufffd"], ["", ""]]
            for destination in event["destinations"]:
                await client.ask(f"/api/events/0/{number}/sent/{destination['id']}")
        assert (await client.rows(search="alert(1)"))[0]["summary"] == HOSTILE[3][1].decode()
        assert [it["offset"] for it in await client.rows(search="\x01")] == [8]
        assert await client.rows(search="no such thing \ufffd\u0130") == []
        assert (await client.rows(pipeline="\ufffd\x00key")) == []
        await lab.start_worker()
        await lab.settled()
        await delivered(client, rows[-1], pending=0)
        for number in range(len(rows)):
            for destination in (await client.ask(f"/api/events/0/{number}"))["destinations"]:
                assert destination["outcome"] in {"delivered", "skipped", "failed"}
                told = await client.ask(f"/api/events/0/{number}/sent/{destination['id']}")
                assert (told["line"] is None) == (destination["outcome"] != "delivered")
        # Nothing that it searches for has come, and it was told so in no message.
        assert not searching.response.content._buffer or b"event: rows" not in b"".join(
            searching.response.content._buffer
        )


@in_a_loop
async def test_hostile_receipts_are_counted_and_change_no_outcome(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        lab_of(kafka, s3, tmp_path, partitions=1) as lab,
        inspecting(lab.configuration) as client,
    ):
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

        async def look() -> int:
            about = await client.ask("/api/about")
            return int(about["receipts"]["not_receipts"])

        count = len(values) + 1
        assert await client.until(look, lambda seen: seen == count, f"{count} are counted")
        await client.ask("/api/destinations")
        event = await client.ask(f"/api/events/0/{row['offset']}")
        assert [it["outcome"] for it in event["destinations"]] != []
        assert (await client.rows())[0]["dest"]["pending"] == 0


@in_a_loop
async def test_hostile_requests_are_answered(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_of(kafka, s3, tmp_path) as lab, inspecting(lab.configuration) as client:
        host, port = client.address.removeprefix("http://").split(":")
        wanted = {
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
        }
        for path, status in wanted.items():
            reader, writer = await asyncio.open_connection(host, int(port), limit=2**20)
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            answer = (await asyncio.wait_for(reader.read(), 30)).decode()
            writer.close()
            head, _, body = answer.partition("\r\n\r\n")
            assert head.startswith(f"HTTP/1.1 {status} "), (path, head)
            assert "Content-Security-Policy" in head
            if "application/json" in head:
                assert isinstance(json.loads(body), dict)


@in_a_loop
async def test_older_events_come_page_by_page_each_of_them_once(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        lab_of(kafka, s3, tmp_path, partitions=3) as lab,
        inspecting(lab.configuration) as client,
    ):
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
        wanted = lab.load.sent[77].event
        (one,) = await client.rows(search=wanted.id.upper())
        assert wanted.id in one["summary"]
        answer = await client.ask("/api/events", search="nothing has this")
        assert (answer["rows"], answer["cursor"], answer["complete"]) == ([], None, True)
        assert answer["searched"] == 250
        assert answer["searched_to"] == times[-1]

        for at in ("9@1", "0@999999", "no time", "0@x"):
            assert (await client.ask("/api/events", 400, at=at))["error"]
        for cursor in ("?", "1.2.3.4", ""):
            assert (await client.ask("/api/events", 400, cursor=cursor))["error"]
        for limit in ("0", "501", "x"):
            assert (await client.ask("/api/events", 400, limit=limit))["error"]
        assert (await client.ask("/api/events", 400, search="x" * 501))["error"]


@in_a_loop
async def test_event_knows_its_neighbours_and_why_it_is_not_there(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        lab_of(kafka, s3, tmp_path, partitions=1) as lab,
        inspecting(lab.configuration) as client,
    ):
        await lab.load.send(5)
        event = await client.ask("/api/events/0/2")
        assert (event["older"], event["newer"]) == ("0@1", "0@3")
        assert (await client.ask("/api/events/0/0"))["older"] is None
        assert (await client.ask("/api/events/0/4"))["newer"] is None
        assert (
            "is not there yet; the next is 0@5"
            in (await client.ask("/api/events/0/5", 404))["error"]
        )
        assert "the topic has 1 partitions" in (await client.ask("/api/events/1/0", 404))["error"]
        await delete_events(lab, 3)
        answer = await client.ask("/api/events/0/2", 404)
        assert "was deleted by the topic's retention; the oldest is 0@3" in answer["error"]
        assert [it["offset"] for it in await client.rows()] == [4, 3]
        assert (await client.ask("/api/events/0/3"))["older"] is None
        answer = await client.ask("/api/events/0/4/sent/nobody", 404)
        assert "is no event of destination 'nobody'" in answer["error"]


@in_a_loop
async def test_window_shows_its_object_and_its_events_with_their_lines(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        lab_of(kafka, s3, tmp_path, partitions=1) as lab,
        inspecting(lab.configuration) as client,
    ):
        lab.load.at_ms = int(time.time()) * 1000
        await lab.load.send(300)
        await lab.start_worker()
        await lab.settled()
        row = (await client.rows(limit="500"))[-1]
        await delivered(client, row, pending=0)
        for id_ in ("orders", "picky"):
            (window,) = (await client.ask(f"/api/destinations/{id_}"))["windows"]
            path = f"/api/windows/{id_}/0/{window['first_offset']}"
            answer = await client.ask(path)
            receipt = answer["receipt"]["receipt"]
            lines = await asyncio.to_thread(lines_of, lab, receipt["object"]["key"])
            rows = answer["rows"]
            while answer["cursor"] is not None:
                assert len(answer["rows"]) == 100
                answer = await client.ask(path, cursor=answer["cursor"])
                rows += answer["rows"]
            assert len(rows) == receipt["counts"]["matched"] == window["counts"]["matched"]
            assert [it["offset"] for it in rows] == sorted(it["offset"] for it in rows)
            numbered = [it["line"] for it in rows if it["outcome"] == "delivered"]
            assert numbered == list(range(1, len(lines) + 1))
            assert all(it["line"] is None for it in rows if it["outcome"] != "delivered")
        assert (await client.ask("/api/windows/orders/0/99999", 404))["error"]
        assert (await client.ask("/api/windows/orders/0/0", 400, cursor="x"))["error"]


@in_a_loop
async def test_destinations_are_summed_up(kafka: KafkaServer, s3: S3Server, tmp_path: Path) -> None:
    async with lab_of(kafka, s3, tmp_path) as lab, inspecting(lab.configuration) as client:
        about = await client.ask("/api/about")
        assert about["receipts"]["held"] == 0
        assert about["receipts"]["oldest"] is None
        assert (about["events_partitions"], about["destinations"]) == (2, 2)
        assert about["kafka"] is None
        quiet = await client.ask("/api/destinations")
        assert [it["state"] for it in quiet["destinations"]] == ["quiet", "quiet"]
        lab.load.at_ms = int(time.time()) * 1000
        await lab.load.send(30, pipeline="orders")
        await lab.start_worker()
        await lab.settled()
        rows = await client.rows()
        await delivered(client, rows[-1], pending=0)

        async def look() -> dict[str, Any]:
            return await client.ask("/api/destinations")

        told = await client.until(
            look,
            lambda it: [one["state"] for one in it["destinations"]] == ["delivering"] * 2,
            "both deliver",
        )
        orders, picky = told["destinations"]
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
        assert told["since"] is not None
        one = await client.ask("/api/destinations/picky")
        assert one["payload"] == PICKY.payload
        assert json.loads(one["policy"])["Statement"][0]["Effect"] == "Allow"
        assert not one["policy_principal_known"]
        assert (await client.ask("/api/destinations/nobody", 404))["error"]
        assert (await client.ask("/api/about"))["receipts"]["held"] >= 2


@in_a_loop
async def test_expression_is_tried_on_an_event(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        lab_of(kafka, s3, tmp_path, partitions=1) as lab,
        inspecting(lab.configuration) as client,
    ):
        await lab.load.send_raw(b'{"a":{"b":"c"}}', pipeline="orders")
        await lab.load.send_raw(None, pipeline="orders")

        async def tried(expression: str, **event: Any) -> dict[str, Any]:
            return await client.ask("/api/try", post={"expression": expression, **event})

        told = await tried("$event.a", partition=0, offset=0)
        assert (told["outcome"], told["line"], told["path"]) == ("delivered", '{"b":"c"}', "fast")
        assert told["microseconds"] > 0
        told = await tried("$event.a.b.length + 1", event='{"a": {"b": "cd"}}')
        assert (told["outcome"], told["line"], told["path"]) == ("delivered", "3", "engine")
        assert (await tried("undefined", partition=0, offset=0))["outcome"] == "skipped"
        assert (await tried("$event", partition=0, offset=1))["outcome"] == "skipped"
        told = await tried("$event.no.such", partition=0, offset=0)
        assert told["outcome"] == "failed"
        assert told["error"].startswith("TypeError")
        assert "^" in told["place"]
        told = await tried("return 1", event="1")
        assert told["outcome"] == "failed"
        assert "does not compile" in told["error"]
        assert "^" in told["place"]
        told = await tried("$event", event="{")
        assert (told["outcome"], told["line"]) == ("failed", None)
        looping = "(() => { for (;;) {} })()"
        began = time.monotonic()
        post = {"expression": looping, "event": "1"}
        answers = await asyncio.gather(
            *[client.session.post(f"{client.address}/api/try", json=post) for _ in range(6)]
        )
        # Two at a time are evaluated; who waits for too long is told so.
        assert {it.status for it in answers} <= {200, 503}
        assert len([it for it in answers if it.status == 200]) >= 2
        for it in answers:
            told = await it.json()
            assert told.get("outcome") == "failed" or "try again" in told["error"]
        assert time.monotonic() - began < 60
        for wrong in (
            [],
            {},
            {"expression": 1},
            {"expression": "1"},
            {"expression": "1", "partition": -1, "offset": 0},
            {"expression": "1", "event": 7},
            {"expression": "1", "event": "x" * 1_100_000},
        ):
            assert (await client.ask("/api/try", 400, post=wrong))["error"]
        assert (
            await client.ask("/api/try", 404, post={"expression": "1", "partition": 0, "offset": 9})
        )["error"]


@in_a_loop
async def test_receipts_that_are_held_have_a_bound_and_what_is_older_is_unknown(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_of(kafka, s3, tmp_path, partitions=1) as lab:
        start = int(time.time()) // 60 * 60 - 3600
        for number in range(30):
            lab.load.at_ms = (start + 100 * number) * 1000
            await lab.load.send(2, pipeline="orders")
        await lab.start_worker()
        await lab.settled()
        receipts = len(await lab.told(60))
        async with inspecting(lab.configuration) as client:
            await client.ask("/api/events")
            assert (await client.ask("/api/about"))["receipts"]["held"] == receipts
        async with inspecting(lab.configuration, receipts_max=6) as client:
            rows = await client.rows()
            about = await client.ask("/api/about")
            assert about["receipts"]["held"] == about["receipts"]["held_max"] == 6
            # Each receipt speaks of a window's two events at one destination.
            told_of = [
                it["dest"][name] for it in rows for name in ("delivered", "skipped", "failed")
            ]
            assert sum(told_of) == 2 * 6
            older = next(it for it in rows if not it["dest"]["delivered"])
            path = f"/api/events/0/{older['offset']}"
            for one in (await client.ask(path))["destinations"]:
                # All receipts came at about the same time here, so what is older cannot be told
                # from what is to come.
                assert one["outcome"] in {"pending", "unknown", "skipped", "failed"}
            told = await client.ask(f"{path}/sent/orders")
            assert told["from"] == "computed"
        async with inspecting(lab.configuration, bytes_max=10_000) as client:
            await client.ask("/api/events")
            assert (await client.ask("/api/about"))["receipts"]["bytes"] <= 10_000


@in_a_loop
async def test_stream_tells_what_is_searched_for_and_counts_what_is_more(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        lab_of(kafka, s3, tmp_path) as lab,
        inspecting(lab.configuration) as client,
        client.live() as everything,
        client.live(search="chaos-needle") as found,
        client.live(pipeline="signups") as signups,
    ):
        await lab.load.send(2_000, pipeline="orders")
        await lab.load.send_raw(b'{"a":"CHAOS-needle"}', pipeline="signups")
        came, began = 0, time.monotonic()
        messages = 0
        while came < 2_001:
            _, told = await everything.next("rows")
            assert len(told["rows"]) <= 50
            came += len(told["rows"]) + told["more"]
            messages += 1
        assert came == 2_001
        assert messages <= 4 * (time.monotonic() - began) + 4
        _, told = await found.next("rows")
        while not told["rows"]:
            _, told = await found.next("rows")
        assert [it["summary"] for it in told["rows"]] == ['{"a":"CHAOS-needle"}']
        _, told = await signups.next("rows")
        while not told["rows"]:
            _, told = await signups.next("rows")
        assert [it["pipeline"] for it in told["rows"]] == ["signups"]


@in_a_loop
async def test_no_more_pages_follow_than_the_bound_and_a_place_is_given_back(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_of(kafka, s3, tmp_path) as lab, inspecting(lab.configuration) as client:
        client.inspection.hub._clients_max = 2
        async with client.live():
            async with client.live():
                answer = await client.ask("/api/live", 503)
                assert "2 pages follow the events already" in answer["error"]

            async def look() -> int:
                return client.inspection.hub.clients

            await client.until(look, lambda count: count == 1, "one has left")
            async with client.live() as stream:
                await lab.load.send(1)
                assert (await stream.next("rows"))[1]["rows"]


@in_a_loop
async def test_page_that_reads_nothing_is_told_that_it_is_behind() -> None:
    follower = Follower(Filter())
    for number in range(100):
        follower.put(b"%d" % number)
    messages = follower.messages()
    assert b'event: behind\ndata: {"missed":100}' in await anext(messages)
    follower.put(b"next")
    assert await anext(messages) == b"next"
    follower.end()
    assert [it async for it in messages] == []


@in_a_loop
async def test_every_answer_has_the_headers_that_keep_content_from_running(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_of(kafka, s3, tmp_path) as lab, inspecting(lab.configuration) as client:
        await lab.load.send_raw(b"<script>alert(1)</script>", pipeline="orders", timestamp_ms=1)
        row = (await client.rows())[-1]
        event = f"/events/{row['partition']}/{row['offset']}"
        pages = {
            **dict.fromkeys(("/", event, "/destinations", "/destinations/x", "/login"), 200),
            **dict.fromkeys(("/windows/x/0/0", "/static/app.js", "/health"), 200),
            **dict.fromkeys(("/nothing", "/static/nothing", "/static/..%2fapi.py"), 404),
            **dict.fromkeys(("/api/about", f"/api{event}"), 200),
            **dict.fromkeys(("/api/nothing", "/api/events/0/x", "/api/"), 404),
            "/api/outcomes": 404,
        }
        for path, status in pages.items():
            async with client.session.get(client.address + path) as response:
                body = await response.read()
                assert response.status == status, path
                for name, value in HEADERS.items():
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
async def test_without_a_token_only_this_machine_is_answered_under_its_own_name(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_of(kafka, s3, tmp_path) as lab, inspecting(lab.configuration) as client:
        client.headers = {"Host": "events.example.com"}
        async with client.session.get(client.address + "/", headers=client.headers) as response:
            assert response.status == 421
            assert "--token-file" in (await response.json())["error"]
        client.headers = {"Origin": "http://example.com"}
        assert (await client.ask("/api/try", 403, post={"expression": "1", "event": "1"}))["error"]
        client.headers = {"Sec-Fetch-Site": "cross-site"}
        assert (await client.ask("/api/events", 403))["error"]
        client.headers = {"Sec-Fetch-Site": "same-origin", "Host": "localhost"}
        assert "rows" in await client.ask("/api/events")


@in_a_loop
async def test_with_a_token_nobody_without_it_reads_anything(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with (
        lab_of(kafka, s3, tmp_path) as lab,
        inspecting(lab.configuration, token=TOKEN) as client,
    ):
        for path in ("/api/about", "/api/events", "/api/live", "/api/nothing", "/api/events/0/0"):
            assert "no token" in (await client.ask(path, 401))["error"]
        assert (await client.ask("/api/try", 401, post={}))["error"]
        for path in ("/", "/login", "/static/app.js", "/health"):
            async with client.session.get(client.address + path) as response:
                assert response.status == 200
        client.headers = {"Authorization": f"Bearer {TOKEN}", "Host": "events.example.com"}
        assert "rows" in await client.ask("/api/events")
        client.headers = {"Authorization": f"Bearer {TOKEN}x"}
        await client.ask("/api/events", 401)
        client.headers = {}
        for wrong in ({"token": "wrong"}, {"token": 7}, [], {}):
            assert (await client.ask("/api/login", 401, post=wrong))["error"]
        assert (await client.ask("/api/login", 413, post={"token": "x" * 20_000}))["error"]
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
        assert "rows" in await client.ask("/api/events")
        client.headers = {"Cookie": value[:-1]}
        await client.ask("/api/events", 401)
        async with client.session.post(
            client.address + "/api/logout", headers={"Cookie": value}
        ) as response:
            assert response.status == 204
            assert "Max-Age=0" in response.headers["Set-Cookie"]


@in_a_loop
async def test_destinations_change_with_the_configuration_and_a_broken_one_is_not_taken(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_of(kafka, s3, tmp_path) as lab, inspecting(lab.configuration) as client:
        await lab.load.send(1, pipeline="orders")
        (row,) = await client.rows()
        assert row["dest"]["matched"] == 2
        text = lab.configuration.read_text("utf-8")
        lab.configuration.write_text(f"{text}\n[[destinations]]\nid = 'third'", "utf-8")
        await asyncio.sleep(3)
        assert (await client.ask("/api/about"))["destinations"] == 2
        lab.configuration.write_text(
            f"{text}\n[[destinations]]\nid = 'third'\nbucket = 'a-bucket'", "utf-8"
        )
        await delivered(client, row, matched=3)


@in_a_loop
async def test_absence_of_kafka_is_said_and_survived(s3: S3Server, tmp_path: Path) -> None:
    with KafkaServer(tmp_path / "kafka") as kafka:
        async with (
            lab_of(kafka, s3, tmp_path) as lab,
            inspecting(lab.configuration) as client,
            client.live() as stream,
        ):
            await lab.load.send(3)
            await client.rows()
            await asyncio.to_thread(kafka.kill)
            _, told = await stream.next("kafka")
            assert "does not answer" in told["error"]
            assert "does not answer" in (await client.ask("/api/events", 503))["error"]
            assert "does not answer" in (await client.ask("/api/about"))["kafka"]
            await asyncio.to_thread(kafka.start)
            _, told = await stream.next("kafka")
            while told["error"] is not None:
                _, told = await stream.next("kafka")

            async def look() -> int:
                return len(await client.rows())

            assert await client.until(look, lambda count: count == 3, "all are read") == 3


@in_a_loop
async def test_nothing_is_committed_and_no_group_is_joined(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with lab_of(kafka, s3, tmp_path) as lab:
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
