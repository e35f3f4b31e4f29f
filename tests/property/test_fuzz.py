"""No expression and no event escapes the engine, and the fuzzer notices a missing safeguard.

A run of fixed seed and size, the same each time; `python -m tests.fuzz.expressions --help` has
longer ones.
"""

from typing import Final

import pytest

from tests.fuzz.expressions import CASE_SECONDS_MAX, Report, run
from tests.fuzz.judge import CASE_SABOTAGES, GROUP_CASES, SABOTAGES
from tests.profiles import scaled

SEED: Final = 1
GROUPS: Final = 36
CASES: Final = scaled(GROUPS) * GROUP_CASES
SECONDS_MAX: Final = 240.0
"""For a busy machine; an idle one takes a twentieth."""
COUNTS_MIN: Final = {
    # About half of the counts of 36 groups: a fuzzer whose expressions all fail proves nothing.
    "delivered": 180,
    "skipped": 36,
    "failed": 185,
    "refused": 86,
    "together": 540,
    "by the engine": 200,
    "canaries": 240,
    "InternalError: out of memory": 3,
    "InternalError: interrupted": 2,
    "RangeError: Maximum call stack size exceeded": 5,
}
SABOTAGE_CASES: Final = 12 * GROUP_CASES
"""Cases within which a missing safeguard must be found."""
HANG_SECONDS_MAX: Final = 2.0
"""Limit of a case where a hang must be found; on a loaded machine other cases may take as long."""


@pytest.fixture(scope="module")
def report() -> Report:
    return run(SEED, cases=CASES, seconds=SECONDS_MAX * max(1, CASES / (GROUPS * GROUP_CASES)))


def test_nothing_escapes_the_engine(report: Report) -> None:
    assert report.cases == CASES, "it ran out of time: raise SECONDS_MAX"
    found = "\n\n".join(defect.headline() for defect in report.defects)
    assert not found, f"python -m tests.fuzz.expressions --seed {SEED}\n\n{found}"


def test_run_has_enough_of_every_kind(report: Report) -> None:
    missed = {
        kind: report.counts[kind]
        for kind, minimum in COUNTS_MIN.items()
        if report.counts[kind] < int(minimum * CASES / (GROUPS * GROUP_CASES))
    }
    assert not missed, f"too few in {report.cases} cases"


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_fuzzer_finds_a_missing_safeguard(sabotage: str) -> None:
    # One group has the case that crashes or hangs; a lost freeze takes an expression that uses it.
    cases = GROUP_CASES if sabotage in CASE_SABOTAGES else SABOTAGE_CASES
    case_seconds_max = HANG_SECONDS_MAX if sabotage == "hang" else CASE_SECONDS_MAX
    found = run(
        SEED,
        cases=cases,
        seconds=SECONDS_MAX,
        case_seconds_max=case_seconds_max,
        sabotage=sabotage,
    )
    assert sabotage in {defect.kind for defect in found.defects}
