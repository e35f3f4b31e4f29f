"""Log fields of core objects, and the texts of rebalances and windows."""

import logging

import pytest

from stream_app import log_events
from stream_app.core.commit_metadata import Commit
from stream_app.core.partition import Partition
from stream_app.core.tasks import DeliveryTask, PartUpload
from stream_app.errors import FencedError
from stream_app.records import TopicPartition
from stream_app.worker import log_messages
from tests.unit.core.builders import (
    EVENTS,
    MINUTE,
    RULES,
    STREAMING,
    batch,
    collect,
    compress,
    noise,
    record,
    record_closings,
    stored,
)

TPS = [TopicPartition("events", number) for number in (3, 0, 7, 1)]
WINDOW = "window 2026-11-24T16:31:00Z of events/3, offsets 10 to 11"


def closed_window() -> DeliveryTask:
    partition = Partition(EVENTS, RULES, 0, Commit(10, ()))
    collect(partition, batch(record(10, 1), record(11, 2)), 3)
    partition.tick(MINUTE + 100, 12)
    record_closings(partition)
    (task,) = partition.delivery_tasks()
    return task


def open_window() -> PartUpload:
    partition = Partition(EVENTS, STREAMING, 0, Commit(10, ()))
    collect(partition, batch(record(10, 1, noise(900))), 3)
    compress(partition.window)
    (task,) = partition.part_uploads()
    return task


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [([], ""), ([4], "4"), ([0, 1], "0-1"), ([0, 1, 2, 3, 7, 9, 10], "0-3, 7, 9-10")],
)
def test_partitions_are_shown_as_runs(numbers: list[int], shown: str) -> None:
    assert log_messages.runs(numbers) == shown


def test_assignment_names_its_partitions_and_no_other_topic(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    log_messages.assigned("events", [*TPS, TopicPartition("other", 5)], generation=2)
    log_messages.revoked("events", TPS)
    assert caplog.messages == [
        "assigned: 4 partitions of events: 0-1, 3, 7",
        "revoked: 4 partitions of events: 0-1, 3, 7",
    ]


def test_assignment_of_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_messages.assigned("events", [], generation=2)
    assert caplog.messages == ["assigned: 0 partitions of events: none"]


def test_revocation_of_nothing_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_messages.revoked("events", [])
    assert caplog.messages == []


def test_fenced_work_names_its_partition_if_it_has_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log_messages.fenced("batch", FencedError("old"), TopicPartition("events", 3))
    log_messages.fenced("read-back", FencedError("old"))
    fields = [it.fields for it in caplog.records]  # type: ignore[attr-defined] # `log_event` sets it
    assert fields == [{"topic": "events", "partition": 3, "error": "old"}, {"error": "old"}]
    assert caplog.messages == ["batch dropped: old", "read-back dropped: old"]


def test_fields_of_a_closed_window_are_those_that_events_declare() -> None:
    task = closed_window()
    fields = log_messages.delivery_fields(task)
    assert tuple(fields) == ("subject", *log_events.DELIVERY)
    assert tuple(log_messages.window_fields(task)) == log_events.WINDOW
    assert tuple(log_messages.partition_fields(EVENTS)) == log_events.PARTITION
    assert (fields["first_offset"], fields["end_offset"]) == (10, 12)
    assert fields["subject"] == f"destination orders-archive, {WINDOW}"


def test_fields_of_an_open_window_have_neither_its_time_nor_its_offsets() -> None:
    assert log_messages.delivery_fields(open_window()) == {
        "subject": "destination orders-archive, open window of events/3",
        "destination": "orders-archive",
        "topic": "events",
        "partition": 3,
    }


def test_closed_window_is_logged_once_at_debug_only(caplog: pytest.LogCaptureFixture) -> None:
    task = closed_window()
    caplog.set_level(logging.INFO)
    log_messages.closed([task, task])
    assert caplog.messages == []
    caplog.set_level(logging.DEBUG)
    log_messages.closed([task, task])
    assert caplog.messages == [f"{WINDOW}: closed, for 1 destination"]


@pytest.mark.parametrize(("already_existed", "note"), [(False, ""), (True, ", there already")])
def test_stored_object_is_logged_with_its_place(
    caplog: pytest.LogCaptureFixture, note: str, *, already_existed: bool
) -> None:
    caplog.set_level(logging.INFO)
    task = closed_window()
    log_messages.stored(task, stored(b"12345", already_existed=already_existed), 2)
    subject, key = log_messages.subject(task), task.delivery.key
    assert caplog.messages == [f"{subject}: 2 lines at s3://my-bucket/{key}{note}"]
