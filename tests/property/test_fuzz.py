"""No expression and no event gets out of the engine, and the fuzzer that says so can see.

A run of fixed seed and size, the same each time; `python -m tests.fuzz.expressions --help` has
longer ones.
"""

from typing import Final

import pytest

from tests.fuzz.expressions import Report, run
from tests.fuzz.judge import CASE_SABOTAGES, GROUP_CASES, SABOTAGES

SEED: Final = 1
CASES: Final = 36 * GROUP_CASES
SECONDS_MAX: Final = 120.0
"""For a machine that is busy with other things; alone it takes a tenth."""
HAPPENED_MIN: Final = {
    # About half of what the run meets: a fuzzer whose expressions all fail proves nothing.
    "delivered": 180,
    "skipped": 36,
    "failed": 185,
    "refused": 86,
    "together": 540,
    "canaries": 240,
    "InternalError: out of memory": 3,
    "InternalError: interrupted": 2,
    "RangeError: Maximum call stack size exceeded": 5,
}
SABOTAGE_CASES: Final = 12 * GROUP_CASES
"""So many cases may go by before a missing safeguard is seen."""
HANG_SECONDS: Final = 2.0


@pytest.fixture(scope="module")
def report() -> Report:
    return run(SEED, cases=CASES, seconds=SECONDS_MAX)


def test_nothing_gets_out_of_the_engine(report: Report) -> None:
    assert report.cases == CASES, "it ran out of time: raise SECONDS_MAX"
    found = "\n\n".join(defect.headline() for defect in report.defects)
    assert not found, f"python -m tests.fuzz.expressions --seed {SEED}\n\n{found}"


def test_enough_has_happened(report: Report) -> None:
    missed = {
        what: report.happened[what]
        for what, minimum in HAPPENED_MIN.items()
        if report.happened[what] < minimum
    }
    assert not missed, f"too little of it in {report.cases} cases"


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_the_fuzzer_sees_a_missing_safeguard(sabotage: str) -> None:
    # One group has the case that crashes or hangs; a lost freeze takes an expression that uses it.
    cases = GROUP_CASES if sabotage in CASE_SABOTAGES else SABOTAGE_CASES
    found = run(
        SEED, cases=cases, seconds=SECONDS_MAX, case_seconds_max=HANG_SECONDS, sabotage=sabotage
    )
    assert sabotage in {defect.kind for defect in found.defects}
