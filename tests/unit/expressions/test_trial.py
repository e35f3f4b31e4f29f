import json
from itertools import count

import pytest

from stream_app.expressions.expression import compile_expression
from stream_app.expressions.trial import COPIES, SLOW_SECONDS, Subject, Trial, try_events

NOW = 1_500_000_000.0


def trials(
    text: str, *events: bytes, pipeline: str | None = None, step: float = 1e-3
) -> list[Trial]:
    """Try events with a timer that advances by `step` at each reading."""
    readings = count()
    return [
        *try_events(
            Subject("archive", pipeline, compile_expression(text)),
            events,
            topic="events",
            now=NOW,
            timer=lambda: next(readings) * step,
        )
    ]


@pytest.mark.parametrize(
    ("text", "event", "outcome", "line", "path"),
    [
        ("$event.n", b'{"n": 1}', "delivered", "1", "fast"),
        ("$event.n", b"{}", "skipped", None, "fast"),
        ("$event.n?.x", b"{}", "skipped", None, "fast"),
        ("$event.n?.x", b'{"n": 1}', "skipped", None, "engine"),
        ("$event.n + 1", b'{"n": 1}', "delivered", "2", "engine"),
    ],
)
def test_trial_has_the_outcome_and_the_path(
    text: str, event: bytes, outcome: str, line: str | None, path: str
) -> None:
    (trial,) = trials(text, event)
    assert (trial.destination, trial.event) == ("archive", 0)
    assert (trial.outcome, trial.line, trial.path) == (outcome, line, path)
    assert (trial.error, trial.excerpt) == (None, None)


def test_failed_trial_shows_where_the_expression_threw() -> None:
    (trial,) = trials("1 +\n  $event.a.b", b"{}")
    assert (trial.outcome, trial.line) == ("failed", None)
    assert trial.error is not None
    assert trial.error.endswith(", at line 2, column 3")
    assert trial.excerpt == "2 |   $event.a.b\n  |   ^"


def test_failure_without_a_position_has_no_excerpt() -> None:
    (trial,) = trials("$event.n", b"{")
    assert trial.outcome == "failed"
    assert trial.excerpt is None


@pytest.mark.parametrize(("pipeline", "shown"), [("orders", "orders"), (None, None)])
def test_record_is_of_the_present_and_numbered(pipeline: str | None, shown: str | None) -> None:
    lines = [str(it.line) for it in trials("$context", b"1", b"2", pipeline=pipeline)]
    contexts = [json.loads(it) for it in lines]
    assert [it["offset"] for it in contexts] == [0, 1]
    assert contexts[0] == {
        "topic": "events",
        "partition": 0,
        "offset": 0,
        "timestamp": "2017-07-14T02:40:00.000Z",
        "pipeline": shown,
        "headers": {},
        "destination": "archive",
    }


@pytest.mark.parametrize(
    ("step", "seconds"),
    [(SLOW_SECONDS / 2, SLOW_SECONDS / 2 / COPIES), (2 * SLOW_SECONDS, 2 * SLOW_SECONDS)],
)
def test_fast_evaluation_is_timed_in_a_batch_and_a_slow_one_alone(
    step: float, seconds: float
) -> None:
    (trial,) = trials("$event", b"1", step=step)
    assert trial.microseconds == pytest.approx(seconds * 1e6)


def test_document_of_a_trial_has_all_but_the_excerpt() -> None:
    (trial,) = trials("$event", b"1", step=COPIES * 1e-3)
    assert trial.document() == {
        "destination": "archive",
        "event": 0,
        "outcome": "delivered",
        "line": "1",
        "path": "fast",
        "error": None,
        "microseconds": 1000.0,
    }
