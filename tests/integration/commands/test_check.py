"""`stream-app check` tries expressions on events, and shows what a worker would write."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from stream_app.cli.check import EVENTS_BYTES_MAX
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.expressions.fast_path import LINE_BYTES_MAX
from tests.integration.commands.test_cli import Outcome, Shell, on_a_terminal, plain

DESTINATIONS = """
[[destinations]]
id = "orders"
pipeline = "orders"
bucket = "my-bucket"
payload = "$event.body.id"

[[destinations]]
id = "names"
bucket = "my-bucket"
payload = '''
{
  name: $event.body.name.trim(),
  of: $context,
}'''
"""
REASON = "calls .trim at line 2, column 25"
EVENTS = b'{"body":{"id":17,"name":" Ada "}}\n\n{"body":{"name":7}}\r\n[no]\n'


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, "127.0.0.1:9", "", DESTINATIONS).configure()


def documents_of(outcome: Outcome, kind: str) -> list[dict[str, Any]]:
    """Return the documents of a kind, without it; the last document is the summary."""
    documents = [json.loads(it) for it in outcome.output.splitlines()]
    assert [it["kind"] for it in documents].index("summary") == len(documents) - 1
    assert documents[-1]["status"] == outcome.status
    assert outcome.error == ""
    return [
        {name: value for name, value in it.items() if name != "kind"}
        for it in documents
        if it["kind"] == kind
    ]


def tried(outcome: Outcome) -> list[dict[str, Any]]:
    documents = documents_of(outcome, "trial")
    assert outcome.status == 0
    for document in documents:
        microseconds = document.pop("microseconds")
        assert isinstance(microseconds, float)
        assert microseconds > 0
    return documents


def test_events_are_tried_with_a_key_at_the_destinations_that_take_it(shell: Shell) -> None:
    arguments = ("check", "--offline", "--event", "-", "--json", "--pipeline")
    documents = tried(shell.run(*arguments, "orders", standard_input=b"1"))
    assert [it["destination"] for it in documents] == ["orders", "names"]
    (only,) = tried(shell.run(*arguments, "ordres", standard_input=b'{"body":{"name":"a"}}'))
    assert json.loads(only["line"])["of"]["pipeline"] == "ordres"


def test_environment_alone_is_a_configuration(tmp_path: Path) -> None:
    environment = {
        "STREAM_APP_DESTINATION_ID": "orders",
        "STREAM_APP_DESTINATION_BUCKET": "my-bucket",
        "STREAM_APP_DESTINATION_PAYLOAD": "$event.body.id",
    }
    shell = Shell(tmp_path, "127.0.0.1:9", "", environment=environment)  # writes no file
    done = shell.run("check", "--offline")
    assert done.output.splitlines()[-1] == "environment: no mistakes; 1 destination"
    shell.configure()
    assert shell.run("check", "--offline").status == 2


def test_mistake_in_a_folder_of_destinations_names_its_file(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "127.0.0.1:9", "", environment={"STREAM_APP_DESTINATIONS_DIR": "teams"})
    (tmp_path / "teams").mkdir()
    team = '[[destinations]]\nid = "{0}"\nbucket = "my-bucket"\npayload = "{1}"\n'
    (tmp_path / "teams" / "a.toml").write_text(team.format("a", "$event"), "utf-8")
    wrong = tmp_path / "teams" / "b.toml"
    wrong.write_text(team.format("b", "$event."), "utf-8")
    done = shell.run("check", "--offline")
    assert done.status == 2
    assert "teams/b.toml: [[destinations]] 1 (id 'b'): payload does not compile" in done.error
    wrong.unlink()
    assert shell.run("check", "--offline").status == 0


def test_key_that_no_destination_takes_is_a_mistake_that_names_the_nearest_pipeline(
    tmp_path: Path,
) -> None:
    destinations = DESTINATIONS.replace('id = "names"', 'id = "names"\npipeline = "names"')
    shell = Shell(tmp_path, "127.0.0.1:9", "", destinations).configure()
    arguments = ("check", "--offline", "--event", "-", "--pipeline", "ordres")
    outcome = shell.run(*arguments, standard_input=b"1")
    assert outcome.status == 2
    message = "stream_app.toml: no destination takes the key 'ordres' (nearest pipeline: 'orders')"
    assert outcome.error.splitlines() == [message]
    outcome = shell.run(*arguments, "--json", standard_input=b"1")
    assert [it["message"] for it in documents_of(outcome, "mistake")] == [message]


@pytest.mark.parametrize(
    "arguments", [(), ("--expression", "$event"), ("--event", "-", "--expression", "$event")]
)
def test_key_is_only_for_events_that_a_configuration_is_tried_on(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    outcome = shell.run("check", "--offline", "--pipeline", "a", *arguments, standard_input=b"1")
    assert outcome.status == 2
    assert "--pipeline is the key of --event, tried on a configuration" in outcome.error


def test_each_destination_shows_the_line_of_each_event(shell: Shell) -> None:
    documents = tried(
        shell.run("check", "--offline", "--event", "-", "--json", standard_input=EVENTS)
    )
    context = json.loads(str(documents[3]["line"]))["of"]
    assert context.pop("timestamp").startswith("20")
    assert context == {
        "topic": "events",
        "partition": 0,
        "offset": 0,
        "pipeline": None,
        "headers": {},
        "destination": "names",
    }
    documents[3]["line"] = str(documents[3]["line"])[:14]
    names = ("destination", "event", "outcome", "line", "path", "error")
    no_json = "the record's value is not JSON: unexpected token: 'no'"
    no_method = "TypeError: not a function, at line 2, column 26"
    assert documents == [
        dict(zip(names, row, strict=True))
        for row in (
            ("orders", 0, "delivered", "17", "fast", None),
            ("orders", 1, "skipped", None, "fast", None),
            ("orders", 2, "failed", None, "engine", no_json),
            ("names", 0, "delivered", '{"name":"Ada",', "engine", None),
            ("names", 1, "failed", None, "engine", no_method),
            ("names", 2, "failed", None, "engine", no_json),
        )
    ]


def test_exception_is_shown_with_its_line_and_place(shell: Shell) -> None:
    outcome = shell.run("check", "--offline", "--event", "-", standard_input=EVENTS)
    assert (outcome.status, outcome.error) == (0, "")
    shown = outcome.output.splitlines()
    assert shown[0] == "orders: $event.body.id"
    assert shown[1].split()[:4] == ["event", "0", "delivered", "fast"]
    assert shown[1].endswith(" µs")
    assert shown[2] == "    17"
    assert shown[3].split()[:4] == ["event", "1", "skipped", "fast"]
    place = shown.index("    TypeError: not a function, at line 2, column 26")
    assert shown[place + 1 : place + 3] == [
        "    2 |   name: $event.body.name.trim(),",
        "      |                          ^",
    ]
    assert shown[-1] == "stream_app.toml: no mistakes; 2 destinations"


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b'{\n  "a": 1\n}\n', [{"a": 1}]),
        (b'"\\ud800"', ["\ufffd"]),
        (b"1\n2\n", [1, 2]),
        (b"[1,\n2]", [[1, 2]]),
    ],
)
def test_file_is_one_event_or_one_on_each_line(
    shell: Shell, text: bytes, events: list[object]
) -> None:
    (shell.folder / "event.json").write_bytes(text)
    outcome = shell.run("check", "--expression", "[$event]", "--event", "event.json", "--json")
    lines = [str(document["line"]) for document in tried(outcome)]
    assert [json.loads(line) for line in lines] == [[event] for event in events]


def test_expression_is_tried_without_a_configuration(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "", "")
    assert shell.run("check", "--expression", "$event") == Outcome(
        0, "--expression: no mistakes; fast path\n", ""
    )
    (document,) = tried(
        shell.run(
            *("check", "--expression", "$context.destination", "--event", "-", "--json"),
            standard_input=b"1",
        )
    )
    assert document["line"] == '"expression"'
    assert document["destination"] == "expression"


def test_expression_that_does_not_compile_is_shown_with_its_place(tmp_path: Path) -> None:
    text = "{ a: $event.a,\n  b c }"
    outcome = Shell(tmp_path, "", "").run("check", "--expression", text, "--event", "-")
    assert outcome == Outcome(
        2,
        "",
        "--expression does not compile: SyntaxError: Unexpected identifier 'c', at line 2, column "
        "5\n  2 |   b c }\n    |     ^\n",
    )


def test_endless_expression_fails_within_its_limits(tmp_path: Path) -> None:
    outcome = Shell(tmp_path, "", "").run(
        *("check", "--expression", "(() => { for (;;); })()", "--event", "-", "--json"),
        standard_input=b"1",
    )
    (document,) = documents_of(outcome, "trial")
    assert document["outcome"] == "failed"
    assert document["error"] == "InternalError: interrupted: ran longer than 1.0 s"


def test_event_cannot_steer_the_terminal(tmp_path: Path) -> None:
    event = '"a\u009b31mb\u2028\x7f"'.encode()
    arguments = ("check", "--event", "-", "--expression", "$event")
    shown = Shell(tmp_path, "", "").run(*arguments, standard_input=event).output.splitlines()[2]
    assert shown == r'    "a\u009b31mb\u2028\u007f"'
    assert json.loads(shown) == json.loads(event)
    (document,) = tried(Shell(tmp_path, "", "").run(*arguments, "--json", standard_input=event))
    assert document["line"] == event.decode()


def test_line_that_is_too_long_fails_as_in_a_worker(tmp_path: Path) -> None:
    event = json.dumps("x" * LINE_BYTES_MAX).encode()
    (document,) = tried(
        Shell(tmp_path, "", "").run(
            *("check", "--event", "-", "--expression", "$event", "--json"), standard_input=event
        )
    )
    assert document["outcome"] == "failed"
    assert document["path"] == "fast"
    assert str(document["error"]).startswith(f"the payload has {LINE_BYTES_MAX + 2} bytes")


def test_json_has_each_destination_and_the_summary(shell: Shell) -> None:
    outcome = shell.run("check", "--offline", "--json")
    names = (
        *("destination", "pipeline", "bucket", "prefix", "path", "reason", "writable", "problems"),
    )
    assert documents_of(outcome, "destination") == [
        dict(zip(names, row, strict=True))
        for row in (
            ("orders", "orders", "my-bucket", "", "fast", None, None, []),
            ("names", None, "my-bucket", "", "engine", REASON, None, []),
        )
    ]
    assert documents_of(outcome, "summary") == [
        {"mistakes": 0, "destinations": 2, "writable": None, "kafka_problems": None, "status": 0}
    ]


def test_destinations_that_need_the_engine_are_listed_by_the_reason(tmp_path: Path) -> None:
    payloads = ["$event.a.map(it => it)"] * 5 + ["$event.a == 1 ? $event : undefined", "$event"]
    destinations = "".join(
        f'[[destinations]]\nid = "d{number}"\nbucket = "my-bucket"\npayload = "{payload}"\n'
        for number, payload in enumerate(payloads)
    )
    shell = Shell(tmp_path, "127.0.0.1:9", "", destinations).configure()
    outcome = shell.run("check", "--offline")
    assert outcome.output.splitlines()[-3:] == [
        "engine: calls .map at column 9 (d0, d1, d2 and 2 more)",
        "engine: its condition uses == at column 10 (d5)",
        "stream_app.toml: no mistakes; 7 destinations",
    ]


def test_way_of_an_expression_is_shown_with_the_reason(tmp_path: Path) -> None:
    arguments = ("check", "--expression", "$event.items.map(it => it.id)")
    outcome = Shell(tmp_path, "", "").run(*arguments)
    assert outcome.output == "--expression: no mistakes; engine: calls .map at column 13\n"
    assert documents_of(Shell(tmp_path, "", "").run(*arguments, "--json"), "expression") == [
        {"name": "--expression", "path": "engine", "reason": "calls .map at column 13"}
    ]


def test_json_has_mistakes_with_their_place_on_standard_output(shell: Shell) -> None:
    with (shell.folder / "stream_app.toml").open("a") as file:
        file.write('[[destinations]]\nid = "bad"\nbucket = "my-bucket"\npayload = "$event."\n')
    outcome = shell.run("check", "--json")
    (mistake,) = documents_of(outcome, "mistake")
    assert mistake["message"].startswith(
        "stream_app.toml: [[destinations]] 3 (id 'bad'): payload does not compile: SyntaxError"
    )
    assert mistake["excerpt"] == ["  1 | $event.", "    |        ^"]
    assert documents_of(outcome, "summary") == [
        {"mistakes": 1, "destinations": None, "writable": None, "kafka_problems": None, "status": 2}
    ]
    assert outcome.status == 2


def test_json_of_an_expression_alone_is_the_summary(tmp_path: Path) -> None:
    outcome = Shell(tmp_path, "", "").run("check", "--expression", "$event", "--json")
    assert outcome.status == 0
    assert len(documents_of(outcome, "summary")) == 1


def test_rights_are_in_the_table_and_in_documents(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path, topic_prefix: str
) -> None:
    s3.create_bucket(bucket := f"test-{os.urandom(6).hex()}")
    destinations = "".join(
        f'[[destinations]]\nid = "{name}"\nbucket = "{where}"\n'
        for name, where in {"good": bucket, "bad": "no-such-bucket"}.items()
    )
    shell = Shell(
        tmp_path,
        kafka.address,
        topic_prefix,
        f'[s3]\nendpoint_url = "{s3.endpoint_url}"\n{destinations}',
        s3.environment,
    ).configure()
    assert shell.run("topics").status == 0
    outcome = shell.run("check")
    heading, good, bad = outcome.output.partition("\n\n")[2].splitlines()
    assert heading.split() == ["DESTINATION", "PIPELINE", "PAYLOAD", "RIGHTS", "WHERE"]
    assert good.split() == ["good", "(every)", "fast", "writable", f"s3://{bucket}/"]
    assert bad.split() == ["bad", "(every)", "fast", "not", "writable", "s3://no-such-bucket/"]
    assert outcome.only_error(1).startswith(
        "stream-app: bucket 'no-such-bucket' (destination bad):"
    )
    as_json = shell.run("check", "--json")
    documents = documents_of(as_json, "destination")
    assert [it["writable"] for it in documents] == [True, False]
    assert documents[0]["problems"] == []
    assert outcome.error == f"stream-app: {documents[1]['problems'][0]}\n"
    assert documents_of(as_json, "summary") == [
        {"mistakes": 0, "destinations": 2, "writable": 1, "kafka_problems": 0, "status": 1}
    ]


def test_terminal_marks_outcomes(shell: Shell) -> None:
    (shell.folder / "events").write_bytes(EVENTS)
    arguments = ("check", "--offline", "--event", "events")
    shown = on_a_terminal(shell, *arguments, columns=80)
    assert "\x1b[32m✓ delivered" in shown
    assert "\x1b[33m○ skipped" in shown
    assert "\x1b[1;31m✗ failed" in shown
    unmarked = re.sub("[✓○✗] ", "", plain(shown))
    assert timeless(unmarked) == timeless(shell.run(*arguments).output)


def timeless(text: str) -> str:
    """Return the text without what differs from run to run."""
    return re.sub(r" +[0-9.]+ µs|[0-9-]+T[0-9:.]+Z", "", text)


WRONG = {
    "nothing": (["--event", "-"], b" \n", "standard input: no event found; write one JSON"),
    "no JSON at all": (
        ["--event", "-"],
        b'{"a":\n1,}\n',
        "standard input: it is not JSON: Expecting property name enclosed in double quotes",
    ),
    "too long": (
        ["--event", "-"],
        b" " * EVENTS_BYTES_MAX + b"1",
        f"standard input: longer than {EVENTS_BYTES_MAX} bytes; try some of its events",
    ),
    "no such file": (["--event", "none"], b"", "stream-app: Invalid value for '--event': File 'no"),
    "two sources": (
        ["--config", "stream_app.toml", "--event", "-"],
        b"",
        "stream-app: --expression needs no --config; leave one of them out",
    ),
}


@pytest.mark.parametrize(
    ("arguments", "standard_input", "message"), WRONG.values(), ids=WRONG.keys()
)
def test_wrong_input_is_one_line_and_status_2(
    shell: Shell, arguments: list[str], standard_input: bytes, message: str
) -> None:
    outcome = shell.run(
        *("check", "--expression", "$event", *arguments), standard_input=standard_input
    )
    assert outcome.output == ""
    assert outcome.only_error(2).startswith(message)
