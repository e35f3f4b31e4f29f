"""The seeds: whatever goes wrong in a seeded world, promise 1 holds and everything drains."""

from collections import Counter

import pytest

from tests.simulation.world import simulate

pytestmark = pytest.mark.xdist_group("seeds")
"""One process simulates all of them, since their faults are counted together."""

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
    "places taken": 700,
    "pause": 700,
    "deafen": 300,
    "clock": 300,
    "outage": 300,
    "broker outage": 300,
    "commits refused": 200,
    "commits fenced by us": 40,
    "commits without an answer": 600,
    "commits too large": 12,
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
    "stalls": 60,
    "batches cleared": 500,
    "offsets lost to retention": 90,
    "retrying after the final receipt": 10,
    "undecodable: batches": 3_000,
    "undecodable: passed": 2_000,
    "undecodable: passed as recorded": 80,
    "undecodable: recorded window": 15,
    "log truncated": 350,
    "truncations found": 90,
    "begun anew": 60,
    "begun anew by a successor": 60,
    "log found to end early": 8,
    "lives": 120,
    "records": 100_000,
    "objects": 20_000,
    "compressions": 20_000,
    "compressed for memory": 500,
    "cut early": 150,
    "uploads begun": 8_000,
    "begun too late": 220,
    "parts": 20_000,
    "parts sent again": 300,
    "stuck": 1_000,
    "objects in parts": 5_000,
    "completions refused": 500,
    "conflicts": 75,
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

_happened: Counter[str] = Counter()


def test_every_event_has_one_answer(seeds: range) -> None:
    for seed in seeds:
        _happened.update(simulate(seed))


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
