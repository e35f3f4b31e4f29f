"""Conditions are logged when they begin and when they end, and a minute in one summary."""

import asyncio
import logging
from typing import Any

import aiohttp
import pytest

from stream_app import log_events
from stream_app.core.assignment import Assignment
from stream_app.core.commit_metadata import Commit
from stream_app.core.pipeline_names import PipelineNames
from stream_app.core.receipt import Tally
from stream_app.monitoring.counts import Counts
from stream_app.monitoring.open_transactions import LONG_SECONDS, OpenTransactions
from stream_app.monitoring.summary import (
    AWAY_SECONDS,
    LAGGING_OFFSETS_MIN,
    RELIEVED_SECONDS,
    START_SECONDS,
    PeriodicSummary,
)
from stream_app.records import TopicPartition
from stream_app.worker.log_messages import handle_loop_exception
from tests.unit.core.builders import RULES, answer, batch, record

TP_1 = TopicPartition("events", 1)
BROKER = "kafka://127.0.0.1:9092"


class Scene:
    """A worker that is checked each second."""

    def __init__(self, caplog: pytest.LogCaptureFixture, *, knows: bool = True) -> None:
        caplog.set_level(logging.DEBUG)
        self.caplog = caplog
        self.now = 1000.0
        self.counts = Counts()
        self.assignment = Assignment(RULES, 16 * 1024 * 1024)
        self.assignment.assigned([TP_1])
        self.assignment.loaded(TP_1, 0, Commit(10, ()))
        self.ends: dict[TopicPartition, int] = {}
        self.high_watermarks: dict[TopicPartition, int] = {}
        self.unanswered: dict[TopicPartition, float] = {}
        self.waited = 0.0
        self.knows = knows
        self.watch = PeriodicSummary(
            self.counts,
            self.assignment,
            16,
            BROKER,
            open_transactions=OpenTransactions(),
            log_ends=lambda: self.ends,
            high_watermarks=lambda: self.ends | self.high_watermarks,
            unanswered=lambda: self.unanswered,
            waited=lambda: self.waited,
            knows_coordinator=lambda: self.knows,
            pipelines=lambda: PipelineNames(["orders", "signups", None]),
        )
        self.watch.check(self.now)  # the first summary
        self.caplog.clear()

    def pass_(self, seconds: int, waiting: float = 0.0) -> None:
        for _ in range(seconds):
            self.now += 1
            self.waited += waiting
            self.watch.check(self.now)

    @property
    def logged(self) -> list[tuple[str, dict[str, Any]]]:
        """Names and fields of the events so far, without summaries; each is returned once."""
        events: list[Any] = [(it.log_event.name, it.fields) for it in self.records()]  # type: ignore[attr-defined] # `log_event` sets them
        self.caplog.clear()
        return [it for it in events if it[0] != "summary"]

    def records(self) -> list[logging.LogRecord]:
        return [it for it in self.caplog.records if hasattr(it, "log_event")]

    def summaries(self) -> list[logging.LogRecord]:
        return [it for it in self.records() if it.log_event.name == "summary"]  # type: ignore[attr-defined] # `log_event` sets it


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Scene:
    return Scene(caplog)


# --- memory --------------------------------------------------------------------------------------


def test_memory_pressure_is_logged_once_when_it_begins_and_once_when_it_ends(scene: Scene) -> None:
    scene.pass_(5, waiting=0.8)
    ((name, fields),) = scene.logged
    assert (name, fields) == ("memory-pressure", {"held_mib": 0.0, "bound_mib": 16})
    scene.pass_(int(RELIEVED_SECONDS) + 5)
    ((name, fields),) = scene.logged
    assert name == "memory-relieved"
    assert fields["seconds"] == 4 + RELIEVED_SECONDS
    assert fields["waited_seconds"] == pytest.approx(4.0)


def test_pressure_that_comes_and_goes_is_one(scene: Scene) -> None:
    for _ in range(5):
        scene.pass_(1, waiting=0.5)
        scene.pass_(int(RELIEVED_SECONDS) - 1)
    assert [name for name, _ in scene.logged] == ["memory-pressure"]


def test_short_waits_are_no_pressure(scene: Scene) -> None:
    scene.pass_(30, waiting=0.05)
    assert scene.logged == []


# --- the broker ----------------------------------------------------------------------------------


def test_broker_that_goes_away_is_logged_once_and_so_is_its_return(scene: Scene) -> None:
    scene.knows = False
    scene.pass_(30)
    scene.knows = True
    scene.pass_(10)
    (away, back) = scene.logged
    assert away == ("broker-away", {"broker": BROKER})
    assert back == ("broker-back", {"broker": BROKER, "seconds": 31.0})


def test_leader_that_does_not_respond_is_logged_once_and_so_is_its_return(scene: Scene) -> None:
    other = TopicPartition("events", 9)
    scene.unanswered = {TP_1: 11.0, other: 12.0}
    scene.pass_(30)
    scene.unanswered = {TP_1: 41.0}
    scene.pass_(1)
    scene.unanswered = {}
    scene.pass_(5)
    away, back = scene.logged
    assert away == ("leader-away", {"partitions": 2, "topic": "events", "partition": 9})
    assert back == ("leader-back", {"seconds": 43.0})


def test_coordinator_that_changes_is_not_away(scene: Scene) -> None:
    scene.knows = False
    scene.pass_(int(AWAY_SECONDS) - 1)
    scene.knows = True
    scene.pass_(10)
    assert scene.logged == []


def test_worker_that_begins_has_longer_to_find_its_broker(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(caplog, knows=False)
    scene.pass_(int(START_SECONDS) - 1)
    assert scene.logged == []
    scene.pass_(1)
    assert [name for name, _ in scene.logged] == ["broker-away"]


# --- the summary ---------------------------------------------------------------------------------


def test_summary_has_the_work_since_the_last_one_and_the_present_state(scene: Scene) -> None:
    fetched = batch(record(10, 1), record(11, 2))
    answers = answer(fetched.records)  # type: ignore[arg-type] # they are samples
    scene.assignment.collect(TP_1, 0, fetched, answers, 1_795_537_862)
    scene.ends = {TP_1: 20, TopicPartition("events", 9): 1_000}  # one that it does not hold
    scene.high_watermarks = {TP_1: 23}
    scene.unanswered = {TP_1: 11.0}
    scene.counts.events, scene.counts.unmatched_events = 7, 2
    scene.counts.total.delivered, scene.counts.total.object_bytes = 5, 812
    scene.pass_(60)
    scene.counts.events += 1
    scene.pass_(60)
    first, second = scene.summaries()
    assert tuple(first.fields) == (*log_events.PROGRESS, *log_events.STATE)  # type: ignore[attr-defined] # `log_event` sets it
    assert first.fields == {  # type: ignore[attr-defined] # `log_event` sets it
        "seconds": 60.0,
        "events": 7,
        "unmatched": 2,
        "delivered": 5,
        "skipped": 0,
        "failed": 0,
        "given_up": 0,
        "objects": 0,
        "bytes": 812,
        "receipts": 0,
        "failed_attempts": 0,
        "open_windows": 1,
        "waiting": 0,
        "held_mib": 0.0,
        "bound_mib": 16,
        "unread": 8,
        "hidden": 3,
        "lag": 13,
        "unanswered": 1,
    }
    assert first.getMessage() == (
        "last 60 s: 7 events, 2 of them for no destination; 5 delivered, 0 skipped, 0 failed, "
        "0 given up; 0 objects of 812 bytes, 0 receipts, 0 failed attempts. Now: 1 windows open, "
        "0 objects waiting, 0.0 of 16 MiB held, 8 offsets to read, 3 hidden by a transaction, "
        "lag 13, partitions without a response: 1"
    )
    assert second.fields["events"] == 1  # type: ignore[attr-defined] # `log_event` sets it


def test_there_is_one_summary_a_minute(scene: Scene) -> None:
    scene.pass_(300)
    assert len(scene.summaries()) == 5


def test_last_summary_is_logged_when_the_task_is_cancelled(scene: Scene) -> None:
    async def scenario() -> None:
        watching = asyncio.create_task(scene.watch.run())
        await asyncio.sleep(0)
        scene.counts.events = 3
        watching.cancel()
        await asyncio.wait([watching])

    asyncio.run(scenario())
    (last,) = scene.summaries()
    assert last.fields["events"] == 3  # type: ignore[attr-defined] # `log_event` sets it
    assert last.getMessage().endswith(" receipts, 0 failed attempts"), "its partitions are gone"


# --- open transactions ---------------------------------------------------------------------------


def test_transaction_that_nobody_ends_is_logged_once_when_it_is_old_and_once_when_it_ends(
    scene: Scene,
) -> None:
    scene.ends, scene.high_watermarks = {TP_1: 15}, {TP_1: 115}
    scene.pass_(int(LONG_SECONDS))
    assert scene.logged == []
    scene.pass_(300)
    place = {"topic": "events", "partition": 1, "first_offset": 15}
    assert scene.logged == [("transaction-open", {**place, "hidden": 100, "seconds": 60.0})]
    scene.ends = {TP_1: 116}
    scene.high_watermarks = {TP_1: 116}
    scene.pass_(2)
    ((name, fields),) = scene.logged
    assert (name, fields) == ("transaction-ended", {**place, "hidden": 100, "seconds": 359.0})


# --- destinations that fail, and events of no destination -----------------------------------------


def test_destination_that_fails_is_logged_when_it_begins_and_when_it_ends(scene: Scene) -> None:
    tally = Tally()
    tally.deliver(30)
    for offset in range(14):
        tally.fail(offset, f"events/1@{offset}", "TypeError: \x1b[2J")
    scene.counts.failing.add("orders", tally)
    scene.pass_(300)
    fields = {"destination": "orders", "events": 44, "failed": 14, "error": "TypeError: \x1b[2J"}
    (message,) = [it for it in scene.records() if it.levelname == "WARNING"]
    assert message.getMessage() == (
        "destination orders is failing: no payload for 14 of 44 events (32 %): TypeError: "
        "\x1b[2J; correct its expression, then run stream-app redeliver --failed-events"
    )
    assert scene.logged == [("failing", fields)]
    scene.pass_(400)
    ((name, fields),) = scene.logged
    assert (name, fields["destination"], fields["seconds"]) == ("failing-ended", "orders", 599.0)


def test_keys_that_no_destination_takes_are_logged_once_a_minute_with_the_nearest_pipeline(
    scene: Scene,
) -> None:
    scene.counts.unmatched_keys.add({b"ordres": 40, b"x\x1b[2J\n": 2, None: 1})
    scene.pass_(1)
    first, *_ = scene.records()
    assert first.levelname == "WARNING"
    assert first.getMessage() == (
        "40 events with the key 'ordres': no destination takes it (nearest pipeline: 'orders'); "
        "correct the producer's key, or add a destination"
    )
    assert scene.logged == [
        ("unmatched", {"record_key": "'ordres'", "events": 40, "nearest": "orders"}),
        ("unmatched", {"record_key": r"'x\x1b[2J\n'", "events": 2}),
        ("unmatched", {"record_key": "none", "events": 1}),
    ]
    scene.counts.unmatched_keys.add({b"ordres": 40})
    scene.pass_(59)
    assert scene.logged == []
    scene.pass_(1)
    assert [name for name, _ in scene.logged] == ["unmatched"]
    scene.pass_(300)
    assert scene.logged == []


# --- lag -----------------------------------------------------------------------------------------


def test_lag_is_logged_when_it_begins_and_when_it_ends(scene: Scene) -> None:
    scene.counts.events, scene.ends = 100, {TP_1: 10 + LAGGING_OFFSETS_MIN + 1}
    scene.pass_(180)
    scene.ends = {TP_1: 30}
    scene.pass_(120)
    begun, ended = scene.logged
    assert begun == ("lagging", {"events": 100, "unread": LAGGING_OFFSETS_MIN + 1})
    assert ended == ("caught-up", {"events": 0, "unread": 20, "seconds": 180.0})


def test_less_than_a_minutes_worth_is_no_lag(scene: Scene) -> None:
    scene.counts.events, scene.ends = 120_000, {TP_1: 10 + 100_000}
    scene.pass_(60)
    assert scene.logged == []


# --- exceptions of the event loop ----------------------------------------------------------------


def logged_exception(error: Exception, name: str, caplog: pytest.LogCaptureFixture) -> Any:
    """Let a task with this name of its function end in an exception that no code awaits."""
    caplog.set_level(logging.DEBUG)

    async def fail() -> None:
        raise error

    fail.__qualname__ = name

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(handle_loop_exception)
        task = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        del task

    asyncio.run(scenario())
    (message,) = [it for it in caplog.records if it.levelno > logging.DEBUG or it.name != "asyncio"]
    return message


def test_connection_that_ends_under_a_request_is_one_line_at_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = aiohttp.ClientConnectionResetError("Cannot write to closing transport")
    message = logged_exception(error, "ClientRequest.write_bytes", caplog)
    assert (message.log_event.name, message.levelname) == ("connection-lost", "DEBUG")
    assert not message.exc_info


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("a defect"), "ClientRequest.write_bytes"),
        (aiohttp.ClientConnectionResetError("x"), "Deliver.stream"),
    ],
)
def test_any_other_exception_of_a_task_is_logged_with_its_traceback(
    error: Exception, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    message = logged_exception(error, name, caplog)
    assert (message.name, message.levelname) == ("asyncio", "ERROR")
    assert message.exc_info
