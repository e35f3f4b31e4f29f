"""The core under a seeded world: whatever goes wrong, promise 1 holds and everything drains."""

from collections import Counter
from dataclasses import replace

import pytest

from stream_app.partition import Rules
from tests.simulation.checker import Violation
from tests.simulation.scheduler import Fault
from tests.simulation.world import Sabotage, Scenario, World, calm, destinations, scenario

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
    "put errors": 5_000,
    "given up": 40,
    "sheddings": 3,
    "late": 500,
    "closed for memory": 1_500,
    "memory waits": 3_000,
    "metadata waits": 50,
    "offsets lost to retention": 500,
    "retrying after the final receipt": 10,
    "records": 100_000,
    "objects": 20_000,
}
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
    for number in range(1, calls + 1):
        try:
            happened = World(2, small(), nth=(number, fault)).run()
        except Violation as violation:
            raise AssertionError(f"call {number} of {calls}, {fault.name}: {violation}") from None
        assert happened[fault.name] == 1


@pytest.mark.parametrize("sabotage", Sabotage)
def test_the_oracle_sees_a_mistake_of_the_shell(sabotage: Sabotage) -> None:
    for seed in range(SABOTAGE_SEEDS_MAX):
        try:
            World(seed, scenario(seed), sabotage=sabotage).run()
        except Violation:
            return
    raise AssertionError(f"{SABOTAGE_SEEDS_MAX} seeds with {sabotage.name}, and nothing was seen")


def small() -> Scenario:
    """Return the scenario whose calls fail in turn: two workers, two partitions, some windows."""
    return replace(
        calm(1),
        partitions=2,
        workers=2,
        destinations=destinations(2),
        seconds=22.0,
        produce_every=1.0,
        rules=Rules("group", 10, 2.0),
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
