"""How messages call what they speak of."""

import logging

import pytest

from stream_app import telling
from stream_app.errors import FencedError
from stream_app.expressions import TP

TPS = [TP("events", number) for number in (3, 0, 7, 1)]


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [([], ""), ([4], "4"), ([0, 1], "0-1"), ([0, 1, 2, 3, 7, 9, 10], "0-3, 7, 9-10")],
)
def test_partitions_are_shown_as_runs(numbers: list[int], shown: str) -> None:
    assert telling.runs(numbers) == shown


def test_assignment_names_its_partitions_and_no_other_topic(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    telling.assigned("events", [*TPS, TP("other", 5)], generation=2)
    assert caplog.messages == ["assigned: 4 partitions of events: 0-1, 3, 7"]


def test_assignment_of_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    telling.assigned("events", [], generation=2)
    assert caplog.messages == ["assigned: 0 partitions of events"]


def test_revocation_of_nothing_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    telling.revoked("events", [])
    assert caplog.messages == []


def test_work_of_somebody_else_names_its_partition_if_it_is_of_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    telling.not_ours("batch dropped", FencedError("old"), TP("events", 3))
    telling.not_ours("not read back", FencedError("old"))
    fields = [it.fields for it in caplog.records]  # type: ignore[attr-defined] # `say` sets them
    assert fields == [{"topic": "events", "partition": 3}, {}]
    assert caplog.messages == ["batch dropped: old", "not read back: old"]
