"""Record batches out of Faust, and fenced commits with metadata into Kafka.

Faust 0.15.3 passes records on one at a time (two tasks and a lock for each) and commits from
acknowledgements, past events that are still in flight. Three classes replace that through its own
extension points; `tests/contract` holds what they rely on.

`RecordBatchThread` fetches: one `Batch` for each partition of the events topic, with the positions
around it, read committed. `RecordBatchConsumer` hands each on as one Faust message and commits what
it is told to, once, under the group generation it is told. `BatchTransport` and `StreamApp` make
Faust use them.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import (
    IllegalGenerationError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.app.base import BootStrategy
from faust.transport.drivers import aiokafka as driver
from faust.types import tuples

from stream_app.batches import Batch
from stream_app.closings import Commit, decode, encode
from stream_app.decoding import WholeBatch, give_batches
from stream_app.errors import FencedError, SetupError, TransientError
from stream_app.expressions import TP, Record
from stream_app.kafka import client_options
from stream_app.partition import GapError
from stream_app.settings import Settings

COMMIT_SECONDS_MAX: Final = 30.0
"""How long one commit may take; then its outcome is unknown, and it is made again."""
SERVICE_LOGGER: Final = logging.getLogger("faust.stream_app")
"""Where Faust says that services of ours start and stop: with its own such messages."""
NONE_COMMITTED: Final = -1
"""What Kafka answers as offset where nothing was ever committed."""

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class RecordBatchThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread: fetches batches with their positions."""

    consumer: "RecordBatchConsumer"
    logger = SERVICE_LOGGER
    _doubted: int | None = None
    """A generation in which the outcome of a commit is unknown: no further one is made in it."""

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust reads uncommitted records unless it runs its own transactions. aiokafka takes the
        # level from here when it starts.
        consumer._isolation_level = "read_committed"  # noqa: SLF001
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
                self._ask_for_batches(fetcher)
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

    def _ask_for_batches(self, fetcher: Any) -> None:  # noqa: ANN401 - aiokafka's
        for tp, fetched in fetcher._records.items():  # noqa: SLF001
            # An error that a fetch has met may stand there instead; and nothing, when it is read.
            is_ours = tp.topic == self.consumer.events_topic and isinstance(fetched, FetchResult)
            if is_ours and fetched.has_more():
                give_batches(fetched._partition_records)  # noqa: SLF001

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
                if tp.topic == self.consumer.events_topic and state.lso is not None:
                    self.consumer.log_ends[TP(*tp)] = state.lso
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
            if tp.topic != self.consumer.events_topic:
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
            logger.debug("not sought: %s", error)
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


class _ReadOffsets(dict[tuples.TP, int | None]):
    """Lets every batch of the events topic through to its partition, which knows what it has.

    Faust drops what lies below the newest offset that it has passed on. It notes that offset after
    the agent may have seen the message, and so also after the agent has sought back: the batches
    that were sought would be dropped, and nothing would ever fetch them again.
    """

    def __init__(self, events_topic: str) -> None:
        super().__init__()
        self._events_topic = events_topic

    def __getitem__(self, tp: tuples.TP) -> int | None:
        return None if tp.topic == self._events_topic else self.get(tp)


class RecordBatchConsumer(driver.Consumer):
    """Faust's consumer, with batches for the events topic and commits by order only."""

    app: "StreamApp"
    logger = SERVICE_LOGGER
    _thread: RecordBatchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed through
        super().__init__(*args, **kwargs)
        self.events_topic = self.app.settings.kafka.events_topic
        self._read_offset = _ReadOffsets(self.events_topic)
        self.log_ends: dict[TP, int] = {}
        """For each partition the first offset that a reader of committed records cannot see."""

    def _new_consumer_thread(self) -> RecordBatchThread:
        return RecordBatchThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109 - the signature is Faust's
    ) -> AsyncIterator[tuple[tuples.TP, tuples.Message]]:
        """Yield one message for each fetched batch of the events topic, others one by one."""
        fetched, _ = await self._wait_next_records(timeout)
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()  # what was fetched is dropped here
            return
        for tp, content in fetched.items():
            if not self.flow_active:
                return
            if tp.topic == self.events_topic:
                generation, batch = content
                yield tuples.TP(*tp), self._batch_message(tp, generation, batch)
            else:
                for record in content:
                    yield tuples.TP(*tp), self._to_message(tp, record)

    def _batch_message(
        self, tp: TopicPartition, generation: int, batch: Batch
    ) -> tuples.ConsumerMessage:
        return tuples.ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=batch.next_position - 1,  # Faust's notion of how far it has read
            timestamp=0.0,
            timestamp_type=0,
            headers=None,
            key=None,
            value=cast("Any", batch),
            checksum=None,
            tp=tuples.TP(*tp),
            generation_id=generation,
        )

    async def commit_closings(
        self, commits: Mapping[TP, Commit], generation: int, owned: Callable[[], bool]
    ) -> None:
        """Commit offsets with their recorded closings, once, and wait for the broker.

        Args:
            commits: What to commit.
            generation: Of the group, under which the partitions are ours.
            owned: Asked in the same step that makes the request.

        Raises:
            FencedError: The partitions are no longer ours; nothing was committed.
            TransientError: It is unknown whether it was committed; try again.
            SetupError: The broker refuses for good, such as for a missing right.
        """
        try:
            await asyncio.wait_for(
                self._in_thread(self._thread.commit_once(commits, generation, owned)),
                COMMIT_SECONDS_MAX,
            )
        except TimeoutError as error:
            raise TransientError(
                "CommitTimeout", f"no answer within {COMMIT_SECONDS_MAX:.0f} s"
            ) from error
        except KafkaError as error:
            if error.retriable:
                raise TransientError(type(error).__name__, str(error)) from error
            raise SetupError(
                f"Kafka refuses the commits of group {self.app.conf.id}: {type(error).__name__}: "
                f"{error}; let this user read the group and the events topic (kafka-acls)"
            ) from error

    async def read_commits(self, tps: Sequence[TP]) -> dict[TP, Commit]:
        """Read offset and recorded closings back; where the log begins, if nothing is committed.

        Raises:
            TransientError: The broker cannot be asked now.
            InvariantError: The metadata is not ours.
        """
        admin = AIOKafkaAdminClient(**self.app.client_options)
        try:
            await admin.start()
            found = await admin.list_consumer_group_offsets(
                self.app.conf.id, partitions=[TopicPartition(*tp) for tp in tps]
            )
        except (KafkaError, OSError) as error:
            raise TransientError(type(error).__name__, str(error)) from error
        finally:
            await admin.close()
        commits: dict[TP, Commit] = {}
        for tp in tps:
            committed = found.get(TopicPartition(*tp))
            if committed is None:
                # What was asked for is always answered, with -1 where nothing is committed. But
                # aiokafka passes over an error of the whole group, such as a coordinator that is
                # still loading: to take that for "nothing" would deliver everything again.
                raise TransientError("OffsetFetch", f"no answer for {tp.topic}/{tp.partition}")
            if committed.offset != NONE_COMMITTED:
                commits[tp] = decode(committed.offset, committed.metadata)
        starts = await self.log_starts([tp for tp in tps if tp not in commits])
        return commits | {tp: Commit(start, ()) for tp, start in starts.items()}

    async def seek_to(self, tp: TP, offset: int) -> None:
        """Fetch from an offset next.

        Raises:
            FencedError: The partition is not assigned any more.
        """
        await self._in_thread(self._thread.seek_to(tp, offset))

    async def lost_to_retention(self, tp: TP, gap: GapError) -> bool:
        """Whether the records in a gap are gone from the log, rather than passed over by us.

        Raises:
            TransientError: The broker cannot be asked now.
        """
        return (await self.log_starts([tp]))[tp] >= gap.found

    async def log_starts(self, tps: Sequence[TP]) -> dict[TP, int]:
        """Return the first offsets that the broker still has.

        Raises:
            TransientError: The broker cannot be asked now.
        """
        if not tps:
            return {}
        # A client of its own: on the connection that fetches, the question would wait for the
        # answer to a fetch, which for an idle topic takes 1.5 s.
        client = AIOKafkaConsumer(**self.app.client_options)
        try:
            await client.start()
            starts = await client.beginning_offsets([TopicPartition(*tp) for tp in tps])
        except (KafkaError, OSError) as error:
            raise TransientError(type(error).__name__, str(error)) from error
        finally:
            await client.stop()
        return {TP(*partition): offset for partition, offset in starts.items()}

    async def _in_thread(self, work: Coroutine[Any, Any, _T]) -> _T:
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(work, self._thread.thread_loop)
        )


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = RecordBatchConsumer


class _WithoutWeb(BootStrategy):
    """Starts no web server, also under `faust worker`, which turns it on."""

    enable_web = False


class StreamApp(faust.App):
    """A Faust app that reads record batches, serves nothing and keeps nothing on disk."""

    BootStrategy = _WithoutWeb

    settings: Settings
    consumer: RecordBatchConsumer
    logger = SERVICE_LOGGER

    @cached_property
    def client_options(self) -> dict[str, Any]:
        """How clients of ours beside Faust's connect to Kafka."""
        return client_options(self.settings.kafka)

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Make none: no table of ours has a store."""
