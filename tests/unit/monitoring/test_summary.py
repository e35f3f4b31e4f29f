"""What lasts is told when it begins and when it ends, and a minute is summed up in one line."""

import asyncio
import logging
from typing import Any

import aiohttp
import pytest

from stream_app.assignment import Assignment
from stream_app.closings import Commit
from stream_app.expressions import TP
from stream_app.metrics import Counts
from stream_app.watch import (
    AWAY_SECONDS,
    LAGGING_OFFSETS_MIN,
    RELIEVED_SECONDS,
    START_SECONDS,
    Watch,
    complain,
)
from tests.unit.records import RULES, answer, batch, record

TP_1 = TP("events", 1)
BROKER = "kafka://127.0.0.1:9092"


class Scene:
    """A worker that is looked at each second."""

    def __init__(self, caplog: pytest.LogCaptureFixture, *, knows: bool = True) -> None:
        caplog.set_level(logging.DEBUG)
        self.caplog = caplog
        self.now = 1000.0
        self.counts = Counts()
        self.assignment = Assignment(RULES, 16 * 1024 * 1024)
        self.assignment.assigned([TP_1])
        self.assignment.loaded(TP_1, 0, Commit(10, ()))
        self.ends: dict[TP, int] = {}
        self.waited = 0.0
        self.knows = knows
        self.watch = Watch(
            self.counts,
            self.assignment,
            16,
            BROKER,
            log_ends=lambda: self.ends,
            waited=lambda: self.waited,
            knows_broker=lambda: self.knows,
        )
        self.watch.look(self.now)  # the first summary
        self.caplog.clear()

    def pass_(self, seconds: int, waiting: float = 0.0) -> None:
        for _ in range(seconds):
            self.now += 1
            self.waited += waiting
            self.watch.look(self.now)

    @property
    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """All but summaries, and forget it."""
        told: list[Any] = [(it.happening.name, it.fields) for it in self.records()]  # type: ignore[attr-defined] # `say` sets them
        self.caplog.clear()
        return [it for it in told if it[0] != "summary"]

    def records(self) -> list[logging.LogRecord]:
        return [it for it in self.caplog.records if hasattr(it, "happening")]

    def summaries(self) -> list[logging.LogRecord]:
        return [it for it in self.records() if it.happening.name == "summary"]  # type: ignore[attr-defined] # `say` sets it


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Scene:
    return Scene(caplog)


# --- memory --------------------------------------------------------------------------------------


def test_memory_pressure_is_told_once_when_it_begins_and_once_when_it_ends(scene: Scene) -> None:
    scene.pass_(5, waiting=0.8)
    ((name, fields),) = scene.told
    assert (name, fields) == ("memory-pressure", {"held_mib": 0.0, "bound_mib": 16})
    scene.pass_(int(RELIEVED_SECONDS) + 5)
    ((name, fields),) = scene.told
    assert name == "memory-relieved"
    assert fields["seconds"] == 4 + RELIEVED_SECONDS
    assert fields["waited_seconds"] == pytest.approx(4.0)


def test_pressure_that_comes_and_goes_is_one(scene: Scene) -> None:
    for _ in range(5):
        scene.pass_(1, waiting=0.5)
        scene.pass_(int(RELIEVED_SECONDS) - 1)
    assert [name for name, _ in scene.told] == ["memory-pressure"]


def test_short_waits_are_no_pressure(scene: Scene) -> None:
    scene.pass_(30, waiting=0.05)
    assert scene.told == []


# --- the broker ----------------------------------------------------------------------------------


def test_broker_that_goes_away_is_told_once_and_so_is_its_return(scene: Scene) -> None:
    scene.knows = False
    scene.pass_(30)
    scene.knows = True
    scene.pass_(10)
    (away, back) = scene.told
    assert away == ("broker-away", {"broker": BROKER})
    assert back == ("broker-back", {"broker": BROKER, "seconds": 31.0})


def test_coordinator_that_changes_is_not_away(scene: Scene) -> None:
    scene.knows = False
    scene.pass_(int(AWAY_SECONDS) - 1)
    scene.knows = True
    scene.pass_(10)
    assert scene.told == []


def test_worker_that_begins_has_longer_to_find_its_broker(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(caplog, knows=False)
    scene.pass_(int(START_SECONDS) - 1)
    assert scene.told == []
    scene.pass_(1)
    assert [name for name, _ in scene.told] == ["broker-away"]


# --- the summary ---------------------------------------------------------------------------------


def test_summary_tells_what_was_done_since_the_last_one_and_how_things_stand(scene: Scene) -> None:
    fetched = batch(record(10, 1), record(11, 2))
    answers = answer(fetched.records)  # type: ignore[arg-type] # they are samples
    scene.assignment.collect(TP_1, 0, fetched, answers, 1_795_537_862)
    scene.ends = {TP_1: 20, TP("events", 9): 1_000}  # one that it does not hold
    scene.counts.events = 7
    scene.counts.total.delivered, scene.counts.total.object_bytes = 5, 812
    scene.pass_(60)
    scene.counts.events += 1
    scene.pass_(60)
    first, second = scene.summaries()
    assert first.fields == {  # type: ignore[attr-defined] # `say` sets it
        "seconds": 60.0,
        "events": 7,
        "delivered": 5,
        "skipped": 0,
        "failed": 0,
        "given_up": 0,
        "objects": 0,
        "bytes": 812,
        "receipts": 0,
        "retries": 0,
        "open_windows": 1,
        "waiting": 0,
        "held_mib": 0.0,
        "bound_mib": 16,
        "unread": 8,
        "lag": 10,
    }
    assert first.getMessage() == (
        "last 60 s: 7 events; 5 delivered, 0 skipped, 0 failed, 0 given up; 0 objects of 812 "
        "bytes, 0 receipts, 0 retries. Now: 1 windows open, 0 objects waiting, 0.0 of 16 MiB held, "
        "8 offsets to read, lag 10"
    )
    assert second.fields["events"] == 1  # type: ignore[attr-defined] # `say` sets it


def test_there_is_one_summary_a_minute(scene: Scene) -> None:
    scene.pass_(300)
    assert len(scene.summaries()) == 5


def test_watch_that_ends_sums_up_once_more(scene: Scene) -> None:
    async def scenario() -> None:
        watching = asyncio.create_task(scene.watch.run())
        await asyncio.sleep(0)
        scene.counts.events = 3
        watching.cancel()
        await asyncio.wait([watching])

    asyncio.run(scenario())
    (last,) = scene.summaries()
    assert last.fields["events"] == 3  # type: ignore[attr-defined] # `say` sets it
    assert last.getMessage().endswith(" receipts, 0 retries"), "its partitions are gone"


# --- lag -----------------------------------------------------------------------------------------


def test_lag_is_told_when_it_begins_and_when_it_ends(scene: Scene) -> None:
    scene.counts.events, scene.ends = 100, {TP_1: 10 + LAGGING_OFFSETS_MIN + 1}
    scene.pass_(180)
    scene.ends = {TP_1: 30}
    scene.pass_(120)
    begun, ended = scene.told
    assert begun == ("lagging", {"events": 100, "unread": LAGGING_OFFSETS_MIN + 1})
    assert ended == ("caught-up", {"events": 0, "unread": 20, "seconds": 180.0})


def test_less_than_a_minutes_worth_is_no_lag(scene: Scene) -> None:
    scene.counts.events, scene.ends = 120_000, {TP_1: 10 + 100_000}
    scene.pass_(60)
    assert scene.told == []


# --- what asyncio complains of -------------------------------------------------------------------


def complained(error: Exception, name: str, caplog: pytest.LogCaptureFixture) -> Any:
    """Let a task with this name of its function end in an error that nobody asks for."""
    caplog.set_level(logging.DEBUG)

    async def fail() -> None:
        raise error

    fail.__qualname__ = name

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(complain)
        task = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        del task

    asyncio.run(scenario())
    (told,) = [it for it in caplog.records if it.levelno > logging.DEBUG or it.name != "asyncio"]
    return told


def test_connection_that_ends_under_a_request_is_one_line_at_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = aiohttp.ClientConnectionResetError("Cannot write to closing transport")
    told = complained(error, "ClientRequest.write_bytes", caplog)
    assert (told.happening.name, told.levelname) == ("connection-lost", "DEBUG")
    assert not told.exc_info


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("a defect"), "ClientRequest.write_bytes"),
        (aiohttp.ClientConnectionResetError("x"), "Deliver.stream"),
    ],
)
def test_any_other_error_that_nobody_asks_for_is_told_with_where_it_came_from(
    error: Exception, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = complained(error, name, caplog)
    assert (told.name, told.levelname) == ("asyncio", "ERROR")
    assert told.exc_info
