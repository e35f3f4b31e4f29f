"""Faults at one exact moment each, with real workers, a real broker and a real S3 server.

Whatever happens, each scenario ends like this: the fault is over, a worker is there, the group
commits the end of every log, and the oracle finds each event exactly once where it belongs.
Faults at random moments, and several at a time, are the work of `test_schedule`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.clocked_worker import set_clock
from tests.chaos.harness import (
    GRACE_SECONDS,
    LONG_SESSION_SECONDS,
    PARTITIONS,
    SESSION_SECONDS,
    SETTLED_SECONDS_MAX,
    START_SECONDS_MAX,
    WINDOW_SECONDS,
    Lab,
    Worker,
    in_a_loop,
    wait_until,
)
from tests.chaos.injector import launch_clocked
from tests.chaos.oracle import Published
from tests.chaos.s3_proxy import Fault
from tests.integration.worker.test_monitoring import address_of, scraped, total

RATE: Final = 300
CLOCK_SECONDS: Final = 600
QUIET_GRACE_SECONDS: Final = 10
"""An event that comes later than this after its window makes another one of the same minute, as
documented; a loaded machine holds events up for a second."""


@in_a_loop
async def test_nothing_becomes_visible_before_the_broker_has_its_closing(
    own_kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(own_kafka.address, s3, tmp_path, partitions=1) as lab:
        lab.clock_step_seconds_max = CLOCK_SECONDS
        worker, clock = launch_clocked(lab)
        await _events_of_a_window_that_stays_open(lab, worker, clock)
        await asyncio.to_thread(own_kafka.kill)
        # The window closes for want of records, which the worker cannot record.
        set_clock(clock, CLOCK_SECONDS)
        await asyncio.sleep(GRACE_SECONDS + 1)
        assert await asyncio.to_thread(lab.keys) == []
        await asyncio.to_thread(own_kafka.start)
        await lab.settled()
        await lab.verify()
        assert worker.running


async def _events_of_one_window(lab: Lab) -> None:
    await _window_begins()
    # The first one makes the window, which late ones then join: were it late, it would have one
    # of its own.
    # And each destination has an event, whatever the seed draws.
    lab.load.at_ms = int(time.time() * 1000)
    await lab.load.send(1, pipeline="orders")
    lab.load.at_ms = None
    await lab.load.send(49)


async def _events_of_a_window_that_stays_open(lab: Lab, worker: Worker, clock: Path) -> None:
    """Send 50 events and wait until the worker has them, whose clock stands until it is set."""
    address = await address_of(worker)
    now = time.time()
    set_clock(clock, 0.0, stands_at=now)
    lab.load.at_ms = int(now * 1000)
    await lab.load.send(1, pipeline="orders")
    await lab.load.send(49)
    lab.load.at_ms = None

    async def has_them() -> bool:
        return total(await scraped(address), "events_total") == 50

    await wait_until(has_them, SETTLED_SECONDS_MAX, "the worker has the events")


async def _window_begins() -> None:
    await asyncio.sleep(WINDOW_SECONDS - time.time() % WINDOW_SECONDS)


# --- side by side: scenarios that mostly wait for the session of a worker to run out --------------


async def quiet_run(lab: Lab) -> None:
    """Without faults there is one object per destination, partition and window."""
    worker = await lab.start_worker()
    async with lab.load.steady(RATE):
        await _window_begins()
        for _ in range(3):
            await _window_begins()
    await lab.settled()
    await lab.verify()
    windows = [
        (it.value["destination"], it.value["source"]["partition"], it.value["window"]["start"])
        for it in lab.receipts
    ]
    assert len(windows) == len(set(windows))
    assert {partition for _, partition, _ in windows} == set(range(lab.partitions))
    assert all(it.value["attempts"] == 1 for it in lab.receipts if it.value["object"])
    assert "Traceback" not in worker.log


async def kill_before_the_put_reaches_s3(lab: Lab) -> None:
    """The closing is recorded, and nothing is visible."""
    worker, killed = await lab.start_worker(), asyncio.Event()

    async def kill(_: object) -> None:
        worker.kill()
        killed.set()
        raise ConnectionResetError

    lab.proxy.before = kill
    await _events_of_one_window(lab)
    await killed.wait()
    # The dead worker's other requests may still be on their way here.
    await wait_until(
        lambda: not lab.proxy.connected, SETTLED_SECONDS_MAX, "its connections are closed"
    )
    lab.proxy.heal()
    commit = (await lab.commits())[0]
    assert commit.offset == 0
    assert commit.closings
    assert await asyncio.to_thread(lab.keys) == []
    await _recovers(lab)
    assert not any(it.value["already_existed"] for it in lab.receipts)


async def kill_after_the_put_and_before_its_answer(lab: Lab) -> None:
    """The object is visible, and the worker never knew."""
    worker, killed = await lab.start_worker(), asyncio.Event()

    async def kill(_: object) -> None:
        worker.kill()
        killed.set()

    lab.proxy.after = kill
    await _events_of_one_window(lab)
    await killed.wait()
    lab.proxy.heal()
    assert await asyncio.to_thread(lab.keys) != []
    assert await lab.read_receipts() == []
    await _recovers(lab)
    assert any(it.value["already_existed"] for it in lab.receipts)


async def kill_after_the_answer_and_before_the_receipt(lab: Lab) -> None:
    """The worker knows of its objects, and cannot publish: the topic takes nothing."""
    await lab.limit_receipts(1)
    worker = await lab.start_worker()
    await _events_of_one_window(lab)
    await wait_until(
        lambda: worker.log.count(" at s3://") >= len(lab.targets),
        SETTLED_SECONDS_MAX,
        "objects are stored",
    )
    assert await lab.read_receipts() == []
    worker.kill()
    await lab.limit_receipts(None)
    await _recovers(lab)
    assert any(it.value["already_existed"] for it in lab.receipts)


async def kill_after_the_receipt_and_before_the_commit(lab: Lab) -> None:
    """One destination's receipt is out; another's upload keeps the window from being settled."""
    worker, killed = await lab.start_worker(), asyncio.Event()

    async def hold(request: object) -> None:
        if "/orders/" in str(request):
            await killed.wait()
            raise ConnectionResetError

    lab.proxy.before = hold
    await _events_of_one_window(lab)
    await lab.published(1)
    worker.kill()
    killed.set()
    lab.proxy.heal()
    assert (await lab.commits())[0].offset == 0
    published = len(lab.receipts)
    await _recovers(lab)
    ids = [it.headers["ce_id"] for it in lab.receipts]
    assert ids[0] in ids[published:]  # it was published again, and verify() found the two to agree


async def zombie_with_an_upload_on_its_way(lab: Lab) -> None:
    """The zombie's request reaches S3 when another worker has delivered the window."""
    zombie, stopped = await lab.start_worker(), asyncio.Event()
    held: list[str] = []
    released = asyncio.Event()

    async def stop(request: object) -> None:
        zombie.pause()
        held.append(getattr(request, "target", ""))
        stopped.set()
        await released.wait()

    lab.proxy.before = stop
    await _events_of_one_window(lab)
    await stopped.wait()
    lab.proxy.heal()
    async with lab.load.steady(50):
        successor = await lab.start_worker()
        await lab.published(len(lab.targets))
        released.set()
        zombie.resume()
        await wait_until(
            lambda: any(it.request.target in held and it.status == 412 for it in lab.proxy.log),
            SETTLED_SECONDS_MAX,
            "the zombie's upload is refused",
        )
        await _window_begins()
    await _quiet(lab, zombie, successor)


async def zombie_with_an_open_window(lab: Lab) -> None:
    """The zombie resumes with a window to close that another worker has delivered."""
    zombie, clock = launch_clocked(lab)
    await _events_of_a_window_that_stays_open(lab, zombie, clock)
    zombie.pause()
    successor = await lab.start_worker()
    await lab.published(len(lab.targets))
    set_clock(clock, 0.0)
    zombie.resume()
    async with lab.load.steady(50):
        await _window_begins()
        await _window_begins()
    await _quiet(lab, zombie, successor)


async def sigterm_with_an_open_window(lab: Lab) -> None:
    """The worker ends within ten seconds, and delivers nothing of the window."""
    worker = await lab.start_worker()
    async with lab.load.steady(100):
        await _window_begins()
        await asyncio.sleep(WINDOW_SECONDS / 2)
        await worker.terminate()
    assert worker.process.returncode == 0
    await _recovers(lab)


async def sigterm_while_s3_does_not_respond(lab: Lab) -> None:
    """The worker ends within ten seconds, without a response to its uploads."""
    worker = await lab.start_worker()
    lab.proxy.rule = lambda request: Fault.HANG if request.is_put else Fault.NONE
    await _events_of_one_window(lab)
    await _an_upload_hangs(lab)
    await worker.terminate()
    assert worker.process.returncode == 0
    lab.proxy.heal()
    await _recovers(lab)


async def sigterm_while_starting(lab: Lab) -> None:
    """The worker ends within ten seconds, at any point of its start."""

    async def stopped_after(seconds: float) -> None:
        worker = lab.launch_worker()
        await asyncio.sleep(seconds)
        await worker.terminate()

    await lab.load.send(50)
    await asyncio.gather(*[stopped_after(seconds) for seconds in (0.5, 1.0, 1.5, 2.0, 2.5, 3.5)])
    await _recovers(lab)


async def uploads_torn_and_damaged_on_their_way(lab: Lab) -> None:
    """S3 has each object several times, never as it should be, and keeps nothing of it."""
    await lab.start_worker()
    faults = cycle([Fault.DAMAGE, Fault.TEAR_AT_BODY, Fault.DAMAGE, Fault.TEAR_IN_BODY])
    lab.proxy.rule = lambda request: next(faults) if request.is_put else Fault.NONE
    await _events_of_one_window(lab)
    await wait_until(
        lambda: len(lab.proxy.faults) >= 4 * len(lab.targets), SETTLED_SECONDS_MAX, "torn uploads"
    )
    assert await asyncio.to_thread(lab.keys) == []
    lab.proxy.heal()
    await lab.settled()
    await lab.verify()


async def clock_set_ahead_and_back(lab: Lab) -> None:
    """Ahead it closes the open window at once; back it closes the one that is open then."""
    began = int(time.time())
    worker, clock = launch_clocked(lab)
    lab.clock_step_seconds_max = CLOCK_SECONDS
    await wait_until(
        lambda: worker.log.count("taken over") == lab.partitions,
        START_SECONDS_MAX,
        "the group has begun to read each partition",
    )
    await _events_of_a_window_that_stays_open(lab, worker, clock)
    set_clock(clock, CLOCK_SECONDS)
    await lab.published(len(lab.targets))
    closed = [_closed_at(it) for it in lab.receipts if it.value["object"]]
    assert min(closed) > time.time() + CLOCK_SECONDS / 2
    await lab.load.send(50)
    set_clock(clock, -CLOCK_SECONDS)
    published = len(lab.receipts)
    await lab.load.send(50)
    await lab.published(published + len(lab.targets))
    await lab.settled()
    closed = [_closed_at(it) for it in await lab.read_receipts() if it.value["object"]]
    # Of a log that was never truncated: each window has the time of the clock.
    assert min(closed) < began - CLOCK_SECONDS / 2
    set_clock(clock, 0)
    await lab.load.send(50)
    await lab.settled()
    await lab.verify()
    assert worker.running
    assert "Traceback" not in worker.log


def _closed_at(receipt: Published) -> float:
    return datetime.fromisoformat(receipt.value["uploaded_at"]).timestamp()


async def hanging_s3_is_asked_again(lab: Lab) -> None:
    """A request that S3 never answers is given up, and the window delivered by another one."""
    worker = await lab.start_worker()
    lab.proxy.rule = lambda request: Fault.HANG if request.is_put else Fault.NONE
    await _events_of_one_window(lab)
    await _an_upload_hangs(lab)
    lab.proxy.heal()
    await lab.settled()
    await lab.verify()
    assert worker.running


async def _an_upload_hangs(lab: Lab) -> None:
    await wait_until(lambda: Fault.HANG in lab.proxy.faults, SETTLED_SECONDS_MAX, "an upload hangs")


async def _recovers(lab: Lab) -> None:
    """More events come, a successor starts, and all is well."""
    await lab.load.send(50)
    await lab.start_worker()
    await lab.settled()
    await lab.verify()


async def _quiet(lab: Lab, zombie: Worker, successor: Worker) -> None:
    await lab.settled()
    await lab.verify()
    assert zombie.running
    assert successor.running
    assert "Traceback" not in zombie.log


SCENARIOS: Final[tuple[Callable[[Lab], Awaitable[None]], ...]] = (
    hanging_s3_is_asked_again,
    clock_set_ahead_and_back,
    quiet_run,
    kill_before_the_put_reaches_s3,
    kill_after_the_put_and_before_its_answer,
    kill_after_the_answer_and_before_the_receipt,
    kill_after_the_receipt_and_before_the_commit,
    zombie_with_an_upload_on_its_way,
    zombie_with_an_open_window,
    sigterm_with_an_open_window,
    sigterm_while_s3_does_not_respond,
    sigterm_while_starting,
    uploads_torn_and_damaged_on_their_way,
)
SIDE_BY_SIDE: Final = 6
"""Scenarios at a time: more would starve workers of the processor until their sessions end."""


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest,
    kafka: KafkaServer,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
) -> dict[str, BaseException | None]:
    """How each of the selected scenarios ended."""
    folder = tmp_path_factory.mktemp("scenarios")
    turns = asyncio.Semaphore(SIDE_BY_SIDE)
    names = {item.name for item in request.session.items}
    chosen = [it for it in SCENARIOS if f"{TEST}[{it.__name__}]" in names]

    async def run(scenario: Callable[[Lab], Awaitable[None]]) -> None:
        is_quiet = scenario is quiet_run
        lab = Lab(
            kafka.address,
            s3,
            folder,
            seed,
            PARTITIONS if is_quiet else 1,
            grace_seconds=QUIET_GRACE_SECONDS if is_quiet else GRACE_SECONDS,
            session_seconds=LONG_SESSION_SECONDS if is_quiet else SESSION_SECONDS,
        )
        async with turns, lab:
            await scenario(lab)

    async def run_all() -> dict[str, BaseException | None]:
        ended = await asyncio.gather(*map(run, chosen), return_exceptions=True)
        return {it.__name__: how for it, how in zip(chosen, ended, strict=True)}

    return asyncio.run(run_all())


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("scenario", [it.__name__ for it in SCENARIOS])
def test_nothing_is_lost_or_repeated_by(
    scenario: str, outcomes: dict[str, BaseException | None]
) -> None:
    if (error := outcomes[scenario]) is not None:
        raise error


TEST: Final = test_nothing_is_lost_or_repeated_by.__name__
