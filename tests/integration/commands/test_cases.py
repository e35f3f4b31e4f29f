"""`stream-app test` as a user runs it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from stream_app.embedded.process import free_ports
from stream_app.embedded.servers import KafkaServer
from tests.integration.commands.test_cli import Shell

DESTINATIONS = """
[[destinations]]
id = "orders"
pipeline = "orders"
bucket = "my-bucket"
payload = "{ id: $event.body.id, letters: $event.body.name.length }"
[[destinations]]
id = "every"
bucket = "my-bucket"
"""
CASES = """# cases of the orders
[[cases]]
name = "an order"
destination = "orders"
event = '{"body": {"id": 7, "name": "Ada"}}'
expect = '{"id":8,"letters":3}'

[[cases]]
destination = "orders"
file = "events/nameless.json"
expect = "failed: cannot read property 'length'"
"""
RIGHT = CASES.replace('{"id":8', '{"id":7')
NewShell = Callable[[str], Shell]


@pytest.fixture
def new_shell(tmp_path: Path) -> NewShell:
    """Return a function that makes a shell without a broker, with these cases."""

    def new(cases: str) -> Shell:
        shell = Shell(tmp_path, f"127.0.0.1:{free_ports(1)[0]}", "", DESTINATIONS).configure()
        (tmp_path / "events").mkdir(exist_ok=True)
        (tmp_path / "events" / "nameless.json").write_text('{"body": {"id": 7}}\n', "utf-8")
        (tmp_path / "stream_app.test.toml").write_text(cases, "utf-8")
        return shell

    return new


def test_cases_that_pass_end_with_status_0_and_name_destinations_without_a_case(
    new_shell: NewShell,
) -> None:
    done = new_shell(RIGHT).run("test")
    assert (done.status, done.error) == (0, "")
    assert done.output == ("destinations without a case: 1 (every)\n2 cases: 2 passed, 0 failed\n")
    done = new_shell(RIGHT).run("test", "--destination", "orders")
    assert done.output == "2 cases: 2 passed, 0 failed\n"


def test_a_case_that_fails_shows_the_difference_of_the_line(new_shell: NewShell) -> None:
    done = new_shell(CASES).run("test")
    assert (done.status, done.error) == (1, "")
    assert done.output.split("\n")[:6] == [
        "an order  stream_app.test.toml: [[cases]] 1",
        "     {",
        '    -  "id": 8,',
        '    +  "id": 7,',
        '       "letters": 3',
        "     }",
    ]
    assert "2 cases: 1 passed, 1 failed" in done.output


def test_an_expression_that_throws_shows_where(new_shell: NewShell) -> None:
    done = new_shell(RIGHT.replace("failed: cannot", "failed: can")).run("test")
    assert done.status == 1
    assert re.search(r"\n +1 \| .*\n +\| +\^\n", done.output)


def test_tap_has_a_line_for_each_case(new_shell: NewShell) -> None:
    done = new_shell(CASES).run("test", "--format", "tap")
    assert done.status == 1
    lines = done.output.splitlines()
    assert lines[:3] == ["TAP version 13", "1..2", "not ok 1 - an order"]
    assert "ok 2 - orders 2" in lines
    assert lines[3] == "  ---"
    assert "  ..." in lines


def test_junit_is_xml_with_each_case_and_failure(new_shell: NewShell) -> None:
    text = CASES.replace('"an order"', '"<an> & \\u0001"')
    done = new_shell(text).run("test", "--format", "junit")
    assert done.status == 1
    suite = ET.fromstring(done.output)  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    first, second = suite.findall("testcase")
    assert (first.get("classname"), first.get("name")) == ("orders", "<an> & \ufffd")
    failure = first.find("failure")
    assert failure is not None
    assert '+  "id": 7,' in (failure.text or "")
    assert second.find("failure") is None


def test_update_writes_what_is_found_and_nothing_else(new_shell: NewShell) -> None:
    shell = new_shell(CASES + '[[cases]]\ndestination = "every"\nevent = "[1 , 2]"\n')
    wrong = shell.run("test").only_error(2)
    assert wrong.endswith("[[cases]] 3: expect is missing; write it, or run with --update")
    done = shell.run("test", "--update")
    assert (done.status, done.output, done.error) == (0, "expectations written: 2\n", "")
    written = (shell.folder / "stream_app.test.toml").read_text("utf-8")
    assert written == RIGHT + (
        '[[cases]]\ndestination = "every"\nevent = "[1 , 2]"\nexpect = \'[1 , 2]\'\n'
    )
    assert shell.run("test").status == 0


def test_cases_of_a_team_lie_beside_its_destinations(new_shell: NewShell) -> None:
    shell = new_shell(RIGHT)
    config = shell.folder / "stream_app.toml"
    config.write_text('destinations_dir = "teams"\n' + config.read_text("utf-8"), "utf-8")
    (shell.folder / "teams").mkdir()
    (shell.folder / "teams" / "a.toml").write_text(
        '[[destinations]]\nid = "a"\nbucket = "my-bucket"\npayload = "$event.x"\n', "utf-8"
    )
    (shell.folder / "teams" / "a.test.toml").write_text(
        '[[cases]]\ndestination = "a"\nevent = "{}"\nexpect = "skipped"\n', "utf-8"
    )
    assert shell.run("check", "--offline").status == 0, "a file of cases has no destinations"
    assert "3 cases: 3 passed, 0 failed" in shell.run("test").output
    assert "1 case: 1 passed, 0 failed" in shell.run("test", "teams/a.test.toml").output


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        (("[[cases]]", "[[case]]"), "unknown: case; write [[cases]] only"),
        (('"orders"', '"ordres"'), "has no destination 'ordres'; did you mean 'orders'?"),
        (("events/nameless.json", "none.json"), "none.json: cannot be read: No such file"),
        (("events/nameless.json", "stream_app.toml"), "stream_app.toml: it is not JSON"),
        (('"an order"', '"x"\npipeline = "y"'), "but the destination takes 'orders'; remove it"),
        (("{", "{{"), "[[cases]] 1: event: it is not JSON"),
    ],
)
def test_a_wrong_case_ends_with_status_2(
    new_shell: NewShell, change: tuple[str, str], mistake: str
) -> None:
    done = new_shell(RIGHT.replace(*change)).run("test")
    assert (done.status, done.output) == (2, "")
    assert mistake in done.error


def test_an_expression_that_does_not_compile_is_a_mistake(new_shell: NewShell) -> None:
    shell = new_shell(RIGHT)
    config = shell.folder / "stream_app.toml"
    config.write_text(config.read_text("utf-8").replace(".length }", ".length"), "utf-8")
    done = shell.run("test")
    assert (done.status, done.output) == (2, "")
    assert "payload does not compile: SyntaxError" in done.error


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (("--from-topic", "10"), "--from-topic and --against belong together"),
        (("--against", "stream_app.toml"), "--from-topic and --against belong together"),
        (("--destination", "ordres"), "did you mean 'orders'?"),
        (
            ("--from-topic", "10", "--against", "stream_app.toml", "--update"),
            "--from-topic has no cases; leave FILE, --update and --format out",
        ),
    ],
)
def test_a_wrong_command_line_ends_with_status_2(
    new_shell: NewShell, arguments: tuple[str, ...], mistake: str
) -> None:
    assert mistake in new_shell(RIGHT).run("test", *arguments).only_error(2)


def test_without_a_file_of_cases_the_missing_one_is_named(new_shell: NewShell) -> None:
    shell = new_shell(RIGHT)
    (shell.folder / "stream_app.test.toml").unlink()
    assert shell.run("test").only_error(2).startswith("stream_app.test.toml: there is no such file")


def test_a_changed_payload_is_compared_over_events_of_the_topic(
    tmp_path: Path, kafka: KafkaServer, topic_prefix: str
) -> None:
    shell = Shell(tmp_path, kafka.address, topic_prefix, DESTINATIONS).configure()
    assert shell.run("topics", "--partitions", "2").status == 0
    for pipeline, begin in (("orders", 0), ("others", 100)):
        events = (json.dumps({"body": {"id": begin + it, "name": "A" * it}}) for it in range(20))
        sent = shell.run("send", "--pipeline", pipeline, standard_input="\n".join(events).encode())
        assert sent.status == 0, sent
    config = (tmp_path / "stream_app.toml").read_text("utf-8")
    (tmp_path / "changed.toml").write_text(
        config.replace(".name.length }", ".name.length % 15 }"), "utf-8"
    )
    compare = ("test", "--config", "changed.toml", "--against", "stream_app.toml")
    done = shell.run(*compare, "--from-topic", "1000")
    assert (done.status, done.error) == (0, "")
    lines = done.output.splitlines()
    assert lines[:2] == [
        "payloads that differ: 1; events read: 40",
        "orders: 20 events, 5 differ",
    ]
    assert lines.count('    -  "letters": 15') == lines.count('    +  "letters": 0') == 1
    # The newest ones are of another pipeline.
    done = shell.run(*compare, "--from-topic", "20")
    assert done.output == "payloads that differ: 1; events read: 20\norders: 0 events, 0 differ\n"
    same = ("test", "--against", "stream_app.toml", "--from-topic", "20")
    assert shell.run(*same).output == "payloads that differ: 0\n"
    nowhere = shell.run(*compare, "--from-topic", "20", "--destination", "every")
    assert nowhere.output == "payloads that differ: 0\n"
