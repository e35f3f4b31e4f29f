"""Check of aiokafka's clients: background tasks that have ended, errors that nobody has asked for.

aiokafka keeps an answer of the coordinator that it does not expect until the program asks for it,
which only its own `getmany`, `position` and the like do; a worker calls none of them. Until then it
takes no part in the group. Nor does anybody look at the background tasks. All of it is private;
`tests/contract` holds what is relied on.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from stream_app import log_events
from stream_app.errors import StalledError
from stream_app.logs import error_fields, log_event

if TYPE_CHECKING:
    import asyncio

CHECK_SECONDS: Final = 1.0
"""Interval of the checks."""

_REFUSED: Final = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)
"""Rights that an operator may grant: tried again at each check."""

logger = logging.getLogger(__name__)


def check_consumer(consumer: AIOKafkaConsumer | None) -> None:
    """Return if a consumer can go on, in the group too; runs in the consumer's loop.

    Raises:
        StalledError: It cannot, and would not notice.
    """
    if consumer is None or consumer._closed:  # noqa: SLF001
        return
    coordinator = consumer._coordinator  # noqa: SLF001
    if coordinator is None or coordinator._closing.done():  # noqa: SLF001
        return
    _require_running(
        {
            "coordination": coordinator._coordination_task,  # noqa: SLF001
            "fetching": consumer._fetcher._fetch_task,  # noqa: SLF001
            "metadata": consumer._client._sync_task,  # noqa: SLF001
        }
    )
    try:
        coordinator.check_errors()
    except _REFUSED as error:
        log_event(logger, log_events.GROUP_REFUSED, **error_fields(error))
    except InconsistentGroupProtocolError as error:
        raise StalledError(
            f"another client is in the group '{coordinator.group_id}', or a worker before version "
            "0.2: Kafka lets members of one kind into a group, so this worker gets no partition. "
            "Give that client a group of its own, or stop the old workers"
        ) from error
    except KafkaError as error:
        raise StalledError(
            f"Kafka's answer keeps this worker out of its group: {error or type(error).__name__}; "
            "the process ends, so that its supervisor starts another one"
        ) from error


def check_producer(producer: AIOKafkaProducer | None) -> None:
    """Return if a producer can go on; runs in the producer's loop.

    Raises:
        StalledError: It cannot.
    """
    if producer is not None and not producer._closed:  # noqa: SLF001
        _require_running(
            {"sending": producer._sender.sender_task, "metadata": producer.client._sync_task}  # noqa: SLF001
        )


def _require_running(tasks: Mapping[str, "asyncio.Task[None] | None"]) -> None:
    for name, task in tasks.items():
        if task is not None and task.done():
            error = None if task.cancelled() else task.exception()
            raise StalledError(
                f"the {name} task of Kafka's client has ended: {error!r}; the process ends, so "
                "that its supervisor starts another one"
            )
