"""Leader of a partition, asked on a connection of its own.

What a worker's own client does not show is asked here: where a leader epoch ends
(`leader_epochs`), and whether the leader has a record batch for an offset. A broker may have none
though the log ends later: where the length of a batch is damaged on its disk, the broker finds
neither that batch nor what follows it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    NoError,
    OffsetOutOfRangeError,
    for_code,
)
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition as ClientPartition

from stream_app.errors import TransientError
from stream_app.records import TopicPartition

LEADER_SECONDS_MAX: Final = 10.0
"""Timeout of finding the leader and of its response."""
_RETRY_SECONDS: Final = 0.2
_FETCH_WAIT_MS_MAX: Final = 2_000
"""Time after which the broker responds without a record batch."""
_READ_COMMITTED: Final = 1

_T = TypeVar("_T")


class Fetched(NamedTuple):
    """Response of a leader that is asked for the record batch at an offset."""

    log_end: int | None
    """First offset that a reader of committed records cannot see; None: the leader names none."""
    refusal: str | None
    """Why it has no batch, though the log has the offset; None: it has one, or is at its end."""


async def fetched(
    options: Mapping[str, Any],
    tp: TopicPartition,
    offset: int,
    *,
    seconds_max: float = LEADER_SECONDS_MAX,
) -> Fetched:
    """Ask the leader of a partition for the record batch at an offset.

    Args:
        options: Of the connection.
        tp: Which partition.
        offset: Which offset.
        seconds_max: Timeout.

    Raises:
        TransientError: The leader does not respond at present.
    """
    request = FetchRequest(
        _FETCH_WAIT_MS_MAX, 1, 1, _READ_COMMITTED, [(tp.topic, [(tp.partition, offset, 1)])]
    )

    async def ask(client: AIOKafkaClient) -> Fetched:
        response = await ask_leader(client, tp, request)
        # A broker that throttles this client returns no partition.
        partitions = [it for _, found in response.topics for it in found]
        if not partitions:
            raise LeaderNotAvailableError
        ((_, code, _, log_end, *_, records),) = partitions
        error = for_code(code)
        if error is OffsetOutOfRangeError:
            return Fetched(None, None)  # The fetch thread finds the same, and reports it.
        if error is not NoError:
            if error.retriable:
                raise error
            return Fetched(None, f"{error.__name__}: {error.description}")
        if records or offset >= log_end:
            return Fetched(log_end, None)
        return Fetched(log_end, "its broker returns none, though the log goes on")

    return await with_leader(options, "Fetch", tp, ask, seconds_max)


async def with_leader(
    options: Mapping[str, Any],
    name: str,
    tp: TopicPartition,
    ask: Callable[[AIOKafkaClient], Awaitable[_T]],
    seconds_max: float,
) -> _T:
    """Call `ask` with a client of its own, again as long as the error is one that passes.

    Raises:
        TransientError: The leader does not respond at present; its code is the name.
        KafkaError: Any other one.
    """
    client = AIOKafkaClient(**options)
    try:
        async with asyncio.timeout(seconds_max):
            await client.bootstrap()
            while True:
                try:
                    return await ask(client)
                except KafkaError as error:
                    if not error.retriable:
                        raise
                await asyncio.sleep(_RETRY_SECONDS)
    except (KafkaError, OSError, TimeoutError) as error:
        raise TransientError(name, f"{tp}: {error!r}") from error
    finally:
        await client.close()


async def ask_leader(client: AIOKafkaClient, tp: TopicPartition, request: Request[Any]) -> Any:  # noqa: ANN401 - aiokafka's
    """Send a request to the leader, as newly found; return its response.

    Raises:
        KafkaError: The leader is not known; or the request cannot be sent.
    """
    client.set_topics([tp.topic])
    await client.force_metadata_update()
    leader = client.cluster.leader_for_partition(ClientPartition(*tp))
    if leader is None or leader < 0:
        raise LeaderNotAvailableError
    return await client.send(leader, request)
