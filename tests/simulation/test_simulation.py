"""The core under a seeded world: whatever goes wrong, promise 1 holds and everything drains.

`World` injects the faults, `Checker` is the oracle, `Worker` and `Deliver` are the shell written
again, and `Sabotage` has the mistakes by which the oracle itself is tried.
"""

import math
from collections import Counter
from dataclasses import replace

import pytest

from stream_app.deliveries import Rules
from stream_app.objects import Sizes
from tests.simulation.checker import Violation
from tests.simulation.sabotage import Sabotage
from tests.simulation.scheduler import Fault
from tests.simulation.world import Scenario, World, calm, destinations, scenario

HAPPENED_MIN = {
    # What 2,000 seeds must have met at least, about half of what they do meet: a simulator that
    # injects nothing proves nothing.
    "crashes": 1_000,
    "CRASH_BEFORE": 100,
    "CRASH_AFTER": 100,
    "ERROR": 5_000,
    "LOST_ANSWER": 4_000,
    "LATE": 100,
    "rebalances": 5_000,
    "pause": 700,
    "deafen": 300,
    "clock": 300,
    "outage": 300,
    "broker outage": 300,
    "commits refused": 200,
    "commits fenced by us": 40,
    "commits without an answer": 600,
    "read-back fenced": 200,
    "batches fenced": 1_000,
    "works fenced": 500,
    "gaps": 400,
    "rebuilt": 400,
    "kept": 3_000,
    "taken over": 6_000,
    "replays": 800,
    "already there": 1_500,
    "torn": 500,
    "storage errors": 1_800,
    "given up": 40,
    "sheddings": 3,
    "late": 250,
    "closed for memory": 1_500,
    "memory waits": 3_000,
    "metadata waits": 50,
    "offsets lost to retention": 500,
    "retrying after the final receipt": 10,
    "records": 100_000,
    "objects": 20_000,
    "compressions": 20_000,
    "compressed for memory": 500,
    "cut early": 150,
    "uploads begun": 8_000,
    "begun too late": 300,
    "parts": 20_000,
    "parts sent again": 300,
    "stuck": 1_000,
    "objects in parts": 5_000,
    "completions refused": 500,
    "conflicts": 100,
    "uploads gone": 250,
    "rebuilt for an upload that is gone": 250,
    "abandoned": 2_000,
    "uploads aborted": 2_500,
    "uploads left: crash": 200,
    "uploads left: begun without an answer": 300,
    "uploads left: not aborted": 10,
}
UPLOADS_LEFT_MAX_SHARE = 0.15
"""Of all uploads in parts: what crashed workers and lost answers may leave to a lifecycle rule."""
SABOTAGE_SEEDS_MAX = 400
"""So many seeds may go by before the oracle has seen a mistake of the shell."""

_happened: Counter[str] = Counter()


def test_every_event_has_one_answer(seeds: range) -> None:
    for seed in seeds:
        _happened.update(_run(seed))


def test_enough_has_happened() -> None:
    share = _happened["runs"] / 2_000
    missed = {
        what: _happened[what]
        for what, minimum in HAPPENED_MIN.items()
        if _happened[what] < minimum * share * (share >= 0.25)
    }
    assert not missed, f"too little of it in {_happened['runs']} runs"


def test_few_uploads_are_left_to_a_lifecycle_rule() -> None:
    left = sum(count for what, count in _happened.items() if what.startswith("uploads left"))
    assert left <= _happened["uploads begun"] * UPLOADS_LEFT_MAX_SHARE


@pytest.mark.parametrize("seed", range(200))
def test_without_faults_a_minute_is_one_object(seed: int) -> None:
    world = World(seed, calm(seed))
    world.run()
    assert {it: count for it, count in world.checker.minutes().items() if count > 1} == {}


def test_the_same_seed_gives_the_same_run() -> None:
    assert _run(7) == _run(7)


@pytest.mark.parametrize("fault", Fault)
def test_each_call_may_fail_in_turn(fault: Fault) -> None:
    world = World(2, small(), nth=(0, fault))
    world.run()
    calls = world.scheduler.calls
    assert calls > 60
    assert 0 < world.storage.completed < len(world.storage.objects), "some whole, some in parts"
    for number in range(1, calls + 1):
        try:
            happened = World(2, small(), nth=(number, fault)).run()
        except Violation as violation:
            raise AssertionError(f"call {number} of {calls}, {fault.name}: {violation}") from None
        assert happened[fault.name] == 1


@pytest.mark.parametrize("sabotage", [it for it in Sabotage if it is not Sabotage.NO_WAKE])
def test_the_oracle_sees_a_mistake_of_the_shell(sabotage: Sabotage) -> None:
    for seed in range(SABOTAGE_SEEDS_MAX):
        try:
            World(seed, scenario(seed), sabotage=sabotage).run()
        except Violation:
            return
    raise AssertionError(f"{SABOTAGE_SEEDS_MAX} seeds with {sabotage.name}, and nothing was seen")


@pytest.mark.parametrize("seed", range(20))
def test_a_destination_that_takes_no_part_holds_nobody_up(seed: int) -> None:
    assert _unanswered_beside_a_broken_one(seed) == []


def test_the_oracle_sees_that_nobody_is_woken_when_a_part_is_stuck() -> None:
    assert any(_unanswered_beside_a_broken_one(seed, Sabotage.NO_WAKE) for seed in range(20))


def _unanswered_beside_a_broken_one(
    seed: int, sabotage: Sabotage | None = None
) -> list[tuple[int, int]]:
    world = World(seed, beside_a_broken_one(seed), sabotage=sabotage)
    world.scheduler.after(20.0, world.storage.broken_until.__setitem__, "bucket-two", math.inf)
    world.run_with_faults()
    assert world.counts["stuck"] > 0
    return world.checker.unanswered("first", int((world.time() - 40.0) * 1000))


def beside_a_broken_one(seed: int) -> Scenario:
    """Return a scenario in which one of two destinations fills the memory with its parts."""
    quiet = calm(seed)
    return replace(
        quiet,
        partitions=1,
        workers=1,
        destinations=destinations(2),
        seconds=120.0,
        produce_every=0.3,
        rules=Rules(
            "group", 10, 2.0, sizes=Sizes(slice=700, part=1_000, part_min=400), waiting_bytes=0
        ),
        memory_bytes_max=10_000,
        habits=replace(quiet.habits, records_max=20, give_up_seconds=1_000.0, late_seconds=1_000.0),
        late_share=0.0,
        skip_share=0.0,
        fail_share=0.0,
        padding_max=600,
    )


def small() -> Scenario:
    """Return the scenario whose calls fail in turn: two workers, two partitions, some windows."""
    return replace(
        calm(1),
        partitions=2,
        workers=2,
        destinations=destinations(2),
        seconds=22.0,
        produce_every=1.0,
        rules=Rules("group", 10, 2.0, sizes=Sizes(slice=100, part=200, part_min=100)),
        late_share=0.0,
        hole_share=0.1,
        skip_share=0.2,
        fail_share=0.1,
        events=("rebalance",),
    )


def _run(seed: int) -> Counter[str]:
    try:
        return World(seed, scenario(seed)).run()
    except Exception as error:
        error.add_note(f"run it again with: pytest tests/simulation --seed {seed}")
        raise
