"""Every command as a user runs it: a process, its output, its exit status."""

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from stream_app import __version__
from stream_app.cli.check_report import SHOWN_MAX
from stream_app.cli.main import stream_app
from stream_app.core.receipt import Problem, Receipt, Source, Status, Tally
from stream_app.embedded.process import free_ports
from stream_app.embedded.servers import KafkaServer

NEED_KAFKA = (["topics"], ["send", "-"], ["receipts"], ["redeliver"], ["worker"])
SECONDS_MAX = 180


@dataclass(frozen=True)
class Shell:
    """A folder with a configuration, in which commands are run."""

    folder: Path
    broker: str
    prefix: str
    destinations: str = '[[destinations]]\nid = "orders"\npipeline = "orders"\nbucket = "my-bucket"'
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def events(self) -> str:
        return f"{self.prefix}events"

    @property
    def receipts(self) -> str:
        return f"{self.prefix}receipts"

    def configure(self) -> "Shell":
        kafka = (
            f'broker = "kafka://{self.broker}"\n'
            f'events_topic = "{self.events}"\nreceipts_topic = "{self.receipts}"'
        )
        text = f"[kafka]\n{kafka}\n{self.destinations}\n"
        (self.folder / "stream_app.toml").write_text(text, "utf-8")
        return self

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "stream_app", *arguments],
            cwd=self.folder,
            env={
                **{
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith("STREAM_APP_")
                },
                "STREAM_APP_LOG_FORMAT": "text",
                **self.environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, standard_input: bytes = b"") -> "Outcome":
        with self.start(*arguments) as process:
            try:
                output, error = process.communicate(standard_input, timeout=SECONDS_MAX)
            finally:
                process.kill()
        return Outcome(process.returncode, output.decode(), error.decode())


@dataclass(frozen=True)
class Outcome:
    status: int
    output: str
    error: str

    def only_error(self, status: int) -> str:
        """Return the one line on standard error with which a command fails."""
        assert self.status == status, self
        assert self.error.count("\n") == 1, self
        assert self.error.endswith("\n"), self
        return self.error[:-1]


@pytest.fixture
def shell(tmp_path: Path, kafka: KafkaServer, topic_prefix: str) -> Shell:
    return Shell(tmp_path, kafka.address, topic_prefix).configure()


@pytest.fixture
def nowhere(tmp_path: Path) -> Shell:
    """A shell for which no broker is running."""
    return Shell(tmp_path, f"127.0.0.1:{free_ports(1)[0]}", "").configure()


def records(shell: Shell, topic: str) -> "list[ConsumerRecord[bytes | None, bytes | None]]":
    """Return all records of a topic, partition by partition."""

    async def read() -> "list[ConsumerRecord[bytes | None, bytes | None]]":
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=shell.broker, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            found = []
            for partition in sorted(ends):
                while await consumer.position(partition) < ends[partition]:
                    found += (await consumer.getmany(partition, timeout_ms=500)).get(partition, [])
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())


def publish(shell: Shell, *receipts: Receipt | bytes) -> None:
    """Write receipts, or anything else, into partition 0 of the receipts topic."""

    async def write() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=shell.broker)
        await producer.start()
        try:
            for receipt in receipts:
                if isinstance(receipt, bytes):
                    await producer.send_and_wait(shell.receipts, receipt, partition=0)
                else:
                    message = receipt.message(1_764_000_000)
                    await producer.send_and_wait(
                        shell.receipts,
                        message.value,
                        key=message.key,
                        headers=list(message.headers),
                        partition=0,
                    )
        finally:
            await producer.stop()

    asyncio.run(write())


def receipt(
    first_offset: int, status: Status = Status.EMPTY, problem: Problem | None = None
) -> Receipt:
    return Receipt(
        status=status,
        group="g",
        destination="orders",
        pipeline="orders",
        window_start=60,
        window_end=120,
        source=Source("events", 3, first_offset, first_offset + 5),
        tally=Tally(matched=5, skipped=[[first_offset, first_offset + 4]], skipped_count=5),
        bucket="my-bucket",
        key="test/x.gz",
        size_uncompressed=0,
        closed_at=130,
        attempts=1,
        problem=problem,
    )


def on_a_terminal(shell: Shell, *arguments: str, columns: int, **environment: str) -> str:
    """Return the output on a terminal with so many columns; the command must succeed."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, columns))
    process = subprocess.Popen(
        [sys.executable, "-m", "stream_app", *arguments],
        cwd=shell.folder,
        # A runner of parallel tests sets COLUMNS, which would override the terminal's width.
        env={
            **{name: value for name, value in os.environ.items() if name != "COLUMNS"},
            "TERM": "xterm-256color",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.PIPE,
    )
    os.close(follower)
    pieces = []
    with process, open(leader, "rb", buffering=0) as terminal:  # noqa: PTH123 - a descriptor
        # Linux ends the reading of a terminal that no process has open with an error.
        with contextlib.suppress(OSError):
            while piece := terminal.read(65_536):
                pieces.append(piece)
        error = process.communicate(timeout=SECONDS_MAX)[1]
    assert (process.returncode, error) == (0, b"")
    return b"".join(pieces).decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    """Return the text without colors."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def cells(line: str) -> list[str]:
    return line.split()


# --- The command line itself -----------------------------------------------------------------


@pytest.mark.parametrize("command", stream_app.commands)
def test_help_has_an_example(nowhere: Shell, command: str) -> None:
    outcome = nowhere.run(command, "--help")
    assert outcome.status == 0
    assert f"  stream-app {command}" in outcome.output.split("Example")[1]


def test_help_lists_every_command(nowhere: Shell) -> None:
    listed = nowhere.run("--help").output.split("Commands:\n")[1].splitlines()
    assert {cells(line)[0] for line in listed} == set(stream_app.commands)


def test_help_of_80_columns_has_every_description_in_full(nowhere: Shell) -> None:
    shown = plain(on_a_terminal(nowhere, "--help", columns=80))
    listed = shown.split("Commands:\n")[1].splitlines()
    assert max(map(len, listed)) <= 80
    assert all(line.startswith("  ") and line.endswith(".") for line in listed)
    assert not any(line.endswith("...") for line in listed)
    assert len(listed) == len(stream_app.commands)


def test_general_help_has_an_example_and_version_is_one_line(nowhere: Shell) -> None:
    assert "  Example:\n    stream-app demo\n" in nowhere.run("--help").output
    assert nowhere.run("--version") == Outcome(0, f"stream-app {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "stream-app: Missing command; see stream-app --help"),
        (["sned"], "stream-app: No such command 'sned'; did you mean send? See stream-app --help"),
        (["xyz"], "stream-app: No such command 'xyz'; see stream-app --help"),
        (
            ["completion"],
            "stream-app: Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, ",
        ),
        (
            ["completion", "csh"],
            "stream-app: Invalid value for '{bash|zsh|fish}': 'csh' is not one",
        ),
        (
            ["receipts", "--jsn"],
            "stream-app: No such option: --jsn; did you mean --json? See stream-",
        ),
        (
            ["receipts", "--status", "x"],
            "stream-app: Invalid value for '--status': 'x' is not one ",
        ),
        (["policy", "--principal"], "stream-app: Option '--principal' requires an argument"),
        (["send", "--pipeline", ""], "stream-app: --pipeline is empty; write a key, or leave the "),
        (["topics", "--partitions", "0"], "stream-app: Invalid value for '--partitions': 0 is "),
        (["send", "no-file"], "stream-app: Invalid value for '[FILE]...': File 'no-file' does not"),
    ],
)
def test_wrong_command_line_is_one_line_and_status_2(
    nowhere: Shell, arguments: Sequence[str], text: str
) -> None:
    assert nowhere.run(*arguments).only_error(2).startswith(text)


@pytest.mark.parametrize(
    "arguments",
    [*NEED_KAFKA, ["check"], ["policy", "--principal", "arn:aws:iam::123456789012:root"]],
)
def test_missing_configuration_is_one_line_and_status_2(
    tmp_path: Path, arguments: Sequence[str]
) -> None:
    outcome = Shell(tmp_path, "", "").run(*arguments)
    assert outcome.only_error(2) == (
        "stream_app.toml: there is no such file; write one, or name it: --config or "
        "STREAM_APP_CONFIG"
    )


def test_variable_names_the_configuration(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "", "", environment={"STREAM_APP_CONFIG": "other.toml"})
    assert shell.run("check").only_error(2).startswith("other.toml: there is no such file")
    outcome = shell.run("check", "--config", "third.toml")
    assert outcome.only_error(2).startswith("third.toml: there is no such file")


@pytest.mark.parametrize("arguments", NEED_KAFKA)
def test_broker_that_is_down_is_one_line_and_status_1(
    nowhere: Shell, arguments: Sequence[str]
) -> None:
    assert nowhere.run(*arguments).only_error(1) == (
        f"stream-app: Kafka at {nowhere.broker} does not respond (Connection refused); is it "
        "running? Set [kafka] broker or STREAM_APP_KAFKA_BROKER to its address"
    )


@pytest.mark.parametrize("arguments", NEED_KAFKA[1:])
def test_missing_topic_is_one_line_and_status_1(shell: Shell, arguments: Sequence[str]) -> None:
    topic = shell.receipts if arguments == ["receipts"] else shell.events
    assert shell.run(*arguments).only_error(1) == (
        f"stream-app: topic '{topic}' does not exist in Kafka at {shell.broker}, or its user may "
        "not see it; create it with: stream-app topics"
    )


# --- check and policy ------------------------------------------------------------------------


def test_offline_check_of_a_right_configuration_needs_no_server(nowhere: Shell) -> None:
    assert nowhere.run("check", "--offline") == Outcome(
        0,
        "DESTINATION  PIPELINE  PAYLOAD  RIGHTS       WHERE\n"
        "orders       orders    fast     not checked  s3://my-bucket/\n"
        "stream_app.toml: no mistakes; 1 destination\n",
        "",
    )


def test_terminal_shows_no_more_destinations_than_a_person_reads(nowhere: Shell) -> None:
    many = "".join(f'[[destinations]]\nid = "d{it}"\nbucket = "my-bucket"\n' for it in range(110))
    (nowhere.folder / "stream_app.toml").write_text(many, "utf-8")
    shown = plain(on_a_terminal(nowhere, "check", "--offline", columns=80)).splitlines()
    assert len(shown) == SHOWN_MAX + 3
    assert shown[-2:] == ["and 10 more", "✓ stream_app.toml: no mistakes; 110 destinations"]
    assert len(nowhere.run("check", "--offline").output.splitlines()) == 112


def test_check_prints_a_line_for_each_mistake(nowhere: Shell) -> None:
    with (nowhere.folder / "stream_app.toml").open("a") as file:
        file.write('[[destinations]]\nid = "orders"\nbuket = "b"\n[s3]\nregion = 3\n')
    outcome = nowhere.run("check")
    assert outcome.status == 2
    assert outcome.output == ""
    assert outcome.error.splitlines() == [
        'stream_app.toml: [s3]: region is 3; write a region, for example "eu-west-1"',
        (
            "stream_app.toml: [[destinations]] 2 (id 'orders'): key 'buket' is unknown; did you "
            "mean bucket?"
        ),
        (
            "stream_app.toml: [[destinations]] 2 (id 'orders'): bucket is missing; write bucket = "
            '"NAME"'
        ),
        (
            "stream_app.toml: [[destinations]] 2 (id 'orders'): id is also that of "
            "[[destinations]] 1; write another one"
        ),
    ]


@pytest.mark.parametrize("command", ["check", "worker"])
def test_payload_that_does_not_compile_is_shown_with_its_place_and_status_2(
    nowhere: Shell, command: str
) -> None:
    with (nowhere.folder / "stream_app.toml").open("a") as file:
        file.write('payload = "$event."\n')
    outcome = nowhere.run(command)
    assert outcome.status == 2
    mistake, line, caret = outcome.error.splitlines()
    assert mistake.startswith(
        "stream_app.toml: [[destinations]] 1 (id 'orders'): payload does not compile: SyntaxError"
    )
    assert (line, caret) == ("  1 | $event.", "    |        ^")


def test_policy_is_one_document_for_each_bucket(nowhere: Shell) -> None:
    with (nowhere.folder / "stream_app.toml").open("a") as file:
        file.write('[[destinations]]\nid = "b"\nbucket = "second"\nsse = "aws:kms"\n')
        file.write('[[destinations]]\nid = "c"\nbucket = "my-bucket"\n')
    principal = "arn:aws:iam::123456789012:role/x"
    printed = nowhere.run("policy", "--principal", principal)
    first, end = json.JSONDecoder().raw_decode(printed.output)
    second = json.loads(printed.output[end:])
    assert [document["Statement"][0]["Resource"][0] for document in (first, second)] == [
        "arn:aws:s3:::my-bucket",
        "arn:aws:s3:::second",
    ]
    assert printed.error.startswith(
        "stream-app: note: bucket 'second', destination 'b': objects are encrypted under a key"
    )
    one = nowhere.run("policy", "--principal", principal, "--bucket", "second")
    assert json.loads(one.output) == second
    whole = nowhere.run("policy", "--principal", principal, "--bucket", "second", "--whole-bucket")
    (statement,) = json.loads(whole.output)["Statement"]
    assert "s3:ListBucketMultipartUploads" in statement["Action"]


def test_policy_names_nobody_that_was_not_given(nowhere: Shell) -> None:
    assert nowhere.run("policy").only_error(2) == (
        "bucket 'my-bucket': who writes is not known: no role_arn of AWS in destination 'orders'; "
        "write --principal arn:aws:iam::ACCOUNT:role/ROLE, the role, user or account that runs the "
        "workers"
    )
    role = "arn:aws:iam::999999999999:role/writer"
    with (nowhere.folder / "stream_app.toml").open("a") as file:
        file.write(f'role_arn = "{role}"\n')
    document = json.loads(nowhere.run("policy").output)
    assert {it["Principal"]["AWS"] for it in document["Statement"]} == {role}


@pytest.mark.parametrize("arguments", [["policy", "--help"], ["policy"], ["policy", "--bucket"]])
def test_no_message_has_the_number_of_an_account(nowhere: Shell, arguments: Sequence[str]) -> None:
    outcome = nowhere.run(*arguments)
    assert re.search(r"[0-9]{12}", outcome.output + outcome.error) is None


def test_policy_for_a_bucket_of_no_destination_is_a_mistake(nowhere: Shell) -> None:
    outcome = nowhere.run(
        "policy", "--principal", "arn:aws:iam::123456789012:root", "--bucket", "other"
    )
    assert outcome.only_error(2) == (
        "--bucket is 'other'; write one of stream_app.toml's buckets: my-bucket"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["check", "--offline"],
        ["policy", "--principal", "arn:aws:iam::123456789012:root"],
    ],
)
def test_missing_reader_ends_a_command_silently(nowhere: Shell, arguments: Sequence[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "stream_app", *arguments],
            cwd=nowhere.folder,
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=SECONDS_MAX,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


# --- topics ----------------------------------------------------------------------------------


def test_topics_are_created_once(shell: Shell) -> None:
    first = shell.run("topics", "--partitions", "3")
    assert first == Outcome(
        0, f"{shell.events}: created, partitions: 3\n{shell.receipts}: created, partitions: 3\n", ""
    )
    second = shell.run("topics", "--partitions", "3")
    assert second.output == first.output.replace("created", "exists")
    assert (second.status, second.error) == (0, "")


def test_topics_as_json_are_a_document_each(shell: Shell) -> None:
    documents = [
        [json.loads(line) for line in shell.run("topics", "--json").output.splitlines()]
        for _ in range(2)
    ]
    assert documents == [
        [
            {"name": name, "partitions": 4, "created": created}
            for name in (shell.events, shell.receipts)
        ]
        for created in (True, False)
    ]


def test_topics_that_exist_keep_their_partitions_with_a_note(shell: Shell) -> None:
    shell.run("topics", "--partitions", "2")
    outcome = shell.run("topics", "--partitions", "3")
    assert outcome.status == 0
    assert outcome.output == (
        f"{shell.events}: exists, partitions: 2\n{shell.receipts}: exists, partitions: 2\n"
    )
    assert outcome.error.splitlines() == [
        f"stream-app: note: topic '{topic}' keeps its 2 partitions; --partitions 3 holds only for "
        "a topic that is created"
        for topic in (shell.events, shell.receipts)
    ]


def test_more_copies_than_brokers_is_one_line_and_status_1(shell: Shell) -> None:
    error = shell.run("topics", "--replication-factor", "3").only_error(1)
    assert "has fewer brokers than --replication-factor requires" in error


# --- send ------------------------------------------------------------------------------------


def test_send_keeps_bytes_key_and_order(shell: Shell) -> None:
    shell.run("topics", "--partitions", "1")
    (shell.folder / "a.ndjson").write_bytes(b'{"n": 1.0}\n\n  [2]\t\r\n')
    (shell.folder / "b.ndjson").write_bytes('"\\ud800 ü"'.encode())
    outcome = shell.run(
        "send", "a.ndjson", "-", "b.ndjson", "--pipeline", "orders", standard_input=b"null\n\n3"
    )
    assert outcome == Outcome(0, f"5 events sent to {shell.events} (by partition: 0: 5)\n", "")
    assert [(record.key, record.value) for record in records(shell, shell.events)] == [
        (b"orders", value)
        for value in (b'{"n": 1.0}', b"[2]", b"null", b"3", '"\\ud800 ü"'.encode())
    ]


def test_send_without_pipeline_sends_no_key(shell: Shell) -> None:
    shell.run("topics", "--partitions", "1")
    outcome = shell.run("send", standard_input=b"1\n")
    assert outcome.output == f"1 event sent to {shell.events} (by partition: 0: 1)\n"
    assert [record.key for record in records(shell, shell.events)] == [None]


def test_send_prints_the_events_of_each_partition(shell: Shell) -> None:
    shell.run("topics", "--partitions", "4")
    lines = b"".join(b"%d\n" % number for number in range(5000))
    outcome = shell.run("send", "--pipeline", "orders", standard_input=lines)
    (partition,) = {record.partition for record in records(shell, shell.events)}
    assert outcome.output == (
        f"5000 events sent to {shell.events} (by partition: {partition}: 5000)\n"
    )


def test_nothing_to_send_is_no_failure(shell: Shell) -> None:
    shell.run("topics", "--partitions", "1")
    assert shell.run("send") == Outcome(0, f"0 events sent to {shell.events}\n", "")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"{'a': 1}", "it is not JSON: Expecting property name enclosed in double quotes"),
        (b"NaN", "it is not JSON: NaN is not a JSON value"),
        (b'"\xff"', "byte 2 of the line is not UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "it is nested too deeply"),
        (b'"' + b"x" * 1_000_000 + b'"', "the line is longer than 1000000 bytes"),
    ],
)
def test_bad_line_stops_what_comes_after_it_and_nothing_before(
    shell: Shell, line: bytes, what: str
) -> None:
    shell.run("topics", "--partitions", "1")
    (shell.folder / "x.ndjson").write_bytes(b"1\n2\n\n" + line + b"\n3\n")
    error = shell.run("send", "x.ndjson").only_error(1)
    assert error.startswith(f"stream-app: x.ndjson:4: {what}")
    assert error.endswith("; events sent before that: 2")
    assert [record.value for record in records(shell, shell.events)] == [b"1", b"2"]


def test_unbounded_line_is_not_read_to_its_end(shell: Shell) -> None:
    shell.run("topics", "--partitions", "1")
    with shell.start("send") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"x" * 100_000_000)
        assert b"standard input:1: the line is longer than" in process.stderr.read()
        assert process.wait(SECONDS_MAX) == 1
        # What the pipe did not take is still in the buffer, and would be written at the end.
        process.stdin.raw.close()  # type: ignore[attr-defined]


def test_pipeline_that_no_destination_takes_is_noted(shell: Shell) -> None:
    shell.run("topics", "--partitions", "1")
    outcome = shell.run("send", "--pipeline", "ordres", standard_input=b"1")
    assert outcome.error == (
        "stream-app: note: stream_app.toml: no destination takes the key 'ordres' (nearest "
        "pipeline: 'orders')\n"
    )
    assert outcome.status == 0


def test_interrupt_while_waiting_for_input_is_quiet(shell: Shell) -> None:
    shell.run("topics", "--partitions", "1")
    with shell.start("send", "-") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"1\n")
        process.stdin.flush()
        # The event is in Kafka: the command is past its start and waits for more.
        while not records(shell, shell.events):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS_MAX) == 130
        assert process.stderr.read().strip() == b""


# --- receipts --------------------------------------------------------------------------------


def test_receipts_are_rows_of_a_table(shell: Shell) -> None:
    shell.run("topics", "--partitions", "2")
    problem = Problem("NoSuchBucket", "it is\ngone", retryable=False)
    publish(shell, receipt(10), receipt(15, Status.FAILED, problem=problem))
    outcome = shell.run("receipts", "--from-beginning", "--exit-at-end")
    heading, first, second = outcome.output.splitlines()
    assert cells(heading)[:5] == ["PUBLISHED", "STATUS", "DESTINATION", "PARTITION", "OFFSETS"]
    common = ["orders", "3"]
    assert cells(first) == [
        *("2025-11-24T16:00:00Z", "empty", *common, "10-14", "5", "0", "5", "0", "-", "-")
    ]
    assert cells(second) == [
        *("2025-11-24T16:00:00Z", "failed", *common, "15-19", "5", "0", "5", "0", "-"),
        *("NoSuchBucket:", "it", r"is\ngone"),
    ]
    assert (outcome.status, outcome.error) == (0, "")


def test_receipts_are_filtered_by_destination_and_status(shell: Shell) -> None:
    shell.run("topics", "--partitions", "2")
    problem = Problem("NoSuchBucket", "it is gone", retryable=False)
    publish(shell, receipt(10), receipt(15, Status.FAILED, problem=problem), receipt(20))
    options = ("receipts", "--json", "--from-beginning", "--exit-at-end")

    def offsets(*wanted: str) -> list[int]:
        lines = shell.run(*options, *wanted).output.splitlines()
        return [json.loads(it)["receipt"]["source"]["first_offset"] for it in lines]

    assert offsets("--status", "failed") == [15]
    assert offsets("--status", "failed", "--status", "empty") == [10, 15, 20]
    assert offsets("--destination", "orders") == [10, 15, 20]
    assert offsets("--destination", "other") == []


def test_destination_that_is_not_configured_is_noted_and_must_have_a_receipt(shell: Shell) -> None:
    shell.run("topics")
    options = ("receipts", "--exit-at-end", "--json", "--from-beginning", "--destination")
    note = "stream-app: note: stream_app.toml has no destination"
    outcome = shell.run(*options, "ordres")
    none = "stream-app: no receipt of destination 'ordres' was read either\n"
    assert outcome == Outcome(1, "", f"{note} 'ordres'; did you mean 'orders'?\n{none}")
    removed = replace(receipt(10), destination="removed")
    publish(shell, removed)
    outcome = shell.run(*options, "removed", "--status", "failed")
    assert outcome == Outcome(0, "", f"{note} 'removed'\n")


def test_error_comes_before_any_heading(nowhere: Shell) -> None:
    outcome = nowhere.run("receipts", "--exit-at-end")
    assert (outcome.status, outcome.output) == (1, "")


@pytest.mark.parametrize("columns", [80, 140])
def test_terminal_gets_marks_and_colors_and_no_line_beyond_its_width(
    shell: Shell, columns: int
) -> None:
    shell.run("topics", "--partitions", "2")
    problem = Problem("NoSuchBucket", "it is gone " * 20, retryable=False)
    publish(shell, receipt(10), receipt(15, Status.FAILED, problem=problem))
    options = ("receipts", "--from-beginning", "--exit-at-end")
    text = on_a_terminal(shell, *options, columns=columns)
    assert "\x1b[1;31m✗ failed" in text
    assert max(map(len, plain(text).splitlines())) <= columns
    assert " ".join(["it is gone"] * 20) in " ".join(plain(text).split())
    assert on_a_terminal(shell, *options, columns=columns, NO_COLOR="1") == plain(text)


def test_pipe_has_no_colors_whatever_the_environment_asks_for(nowhere: Shell) -> None:
    forced = Shell(nowhere.folder, "", "", environment={"FORCE_COLOR": "1", "COLUMNS": "20"})
    for command in (["check", "--offline"], ["--help"]):
        assert "\x1b" not in forced.run(*command).output
    assert forced.run("check", "--offline") == nowhere.run("check", "--offline")


def test_receipts_as_json_hold_the_receipt_and_its_place(shell: Shell) -> None:
    shell.run("topics", "--partitions", "2")
    published = [receipt(10), receipt(15)]
    publish(shell, *published)
    outcome = shell.run("receipts", "--json", "--from-beginning", "--exit-at-end")
    assert [json.loads(line) for line in outcome.output.splitlines()] == [
        {
            "id": each.id,
            "key": "orders",
            "partition": 0,
            "offset": offset,
            "receipt": each.document(),
        }
        for offset, each in enumerate(published)
    ]


def test_without_from_beginning_only_new_receipts_are_shown(shell: Shell) -> None:
    shell.run("topics", "--partitions", "2")
    publish(shell, receipt(10))
    assert shell.run("receipts", "--json", "--exit-at-end") == Outcome(0, "", "")


def test_receipts_are_followed_until_interrupted(shell: Shell) -> None:
    shell.run("topics", "--partitions", "2")
    publish(shell, receipt(10))
    with shell.start("receipts", "--json", "--from-beginning") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["offset"] == 0
        publish(shell, receipt(15))
        assert json.loads(process.stdout.readline())["offset"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS_MAX) == 130
        assert process.stderr.read().strip() == b""


def test_reader_that_goes_away_ends_the_command_silently(shell: Shell) -> None:
    shell.run("topics", "--partitions", "2")
    publish(shell, *(receipt(offset) for offset in range(3)))
    with shell.start("receipts", "--from-beginning") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        # The command notices without another receipt.
        process.stdout.close()
        assert process.wait(SECONDS_MAX) == 1
        assert process.stderr.read() == b""


def test_record_that_is_not_json_is_named_with_its_position(shell: Shell) -> None:
    shell.run("topics", "--partitions", "1")
    publish(shell, b"hello")
    error = shell.run("receipts", "--from-beginning", "--json", "--exit-at-end").only_error(1)
    assert error.startswith(
        f"stream-app: topic '{shell.receipts}', partition 0, offset 0: the record is not a "
        "receipt ("
    )


def test_json_that_is_not_a_receipt_is_skipped_in_the_table(shell: Shell) -> None:
    shell.run("topics", "--partitions", "1")
    publish(shell, b"{}", b"3", receipt(15))
    outcome = shell.run("receipts", "--from-beginning", "--exit-at-end")
    assert len(outcome.output.splitlines()) == 2
    assert outcome.error.splitlines() == [
        (
            f"stream-app: partition 0, offset 0 of {shell.receipts}: not a receipt: Object missing "
            "required field `status`"
        ),
        (
            f"stream-app: partition 0, offset 1 of {shell.receipts}: not a receipt: Expected "
            "`object`, got `int`"
        ),
    ]
