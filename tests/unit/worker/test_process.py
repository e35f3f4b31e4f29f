"""Log filter of the worker process."""

import logging
from collections.abc import Iterator

import pytest

from stream_app.errors import SetupError
from stream_app.worker.process import REPEATED_SECONDS, Readable

FAILED = "Group Coordinator Request failed: %s"
AIOKAFKA = "aiokafka.consumer.group_coordinator"


def record(
    name: str,
    level: int = logging.ERROR,
    text: str = FAILED,
    at: float = 1000.0,
    error: Exception | None = None,
) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, None)
    made = logging.LogRecord(name, level, __file__, 0, text, (), exc_info)
    made.created = at
    return made


@pytest.fixture
def root_level() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before = root.level
    yield root
    root.setLevel(before)


def test_error_that_aiokafka_repeats_with_success_is_a_warning(root_level: logging.Logger) -> None:
    root_level.setLevel(logging.INFO)
    message = record(AIOKAFKA)
    assert Readable().filter(message)
    assert (message.levelno, message.levelname) == (logging.WARNING, "WARNING")
    root_level.setLevel(logging.ERROR)
    assert not Readable().filter(record(AIOKAFKA))


def test_error_of_aiokafka_with_a_traceback_and_errors_of_others_stay_errors() -> None:
    for message in (record(AIOKAFKA, error=KeyError("defect")), record("stream_app.worker.app")):
        assert Readable().filter(message)
        assert message.levelname == "ERROR"


def test_equal_messages_of_aiokafka_are_logged_once_in_a_while() -> None:
    readable = Readable()
    passed = [
        readable.filter(record(AIOKAFKA, logging.WARNING, at=1000.0 + seconds))
        for seconds in (0, 1, REPEATED_SECONDS - 1, REPEATED_SECONDS)
    ]
    assert passed == [True, False, False, True]
    assert readable.filter(record(AIOKAFKA, logging.WARNING, "another", at=1001.0))


def test_error_of_ours_has_no_traceback() -> None:
    message = record("mode", error=SetupError("topic 'events' does not exist"))
    assert Readable().filter(message)
    assert message.exc_info is None
