"""The real servers that the whole suite shares, started when the first test asks for them."""

import random
from collections.abc import Iterator
from uuid import uuid4

import pytest

from stream_app.embedded import KafkaServer, S3Server


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


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """One broker for the session: a test uses topics of its own, and never stops it."""
    with KafkaServer() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One S3 server for the session: a test uses buckets of its own, and never stops it."""
    with S3Server() as server:
        yield server


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
