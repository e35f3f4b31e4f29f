"""Thread of aiokafka's consumer: fetches record batches, and sends fenced commits.

Both use private parts of aiokafka; `tests/contract` holds what they rely on. Everything here runs
in the thread's own event loop.
"""

import asyncio
import contextlib
import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchError, FetchResult, OffsetResetStrategy
from aiokafka.errors import (
    IllegalGenerationError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata
from aiokafka.structs import TopicPartition as ClientPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import tuples

from stream_app import log_events
from stream_app.core.commit_metadata import Commit, encode
from stream_app.errors import FencedError, InstanceFencedError
from stream_app.kafka.assignor import StreamAppAssignor
from stream_app.kafka.client_check import check_consumer
from stream_app.kafka.positions import assigned_states, partition_states
from stream_app.kafka.record_batches import WholeBatch, give_batches, split
from stream_app.kafka.static_member import FencedInstanceIdError, StaticMember
from stream_app.logs import SERVICE_LOGGER, error_fields, log_event
from stream_app.records import (
    NO_EPOCH,
    NO_POSITION,
    Batch,
    OutOfRange,
    Record,
    TopicPartition,
)

FETCH_WAIT_MS_MAX: Final = 100
"""Time after which a broker responds to a fetch without records."""

DECODED_BYTES_MAX: Final = 2 * 1024 * 1024
"""Bytes that are decoded ahead at a time. A fetch is bounded by its size on the wire; a compressed
one can be many times that."""

SEEK_SECONDS_MAX: Final = 30.0
"""Timeout of looking up where to seek: aiokafka waits for the coordinator as long as it is away."""
_NO_RECORD_ERRORS: Final = (OffsetOutOfRangeError, NoOffsetForPartitionError)
UNDECODABLE_RETRY_SECONDS: Final = 5.0
"""Time after which a batch that cannot be decoded is fetched again: another replica may have it."""

logger = logging.getLogger(__name__)


class RecordBatchThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread: fetches batches with their positions.

    Args:
        consumer: The Faust consumer of the thread.
        events_topic: The topic that is read in batches.
        instance: Id of a static member of the group; None: a member as long as the process runs.
        rack: Where replicas are fetched from rather than leaders; None: from leaders only.
        **options: Of Faust's thread.
    """

    logger = SERVICE_LOGGER
    _doubted: tuple[str, int] | None = None
    """Member and generation in which the outcome of a commit is unknown: no further commit is sent
    in it. Generations alone are not enough: those of a group that is made again begin at 1."""

    def __init__(
        self,
        consumer: driver.Consumer,
        *,
        events_topic: str,
        instance: str | None,
        rack: str | None,
        **options: Any,  # noqa: ANN401 - passed through
    ) -> None:
        super().__init__(consumer, **options)
        self._events_topic = events_topic
        self._instance = instance
        self._rack = rack
        self._static: StaticMember | None = None
        self._seeks: Counter[tuple[str, int]] = Counter()
        self.log_ends: Mapping[TopicPartition, int] = {}
        """First offset that a reader of committed records cannot see, by assigned partition.

        Never changed: this thread publishes a new mapping in one assignment, other threads read it.
        """
        self.high_watermarks: Mapping[TopicPartition, int] = {}
        """End of the log, by assigned partition: beyond `log_ends` while a transaction is open."""

    async def on_start(self) -> None:
        """Start the consumer."""
        await super().on_start()
        if self._instance is not None:
            self._static = StaticMember(self._consumer, self._instance)

    async def on_partitions_assigned(
        self, assigned: set[tuples.TP], generation_id: int = 0
    ) -> None:
        """Watch the topics' partitions, then pass the assignment on."""
        if self._static is not None:
            self._static.watch_topics()
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[tuples.TP]) -> None:
        """Publish an empty mapping of ends, then pass the revocation on."""
        # An end from before would make a partition that is assigned again look idle.
        self.log_ends = self.high_watermarks = {}
        await super().on_partitions_revoked(revoked)

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust reads uncommitted records unless it runs its own transactions. aiokafka reads the
        # level from this attribute when it starts.
        consumer._isolation_level = "read_committed"  # noqa: SLF001
        consumer._client_rack = self._rack  # noqa: SLF001 - Faust has no setting for it
        # With Faust's 1.5 s a busy partition would wait for idle ones of the same broker.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS_MAX  # noqa: SLF001
        consumer._partition_assignment_strategy = (StreamAppAssignor,)  # noqa: SLF001
        # By itself aiokafka would go on at the start of a log that has ended before the position,
        # without a word. Positions are sought by us only.
        consumer._auto_offset_reset = "none"  # noqa: SLF001
        return consumer

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[tuples.TP],
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is Faust's
        max_records: int | None = None,
    ) -> dict[ClientPartition, Any]:
        """Return what was fetched, by partition; of the events topic a `(generation, Batch)`.

        The positions before and after are read in one step of this thread's loop: with a timeout of
        0 aiokafka returns what it holds without yielding to the loop, so no seek can come between.
        A position that moves without a record (transaction markers) makes a batch without records.
        """
        fetcher = consumer._fetcher  # noqa: SLF001
        subscriptions = consumer._subscription  # noqa: SLF001
        waited = False
        while True:
            if subscriptions.reassignment_in_progress:
                # An error is the coordinator's, and kept for `check`.
                with contextlib.suppress(KafkaError):
                    await subscriptions.wait_for_assignment()
            if not self.consumer.flow_active:
                return {}  # What is fetched while the flow is suspended would have to be dropped.
            with subscriptions.fetch_context():
                before = {tp: it.position for tp, it in partition_states(consumer).items()}
                out_of_range = self._out_of_range(consumer)
                fetches = self._request_batches(fetcher)
                if any(it.is_compressed for it in fetches.values()):
                    records = await self._take(fetcher, active_partitions, max_records)
                else:
                    records = await fetcher.fetched_records(
                        active_partitions, timeout=0, max_records=max_records
                    )
            epochs = {tp: it.leader_epoch for tp, it in fetches.items()}
            batches = self._batches(consumer, before, records, epochs) | out_of_range
            if batches or waited:
                return batches
            waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
            done, _ = await asyncio.wait([waiter], timeout=timeout)
            if done:
                waiter.exception()  # As above; that of a fetch is raised where it is taken.
            else:
                waiter.cancel()
            waited = True

    async def _take(
        self,
        fetcher: Any,  # noqa: ANN401 - aiokafka's
        active_partitions: set[tuples.TP],
        max_records: int | None,
    ) -> dict[ClientPartition, list[Any]]:
        """Return compressed batches that were fetched, up to `DECODED_BYTES_MAX` and one more.

        The error of a fetch is raised only when nothing else was taken: aiokafka forgets the error
        when it raises it, and the batches taken before would be lost.
        """
        taken: dict[ClientPartition, list[Any]] = {}
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

    def _request_batches(
        self,
        fetcher: Any,  # noqa: ANN401 - aiokafka's
    ) -> dict[ClientPartition, Any]:
        """Let the fetches that wait give whole batches; return them, by partition."""
        fetches: dict[ClientPartition, Any] = {}
        for tp, fetched in fetcher._records.items():  # noqa: SLF001
            # The error of a fetch may be there instead; and nothing is left once it was read.
            is_events = tp.topic == self._events_topic and isinstance(fetched, FetchResult)
            if is_events and fetched.has_more():
                fetches[tp] = give_batches(fetched._partition_records)  # noqa: SLF001
        return fetches

    def _out_of_range(self, consumer: AIOKafkaConsumer) -> dict[ClientPartition, Any]:
        """Remove the responses that a log has no record at a position; return them as `_batches`.

        aiokafka looks for a position as soon as a partition is assigned. That it finds none does
        not matter once the partition was sought.
        """
        fetcher, states = consumer._fetcher, assigned_states(consumer)  # noqa: SLF001
        found: dict[ClientPartition, Any] = {}
        for tp, fetched in list(fetcher._records.items()):  # noqa: SLF001
            error = fetched._error if isinstance(fetched, FetchError) else None  # noqa: SLF001
            if tp.topic != self._events_topic or not isinstance(error, _NO_RECORD_ERRORS):
                continue
            del fetcher._records[tp]  # noqa: SLF001
            fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001 - it fetches again
            state = states.get(tp)
            if state is None or state.awaiting_reset:
                continue
            if isinstance(error, OffsetOutOfRangeError):
                found[tp] = (self._generation, OutOfRange(error.args[0][tp], self._seeks[tp]))
            elif not state.has_valid_position:
                found[tp] = (self._generation, OutOfRange(NO_POSITION, self._seeks[tp]))
        return found

    def _batches(
        self,
        consumer: AIOKafkaConsumer,
        before: Mapping[ClientPartition, int],
        records: Mapping[ClientPartition, Sequence[Any]],
        epochs: Mapping[ClientPartition, int],
    ) -> dict[ClientPartition, Any]:
        """Return what was taken, by partition; publish the ends known by now."""
        generation = self._generation
        states = partition_states(consumer)
        fetched = self._fetched(states)
        self.log_ends = {tp: it.lso for tp, it in fetched}
        self.high_watermarks = {tp: it.highwater for tp, it in fetched}
        batches: dict[ClientPartition, Any] = {}
        for tp, state in states.items():
            position = state.position
            if tp.topic != self._events_topic:
                if tp in records:
                    batches[tp] = records[tp]
            elif tp in before:
                found, undecodable = split(records.get(tp, ()))
                if undecodable is not None:
                    undecodable = undecodable.within(state.highwater)
                    self._hold(consumer, tp)
                if position != before[tp] or undecodable is not None:
                    content, epoch = _from(before[tp], found), epochs.get(tp, NO_EPOCH)
                    batch = Batch(
                        *(before[tp], position, content, undecodable, self._seeks[tp], epoch)
                    )
                    batches[tp] = (generation, batch)
        return batches

    def _fetched(self, states: Mapping[ClientPartition, Any]) -> list[tuple[TopicPartition, Any]]:
        """Return the states of the events topic's partitions that a response has come for."""
        return [
            (TopicPartition(*tp), it)
            for tp, it in states.items()
            if tp.topic == self._events_topic and it.lso is not None
        ]

    def ends_seen(self) -> Mapping[TopicPartition, int]:
        """Return the ends that aiokafka knows at present; called by other threads."""
        consumer = self._consumer
        states = {} if consumer is None else partition_states(consumer)
        return {tp: it.lso for tp, it in self._fetched(states)}

    def fetches(self) -> Mapping[TopicPartition, tuple[int | None, bool]]:
        """Return the state of the events topic's fetches; called by other threads.

        Returns:
            Of each assigned partition the time of the last response to a fetch, None before the
            first one, and whether none is due: it is paused, or what was fetched from the same
            broker has to be taken first.
        """
        consumer = self._consumer
        if consumer is None:
            return {}
        subscription = consumer._subscription.subscription  # noqa: SLF001
        assignment = subscription and subscription.assignment
        if not assignment or not assignment.active:
            return {}
        records, cluster = consumer._fetcher._records, consumer._client.cluster  # noqa: SLF001
        replicas = consumer._fetcher._preferred_read_replica  # noqa: SLF001
        nodes = {
            tp: replica[0] if (replica := replicas.get(tp)) else cluster.leader_for_partition(tp)
            for tp in assignment.tps
            if tp.topic == self._events_topic
        }
        busy = {node for tp, node in nodes.items() if tp in records}
        states = {tp: assignment.state_value(tp) for tp in nodes}
        return {
            TopicPartition(*tp): (it.timestamp, it.paused or nodes[tp] in busy)
            for tp, it in states.items()
        }

    def _hold(self, consumer: AIOKafkaConsumer, tp: ClientPartition) -> None:
        """Fetch nothing of a partition for a while; a seek, or a rebalance, ends that."""
        consumer.pause(tp)
        asyncio.get_running_loop().call_later(
            UNDECODABLE_RETRY_SECONDS, self._release, consumer, tp
        )

    def _release(self, consumer: AIOKafkaConsumer, tp: ClientPartition) -> None:
        if tp in consumer.assignment():
            consumer.resume(tp)

    async def seek_to_committed(self) -> Mapping[tuples.TP, int]:
        """Seek every partition to its committed offset; return none if none is assigned any more.

        A worker that has slept through its session may lose its partitions just here, and aiokafka
        asserts that it has some. The rebalance that follows ends with a seek of its own.
        """
        return cast("Mapping[tuples.TP, int]", await self.call_thread(self._seek_assigned))

    async def _seek_assigned(self) -> Mapping[ClientPartition, int]:
        # aiokafka's own `seek_to_committed` asks for one partition after the other, without a
        # bound, and leaves out those whose commit is 0 or none.
        consumer = self._ensure_consumer()
        subscription = consumer._subscription.subscription  # noqa: SLF001
        assignment = subscription and subscription.assignment
        if not assignment:
            return {}
        try:
            async with asyncio.timeout(SEEK_SECONDS_MAX):
                found = await consumer._coordinator.fetch_committed_offsets(  # noqa: SLF001
                    list(assignment.tps)
                )
        except (KafkaError, TimeoutError) as error:
            log_event(logger, log_events.COMMIT_READ_FAILED, **error_fields(error))
            return {}
        if not assignment.active or consumer._subscription.reassignment_in_progress:  # noqa: SLF001
            log_event(logger, log_events.FENCED, work="seek", error="another rebalance has begun")
            return {}
        for tp in assignment.tps:
            if tp in found:
                consumer.seek(tp, found[tp].offset)
            else:
                # aiokafka looks up where the log begins; nobody needs to wait for it.
                consumer._fetcher.request_offset_reset([tp], OffsetResetStrategy.EARLIEST)  # noqa: SLF001
        return {tp: it.offset for tp, it in found.items()}

    async def commit_once(
        self, commits: Mapping[TopicPartition, Commit], generation: int, owned: Callable[[], bool]
    ) -> None:
        """Send one OffsetCommit under exactly this generation; runs in the thread's loop.

        aiokafka's own `commit` repeats a failed request under the generation of that time, which
        after a rebalance would overwrite the new owner's commit with an old one.
        """
        consumer = self._ensure_consumer()
        coordinator = consumer._coordinator  # noqa: SLF001
        await coordinator.ensure_coordinator_known()
        async with coordinator._commit_lock:  # noqa: SLF001
            subscription = consumer._subscription.subscription  # noqa: SLF001
            assignment = subscription and subscription.assignment
            sender = (coordinator.member_id, generation)
            # Nothing yields to the loop between these checks and the making of the request.
            if (
                not assignment
                or not owned()
                or coordinator.generation != generation
                or sender == self._doubted
                or any(ClientPartition(*tp) not in assignment.tps for tp in commits)
            ):
                raise FencedError(
                    f"a commit of generation {generation} is not sent: the generation is over"
                )
            try:
                await coordinator._do_commit_offsets(  # noqa: SLF001
                    assignment,
                    {
                        ClientPartition(*tp): OffsetAndMetadata(commit.offset, encode(commit))
                        for tp, commit in commits.items()
                    },
                )
            except (
                UnknownMemberIdError,
                IllegalGenerationError,
                RebalanceInProgressError,
                IllegalStateError,
                FencedInstanceIdError,
            ) as error:
                raise FencedError(f"the broker refuses generation {generation}: {error}") from error
            except (KafkaConnectionError, RequestTimedOutError, asyncio.CancelledError):
                # The request may still be on its way, and must not overwrite a later commit. In the
                # next generation it is refused; windows are kept through the rebalance. Joining
                # again as the same member is not enough: the broker returns the present generation
                # to a follower whose subscription has not changed.
                self._doubted = sender
                coordinator.maybe_leave_group()
                raise

    async def check(self) -> None:
        """Check aiokafka's consumer, see `check_consumer`; runs in the thread's loop.

        Raises:
            InstanceFencedError: Another process has the group's place of this one.
        """
        if self._static is not None and self._static.is_fenced:
            raise InstanceFencedError(
                f"another worker has joined the group with group_instance_id '{self._instance}', "
                "and has this one's partitions: this one ends, and must not be started again; give "
                "each worker an id of its own"
            )
        if not self.should_stop:
            check_consumer(self._consumer)

    @property
    def is_rebalancing(self) -> bool:
        """Whether a rebalance is in progress as far as aiokafka knows; read by other threads."""
        consumer = self._consumer
        return consumer is not None and consumer._subscription.reassignment_in_progress  # noqa: SLF001

    @property
    def _generation(self) -> int:
        return cast("int", self._ensure_consumer()._coordinator.generation)  # noqa: SLF001

    @property
    def knows_coordinator(self) -> bool:
        """Whether the group's coordinator is known: a failed heartbeat makes it unknown."""
        coordinator = self._consumer and self._consumer._coordinator  # noqa: SLF001
        return coordinator is not None and coordinator.coordinator_id is not None

    async def pause(self, tp: TopicPartition) -> None:
        """Fetch nothing of a partition until it is sought, or assigned anew; in this loop."""
        consumer, partition = self._ensure_consumer(), ClientPartition(*tp)
        if partition in consumer.assignment():
            consumer.pause(partition)

    async def seek_to(self, tp: TopicPartition, offset: int) -> int:
        """Seek a partition to an offset; return how often; runs in the thread's loop."""
        consumer = self._ensure_consumer()
        partition = ClientPartition(*tp)
        if partition not in consumer.assignment():
            raise FencedError(f"{tp}: not assigned any more")
        consumer.seek(partition, offset)
        consumer.resume(partition)
        self._seeks[tp] += 1
        return self._seeks[tp]


def _from(position: int, batches: Sequence[WholeBatch]) -> list[Record]:
    """Return the records of batches, without those below the position."""
    records = [record for batch in batches for record in batch.records]
    return records[bisect_left(records, position, key=attrgetter("offset")) :]
