"""Diagnosis of an absent broker: why no connection is possible, as a log event.

aiokafka logs that no broker could be reached, not why: a certificate that the broker refuses, or a
password, looks like a broker that is down. While the group's broker, or that of a partition, does
not answer, a connection to each broker is tried, and its error has the reason and the advice.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from stream_app import log_events
from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.kafka.connection import check_brokers
from stream_app.logs import log_event

CHECK_SECONDS: Final = 5.0
"""Interval of checks. Connections are tried when two in a row have found that Kafka does not
answer: a coordinator changes in less."""
SAME_SECONDS_MIN: Final = 60.0
"""Least time between two messages with the same reason."""

logger = logging.getLogger(__name__)


async def diagnose(kafka: Kafka, is_answering: Callable[[], bool]) -> None:
    """Log why a broker is unreachable, whenever one is, until cancelled.

    Args:
        kafka: The connection.
        is_answering: Returns whether Kafka answers this worker.
    """
    reason, logged_at = "", 0.0
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        if is_answering():
            reason = ""
            continue
        await asyncio.sleep(CHECK_SECONDS)
        if is_answering():
            continue
        try:
            await check_brokers(kafka)
        except SetupError as error:
            now = time.monotonic()
            if str(error) != reason or now - logged_at >= SAME_SECONDS_MIN:
                reason, logged_at = str(error), now
                log_event(logger, log_events.BROKER_UNREACHABLE, error=reason)
