"""The core under a seeded world: whatever goes wrong, promise 1 holds and everything drains.

`World` injects the faults, `Checker` is the oracle, `Worker` and `Deliver` are the shell written
again, and `Sabotage` has the mistakes by which the oracle itself is tried.
"""

import math
from collections import Counter
from dataclasses import replace

import pytest

from stream_app.core.delivery import WindowPolicy
from stream_app.core.object_body import Sizes
from tests.simulation.checker import Violation
from tests.simulation.sabotage import Sabotage
from tests.simulation.scheduler import Fault
from tests.simulation.world import (
    SINCE_1970,
    Scenario,
    World,
    calm,
    destinations,
    scenario,
    simulate,
)

SABOTAGE_SEEDS_MAX = 400
"""So many seeds may go by before the oracle has seen a mistake of the shell."""


OF_TRUNCATED_LOGS = (
    Sabotage.RESET_TO_EARLIEST,
    Sabotage.RESTART_AT_ONCE,
    Sabotage.NO_END_CHECK,
)


@pytest.mark.parametrize("seed", range(200))
def test_without_faults_a_minute_is_one_object(seed: int) -> None:
    world = World(seed, calm(seed))
    world.run()
    assert {it: count for it, count in world.checker.minutes().items() if count > 1} == {}


@pytest.mark.parametrize("old_by", [20.0, 3600.0, SINCE_1970])
@pytest.mark.parametrize("seed", range(20))
def test_without_faults_old_timestamps_make_one_object_a_minute_of_the_clock(
    seed: int, old_by: float
) -> None:
    world = World(seed, replace(calm(seed), old_by=old_by, workers=1))
    world.run()
    windows = Counter[tuple[str, int]]()
    for (destination, partition, _), count in world.checker.minutes().items():
        windows[destination, partition] += count
    length = world.scenario.rules.window_seconds
    assert max(windows.values()) <= world.scheduler.now / length + 2


def test_the_same_seed_gives_the_same_run() -> None:
    assert simulate(7) == simulate(7)


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
        drawn = scenario(seed)
        if sabotage in OF_TRUNCATED_LOGS and not drawn.retention:
            drawn = replace(drawn, truncations=4, damage_share=0.0)
        try:
            World(seed, drawn, sabotage=sabotage).run()
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
        rules=WindowPolicy(
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
        rules=WindowPolicy("group", 10, 2.0, sizes=Sizes(slice=100, part=200, part_min=100)),
        late_share=0.0,
        hole_share=0.1,
        skip_share=0.2,
        fail_share=0.1,
        events=("rebalance",),
    )
