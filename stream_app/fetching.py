"""The thread in which aiokafka's consumer runs: batches out of it, fenced commits into it.

Both reach into what aiokafka keeps to itself; `tests/contract` holds what they rely on. Everything
here runs in the thread's own event loop.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import (
    IllegalGenerationError,
    IllegalStateError,
    KafkaConnectionError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import tuples

from stream_app import happenings
from stream_app.batches import Batch
from stream_app.closings import Commit, encode
from stream_app.decoding import WholeBatch, give_batches
from stream_app.errors import FencedError
from stream_app.expressions import TP, Record
from stream_app.logs import say

SERVICE_LOGGER: Final = logging.getLogger("faust.stream_app")
"""Where Faust says that services of ours start and stop: with its own such messages."""
FETCH_WAIT_MS_MAX: Final = 100
"""How long a broker may wait for records before it answers a fetch with none."""

DECODED_BYTES_MAX: Final = 2 * 1024 * 1024
"""How much is decoded ahead at a time. A fetch is bounded as it came over the wire: compressed, it
can be many times that."""

logger = logging.getLogger(__name__)


class RecordBatchThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread: fetches batches with their positions.

    Args:
        consumer: Faust's, whose thread it is.
        events_topic: The topic that is read in batches.
        log_ends: Where to note, for each partition, the first offset that a reader of committed
            records cannot see.
        **options: As for Faust's own.
    """

    logger = SERVICE_LOGGER
    _doubted: int | None = None
    """A generation in which the outcome of a commit is unknown: no further one is made in it."""

    def __init__(
        self,
        consumer: driver.Consumer,
        *,
        events_topic: str,
        log_ends: dict[TP, int],
        **options: Any,  # noqa: ANN401 - passed through
    ) -> None:
        super().__init__(consumer, **options)
        self._events_topic = events_topic
        self._log_ends = log_ends

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust reads uncommitted records unless it runs its own transactions. aiokafka takes the
        # level from here when it starts.
        consumer._isolation_level = "read_committed"  # noqa: SLF001
        # Faust's 1.5 s would keep a busy partition waiting behind idle ones of the same broker.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS_MAX  # noqa: SLF001
        return consumer

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[tuples.TP],
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is Faust's
        max_records: int | None = None,
    ) -> dict[TopicPartition, Any]:
        """Return what was fetched: for the events topic a `(generation, Batch)` a partition.

        The position is read before and after in one step of this thread's loop: with a timeout of
        0 aiokafka hands over what it holds without giving way, so no seek can come in between. A
        position that moves without a record (transaction markers) makes a batch without records.
        """
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher  # noqa: SLF001
        subscriptions = consumer._subscription  # noqa: SLF001
        waited = False
        while True:
            if subscriptions.reassignment_in_progress:
                await subscriptions.wait_for_assignment()
            with subscriptions.fetch_context():
                before = self._positions(consumer)
                if self._ask_for_batches(fetcher):
                    records = await self._take(fetcher, active_partitions, max_records)
                else:
                    records = await fetcher.fetched_records(
                        active_partitions, timeout=0, max_records=max_records
                    )
            batches = self._batches(consumer, before, records)
            if batches or waited:
                return batches
            waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
            done, _ = await asyncio.wait([waiter], timeout=timeout)
            if done:
                waiter.result()  # raises what a fetch has met, such as a missing right
            else:
                waiter.cancel()
            waited = True

    async def _take(
        self,
        fetcher: Any,  # noqa: ANN401 - aiokafka's
        active_partitions: set[tuples.TP],
        max_records: int | None,
    ) -> dict[TopicPartition, list[Any]]:
        """Return what waits and is compressed, up to `DECODED_BYTES_MAX` and one batch more.

        An error that a fetch has met is raised when nothing else is taken: aiokafka forgets it by
        raising it, and what was taken before would be lost.
        """
        taken: dict[TopicPartition, list[Any]] = {}
        decoded = count = 0
        while decoded < DECODED_BYTES_MAX and (max_records is None or count < max_records):
            found = await fetcher.fetched_records(active_partitions, timeout=0, max_records=1)
            for tp, some in found.items():
                taken.setdefault(tp, []).extend(some)
                count += len(some)
                decoded += sum(it.size for it in some if isinstance(it, WholeBatch))
            waiting = fetcher._records.values()  # noqa: SLF001
            if not found or not all(isinstance(it, FetchResult) for it in waiting):
                break
        return taken

    def _ask_for_batches(self, fetcher: Any) -> bool:  # noqa: ANN401 - aiokafka's
        """Return whether something is compressed of what waits."""
        is_compressed = False
        for tp, fetched in fetcher._records.items():  # noqa: SLF001
            # An error that a fetch has met may stand there instead; and nothing, when it is read.
            is_ours = tp.topic == self._events_topic and isinstance(fetched, FetchResult)
            if is_ours and fetched.has_more():
                is_compressed |= give_batches(fetched._partition_records)  # noqa: SLF001
        return is_compressed

    def _positions(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        subscription = consumer._subscription.subscription  # noqa: SLF001
        assignment = subscription and subscription.assignment
        if not assignment:
            return {}
        positions = {}
        for tp in assignment.tps:
            state = assignment.state_value(tp)
            if state.has_valid_position:
                positions[tp] = state.position
                if tp.topic == self._events_topic and state.lso is not None:
                    self._log_ends[TP(*tp)] = state.lso
        return positions

    def _batches(
        self,
        consumer: AIOKafkaConsumer,
        before: Mapping[TopicPartition, int],
        records: Mapping[TopicPartition, Sequence[Any]],
    ) -> dict[TopicPartition, Any]:
        generation = consumer._coordinator.generation  # noqa: SLF001
        batches: dict[TopicPartition, Any] = {}
        for tp, position in self._positions(consumer).items():
            if tp.topic != self._events_topic:
                if tp in records:
                    batches[tp] = records[tp]
            elif tp in before and position != before[tp]:
                found = _from(before[tp], records.get(tp, ()))
                batches[tp] = (generation, Batch(before[tp], position, found))
        return batches

    async def seek_to_committed(self) -> Mapping[tuples.TP, int]:
        """Seek every partition to its committed offset; none, when none is held any more.

        A worker that has slept through its session may learn of it just here, and aiokafka asserts.
        The rebalance that is then under way ends with a seek of its own.
        """
        return cast("Mapping[tuples.TP, int]", await self.call_thread(self._seek_assigned))

    async def _seek_assigned(self) -> Mapping[TopicPartition, int]:
        consumer = self._ensure_consumer()
        if not consumer.assignment():
            return {}
        try:
            return cast("Mapping[TopicPartition, int]", await consumer.seek_to_committed())
        except IllegalStateError as error:
            say(logger, happenings.NOT_OURS, "not sought: %s", error)
            return {}

    async def commit_once(
        self, commits: Mapping[TP, Commit], generation: int, owned: Callable[[], bool]
    ) -> None:
        """Send one OffsetCommit under exactly this generation; runs in the thread's loop.

        aiokafka's own `commit` repeats a failed request under whatever generation it has by then,
        which after a rebalance would put an old commit over a new owner's.
        """
        consumer = self._ensure_consumer()
        coordinator = consumer._coordinator  # noqa: SLF001
        await coordinator.ensure_coordinator_known()
        async with coordinator._commit_lock:  # noqa: SLF001
            subscription = consumer._subscription.subscription  # noqa: SLF001
            assignment = subscription and subscription.assignment
            # Nothing gives way between these checks and the making of the request.
            if (
                not assignment
                or not owned()
                or coordinator.generation != generation
                or generation == self._doubted
                or any(TopicPartition(*tp) not in assignment.tps for tp in commits)
            ):
                raise FencedError(f"a commit of generation {generation} is not sent: it is over")
            try:
                await coordinator._do_commit_offsets(  # noqa: SLF001
                    assignment,
                    {
                        TopicPartition(*tp): OffsetAndMetadata(commit.offset, encode(commit))
                        for tp, commit in commits.items()
                    },
                )
            except (
                UnknownMemberIdError,
                IllegalGenerationError,
                RebalanceInProgressError,
                IllegalStateError,
            ) as error:
                raise FencedError(f"the broker refuses generation {generation}: {error}") from error
            except (KafkaConnectionError, RequestTimedOutError, asyncio.CancelledError):
                # The request may still be on its way, and must not land on top of a later one. In
                # the next generation it is refused; our windows are kept through the rebalance.
                # To join again as the same member would not do: the broker answers a follower that
                # has nothing new to say with the generation that there is.
                self._doubted = generation
                coordinator.maybe_leave_group()
                raise

    @property
    def knows_coordinator(self) -> bool:
        """Whether the group's broker is known: heartbeats that fail make it unknown."""
        coordinator = self._consumer and self._consumer._coordinator  # noqa: SLF001
        return coordinator is not None and coordinator.coordinator_id is not None

    async def seek_to(self, tp: TP, offset: int) -> None:
        """Fetch from an offset next; runs in the thread's loop."""
        consumer = self._ensure_consumer()
        partition = TopicPartition(*tp)
        if partition not in consumer.assignment():
            raise FencedError(f"{tp}: not assigned any more")
        consumer.seek(partition, offset)


def _from(position: int, batches: Sequence[WholeBatch]) -> list[Record]:
    """Return the records of batches, without those below the position."""
    records = [record for batch in batches for record in batch.records]
    return records[bisect_left(records, position, key=attrgetter("offset")) :]
