"""`stream-app check` tries expressions on events, and says what a worker would write."""

import json
from pathlib import Path

import pytest

from stream_app.slices import PAYLOAD_BYTES_MAX
from stream_app.trial import EVENTS_BYTES_MAX
from tests.integration.test_cli import Outcome, Shell

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
EVENTS = b'{"body":{"id":17,"name":" Ada "}}\n\n{"body":{"name":7}}\r\n[no]\n'


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, "127.0.0.1:9", "", DESTINATIONS).configure()


def tried(outcome: Outcome) -> list[dict[str, object]]:
    assert (outcome.status, outcome.error) == (0, "")
    documents: list[dict[str, object]] = [json.loads(it) for it in outcome.output.splitlines()]
    for document in documents:
        microseconds = document.pop("microseconds")
        assert isinstance(microseconds, float)
        assert 0 < microseconds < 1e6
    return documents


def test_each_destination_tells_what_it_would_write_of_each_event(shell: Shell) -> None:
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
            ("orders", 1, "skipped", None, "engine", None),
            ("orders", 2, "failed", None, "engine", no_json),
            ("names", 0, "delivered", '{"name":"Ada",', "engine", None),
            ("names", 1, "failed", None, "engine", no_method),
            ("names", 2, "failed", None, "engine", no_json),
        )
    ]


def test_person_is_shown_the_line_and_the_place_of_an_exception(shell: Shell) -> None:
    outcome = shell.run("check", "--offline", "--event", "-", standard_input=EVENTS)
    assert (outcome.status, outcome.error) == (0, "")
    shown = outcome.output.splitlines()
    assert shown[0] == "orders: $event.body.id"
    assert shown[1].split()[:4] == ["event", "0", "delivered", "fast"]
    assert shown[1].endswith(" µs")
    assert shown[2] == "    17"
    assert shown[3].split()[:4] == ["event", "1", "skipped", "engine"]
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
        (b'"\\ud800"', ["\ud800"]),
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
        0, "--expression: no mistakes\n", ""
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
    (document,) = (
        json.loads(line)
        for line in Shell(tmp_path, "", "")
        .run(
            *("check", "--expression", "(() => { for (;;); })()", "--event", "-", "--json"),
            standard_input=b"1",
        )
        .output.splitlines()
    )
    assert document["outcome"] == "failed"
    assert document["error"] == "InternalError: interrupted: it ran longer than 1.0 s"


def test_terminal_takes_nothing_of_an_event_for_a_command(tmp_path: Path) -> None:
    event = '"a\u009b31mb\u2028\x7f"'.encode()
    arguments = ("check", "--event", "-", "--expression", "$event")
    shown = Shell(tmp_path, "", "").run(*arguments, standard_input=event).output.splitlines()[2]
    assert shown == r'    "a\u009b31mb\u2028\u007f"'
    assert json.loads(shown) == json.loads(event)
    (document,) = tried(Shell(tmp_path, "", "").run(*arguments, "--json", standard_input=event))
    assert document["line"] == event.decode()


def test_line_that_is_too_long_fails_as_in_a_worker(tmp_path: Path) -> None:
    event = json.dumps("x" * PAYLOAD_BYTES_MAX).encode()
    (document,) = tried(
        Shell(tmp_path, "", "").run(
            *("check", "--event", "-", "--expression", "$event", "--json"), standard_input=event
        )
    )
    assert document["outcome"] == "failed"
    assert document["path"] == "fast"
    assert str(document["error"]).startswith(f"the payload has {PAYLOAD_BYTES_MAX + 2} bytes")


WRONG = {
    "nothing": (["--event", "-"], b" \n", "standard input: it holds no event; write one JSON"),
    "no JSON at all": (
        ["--event", "-"],
        b'{"a":\n1,}\n',
        "standard input: it is no JSON: Expecting property name enclosed in double quotes",
    ),
    "too long": (
        ["--event", "-"],
        b" " * EVENTS_BYTES_MAX + b"1",
        f"standard input: it is longer than {EVENTS_BYTES_MAX} bytes; try some of its events",
    ),
    "no such file": (["--event", "none"], b"", "stream-app: Invalid value for '--event': File 'no"),
    "JSON of nothing": (["--json"], b"", "stream-app: --json tells what is tried; add --event FIL"),
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
    assert outcome.complaint(2).startswith(message)
