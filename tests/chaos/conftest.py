"""How long and under which seed the random test runs."""

import pytest


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Of everything drawn in this test; pytest prints it when the test fails."""
    seed = request.config.getoption("--chaos-seed")
    print(f"--chaos-seed {seed}")  # noqa: T201 - shown with a failure
    return int(seed)


@pytest.fixture
def disturbed_seconds(request: pytest.FixtureRequest) -> float:
    """How long the random test disturbs its workers."""
    return float(request.config.getoption("--chaos-minutes")) * 60
