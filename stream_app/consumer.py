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
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, TypeVar, cast

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    KafkaError,
)
from aiokafka.structs import TopicPartition
from faust.app.base import BootStrategy
from faust.transport.drivers import aiokafka as driver
from faust.types import tuples
from mode import ServiceT

from stream_app.batches import Batch, GapError
from stream_app.closings import Commit, decode
from stream_app.errors import SetupError, TransientError
from stream_app.expressions import TP
from stream_app.fetching import SERVICE_LOGGER, RecordBatchThread
from stream_app.kafka import client_options
from stream_app.settings import Settings

COMMIT_SECONDS_MAX: Final = 30.0
"""How long one commit may take; then its outcome is unknown, and it is made again."""
ROOM_SECONDS_MAX: Final = 1.0
"""How long to wait for room in the agent's queue before it is looked again whether to go on."""
NONE_COMMITTED: Final = -1
"""What Kafka answers as offset where nothing was ever committed."""

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


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
        self.log_ends: dict[TP, int] = {}
        """For each partition the first offset that a reader of committed records cannot see."""
        super().__init__(*args, **kwargs)
        self.events_topic = self.app.settings.kafka.events_topic
        self._read_offset = _ReadOffsets(self.events_topic)
        self._room = asyncio.Event()
        """The agent's queue has room again for all partitions."""

    def _new_consumer_thread(self) -> RecordBatchThread:
        return RecordBatchThread(
            self,
            events_topic=self.app.settings.kafka.events_topic,
            log_ends=self.log_ends,
            loop=self.loop,
            beacon=self.beacon,
        )

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109 - the signature is Faust's
    ) -> AsyncIterator[tuple[tuples.TP, tuples.Message]]:
        """Yield one message for each fetched batch of the events topic, others one by one."""
        if not await self._has_room():
            return
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

    def on_buffer_full(self, tp: tuples.TP) -> None:
        """Take note that the agent's queue is full."""
        super().on_buffer_full(tp)
        self._room.clear()

    def on_buffer_drop(self, tp: tuples.TP) -> None:
        """Take note that the agent's queue is not full any more."""
        super().on_buffer_drop(tp)
        self._room.set()

    async def _has_room(self) -> bool:
        """Whether the agent's queue has room; waits for it, but not for long.

        All partitions share that queue. Faust would leave those out that met it full, and wait for
        records of the others, however long that takes, or for a second if there are no others.
        """
        if self._left_out:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), ROOM_SECONDS_MAX)
        return not self._left_out

    @property
    def _left_out(self) -> bool:
        return bool(self._buffered_partitions - self._get_active_partitions())

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

    # --- for those who watch --------------------------------------------------------------------

    @property
    def knows_broker(self) -> bool:
        """Whether the broker that takes the group's commits is known, and answers heartbeats."""
        return self._thread.knows_coordinator

    def has_topic(self, name: str) -> bool:
        """Whether the brokers have told of this topic, which is subscribed to."""
        consumer = self._thread._consumer  # noqa: SLF001
        return consumer is not None and consumer.partitions_for_topic(name) is not None

    def ask_thread(self, answer: Callable[[], None]) -> None:
        """Have this called by the loop in which Kafka's client runs."""
        with contextlib.suppress(RuntimeError):  # It has ended, so there is no answer.
            self._thread.thread_loop.call_soon_threadsafe(answer)

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


class _OwnWeb(BootStrategy):
    """Starts what watches us in place of Faust's web server, which `faust worker` would turn on."""

    enable_web = False

    def web_server(self) -> Iterable[ServiceT]:
        """Return it: it starts before the consumer, and ends after it."""
        monitoring = cast("StreamApp", self.app).monitoring
        return () if monitoring is None else (monitoring,)


class StreamApp(faust.App):
    """A Faust app that reads record batches and keeps nothing on disk."""

    BootStrategy = _OwnWeb
    monitoring: ServiceT | None = None
    """What serves metrics and health."""

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
