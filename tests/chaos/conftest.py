"""How long and under which seed the schedule of faults runs."""

from pathlib import Path
from typing import Final

import pytest

from tests.chaos.kafka_proxy import KafkaProxy

SECONDS_BESIDE_FAULTS_MAX: Final = 300
"""To start, to recover and to be judged."""
JUDGED_PER_MINUTE_SECONDS_MAX: Final = 30
"""For each minute of faults, its objects and receipts are read and compared."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the schedule the time that it is to take, and no test of this folder a second run."""
    minutes = float(config.getoption("--chaos-minutes"))
    seconds = SECONDS_BESIDE_FAULTS_MAX + minutes * (60 + JUDGED_PER_MINUTE_SECONDS_MAX)
    for item in items:
        if "minutes" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(seconds))
        if item.path.is_relative_to(Path(__file__).parent):
            # What fails under one seed of two is a finding about a promise.
            item.add_marker(pytest.mark.flaky(reruns=0))


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """Of everything that the chaos tests draw."""
    return int(request.config.getoption("--chaos-seed"))


@pytest.fixture(autouse=True)
def _seed_shown(seed: int) -> None:
    """Print the seed, which pytest shows when the test fails."""
    print(f"--chaos-seed {seed}")


@pytest.fixture
def minutes(request: pytest.FixtureRequest) -> float:
    """How long faults are injected."""
    return float(request.config.getoption("--chaos-minutes"))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Path | None:
    """The document that the run writes its table into."""
    document = request.config.getoption("--chaos-report", default=None)
    return None if document is None else Path(str(document))


@pytest.fixture
def kafka_proxy(proxied_ports: tuple[int, int]) -> KafkaProxy:
    """A proxy before `own_kafka`, not open yet; workers that reach it stay behind it."""
    behind, before = proxied_ports
    return KafkaProxy(upstream_port=behind, port=before)
