"""Faust's consumer and transport, with record batches and with fenced commits.

Faust 0.15.3 passes records on one at a time (two tasks and a lock for each) and commits from
acknowledgements, past events that are still in flight. Three classes replace that through its own
extension points; `tests/contract` holds what they rely on.

`RecordBatchThread` fetches one `Batch` for each partition of the events topic, with the positions
around it, committed records only. `RecordBatchConsumer` passes each on as one Faust message, and
sends the commits that it is given once, under the given generation of the group. `BatchTransport`
and `StreamApp` make Faust use them.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    OffsetMetadataTooLargeError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import TopicPartition as ClientPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import tuples
from mode import Service

from stream_app.core.commit_metadata import Commit, UnmarkedCommitError
from stream_app.errors import CommitTooLargeError, SetupError, TransientError
from stream_app.kafka.client_check import CHECK_SECONDS, check_producer
from stream_app.kafka.commits import committed
from stream_app.kafka.fetch_thread import RecordBatchThread
from stream_app.kafka.leader_epochs import epoch_end
from stream_app.kafka.partition_leader import Fetched, fetched
from stream_app.kafka.secrets import use_password
from stream_app.logs import SERVICE_LOGGER
from stream_app.records import Batch, GapError, OutOfRange, TopicPartition

COMMIT_SECONDS_MAX: Final = 30.0
"""Timeout of one commit; then its outcome is unknown, and it is sent again."""
ROOM_SECONDS_MAX: Final = 1.0
"""Wait for room in the agent's queue, before the consumer checks whether it is to stop."""

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class _ReadOffsets(dict[tuples.TP, int | None]):
    """Disables Faust's offset filter for the events topic; the core's partition deduplicates.

    Faust drops records below the newest offset that it has passed on. It notes that offset after
    the agent may have seen the message, and so also after the agent has sought back: the batches
    that were sought would be dropped, and never be fetched again.
    """

    def __init__(self, events_topic: str) -> None:
        super().__init__()
        self._events_topic = events_topic

    def __getitem__(self, tp: tuples.TP) -> int | None:
        return None if tp.topic == self._events_topic else self.get(tp)


class RecordBatchConsumer(driver.Consumer):
    """Faust's consumer, with batches of the events topic and explicit commits only."""

    app: Any
    logger = SERVICE_LOGGER
    _thread: RecordBatchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed through
        super().__init__(*args, **kwargs)
        self.events_topic = self.app.settings.kafka.events_topic
        self._read_offset = _ReadOffsets(self.events_topic)
        self._room = asyncio.Event()
        """Set when the agent's queue has room again for all partitions."""

    def _new_consumer_thread(self) -> RecordBatchThread:
        return RecordBatchThread(
            self,
            events_topic=self.app.settings.kafka.events_topic,
            instance=self.app.settings.kafka.group_instance_id,
            rack=self.app.settings.kafka.client_rack,
            loop=self.loop,
            beacon=self.beacon,
        )

    @Service.task
    async def _check_clients(self) -> None:
        """End the worker where one of Kafka's clients cannot go on; Faust watches none of them."""
        await self.sleep(CHECK_SECONDS)
        while not self.should_stop:
            self._renew_password()
            await self._in_thread(self._thread.check())
            check_producer(self.app.producer._producer)  # noqa: SLF001
            await self.sleep(CHECK_SECONDS)

    def _renew_password(self) -> None:
        """Give the clients another password, if its file has one."""
        password = self.app.password.renewed()
        if password is None:
            return
        self.app.client_options["sasl_plain_password"] = password
        self.app.conf.broker_credentials.password = password  # of clients that Faust makes later
        consumer, producer = self._thread._consumer, self.app.producer._producer  # noqa: SLF001
        if consumer is not None:
            use_password(consumer._client, password)  # noqa: SLF001
        if producer is not None:
            use_password(producer.client, password)

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109 - the signature is Faust's
    ) -> AsyncIterator[tuple[tuples.TP, tuples.Message]]:
        """Yield a message for each batch of the events topic; records of others one by one."""
        if not await self._has_room():
            return
        fetched, _ = await self._wait_next_records(timeout)
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            if fetched:
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

    async def on_partitions_revoked(self, revoked: set[tuples.TP]) -> None:
        """Stop fetching and drop the batches that wait, then pass the revocation on.

        Faust does so only where something was held. A worker without a partition would fetch all
        through the rebalance, and the end of it clears the agent's queue after the positions were
        sought: batches that were fetched in between would be lost.
        """
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await super().on_partitions_revoked(revoked)

    def resume_flow(self) -> None:
        """Fetch again, unless another rebalance has begun, which ends with a call of its own.

        Faust compares generations before it seeks, and calls this after.
        """
        recovered = self.app.tables.recovery._generation_id  # noqa: SLF001
        is_over = self.app.consumer_generation_id != recovered
        if not is_over and not self._thread.is_rebalancing:
            super().resume_flow()

    def on_buffer_full(self, tp: tuples.TP) -> None:
        """Note that the agent's queue is full."""
        super().on_buffer_full(tp)
        self._room.clear()

    def on_buffer_drop(self, tp: tuples.TP) -> None:
        """Note that the agent's queue is not full any more."""
        super().on_buffer_drop(tp)
        self._room.set()

    async def _has_room(self) -> bool:
        """Whether the agent's queue has room; waits `ROOM_SECONDS_MAX` for it.

        All partitions share that queue. Faust would leave out the partitions that found it full,
        and wait for records of the others without a bound, or for a second if there are no others.
        """
        if self.is_full:
            # Faust lets one partition go for each batch that is taken: the event may be set while
            # others are still left out, and nothing would wait.
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), ROOM_SECONDS_MAX)
        return not self.is_full

    @property
    def is_full(self) -> bool:
        """Whether the agent's queue is full: nothing more is fetched until it is not."""
        return bool(self._buffered_partitions - self._get_active_partitions())

    def _batch_message(
        self, tp: ClientPartition, generation: int, batch: Batch | OutOfRange
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
        self, commits: Mapping[TopicPartition, Commit], generation: int, owned: Callable[[], bool]
    ) -> None:
        """Commit offsets with their recorded closings, once, and wait for the broker.

        Args:
            commits: Offset and closings, by partition.
            generation: The group's, in which the partitions were assigned.
            owned: Returns whether they still are; called in the step that makes the request.

        Raises:
            FencedError: The partitions are no longer assigned; nothing was committed.
            TransientError: The outcome is unknown; try again.
            CommitTooLargeError: The broker takes less metadata than one of these partitions has. It
                may have the commits of the others.
            SetupError: The broker refuses permanently, such as for a missing right.
        """
        try:
            await asyncio.wait_for(
                self._in_thread(self._thread.commit_once(commits, generation, owned)),
                COMMIT_SECONDS_MAX,
            )
        except TimeoutError as error:
            raise TransientError(
                "CommitTimeout", f"no response within {COMMIT_SECONDS_MAX:.0f} s"
            ) from error
        except OffsetMetadataTooLargeError as error:
            raise CommitTooLargeError(str(error)) from error
        except KafkaError as error:
            if error.retriable:
                raise TransientError(type(error).__name__, str(error)) from error
            if isinstance(error, (GroupAuthorizationFailedError, TopicAuthorizationFailedError)):
                advice = "let this user read the group and the events topic (kafka-acls)"
            else:
                advice = "the broker's log has more about it"
            raise SetupError(
                f"Kafka refuses the commits of group {self.app.conf.id}: {type(error).__name__}: "
                f"{error}; {advice}"
            ) from error

    async def read_commits(
        self, tps: Sequence[TopicPartition]
    ) -> dict[TopicPartition, Commit | UnmarkedCommitError]:
        """Return committed offsets and closings; the start of the log for one without a commit.

        Raises:
            TransientError: The broker does not respond at present.
        """
        admin = AIOKafkaAdminClient(**self.app.client_options)
        try:
            await admin.start()
            commits = await committed(
                admin,
                self.app.conf.id,
                tps,
                accept_unmarked=self.app.settings.kafka.accept_unmarked_commits,
            )
        except (KafkaError, OSError) as error:
            raise TransientError(type(error).__name__, str(error)) from error
        finally:
            await admin.close()
        starts = await self.log_starts([tp for tp in tps if tp not in commits])
        now = int(time.time())
        return commits | {
            tp: Commit(start, (), began_at=now, is_new=True) for tp, start in starts.items()
        }

    async def pause(self, tp: TopicPartition) -> None:
        """Fetch no records of a partition until it is sought, or assigned anew."""
        await self._in_thread(self._thread.pause(tp))

    async def seek_to(self, tp: TopicPartition, offset: int) -> int:
        """Seek a partition to an offset.

        Returns:
            The number of its seeks: what is fetched from now on has this number.

        Raises:
            FencedError: The partition is not assigned any more.
        """
        return await self._in_thread(self._thread.seek_to(tp, offset))

    async def lost_to_retention(self, tp: TopicPartition, gap: GapError) -> bool:
        """Whether the records in a gap are gone from the log, rather than skipped by the worker.

        Raises:
            TransientError: The broker does not respond at present.
        """
        return (await self.log_starts([tp]))[tp] >= gap.found

    # --- monitoring -----------------------------------------------------------------------------

    @property
    def log_ends(self) -> Mapping[TopicPartition, int]:
        """First offset that a reader of committed records cannot see, by assigned partition.

        As the fetch thread last published it; empty from a revocation to the next fetch.
        """
        return self._thread.log_ends

    def ends_seen(self) -> Mapping[TopicPartition, int]:
        """Return the ends that aiokafka knows, also where nothing takes what it has fetched."""
        return self._thread.ends_seen()

    def fetches(self) -> Mapping[TopicPartition, tuple[int | None, bool]]:
        """Return when each partition's leader responded last, and whether no response is due."""
        return self._thread.fetches()

    def waiting(self) -> set[TopicPartition]:
        """Return the partitions of which a batch waits for its agent."""
        queues = self.app.flow_control._queues  # noqa: SLF001
        return {
            TopicPartition(*event.message.tp)
            for queue in queues
            for event in queue._queue  # noqa: SLF001
        }

    @property
    def high_watermarks(self) -> Mapping[TopicPartition, int]:
        """End of the log, by assigned partition; published with `log_ends`."""
        return self._thread.high_watermarks

    @property
    def knows_coordinator(self) -> bool:
        """Whether the group's coordinator is known, and responds to heartbeats."""
        return self._thread.knows_coordinator

    def has_topic(self, name: str) -> bool:
        """Whether the brokers' metadata has this topic, which is subscribed to."""
        consumer = self._thread._consumer  # noqa: SLF001
        return consumer is not None and consumer.partitions_for_topic(name) is not None

    def call_in_thread(self, answer: Callable[[], None]) -> None:
        """Schedule a call in the loop of Kafka's client."""
        with contextlib.suppress(RuntimeError):  # The loop has ended, so nothing answers.
            self._thread.thread_loop.call_soon_threadsafe(answer)

    async def log_starts(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offset of each partition's log.

        Raises:
            TransientError: The broker does not respond at present.
        """
        return {tp: start for tp, (start, _) in (await self.log_bounds(tps)).items()}

    async def log_bounds(
        self, tps: Sequence[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Return the first offset of each partition's log, and the one after its last.

        Raises:
            TransientError: The broker does not respond at present.
        """
        if not tps:
            return {}
        # A client of its own: on the connection that fetches, the request would wait for the
        # response to a fetch.
        client = AIOKafkaConsumer(**self.app.client_options)
        partitions = [ClientPartition(*tp) for tp in tps]
        try:
            await client.start()
            # The end first: where a log is truncated in between, it is not before the start.
            ends = await client.end_offsets(partitions)
            starts = await client.beginning_offsets(partitions)
        except (KafkaError, OSError) as error:
            raise TransientError(type(error).__name__, str(error)) from error
        finally:
            await client.stop()
        return {TopicPartition(*it): (starts[it], ends[it]) for it in partitions}

    async def fetched(self, tp: TopicPartition, offset: int) -> Fetched:
        """Ask the leader for the record batch at an offset, see `partition_leader.fetched`.

        Raises:
            TransientError: The broker does not respond at present.
        """
        return await fetched(self.app.client_options, tp, offset)

    async def epoch_end(self, tp: TopicPartition, leader_epoch: int) -> int | None:
        """Return where a leader epoch ends in a partition's log, see `leader_epochs.epoch_end`.

        Raises:
            TransientError: The broker does not respond at present.
        """
        return await epoch_end(self.app.client_options, tp, leader_epoch)

    async def _in_thread(self, work: Coroutine[Any, Any, _T]) -> _T:
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(work, self._thread.thread_loop)
        )


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport, with `RecordBatchConsumer`."""

    Consumer = RecordBatchConsumer
