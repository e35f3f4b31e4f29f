"""Tests that share a fixture of their module, or what has happened in it, run in one process."""

from pathlib import Path

import pytest

from tests.spread import group_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("file", "is_whole"),
    [
        ("tests/integration/worker/test_hostile.py", True),
        ("tests/simulation/test_seeds.py", True),
        ("tests/chaos/test_schedule.py", True),
        ("tests/simulation/test_simulation.py", False),
        ("tests/unit/core/test_window.py", False),
    ],
)
def test_file_goes_to_one_process_only_if_its_tests_share(file: str, is_whole: bool) -> None:  # noqa: FBT001 - pytest's parameter
    one, other = f"{file}::test_one", f"{file}::test_other[it's a::b]"
    assert (group_of(one, ROOT) == group_of(other, ROOT)) is is_whole
