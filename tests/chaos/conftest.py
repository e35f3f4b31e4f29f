"""How long and under which seed the random tests run."""

import pytest


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """Of everything that the chaos tests draw."""
    return int(request.config.getoption("--chaos-seed"))


@pytest.fixture(autouse=True)
def _seed_shown(seed: int) -> None:
    """Print the seed, which pytest shows when the test fails."""
    print(f"--chaos-seed {seed}")


@pytest.fixture
def disturbed_seconds(request: pytest.FixtureRequest) -> float:
    """How long the random test disturbs its workers."""
    return float(request.config.getoption("--chaos-minutes")) * 60
