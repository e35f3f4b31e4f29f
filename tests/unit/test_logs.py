"""One line for each message, in text and JSON, whatever it quotes; and how many there are."""

import io
import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from stream_app import log_events
from stream_app.errors import TransientError
from stream_app.log_declaration import (
    DELIVERY,
    DELIVERY_LINES_PER_MINUTE_MAX,
    LINES_PER_MINUTE_MAX,
    LogEvent,
)
from stream_app.log_fields import FIELDS
from stream_app.logs import (
    TEXT_LENGTH_MAX,
    TRACEBACK_LENGTH_MAX,
    BoundedHandler,
    JsonFormatter,
    LineFormatter,
    error_fields,
    formatter,
    is_json,
    is_written,
    iso,
    log_event,
)

FORGED = "2026-01-01 00:00:00 INFO forged"
NASTY = f"no\n{FORGED}\x1b[2J\x9b2J\u202e\x7f\udc80"
SHOWN = rf"no\n{FORGED}\x1b[2J\x9b2J\u202e\x7f\udc80"
NOON = 1_795_608_000.5
"""2026-11-25T12:00:00.500Z."""
OURS = "stream_app.test"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Log:
    """A log into memory; `at` is the time of the next message."""

    def __init__(self, formatter: logging.Formatter, *, is_bounded: bool = True) -> None:
        self.at = NOON
        self.stream = io.StringIO()
        self.handler = BoundedHandler(self.stream, is_bounded=is_bounded)
        self.handler.setFormatter(formatter)
        self.handler.addFilter(self._timed)

    def logger(self, name: str = OURS) -> logging.Logger:
        logger = logging.Logger(name)  # noqa: LOG001 - one that no other test has touched
        logger.addHandler(self.handler)
        return logger

    def _timed(self, record: logging.LogRecord) -> bool:
        record.created = self.at
        return True

    @property
    def lines(self) -> list[str]:
        text = self.stream.getvalue()
        assert {it for it in text if not it.isprintable()} <= {"\n"}
        return text.split("\n")[:-1]

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def text(message: str, *arguments: object, **options: Any) -> list[str]:
    """Return the lines of a message in the text format."""
    log = Log(LineFormatter())
    log.logger().error(message, *arguments, **options)
    return log.lines


def document(message: str, *arguments: object, name: str = OURS, **options: Any) -> dict[str, Any]:
    """Return the document of a message in the JSON format."""
    log = Log(JsonFormatter())
    log.logger(name).error(message, *arguments, **options)
    (it,) = log.documents
    return it


EVENT = LogEvent(
    "stored",
    "info",
    "meaning",
    "%(count).1f lines of %(destination)s, %(code)s",
    (*DELIVERY, "bucket", "already_existed", "code", "error"),
    ("count",),
)


def line(formatter: logging.Formatter, **values: object) -> str:
    """Return the line of EVENT with these values."""
    log = Log(formatter)
    log_event(log.logger(), EVENT, count=1, **{"destination": "orders", "code": None} | values)
    (it,) = log.lines
    return it


STORED = LogEvent("stored", "info", "meaning", "an object", lines_max=DELIVERY_LINES_PER_MINUTE_MAX)


def nasty_error() -> BaseException:
    try:
        int(NASTY)
    except ValueError as error:
        error.args = (NASTY,)  # int() would have shown it escaped
        return error
    raise AssertionError


# --- text ----------------------------------------------------------------------------------------


def test_message_is_one_line_with_time_and_level() -> None:
    assert text("S3 says %s", NASTY) == [f"2026-11-25 12:00:00 ERROR S3 says {SHOWN}"]


def test_message_that_is_printable_stays_as_it_is() -> None:
    assert text("destination %s, ü", "orders") == [
        "2026-11-25 12:00:00 ERROR destination orders, ü"
    ]


def test_message_of_a_library_names_it() -> None:
    log = Log(LineFormatter())
    log.logger("aiokafka.conn").warning("closed")
    assert log.lines == ["2026-11-25 12:00:00 WARNING aiokafka.conn: closed"]


def test_lines_of_a_traceback_are_indented() -> None:
    first, *rest = text("crashed", exc_info=nasty_error())
    assert first.endswith(" ERROR crashed")
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-1].startswith(rf"  {FORGED}\x1b[2J")
    assert all(line.startswith("  ") for line in rest)


def test_traceback_that_another_handler_has_formatted_is_indented_all_the_same() -> None:
    log = Log(LineFormatter())
    logger = log.logger()
    other = logging.StreamHandler(io.StringIO())
    logger.handlers.insert(0, other)
    logger.error("crashed", exc_info=nasty_error())
    assert all(line.startswith("  ") for line in log.lines[1:])


def test_lines_of_a_stack_are_indented() -> None:
    _, *rest = text("here", stack_info=True)
    assert rest[0] == "  Stack (most recent call last):"
    assert all(line.startswith("  ") for line in rest)


def test_long_message_is_cut() -> None:
    (line,) = text("%s", "x" * (TEXT_LENGTH_MAX + 7))
    assert line.endswith("x… (7 characters more)")
    assert len(line) < TEXT_LENGTH_MAX + 100


def test_long_traceback_keeps_its_end() -> None:
    error = ValueError("x" * TRACEBACK_LENGTH_MAX + "the end")
    _, cut, *rest = text("crashed", exc_info=error)
    assert cut.endswith(" characters omitted)")
    assert rest[-1].endswith("the end")
    assert sum(map(len, rest)) < TRACEBACK_LENGTH_MAX + 100


def test_arguments_that_do_not_fit_a_message_are_shown() -> None:
    assert text("%d lines", "no")[0].endswith(" ERROR %d lines ('no',)")


def test_colours_mark_the_level_and_only_the_log_can_write_them() -> None:
    log = Log(LineFormatter(has_colours=True))
    log.logger().error("S3 says %s", NASTY)
    assert log.stream.getvalue() == (
        f"\x1b[2m2026-11-25 12:00:00\x1b[0m \x1b[31mERROR\x1b[0m S3 says {SHOWN}\n"
    )


# --- JSON ----------------------------------------------------------------------------------------


def test_document_has_time_level_event_message_and_the_fields() -> None:
    shown = line(
        JsonFormatter(),
        bucket="my-bucket",
        already_existed=False,
        destination="orders",
        window=iso(1_795_608_000),
        partition=0,
        code=None,
    )
    assert list(json.loads(shown).items()) == [
        ("time", "2026-11-25T12:00:00.500Z"),
        ("level", "info"),
        ("event", "stored"),
        ("message", "1.0 lines of orders, none"),
        ("destination", "orders"),
        ("window", "2026-11-25T12:00:00Z"),
        ("partition", 0),
        ("bucket", "my-bucket"),
        ("already_existed", False),
    ]


def test_document_is_ascii_and_its_texts_are_printable() -> None:
    shown = line(JsonFormatter(), destination=NASTY, error=NASTY)
    assert shown.isascii()
    assert json.loads(shown)["message"] == f"1.0 lines of {SHOWN}, none"
    assert json.loads(shown)["error"] == SHOWN


def test_document_of_a_library_names_it() -> None:
    it = document("closed", name="aiokafka.conn")
    assert (it["event"], it["logger"], it["level"]) == ("library", "aiokafka.conn", "error")


def test_traceback_is_a_field() -> None:
    it = document("crashed", exc_info=nasty_error())
    lines = it["traceback"].split("\n")
    assert it["message"] == "crashed"
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith(rf"{FORGED}\x1b[2J")


def test_long_fields_are_cut() -> None:
    shown = line(JsonFormatter(), error="x" * 2_000_000)
    assert len(shown) < TEXT_LENGTH_MAX + 500


def test_field_cannot_take_the_place_of_what_every_message_has() -> None:
    names = {"time", "level", "event", "message", "logger", "traceback"}
    assert names.isdisjoint(FIELDS)


def test_text_is_formatted_by_a_handler_that_emits_it_and_by_no_other() -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    log = Log(JsonFormatter())
    log.handler.setLevel("ERROR")
    log_event(log.logger(), EVENT, count=1, destination=Costly(), code=None)
    assert log.lines == []


def test_event_without_values_is_its_text() -> None:
    log = Log(LineFormatter())
    log_event(log.logger(), STORED)
    assert log.lines == ["2026-11-25 12:00:00 INFO an object"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TransientError("SlowDown", "wait"), ("SlowDown", "wait")),
        (ValueError("no number"), ("ValueError", "no number")),
    ],
)
def test_fields_of_an_error_are_its_code_and_message(
    error: Exception, expected: tuple[str, str]
) -> None:
    assert error_fields(error) == dict(zip(log_events.ERROR, expected, strict=True))


# --- how many ------------------------------------------------------------------------------------


def test_messages_beyond_the_bound_of_their_event_are_counted_and_logged() -> None:
    log = Log(JsonFormatter())
    logger = log.logger()
    for _ in range(DELIVERY_LINES_PER_MINUTE_MAX + 5):
        log_event(logger, STORED)
    log_event(logger, log_events.STOPPED, status=0)
    assert len(log.lines) == DELIVERY_LINES_PER_MINUTE_MAX + 1
    log.at += 60
    log_event(logger, STORED)
    suppressed, newest = log.documents[-2:]
    assert (suppressed["event"], suppressed["suppressed"]) == ("suppressed", {"stored": 5})
    assert suppressed["message"] == "suppressed in the minute from 2026-11-25T12:00:00Z: 5 stored"
    assert newest["event"] == "stored"


def test_message_that_would_be_suppressed_is_counted_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log(JsonFormatter())
    logger = log.logger()
    monkeypatch.setattr(logging.getLogger(), "handlers", [log.handler])
    for _ in range(DELIVERY_LINES_PER_MINUTE_MAX + 5):
        if is_written(logger, STORED, log.at):
            log_event(logger, STORED)
    assert len(log.lines) == DELIVERY_LINES_PER_MINUTE_MAX
    assert is_written(logger, log_events.STOPPED, log.at)
    log.at += 60
    assert is_written(logger, STORED, log.at)
    log.handler.close()
    assert log.documents[-1]["suppressed"] == {"stored": 5}


def test_every_message_is_written_without_a_bound_or_beside_another_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounded, unbounded = Log(JsonFormatter()), Log(JsonFormatter(), is_bounded=False)
    for _ in range(DELIVERY_LINES_PER_MINUTE_MAX):
        for log in (bounded, unbounded):
            log_event(log.logger(), STORED)
    for handlers in ([unbounded.handler], [bounded.handler, unbounded.handler], []):
        monkeypatch.setattr(logging.getLogger(), "handlers", handlers)
        assert is_written(bounded.logger(), STORED, NOON)


def test_event_below_the_level_is_not_written() -> None:
    logger = Log(JsonFormatter()).logger()
    logger.setLevel("WARNING")
    assert not is_written(logger, STORED, NOON)


def test_messages_of_libraries_are_bounded_too() -> None:
    log = Log(JsonFormatter())
    logger = log.logger("aiokafka")
    for _ in range(LINES_PER_MINUTE_MAX + 3):
        logger.warning("again")
    log.handler.close()
    assert len(log.lines) == LINES_PER_MINUTE_MAX + 1
    assert log.documents[-1]["suppressed"] == {"library": 3}


def test_log_at_debug_suppresses_nothing() -> None:
    log = Log(JsonFormatter(), is_bounded=False)
    for _ in range(DELIVERY_LINES_PER_MINUTE_MAX + 5):
        log_event(log.logger(), STORED)
    log.handler.close()
    assert len(log.lines) == DELIVERY_LINES_PER_MINUTE_MAX + 5


def test_message_below_the_level_is_not_even_made() -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    log = Log(JsonFormatter())
    logger = log.logger()
    logger.setLevel("INFO")
    log_event(logger, log_events.WINDOW_CLOSED, subject=Costly(), destinations=1)
    assert log.lines == []


# --- which of both -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_format", "stream", "expected"),
    [
        ("auto", Terminal(), False),
        ("auto", io.StringIO(), True),
        ("text", io.StringIO(), False),
        ("json", Terminal(), True),
    ],
)
def test_auto_is_text_on_a_terminal_and_json_elsewhere(
    log_format: Any, stream: io.StringIO, *, expected: bool
) -> None:
    assert is_json(log_format, stream) is expected


@pytest.mark.parametrize(
    ("environment", "has_colours"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_and_not_with_no_color(
    environment: dict[str, str], *, has_colours: bool
) -> None:
    log = Log(formatter("auto", Terminal(), environment))
    log.logger().warning("hello")
    assert log.stream.getvalue().startswith("\x1b[") is has_colours


def test_text_into_a_file_has_no_colours() -> None:
    log = Log(formatter("text", io.StringIO(), {}))
    log.logger().warning("hello")
    assert log.lines == ["2026-11-25 12:00:00 WARNING hello"]


PROGRAM = """
import sys, threading, warnings
from stream_app.logs import log_to_standard_error
log_to_standard_error("info", "json", {})

class Bad:
    def __del__(self):
        raise ValueError("in a destructor")

def fail():
    raise ValueError("in a thread")

warnings.warn("a warning")
Bad()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise ValueError("at last")
"""


def test_errors_that_python_itself_writes_are_messages() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=False)
    assert done.returncode == 1
    documents = [json.loads(line) for line in done.stderr.splitlines()]
    assert [it["logger"] for it in documents] == ["py.warnings", *["python"] * 3]
    assert [it["message"] for it in documents[1:]] == [
        "not caught: ValueError('in a destructor')",
        "not caught: ValueError('in a thread')",
        "not caught: ValueError('at last')",
    ]
    assert all("Traceback" in it["traceback"] for it in documents[1:])
