"""A filter by outcome selects events, and names the offsets where they can be."""

import pytest

from stream_app.core.receipt import Receipt, Status
from stream_app.inspector.core import event_filter
from stream_app.inspector.core.cursors import Run
from stream_app.inspector.core.event_filter import NEAR_OFFSETS, EventFilter, runs_with
from stream_app.inspector.core.index import Event
from tests.unit.inspector.core.messages import index, receipt
from tests.unit.samples import MINUTE

FAR = 2 * NEAR_OFFSETS


def runs(outcome: str | None, *receipts: Receipt) -> dict[int, list[Run]] | None:
    return runs_with(outcome, index(*receipts).entries())


def test_filter_takes_the_events_with_an_outcome_at_a_destination() -> None:
    receipts = index(
        receipt(0, 10, failed=[3]),
        receipt(0, 10, destination="other", skipped=[(3, 3)]),
        configured={"archive": "orders", "other": "orders"},
    )

    def takes(offset: int, key: bytes = b"orders", **wanted: str) -> bool:
        found = EventFilter(**wanted)
        assert found.by_outcome
        return found.takes(receipts.outcomes(Event(0, offset, key), found.destination))

    assert takes(3, outcome="failed")
    assert not takes(4, outcome="failed")
    assert takes(3, outcome="skipped", destination="other")
    assert not takes(3, outcome="skipped", destination="archive")
    assert takes(4, destination="archive")
    assert not takes(4, destination="gone")
    assert not takes(4, b"ordres", destination="archive")
    assert takes(4, b"ordres", outcome="unmatched")
    assert not takes(4, outcome="unmatched")
    assert not EventFilter("text", "orders").by_outcome


def test_filter_by_text_or_pipeline_is_compiled() -> None:
    assert EventFilter().compiled() is None
    for wanted in (EventFilter("a"), EventFilter(pipeline="b")):
        assert wanted.compiled() is not None


def test_failed_events_are_where_receipts_list_them_or_a_window_was_given_up() -> None:
    found = runs(
        "failed",
        receipt(0, 10),
        receipt(1_000, 3_000, failed=[1_001, 1_002, 1_002 + FAR]),
        receipt(3_000, 3_010, status=Status.FAILED),
        receipt(0, 10, partition=1, failed=[5]),
    )
    assert found == {
        0: [Run(1_001, 1_003), Run(1_002 + FAR, 1_003 + FAR), Run(3_000, 3_010)],
        1: [Run(5, 6)],
    }


def test_skipped_and_retrying_events_are_where_receipts_count_them() -> None:
    receipts = (
        receipt(0, 1_000, skipped=[(2, 4), (FAR, FAR)]),
        receipt(2_000, 2_010, status=Status.RETRYING),
        receipt(3_000, 3_010, status=Status.RETRYING, skipped=[(3_001, 3_001)]),
    )
    assert runs("skipped", *receipts) == {0: [Run(2, 5), Run(FAR, FAR + 1), Run(3_000, 3_010)]}
    assert runs("retrying", *receipts) == {0: [Run(2_000, 2_010), Run(3_000, 3_010)]}
    assert runs("retrying") == {}


@pytest.mark.parametrize("outcome", [None, "delivered", "pending", "unknown", "unmatched"])
def test_other_events_can_be_anywhere(outcome: str | None) -> None:
    assert runs(outcome, receipt()) is None


def test_lists_of_many_receipts_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_filter, "LISTED_RECEIPTS_MAX", 1)
    found = runs(
        "failed",
        receipt(0, 10, failed=[5]),
        receipt(1_000, 1_010, failed=[1_005], start=MINUTE + 60),
    )
    assert found == {0: [Run(0, 10), Run(1_005, 1_006)]}
