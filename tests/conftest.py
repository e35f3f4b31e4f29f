"""Real servers that the whole suite shares, started when the first test needs them."""

import os
import random
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from stream_app.embedded.process import HOST, free_ports
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.errors import SetupError
from tests.profiles import register_profiles

register_profiles()
if "PYTEST_XDIST_WORKER" in os.environ:
    # The coverage is that of the tests' own process: programs that they start are not measured.
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer longer runs of the random tests, the same ones again, and new pictures."""
    parser.addoption(
        "--chaos-seed",
        type=int,
        default=random.SystemRandom().randrange(2**32),
        help="what the chaos tests draw from; a failure prints it",
    )
    parser.addoption(
        "--chaos-minutes",
        type=float,
        default=3.0,
        help="how long the schedule of faults is (default: 3)",
    )
    parser.addoption(
        "--chaos-report",
        metavar="FILE",
        help="the document into which the schedule writes its table of faults when it has passed",
    )
    parser.addoption(
        "--screenshots",
        action="store_true",
        help="put the pictures that the browser tests take into docs/images",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute tests as `tests/spread.py` states, unless `--dist` asks for another way."""
    if config.getoption("dist") != "load":
        return None
    from tests.spread import Spread  # noqa: PLC0415 - only the process that distributes needs it

    config.option.loadscopereorder = False  # the longest are collected first
    return Spread(config, log)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """One broker for the session: a test uses topics of its own, and never stops it."""
    # Its own controller shuts a broker out that is silent for three seconds, as one without a
    # processor is. It need not be short here: only a broker that was killed waits for its end.
    with KafkaServer(properties={"broker.session.timeout.ms": "60000"}) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One S3 server for the session: a test uses buckets of its own, and never stops it."""
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def proxied_ports() -> tuple[int, int]:
    """Return a port of `own_kafka` for a proxy before it, and the proxy's, which it advertises."""
    behind, before = free_ports(2)
    return behind, before


@pytest.fixture(scope="session")
def _fragile_kafka(proxied_ports: tuple[int, int]) -> Iterator[KafkaServer]:
    behind, before = proxied_ports
    properties = {
        "listeners": f"PROXIED://{HOST}:{behind}",
        "advertised.listeners": f"PROXIED://{HOST}:{before}",
        "listener.security.protocol.map": "PROXIED:PLAINTEXT",
    }
    with KafkaServer(properties=properties) as server:
        yield server


@pytest.fixture
def own_kafka(_fragile_kafka: KafkaServer) -> Iterator[KafkaServer]:
    """A broker that a test may pause, stop and kill; it runs when the next test gets it."""
    yield _fragile_kafka
    try:
        _fragile_kafka.resume()
    except SetupError:
        _fragile_kafka.start()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """A fresh, empty bucket."""
    name = f"test-{uuid4().hex[:12]}"
    s3.create_bucket(name)
    return name


@pytest.fixture
def topic_prefix() -> str:
    """A text that no other test's topics and groups begin with."""
    return f"test-{uuid4().hex[:12]}-"
