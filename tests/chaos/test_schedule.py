"""A schedule of faults drawn from a seed, performed on real workers under load.

    make chaos MINUTES=30 SEED=7

Everything fails: workers are killed, stopped and continued, they join and leave, and their clocks
are stepped; the broker is killed, restarted and stopped, its connections go silent, its responses
become errors; S3 refuses, hangs, is slow, answers 5xx, resets connections, damages what it is sent
and loses its answers; and several of these at a time.
Then all faults end, the backlog drains, an event must arrive in time, and the oracle finds each
event exactly once where it belongs. A run in which too little went wrong proves nothing and fails.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import (
    GRACE_SECONDS,
    TARGETS,
    WINDOW_SECONDS,
    Lab,
    in_a_loop,
    wait_until,
)
from tests.chaos.injector import WORKERS_MIN, Injector
from tests.chaos.kafka_proxy import KafkaProxy
from tests.chaos.oracle import (
    Evidence,
    Target,
    balance,
    findings,
    windows,
    windows_back_in_time,
)
from tests.chaos.report import Outcome, command, write
from tests.chaos.schedule import CLOCK_STEP_SECONDS, NATURES, Injection, Kind, bag_seconds_max, draw

pytestmark = pytest.mark.xdist_group("schedule")
"""The run of minutes is the first of this file's tests, so that no other long one waits behind it
in the same process while another process is idle."""

RATE: Final = 200
"""Events a second."""
MEMORY_MAX_MIB: Final = 128
"""Half of it holds what comes while S3 is away for long: else the bulky windows, of which a fault
may hit each request while the others are served, would be given up for the sake of the others."""
BULK: Final = "bulk"
BULK_BYTES: Final = 40_000
"""Of one event, more than the compressor looks back."""
BULKY: Final = Target(
    "bulky",
    "bulky/",
    payload="{ id: $event.id, text: $event.body.text.repeat(20) }",
    pipeline=BULK,
)
"""Destination with lines many times as long as its events: parts of 8 MiB from little traffic."""
BURST_EVENTS: Final = 16
"""9.6 MiB of compressed lines, of which one part leaves while the window is open."""
BURST_EVERY_SECONDS: Final = 5 * WINDOW_SECONDS
RECOVERY_SECONDS_MAX: Final = 180.0
"""From the end of the last fault until the group has committed the ends of all logs."""
FRESH_SECONDS_MAX: Final = WINDOW_SECONDS + GRACE_SECONDS + 25.0
"""From an event to its receipts: one window, the grace, and what a loaded machine needs, but less
than one time-out of a request, 30 s."""
SHARE_PERFORMED_MIN: Final = 0.5
"""Of each kind of fault that was drawn."""
SHARE_SENT_MIN: Final = 0.8
"""Of the events that the load was to send."""
PER_MINUTE_MIN: Final = {
    "partitions taken over": 4,
    "windows rebuilt from a recorded closing": 1,
    "objects found there already": 1,
    "uploads tried again": 3,
    "windows": 15,
    "objects that left in parts": 1,
}
"""How much has to happen for a run to prove anything; a fifth of what is usual, or less: a loaded
machine needs long to start a broker, and meanwhile nothing happens."""


@in_a_loop
async def test_schedule_of_faults_loses_and_repeats_nothing(
    own_kafka: KafkaServer,
    kafka_proxy: KafkaProxy,
    s3: S3Server,
    tmp_path: Path,
    seed: int,
    minutes: float,
    report: Path | None,
) -> None:
    print(command(minutes, seed))
    async with Lab(
        own_kafka.address,
        s3,
        tmp_path,
        seed,
        settings=f"memory_max_mib = {MEMORY_MAX_MIB}",
        targets=(*TARGETS, BULKY),
        kafka_proxy=kafka_proxy,
        clock_step_seconds_max=CLOCK_STEP_SECONDS[1],
        static=seed % 2 == 1,  # so that half of the runs have static members
    ) as lab:
        injector = Injector(lab, own_kafka, seed)
        try:
            async with injector.watching():
                bursts = lab.load.bursts(
                    BURST_EVENTS,
                    pipeline=BULK,
                    bulk_bytes=BULK_BYTES,
                    every_seconds=BURST_EVERY_SECONDS,
                )
                async with bursts, lab.load.steady(RATE):
                    await injector.perform(schedule(seed, minutes * 60))
                recovery_seconds = await _recovery_seconds(lab)
                fresh_seconds = await _fresh_seconds(lab)
                await lab.settled()
        finally:
            print("\n".join(injector.timeline))
        evidence = await lab.evidence()
        outcome = Outcome(
            minutes=minutes,
            seed=seed,
            evidence=evidence,
            balance=balance(evidence),
            injector=injector,
            replays=injector.replays(),
            recovery_seconds=recovery_seconds,
            fresh_seconds=fresh_seconds,
        )
        print(outcome.text())
        assert findings(evidence) == []
        assert lab.proxy.stored_more_than_once() == []
        assert injector.complaints == []
        assert len(lab.running) >= WORKERS_MIN
        assert list(_windows_without_reason(evidence, outcome)) == []
        assert list(_too_little(outcome)) == []
        if report is not None:
            write(report, outcome)


def test_same_seed_draws_the_same_schedule() -> None:
    assert schedule(7, 600) == schedule(7, 600)
    assert schedule(7, 600) != schedule(8, 600)


def test_longer_schedule_begins_like_a_shorter_one() -> None:
    shorter, longer = schedule(7, 180), schedule(7, 1800)
    assert longer[: len(shorter)] == shorter
    assert all(injection.at >= 180 for injection in longer[len(shorter) :])


@pytest.mark.parametrize("seed", range(50))
def test_every_kind_of_fault_comes_within_three_minutes(seed: int) -> None:
    assert bag_seconds_max() + WINDOW_SECONDS + GRACE_SECONDS <= 180
    assert {injection.kind for injection in schedule(seed, 180)} == set(Kind)


def test_faults_come_in_order_within_their_bounds() -> None:
    drawn = schedule(7, 3600)
    assert [it.at for it in drawn] == sorted(it.at for it in drawn)
    assert 0 <= drawn[0].at <= drawn[-1].at < 3600
    for injection in drawn:
        nature = NATURES[injection.kind]
        assert 0 <= injection.aim < 1
        if injection.kind is Kind.CLOCK:
            least, most = CLOCK_STEP_SECONDS
            assert least <= abs(injection.strength) <= most
        else:
            assert nature.strength[0] <= injection.strength <= nature.strength[1]
        if injection.kind is not Kind.S3_HANG:
            assert nature.seconds[0] <= injection.seconds <= nature.seconds[1]


def test_kinds_come_as_often_as_their_shares_say() -> None:
    counts = Counter(injection.kind for injection in schedule(7, 7200))
    bags = counts.total() / sum(nature.share for nature in NATURES.values())
    for kind, nature in NATURES.items():
        assert abs(counts[kind] - bags * nature.share) <= nature.share


def test_faults_overlap() -> None:
    drawn = schedule(7, 600)
    overlapping = [
        later
        for injection in drawn
        for later in drawn
        if injection.at < later.at < injection.at + injection.seconds
        and Kind.NOTHING not in (injection.kind, later.kind)
    ]
    assert len(overlapping) > len(drawn) / 2


def test_half_of_the_faults_are_next_to_the_end_of_a_window() -> None:
    drawn = schedule(7, 7200, window_seconds=60.0)
    near = [it for it in drawn if it.at % 60 < 2 or it.at % 60 > 59]
    assert len(near) > len(drawn) / 4


def test_clocks_step_both_ways_and_by_less_and_more_than_a_window() -> None:
    steps = [it.strength for it in schedule(7, 3600) if it.kind is Kind.CLOCK]
    for way in (-1, 1):
        sizes = [step * way for step in steps]
        assert any(0 < size < WINDOW_SECONDS for size in sizes)
        assert any(size > 60 for size in sizes)


async def _recovery_seconds(lab: Lab) -> float:
    """Wait until the backlog is drained; return how long that took.

    No event is sent meanwhile: a partition that stands still must not need one.
    """
    started = time.monotonic()
    await lab.settled(RECOVERY_SECONDS_MAX)
    return time.monotonic() - started


async def _fresh_seconds(lab: Lab) -> float:
    """Send events; return how long after the first one the last of their receipts was there."""
    before = {it.window for it in await lab.read_receipts()}
    started = time.monotonic()
    sent = [await lab.load.send(1, pipeline=pipeline) for pipeline in lab.pipelines]
    wanted = {(it.partition, it.offset) for one in sent for it in one}

    async def published() -> bool:
        new = [it.value["source"] for it in await lab.read_receipts() if it.window not in before]
        return all(
            any(
                it["partition"] == partition and it["first_offset"] <= offset < it["end_offset"]
                for it in new
            )
            for partition, offset in wanted
        )

    await wait_until(published, FRESH_SECONDS_MAX, "fresh events have their receipts")
    return time.monotonic() - started


def _windows_without_reason(evidence: Evidence, outcome: Outcome) -> Iterator[str]:
    """Partitions with more windows of the same minute, or an earlier one, than there are reasons.

    A worker that takes a partition over does not know which minutes have had their objects, and a
    clock that is set back begins minutes again. Without either, windows go forward in time: one
    object per destination, partition and minute.
    """
    clocks_set_back = outcome.injector.performed[Kind.CLOCK]  # by the step, or by its end
    for partition, count in windows_back_in_time(evidence.receipts).items():
        reasons = outcome.replays.takeovers[partition] + clocks_set_back
        if count > reasons:
            yield f"partition {partition}: {count} windows back in time, {reasons} reasons"


def _too_little(outcome: Outcome) -> Iterator[str]:
    """Kinds of event that did not happen often enough."""
    injector, replays, evidence = outcome.injector, outcome.replays, outcome.evidence
    for kind, drawn in injector.drawn.items():
        performed = injector.performed[kind]
        if performed < drawn * SHARE_PERFORMED_MIN:
            yield f"{kind.value}: performed {performed} of {drawn}"
    happened = {
        "partitions taken over": replays.takeovers.total(),
        "windows rebuilt from a recorded closing": replays.replayed,
        "objects found there already": replays.there_already,
        "uploads tried again": replays.retries,
        "windows": windows(evidence.receipts),
        "objects that left in parts": outcome.in_parts,
    }
    for what, count in happened.items():
        least = int(PER_MINUTE_MIN[what] * outcome.minutes)
        if count < least:
            yield f"{what}: {count}, wanted {least}"
    least = int(RATE * outcome.minutes * 60 * SHARE_SENT_MIN)
    if len(evidence.sent) < least:
        yield f"events: {len(evidence.sent)}, wanted {least}"


def schedule(
    seed: int, seconds: float, window_seconds: float = WINDOW_SECONDS
) -> tuple[Injection, ...]:
    return draw(seed, seconds, window_seconds=window_seconds, grace_seconds=GRACE_SECONDS)
