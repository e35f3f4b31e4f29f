"""Effects of hostile records, servers and neighbours on a real worker, and secrets it could reveal.

`docs/security.md` names these tests: for each actor what it can and cannot do, and which test holds
that.
"""

import asyncio
import base64
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from stream_app.config.parser import parse
from stream_app.config.settings import S3, TABLES, Destination
from stream_app.embedded.servers import KafkaServer, S3Server, free_ports
from stream_app.errors import ConfigurationError, DeliveryError
from stream_app.s3.storage import Storage
from tests.chaos.harness import ROOT, Lab, in_a_loop, wait_until
from tests.chaos.oracle import KEY, Published, Target
from tests.contract.recorder import Recorder, Request, answer, recorder
from tests.secrets import given_away, spellings

MIB: Final = 1024 * 1024
LARGE_BYTES: Final = 5 * MIB
TIME_MAX_MS: Final = 2**63 - 1
SECONDS_MAX: Final = 300
EVERYTHING: Final = Target("everything", "everything/")
CONTEXT: Final = Target(
    "context", "context/", payload="[$event, typeof $context.pipeline, $context.headers]"
)
ORDERS: Final = Target("orders", "orders/", pipeline="orders")
SECRET: Final = "pl/ant+ed s:cret=%7E~@1"  # noqa: S105 - made up; hard to spell in every code


# --- Records of any bytes ----------------------------------------------------------------------


@dataclass(frozen=True)
class Hostile:
    """A record, and what becomes of it at a destination that takes everything."""

    name: str
    value: bytes | None
    outcome: str = "delivered"
    key: bytes | None = b"orders"
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: int | None = None


class Bytes(str):
    """A header's name of bytes that are no UTF-8, which only another producer could send."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return str.encode(self, "latin-1")


def json_of(length: int) -> bytes:
    return b'{"n":"' + b"x" * (length - 8) + b'"}'


def with_key(name: str, key: bytes | None) -> Hostile:
    return Hostile(f"key: {name}", b'{"n":1}', key=key)


def with_header(name: str, *headers: tuple[str, bytes | None]) -> Hostile:
    return Hostile(f"header: {name}", b'{"n":2}', headers=headers)


def at(name: str, timestamp: int) -> Hostile:
    return Hostile(f"time: {name}", b'{"n":3}', timestamp=timestamp)


CHANCE: Final = random.Random(0)
HOSTILES: Final = [
    Hostile("no value", None, "skipped"),
    Hostile("no value and no key", None, "skipped", key=None),
    Hostile("0 bytes", b"", "failed"),
    Hostile("one NUL", b"\0", "failed"),
    Hostile("1 MB of random bytes", b"\xff" + CHANCE.randbytes(1_000_000), "failed"),
    Hostile("just what one line may have", json_of(MIB)),
    Hostile("one byte more", json_of(MIB + 1), "failed"),
    Hostile("5 MiB of JSON", json_of(LARGE_BYTES), "failed"),
    Hostile("control characters in JSON", b'{"n":"\\u001b[2J\\n\\u009b\\u202e"}'),
    with_key("none", None),
    with_key("empty", b""),
    with_key("NUL", b"orders\0"),
    with_key("line ends", b"orders\r\nX-Amz-Acl: public-read\r\n"),
    with_key("ANSI", b"\x1b]0;owned\x07\x1b[2Jorders"),
    with_key("C1 and bidi", "\x9b2J\u202eorders".encode()),
    with_key("no UTF-8", b"\xff\xfe\xed\xa0\x80"),
    with_key("a way up", b"../../../up"),
    with_key("very long", b"k" * 900_000),
    with_header("any bytes", ("a", bytes(range(256)))),
    with_header("equal names", ("a", b"1"), ("a", b"2"), ("", b"3"), ("", None)),
    with_header("names of prototypes", ("__proto__", b"1"), ("constructor", b"2")),
    with_header("line ends", ("a\r\nX-Amz-Acl", b"public-read\r\n\r\n")),
    with_header("a thousand", *((f"h{number}", b"v" * 100) for number in range(1_000))),
    with_header("name that is no UTF-8", (Bytes("\xff\xfe\xed\xa0\x80"), b"1")),
    at("1970", 0),
    at("none", -1),
    at("before 1970", -5_000),
    at("the least", -(2**63) + 1),
    at("in 200,000 years", 2**53),
    at("the last", TIME_MAX_MS),
]
INNOCENT: Final = Hostile("innocent", b'{"innocent":1}')


async def send(broker: str, topic: str, records: Sequence[Hostile], *, codec: int = 0) -> None:
    """Send each record as a batch of its own, built by hand: clients refuse most of these."""
    producer = AIOKafkaProducer(bootstrap_servers=broker, max_request_size=4 * LARGE_BYTES)
    await producer.start()
    try:
        for record in records:
            batch = producer.create_batch()
            batch._builder = _DefaultRecordBatchBuilderPy(
                magic=2,
                compression_type=codec,
                is_transactional=0,
                producer_id=-1,
                producer_epoch=-1,
                base_sequence=-1,
                batch_size=4 * LARGE_BYTES,
            )
            now = int(time.time() * 1000)
            batch.append(
                timestamp=now if record.timestamp is None else record.timestamp,
                key=record.key,
                value=record.value,
                headers=record.headers,
            )
            await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()


def outcomes_of(
    receipts: Sequence[Published], objects: Mapping[str, bytes]
) -> dict[str, dict[int, str | bytes]]:
    """Outcome of each offset, by destination: the delivered line, or the outcome's name."""
    found: dict[str, dict[int, str | bytes]] = {}
    for receipt in receipts:
        value, source = receipt.value, receipt.value["source"]
        offsets = found.setdefault(value["destination"], {})
        outcomes: dict[int, str | bytes] = {entry["offset"]: "failed" for entry in value["failed"]}
        for first, last in value["skipped"]:
            outcomes |= dict.fromkeys(range(first, last + 1), "skipped")
        lines = []
        if value["object"] is not None:
            *lines, rest = gzip.decompress(objects[value["object"]["key"]]).split(b"\n")
            assert rest == b""
        if value["pipeline"] is None:
            for offset in range(source["first_offset"], source["end_offset"]):
                assert offset not in offsets, f"recorded twice: {offset}"
                offsets[offset] = outcomes[offset] if offset in outcomes else lines.pop(0)
        else:
            offsets[source["first_offset"]] = b"\n".join(lines)
    return found


@in_a_loop
async def test_records_of_any_bytes_and_size_have_receipts_and_cost_no_neighbour(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    targets = (EVERYTHING, CONTEXT, ORDERS)
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=targets) as lab:
        assert lab._admin is not None
        await lab._admin.alter_configs(
            [
                ConfigResource(
                    ConfigResourceType.TOPIC,
                    lab.events_topic,
                    {
                        "retention.ms": "-1",
                        "max.message.bytes": str(2 * LARGE_BYTES),
                        "message.timestamp.before.max.ms": str(TIME_MAX_MS),
                        "message.timestamp.after.max.ms": str(TIME_MAX_MS),
                    },
                )
            ]
        )
        sent = [it for hostile in HOSTILES for it in (INNOCENT, hostile)] + [INNOCENT]
        await send(lab.broker, lab.events_topic, sent)
        worker = lab.launch_worker(*worker_command(lab))
        await lab.settled()
        assert worker.running
        assert "Traceback" not in worker.log
        assert not re.search("innocent|owned|X-Amz-Acl", worker.log), "it quotes no event"
        stored = {it.key: it.body for it in await asyncio.to_thread(lab.objects)}
        found = outcomes_of(await lab.read_receipts(), stored)
        expected = {
            offset: it.value if it.outcome == "delivered" else it.outcome
            for offset, it in enumerate(sent)
        }
        assert found["everything"] == expected
        # Of the others, too, nothing is lost: the engine looked at every key and header.
        assert found["context"].keys() == expected.keys()
        orders = [
            line for _, lines in sorted(found["orders"].items()) for line in lines.split(b"\n")
        ]
        assert orders == [
            it.value for it in sent if it.key == b"orders" and it.outcome == "delivered"
        ]
        # And none of them had a part in where it went.
        folder = rf"(?:{'|'.join(it.prefix for it in targets)})"
        assert [key for key in stored if not re.fullmatch(folder + KEY.pattern, key)] == []


CODECS: Final = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
"""As Kafka numbers them."""


@in_a_loop
async def test_records_in_every_compression_of_kafka_are_read(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=(EVERYTHING,)) as lab:
        for number in CODECS.values():
            await send(lab.broker, lab.events_topic, [INNOCENT, HOSTILES[-7]], codec=number)
        await lab.start_worker()
        await lab.settled()
        counts = [it.value["counts"] for it in await lab.read_receipts()]
        assert sum(it["delivered"] for it in counts) == 2 * len(CODECS)


@in_a_loop
async def test_bomb_of_compression_is_refused_by_a_topic_that_unpacks(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    # Nothing in a worker bounds what a batch unpacks to, so `docs/security.md` says what does.
    bomb = Hostile("zeros", bytes(LARGE_BYTES))
    async with Lab(kafka.address, s3, tmp_path, partitions=1) as lab:
        assert lab._admin is not None
        await send(lab.broker, lab.events_topic, [bomb], codec=CODECS["gzip"])
        unpacks = {"compression.type": "uncompressed"}
        await lab._admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, lab.events_topic, unpacks)]
        )
        with pytest.raises(MessageSizeTooLargeError):
            await send(lab.broker, lab.events_topic, [bomb], codec=CODECS["gzip"])


# --- What others write, in logs and on terminals -------------------------------------------------

FORGED: Final = "2026-01-01 00:00:00 INFO forged"
NASTY: Final = f"no\n{FORGED}\r\x85\u2028\x9b2J\x9d0;owned\x9c\u202e\x7f"
"""A forged line, ends of lines, and commands to a terminal, as far as XML can hold them."""
LOG_LINE: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ \S|  ")
"""How a line of the log begins; those below a message are indented."""


def steering(text: str) -> set[str]:
    """Control characters that a terminal would obey, without line ends."""
    return {it for it in text if not it.isprintable()} - {"\n"}


async def command(
    lab: Lab, *arguments: str, environment: Mapping[str, str] | None = None, given: bytes = b""
) -> "subprocess.CompletedProcess[str]":
    """Run a command of ours in the folder of the lab's configuration."""
    return await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-m", "stream_app", *arguments],
            cwd=lab.configuration.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            input=given.decode("latin-1"),
            encoding="utf-8",
            capture_output=True,
            check=False,
            timeout=SECONDS_MAX,
        )
    )


RECEIPTS: Final = ("receipts", "--from-beginning", "--exit-at-end")


@in_a_loop
async def test_words_of_a_hostile_s3_server_forge_no_line_steer_no_terminal_and_stop_no_receipt(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    # And longer than a record may be: their window could never have a receipt.
    words = NASTY.encode("ascii", "xmlcharrefreplace").decode() + "m" * 2 * MIB
    body = f"<Error><Code>Slow{words}</Code><Message>{words}</Message></Error>"
    nasty = answer("503 Slow Down", body)
    async with (
        recorder(nasty, seconds_max=SECONDS_MAX) as hostile,
        Lab(
            kafka.address, s3, tmp_path, targets=(EVERYTHING,), settings="retry_for_seconds = 1"
        ) as lab,
    ):
        endpoint = {"STREAM_APP_S3_ENDPOINT_URL": hostile.endpoint_url}
        worker = lab.launch_worker(*worker_command(lab), environment=endpoint)
        await lab.load.send(1)
        (receipt,) = await lab.published(1)
        assert receipt.value["status"] == "failed"
        assert receipt.value["error"]["message"].startswith(NASTY.replace("\r", "\n"))
        await worker.terminate()
        lines = worker.log.split("\n")[:-1]
        assert [line for line in lines if not LOG_LINE.match(line)] == []
        assert FORGED in worker.log
        assert not any(line.startswith(FORGED) for line in lines)
        assert steering(worker.log) == set()
        for arguments in (RECEIPTS, (*RECEIPTS, "--json"), ("check",)):
            done = await command(lab, *arguments, environment=endpoint | s3.environment)
            assert FORGED in done.stdout + done.stderr
            assert steering(done.stdout + done.stderr) == set()
            assert not re.search(f"^{FORGED}", done.stdout + done.stderr, re.MULTILINE)
        shown = json.loads((await command(lab, *RECEIPTS, "--json")).stdout)
        assert shown["receipt"] == receipt.value, "the same JSON, however it is spelt"


INNOCENT_RECEIPT: Final = json.dumps(
    {
        "status": "delivered",
        "destination": "everything",
        "source": {"partition": 0, "first_offset": 0, "end_offset": 1},
        "counts": {"matched": 1, "delivered": 1, "skipped": 0, "failed": 0},
        "error": None,
        "object": {"bucket": "my-bucket", "key": "test/x.gz", "size": 812},
    }
).encode()
"""As much of one as is shown."""


@in_a_loop
async def test_hostile_records_of_the_receipts_topic_steer_no_terminal_and_hide_no_receipt(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, targets=(EVERYTHING,)) as lab:
        texts = dict.fromkeys(("status", "destination"), NASTY + "\x1b]0;owned\x07\x00")
        source = {"partition": NASTY, "first_offset": NASTY, "end_offset": 1}
        hostiles: list[Any] = [
            {**texts, "source": source, "counts": {}},
            {
                **texts,
                "source": source,
                "counts": dict.fromkeys(("matched", "delivered", "skipped", "failed"), NASTY),
                "error": {"code": NASTY, "message": [[NASTY]]},
                "object": None,
            },
            {NASTY: NASTY},
            [NASTY],
            None,
        ]
        values = [json.dumps(it).encode() for it in hostiles] + [b"[" * 900 + b"]" * 900]
        headers = (("ce_id", None), ("ce_time", NASTY.encode()), (Bytes("\xff"), b"\xff"))
        await send(
            lab.broker,
            lab.receipts_topic,
            [Hostile("", it, key=b"\xff\x1b[2J", headers=headers) for it in (*values, None)],
        )
        await send(lab.broker, lab.receipts_topic, [Hostile("", INNOCENT_RECEIPT)])
        for arguments in (RECEIPTS, (*RECEIPTS, "--json")):
            done = await command(lab, *arguments)
            assert done.returncode == 0
            assert steering(done.stdout + done.stderr) == set()
            assert "Traceback" not in done.stderr
            assert not re.search(f"^{FORGED}", done.stdout + done.stderr, re.MULTILINE)
            # Partitions are read in any order.
            assert any("my-bucket" in line for line in done.stdout.splitlines())
        assert len(done.stdout.splitlines()) == len(values) + 1


@in_a_loop
async def test_hostile_input_of_commands_steers_no_terminal(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, targets=(EVERYTHING,)) as lab:
        folder = lab.configuration.parent
        name = f"\x1b[2J{NASTY}.ndjson".replace("\x7f", "")
        (folder / name).write_bytes(b"\x1b[2J")
        (folder / "events").write_text(json.dumps({"a": NASTY}), "utf-8")
        throws = "(() => { throw new Error($event.a) })()"
        missing = str(folder / "\x1b[2J.toml")
        commands = [
            ("send", name),
            ("send", "--pipeline", NASTY, "events"),
            ("check", "--event", "events", "--expression", "$event.a"),
            ("check", "--event", "events", "--expression", throws),
            ("check", "--event", name, "--expression", "1"),
            ("check", "--expression", f"'\x1b[2J' + + {NASTY} + )"),
            ("check", "--config", missing),
            (NASTY,),
        ]
        for done in await asyncio.gather(*[command(lab, *it) for it in commands]):
            assert steering(done.stdout + done.stderr) == set(), done.args
            assert "Traceback" not in done.stderr


# --- Servers that are not what they seem ---------------------------------------------------------

REDIRECTS: Final = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]


@pytest.mark.parametrize("status", REDIRECTS)
def test_redirect_takes_no_event_and_no_token_to_another_server(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "made-up")
    to = Destination(id="a", bucket="my-bucket")

    async def redirected() -> tuple[Recorder, Recorder]:
        async with recorder(answer("200 OK", ETag='"made-up"')) as other:
            moved = answer(status, Location=f"{other.endpoint_url}/my-bucket/k")
            async with (
                recorder(moved) as asked,
                Storage(S3(endpoint_url=asked.endpoint_url)) as storage,
            ):
                # Nor is the other one's success taken for ours: nothing is stored.
                with pytest.raises(DeliveryError):
                    await storage.put(to, "k", b"events", lines=1, size=6)
        return asked, other

    asked, other = asyncio.run(redirected())
    assert "PUT" in {it.method for it in asked.requests}
    assert other.requests == []


# --- Secrets -------------------------------------------------------------------------------------


def worker_command(lab: Lab) -> tuple[str, ...]:
    """The most talkative worker there is."""
    configuration = str(lab.configuration)
    return ("-m", "stream_app", "worker", "--config", configuration, "--log-level", "debug")


def as_aws_quotes(request: Request) -> bytes:
    """Refuse as AWS does: with the token, and all that was signed, in the answer."""
    token = request.headers.get("x-amz-security-token", "")
    signed = request.headers.get("authorization", "")
    return answer(
        "400 Bad Request",
        "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message>"
        f"<Token-0>{token}</Token-0><StringToSign>{signed}</StringToSign></Error>",
    )


@in_a_loop
async def test_no_output_gives_a_secret_away(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    globals_ = Target("globals", "globals/", payload="Object.getOwnPropertyNames(globalThis)")
    throws = Target(
        "throws", "throws/", payload="(() => { throw Error(JSON.stringify($event)) })()"
    )
    token, wrong_key = f"token-{SECRET}", f"key-{SECRET}"
    secrets = {
        "the key in use": s3.secret_key,
        "a wrong key": wrong_key,
        "a password": SECRET,
        "a session token": token,
    }
    login = {
        "STREAM_APP_KAFKA_SECURITY_PROTOCOL": "sasl_plaintext",
        "STREAM_APP_KAFKA_SASL_MECHANISM": "PLAIN",
        "STREAM_APP_KAFKA_SASL_USERNAME": "alice",
        "STREAM_APP_KAFKA_SASL_PASSWORD": SECRET,
    }
    async with (
        recorder(rule=as_aws_quotes, seconds_max=SECONDS_MAX) as quoting,
        Lab(
            kafka.address,
            s3,
            tmp_path,
            targets=(EVERYTHING, globals_, throws),
            settings="retry_for_seconds = 1\ngive_up_after_seconds = 1",
        ) as lab,
    ):
        with lab.configuration.open("a") as file:
            file.write('[[destinations]]\nid = "missing"\nbucket = "no-such-bucket"\n')
        nowhere = {"STREAM_APP_KAFKA_BROKER": f"kafka://127.0.0.1:{free_ports(1)[0]}"}
        url = {"STREAM_APP_S3_ENDPOINT_URL": f"http://alice:{SECRET}@127.0.0.1:1"}
        refused: Mapping[str, str] = {"AWS_SECRET_ACCESS_KEY": wrong_key}
        expired = {
            "AWS_SESSION_TOKEN": token,
            "STREAM_APP_S3_ENDPOINT_URL": quoting.endpoint_url,
            "STREAM_APP_KAFKA_GROUP": f"{lab.name}-expired",
        }
        good, held_up, *bad = (
            lab.launch_worker(*worker_command(lab), environment=it)
            for it in ({}, expired, refused, login, login | nowhere, url)
        )
        await lab.load.send(20)
        assert [await it.ended() for it in bad] == [1, 1, 1, 2]

        async def every_end() -> bool:
            values = [it.value for it in await lab.read_receipts()]
            codes = {it["error"]["code"] for it in values if it["error"]}
            ends = {it["status"] for it in values}
            return {"NoSuchBucket", "ExpiredToken", "delivered", "empty"} <= codes | ends

        await wait_until(every_end, SECONDS_MAX, "a receipt of every kind")
        await asyncio.gather(good.terminate(), held_up.terminate())
        assert " DEBUG " in good.log
        assert any(token in it.headers.values() for it in quoting.requests), "it was in use"
        outputs = await asyncio.gather(
            command(lab, *RECEIPTS),
            command(lab, *RECEIPTS, "--json"),
            command(lab, "topics", environment=login),
            command(lab, "check", environment=s3.environment | refused),
            command(lab, "check", environment=s3.environment | expired),
        )
        assert [it.returncode for it in outputs] == [0, 0, 1, 1, 1]
        objects = await asyncio.to_thread(lab.objects)
        heads = [
            json.dumps(lab._client.head_object(Bucket=lab.bucket, Key=it.key), default=str)
            for it in objects
        ]
        written = [
            *(it.log for it in lab.workers),
            *(it.stdout + it.stderr for it in outputs),
            *(str(it) for it in lab.receipts),
            *(gzip.decompress(it.body) for it in objects),
            *heads,
            # What a server is sent is signed by the key, and does not hold it.
            *(it.head.replace(token.encode(), b"") for it in quoting.requests),
        ]
        assert given_away(secrets, written) == []


def test_search_for_secrets_finds_each_spelling() -> None:
    for spelling in spellings(SECRET):
        assert given_away({"it": SECRET}, ["innocent", f"a{spelling}b"])
    for before in range(5):
        text = base64.b64encode(b"u" * before + SECRET.encode() + b"more").decode()
        assert given_away({"it": SECRET}, [text])
    assert given_away({"it": SECRET}, ["innocent"]) == []


@pytest.mark.parametrize(
    "text",
    [
        f'[s3]\nendpoint_url = "https://alice:{SECRET}@host"',
        f'[kafka]\nbroker = "kafka://alice:{SECRET}@host:1"',
        f'[kafka]\nbroker = "alice:{SECRET}@host:9092"',
        f'[kafka]\nsasl_password = ["{SECRET}"]',
        f'[kafka]\nsasl_password = "{SECRET}\\n"',
        f'[kafka]\nsasl_pasword = "{SECRET}"',
        f'[kafka]\nsasl_password = "{SECRET}',
        f"[kafka]\nsasl_password = {SECRET}",
        f'[kafka]\nsasl_password = "{SECRET}"',
        f'[s3]\naws_secret_access_key = "{SECRET}"',
        f'sasl_password = "{SECRET}"',
    ],
)
def test_mistake_in_the_configuration_is_reported_without_the_secret(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(f'{text}\n[[destinations]]\nid = "a"\nbucket = "my-bucket"\n', {}, "x.toml")
    assert given_away({"it": SECRET}, [str(caught.value), repr(caught.value)]) == []


def test_settings_do_not_show_their_secrets() -> None:
    text = f"""
        [kafka]
        security_protocol = "sasl_ssl"
        sasl_mechanism = "PLAIN"
        sasl_username = "alice"
        sasl_password = "{SECRET}"
        [[destinations]]
        id = "a"
        bucket = "my-bucket"
        """
    settings = parse(text, {}, "x.toml")
    assert settings.kafka.sasl_password == SECRET
    assert given_away({"it": SECRET}, [repr(settings), str(settings)]) == []


# --- Settings that become headers ----------------------------------------------------------------

TEXTS: Final = [
    (table, setting.name)
    for table, kind in (*TABLES.items(), ("destinations", Destination))
    for setting in fields(kind)
    if "str" in str(setting.type) and setting.name != "payload"
]


@pytest.mark.parametrize("nasty", ["\\r\\nX-Amz-Acl: public-read", "\\u0000", "\\u001b", "\\u0085"])
@pytest.mark.parametrize(("table", "name"), TEXTS)
def test_setting_with_a_control_character_is_refused(table: str, name: str, nasty: str) -> None:
    destination = {"id": "a", "bucket": "my-bucket"}
    if table == "destinations":
        destination[name] = f"a{nasty}"
    text = "[[destinations]]\n" + "".join(f'{it} = "{text}"\n' for it, text in destination.items())
    if table != "destinations":
        text += f'[{table}]\n{name} = "a{nasty}"\n'
    with pytest.raises(ConfigurationError, match=f"{name} is "):
        parse(text, {}, "x.toml")


@pytest.mark.parametrize("nasty", ["\\r\\nX-Amz-Acl: public-read", "\\u0000", "\\u001b", "\\u0085"])
@pytest.mark.parametrize("tags", ['{{ "a{}" = "1" }}', '{{ a = "1{}" }}'])
def test_tag_with_a_control_character_is_refused(tags: str, nasty: str) -> None:
    text = f'[[destinations]]\nid = "a"\nbucket = "my-bucket"\ntags = {tags.format(nasty)}\n'
    with pytest.raises(ConfigurationError, match=": tags has "):
        parse(text, {}, "x.toml")


# --- Ports ---------------------------------------------------------------------------------------

LISTENING: Final = "0A"
"""A socket's state in /proc/net/tcp."""


LOOPBACK = "0100007F"


def listening(pid: int) -> set[str]:
    """The addresses that a process listens on, in the hexadecimal of /proc/net."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(descriptor.readlink().name)
        except FileNotFoundError:
            continue  # closed meanwhile
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text("ascii").splitlines()[1:]:
            cells = line.split()
            if f"socket:[{cells[9]}]" in sockets and (
                cells[3] == LISTENING or table.startswith("udp")
            ):
                found.add(cells[1].split(":")[0])
    return found


@pytest.mark.parametrize("server", ["kafka", "s3"])
def test_embedded_servers_listen_on_this_machine_only(
    server: str, request: pytest.FixtureRequest
) -> None:
    found = listening(request.getfixturevalue(server).pid)
    assert found
    assert found <= {LOOPBACK, "0000000000000000FFFF00000100007F"}, found


# --- The container -------------------------------------------------------------------------------

CAP_DAC_READ_SEARCH: Final = 1 << 2
COMPOSE: Final = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


def confined() -> list[str]:
    """The command that runs another as the container does: no rights, and no byte of a file."""
    no_files = ["prlimit", "--fsize=0:0"]
    if os.geteuid() != 0:
        return no_files
    user, group = COMPOSE["services"]["worker"]["user"].split(":")
    places = [Path(it).resolve() for it in (sys.base_prefix, sys.prefix, ROOT)]
    closed = [it for place in places for it in (place, *place.parents) if not it.stat().st_mode & 1]
    # Where the tests' Python stands in a folder of root's own, the user needs the right to read it.
    kept = "-all,+dac_read_search" if closed else "-all"
    return [
        *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"),
        *(f"--{which}={kept}" for which in ("inh-caps", "ambient-caps", "bounding-set")),
        *no_files,
    ]


@contextmanager
def readable_folder() -> Iterator[Path]:
    """A folder that everybody can read; the tests' own folders are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            yield folder
        finally:
            folder.chmod(0o755)


def copied(file: Path, folder: Path) -> None:
    """Put a copy into a folder, to which nobody but root can write from then on."""
    (folder / file.name).write_bytes(file.read_bytes())
    folder.chmod(0o555)


def rights(pid: int) -> set[str]:
    """Rights of a process that the container's has not."""
    status = dict(
        re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    )
    limits = Path(f"/proc/{pid}/limits").read_text("ascii")
    found = set()
    if "0" in status["Uid"].split():
        found.add("it is root")
    if int(status["CapEff"], 16) & ~CAP_DAC_READ_SEARCH:
        found.add("it has capabilities")
    if os.geteuid() == 0 and status["NoNewPrivs"] != "1":
        found.add("it can get new rights")
    if not re.search(r"^Max file size +0 +0 ", limits, re.MULTILINE):
        found.add("it can write to files")
    return found


@in_a_loop
async def test_worker_delivers_without_rights_or_a_file_to_write_and_listens_on_this_machine_only(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    with readable_folder() as folder:
        async with Lab(kafka.address, s3, tmp_path) as lab:
            copied(lab.configuration, folder)
            process = await asyncio.create_subprocess_exec(
                *(*confined(), sys.executable, *worker_command(lab)[:3]),
                cwd=folder,
                env={
                    **s3.environment,
                    "PATH": os.defpath,
                    "HOME": "/nonexistent",
                    "TMPDIR": str(folder),
                    "PYTHONPATH": str(ROOT),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            try:
                assert process.stdout is not None
                log = await asyncio.wait_for(process.stdout.readuntil(b"ready: "), SECONDS_MAX)
                await lab.load.send(50)
                await lab.settled()
                await lab.verify()
                assert rights(process.pid) == set()
                assert listening(process.pid) == {LOOPBACK}  # metrics and health
                process.terminate()
                log += await asyncio.wait_for(process.stdout.read(), SECONDS_MAX)
                assert await process.wait() == 0, log.decode()
                assert b"Traceback" not in log
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        assert os.listdir(folder) == ["stream_app.toml"]  # noqa: PTH208 - one name for the event loop


@in_a_loop
async def test_worker_that_is_not_to_be_watched_listens_nowhere(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path) as lab:
        worker = lab.launch_worker(environment={"STREAM_APP_HTTP_PORT": "0"})
        await worker.logged("ready: ")
        assert listening(worker.process.pid) == set()
