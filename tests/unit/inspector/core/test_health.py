"""The health names what fails, the worst first."""

from typing import Any

from stream_app.core.receipt import Receipt, Status
from stream_app.inspector.core.health import (
    SHOWN_FAILING_MAX,
    Brief,
    Unmatched,
    choices_document,
    failing_of,
    health_document,
    unmatched_of,
)
from stream_app.inspector.core.statistics import destination_summary
from tests.unit.inspector.core.messages import index, receipt
from tests.unit.samples import MINUTE

NOW = MINUTE + 90


def brief(name: str, *receipts: Receipt, pipeline: str | None = "orders") -> Brief:
    entries = index(*receipts).of_destination("archive")
    summary = destination_summary(
        name, pipeline, "my-bucket", "", entries=entries, now=NOW, configured=True
    )
    return Brief.of(summary)


GOOD = brief("good", receipt(0, 10, skipped=[(1, 1)]))
GIVEN_UP = brief("given-up", receipt(0, 10, status=Status.FAILED))
LATE = brief("late", receipt(0, 10, status=Status.RETRYING))
LATER = brief("later", receipt(0, 10, status=Status.RETRYING, start=MINUTE + 60))
DEGRADED = brief("degraded", receipt(0, 10, failed=[1, 2]))
QUIET = brief("quiet")


def health(*destinations: Brief, unmatched: Unmatched | None = None) -> dict[str, Any]:
    return health_document(destinations, unmatched, ["a mistake"])


def test_failing_destinations_come_worst_first_with_their_cause() -> None:
    found = health(QUIET, DEGRADED, LATER, LATE, GOOD, GIVEN_UP)
    assert found["destinations"] == 6
    assert found["states"] == {
        "quiet": 1, "degraded": 1, "retrying": 2, "delivering": 1, "failed": 1
    }  # fmt: skip
    assert [(it["id"], it["cause"]) for it in found["failing"]] == [
        ("given-up", "AccessDenied: Access Denied"),
        ("late", "AccessDenied: Access Denied"),
        ("later", "AccessDenied: Access Denied"),
    ]
    assert len(failing_of([DEGRADED] * 5)) == 5
    assert len(health(*[DEGRADED] * 5)["failing"]) == SHOWN_FAILING_MAX
    assert health(DEGRADED)["failing"][0]["cause"] == "TypeError: 1"
    assert found["oldest_undelivered"] == {
        "destination": "given-up",
        "start": "2026-11-24T16:31:00.000Z",
        "partition": 0,
        "first_offset": 0,
    }
    assert found["refused"] == 3
    assert found["configuration_mistakes"] == ["a mistake"]


def test_health_adds_up_what_was_delivered() -> None:
    found = health(GOOD, GOOD, DEGRADED, LATE)
    assert found["delivered_a_minute"] == 26
    assert found["totals"] == {"events": 26, "skipped": 2, "failed": 2, "retrying": 10}
    assert found["oldest_undelivered"]["destination"] == "late"
    assert health(GOOD)["oldest_undelivered"] is None


def test_health_of_no_destination() -> None:
    found = health()
    assert found["totals"] == {"events": 0, "skipped": 0, "failed": 0, "retrying": 0}
    assert (found["delivered_a_minute"], found["failing"]) == (0, [])
    assert found["unmatched"] is None


def test_unmatched_events_are_those_whose_key_no_destination_takes() -> None:
    keys = [b"orders", b"ordres", None, b"ordres", b"\xff"]
    found = unmatched_of(keys, ["orders", "signups"])
    assert (found.events, found.examined) == (4, 5)
    assert found.note == ("no destination takes the key 'ordres' (nearest pipeline: 'orders')")
    assert health(unmatched=found)["unmatched"]["events"] == 4
    assert unmatched_of(keys, ["orders", None]) == Unmatched(0, 5, None)
    assert unmatched_of([b"orders"], ["orders"]) == Unmatched(0, 1, None)
    assert unmatched_of([], []) == Unmatched(0, 0, None)


def test_choices_begin_with_what_failed() -> None:
    found = choices_document([QUIET, GOOD, DEGRADED, brief("every", receipt(), pipeline=None)])
    assert found["destinations"] == [
        ("degraded", "2 failed of 10 events in the hour"),
        ("every", "10 events in the hour"),
        ("good", "10 events in the hour"),
        ("quiet", "0 events in the hour"),
    ]
    assert found["pipelines"] == [("orders", "10 events in the hour")]
