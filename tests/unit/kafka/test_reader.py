"""The poll loop of all readers without a group, over a fake client."""

import asyncio
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition as ClientPartition

from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.kafka.reader import EventsReader, ReceiptsReader, TopicReader
from stream_app.records import Batch, Undecodable

SECONDS_MAX = 60.0
KAFKA = Kafka(broker="kafka://127.0.0.1:1")


def run(work: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(SECONDS_MAX):
            return await work

    return asyncio.run(bounded())


class Client:
    """aiokafka's consumer over logs of offsets, some of them without a record."""

    def __init__(self, topic: str, *logs: Iterator[int] | range | list[int]) -> None:
        self.topic = topic
        self.logs = {it: list(log) for it, log in enumerate(logs)}
        self.begins = {it: min(log, default=0) for it, log in self.logs.items()}
        self.ends = {it: max(log, default=-1) + 1 for it, log in self.logs.items()}
        self.positions: dict[int, int] = {}
        self.assignments: list[list[int]] = []
        self.polled: list[list[int]] = []
        self.probes = 0
        self.known = len(logs)
        self.broken: dict[int, Undecodable] = {}
        """A batch of a partition that cannot be decoded."""
        self.paused: list[int] = []
        self._client = SimpleNamespace(close=self._close)
        self.is_closed = False

    @property
    def _subscription(self) -> Any:
        """The part of aiokafka's state that `partition_states` reads."""
        states = {
            self.tp(it): SimpleNamespace(has_valid_position=True, position=position)
            for it, position in self.positions.items()
        }
        assignment = SimpleNamespace(tps=list(states), state_value=states.__getitem__)
        return SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))

    def tp(self, partition: int) -> ClientPartition:
        return ClientPartition(self.topic, partition)

    def assign(self, tps: list[ClientPartition]) -> None:
        self.assignments.append([it.partition for it in tps])
        self.positions = {}

    def assignment(self) -> set[ClientPartition]:
        return {self.tp(it) for it in self.positions}

    def seek(self, tp: ClientPartition, offset: int) -> None:
        self.positions[tp.partition] = offset

    def pause(self, *tps: ClientPartition) -> None:
        self.paused += [it.partition for it in tps]

    def highwater(self, tp: ClientPartition) -> int:
        return self.ends[tp.partition]

    def partitions_for_topic(self, _: str) -> set[int]:
        return set(range(self.known))

    async def beginning_offsets(self, tps: list[ClientPartition]) -> dict[ClientPartition, int]:
        return {it: self.begins[it.partition] for it in tps}

    async def end_offsets(self, tps: list[ClientPartition]) -> dict[ClientPartition, int]:
        self.probes += 1
        return {it: self.ends[it.partition] for it in tps}

    async def getmany(
        self, *tps: ClientPartition, timeout_ms: int, max_records: int | None = None
    ) -> Mapping[ClientPartition, list[Any]]:
        assert timeout_ms
        await asyncio.sleep(0.001)
        self.polled.append([it.partition for it in tps])
        found: dict[ClientPartition, list[Any]] = {}
        for partition in [it.partition for it in tps] or list(self.positions):
            position = self.positions[partition]
            broken = self.broken.get(partition)
            if broken is not None and broken.end is not None and position >= broken.end:
                broken = None
            if broken is not None and position >= broken.first:
                if partition not in self.paused:
                    found[self.tp(partition)] = [broken]
                continue
            if position < self.begins[partition]:
                raise OffsetOutOfRangeError({self.tp(partition): position})
            offsets = [it for it in self.logs[partition] if it >= position][:max_records]
            # A whole fetch ends where the log does, whether there is a record or not.
            whole = max_records is None or len(offsets) < max_records
            end = self.ends[partition] if whole else offsets[-1] + 1
            if broken is not None:
                offsets = [it for it in offsets if it < broken.first]
                end = min(end, broken.first)
            self.positions[partition] = max(position, end)
            if offsets:
                found[self.tp(partition)] = [
                    SimpleNamespace(offset=it, headers=(), value=b"%d" % it) for it in offsets
                ]
        return found

    async def stop(self) -> None:
        raise asyncio.CancelledError

    async def _close(self) -> None:
        self.is_closed = True


def topic_reader(*logs: range | list[int]) -> tuple[TopicReader, Client]:
    reader, client = TopicReader(KAFKA, "events", len(logs)), Client("events", *logs)
    reader._consumer = client
    return reader, client


def offsets(batch: Batch) -> list[int]:
    return [it.offset for it in batch.records]


async def everything(
    reader: TopicReader, ends: Mapping[int, int] | None, **options: Any
) -> list[dict[int, list[int]]]:
    async with aclosing(reader.read(ends, **options)) as polls:
        return [{it: offsets(batch) for it, batch in batches.items()} async for batches in polls]


def test_partitions_are_read_to_their_ends_and_no_further() -> None:
    async def scenario() -> None:
        reader, client = topic_reader(range(10), range(2), [])
        reader.assign({0: 3, 1: 0, 2: 0})
        assert await everything(reader, {0: 6, 1: 2, 2: 0}, records_max=2) == [
            {0: [3, 4], 1: [0, 1]},
            {0: [5]},
        ]
        assert client.polled == [[0, 1], [0]]
        assert client.positions == {0: 6, 1: 2, 2: 0}

    run(scenario())


def test_read_that_is_over_polls_nothing() -> None:
    async def scenario() -> None:
        reader, client = topic_reader(range(10))
        reader.assign({0: 3})
        assert await everything(reader, {0: 3}) == []
        assert client.polled == []

    run(scenario())


def test_position_that_moves_without_a_record_is_progress() -> None:
    async def scenario() -> None:
        reader, client = topic_reader([0])
        client.ends[0] = 5  # markers of transactions
        reader.assign({0: 1})
        assert await everything(reader, {0: 5}) == [{0: []}]

    run(scenario())


def test_chosen_partitions_alone_are_polled() -> None:
    async def scenario() -> None:
        reader, client = topic_reader(range(2), range(2))
        reader.assign({0: 0, 1: 0})
        await everything(reader, {0: 2, 1: 2}, choose=lambda behind: [max(behind)])
        assert client.polled == [[1], [0]]

    run(scenario())


def test_partition_whose_records_retention_has_deleted_is_left_out() -> None:
    async def scenario() -> None:
        reader, client = topic_reader(range(5), range(2))
        reader.assign({0: 0, 1: 0})
        client.begins[0] = 3
        assert await everything(reader, {0: 5, 1: 2}) == [{}, {1: [0, 1]}]

    run(scenario())


def test_silence_before_the_end_is_an_error() -> None:
    async def scenario() -> None:
        reader, _ = topic_reader([])
        reader.assign({0: 0})
        with pytest.raises(SetupError, match=r"127\.0\.0\.1:1 does not .* \(silent for 0 s\)"):
            await everything(reader, {0: 9}, silence_seconds=0.02)

    run(scenario())


def test_silence_without_an_end_is_none() -> None:
    async def scenario() -> None:
        reader, client = topic_reader([])
        reader.assign({0: 0})
        async with aclosing(reader.read(silence_seconds=0.01)) as polls:
            async for _ in polls:
                if len(client.polled) > 50:
                    break
        assert client.polled[0] == []  # all that are assigned

    run(scenario())


def test_silence_can_be_handled() -> None:
    async def scenario() -> None:
        reader, client = topic_reader([])
        reader.assign({0: 0})

        async def append() -> None:
            client.logs[0], client.ends[0] = [0], 1

        read = await everything(reader, {0: 1}, silence_seconds=0.02, on_silence=append)
        assert read[-1] == {0: [0]}
        assert len(read) > 1

    run(scenario())


def test_follower_probes_a_silent_broker_and_ends_when_the_topic_has_more_partitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream_app.kafka.reader.PROBE_SECONDS", 0.02)

    async def scenario() -> None:
        reader, client = topic_reader(range(2))
        reader.assign({0: 0})
        async with aclosing(reader.follow(10)) as polls:
            async for batches in polls:
                if 0 in batches:
                    client.known, before = 2, client.probes
        assert (client.probes, reader.partitions) == (before + 1, 2)

    run(scenario())


def test_follower_looks_for_new_partitions_while_records_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream_app.kafka.reader.COUNT_SECONDS", 0.02)

    async def scenario() -> None:
        reader, client = topic_reader(range(1000))
        reader.assign({0: 0})
        client.known = 2
        async with aclosing(reader.follow(1)) as polls:
            assert all([batches async for batches in polls])

    run(scenario())


def test_receipts_are_read_from_the_oldest_and_later_only_new_ones() -> None:
    async def scenario() -> list[bytes | None]:
        reader = ReceiptsReader(KAFKA, 1)
        reader._consumer = client = Client(KAFKA.receipts_topic, [3, 4])
        values: list[bytes | None] = []
        await reader.read_all(lambda _, value: values.append(value))
        client.logs[0], client.ends[0] = [3, 4, 6], 7
        await reader.read_new(lambda _, value: values.append(value))
        return values

    assert run(scenario()) == [b"3", b"4", b"6"]


async def read_run(reader: EventsReader, partition: int, first: int, end: int) -> list[Batch]:
    async with aclosing(reader.read_run(partition, first, end)) as batches:
        return [it async for it in batches]


def test_runs_that_continue_one_another_are_read_without_a_new_assignment() -> None:
    async def scenario() -> None:
        reader = EventsReader(KAFKA, 2)
        reader._consumer = client = Client(KAFKA.events_topic, range(100), range(100))
        for partition, first, end, assignments in [
            (0, 10, 20, [[0]]),
            (0, 20, 25, [[0]]),
            (0, 30, 40, [[0], [0]]),
            (1, 40, 50, [[0], [0], [1]]),
        ]:
            (batch,) = await read_run(reader, partition, first, end)
            assert (batch.position, batch.next_position) == (first, end)
            assert offsets(batch) == list(range(first, end))
            assert client.assignments == assignments

    run(scenario())


def test_run_is_what_the_log_has_of_it() -> None:
    async def scenario() -> None:
        reader = EventsReader(KAFKA, 1)
        reader._consumer = client = Client(KAFKA.events_topic, range(10, 20))
        (batch,) = await read_run(reader, 0, 5, 99)
        assert (batch.position, batch.next_position) == (10, 20)
        assert await read_run(reader, 0, 5, 10) == []
        reader.assign({0: 10})
        client.begins[0] = 0
        assert await read_run(reader, 0, 20, 30) == []

    run(scenario())


def test_stop_survives_a_cancellation_that_is_not_ours() -> None:
    async def scenario() -> None:
        reader, client = topic_reader([])
        await reader.stop()
        assert client.is_closed

    run(scenario())


def test_stop_passes_a_cancellation_of_ours_on() -> None:
    async def scenario() -> None:
        reader, client = topic_reader([])
        task = asyncio.create_task(reader.stop())
        await asyncio.sleep(0)
        assert client.is_closed

        async def wait() -> None:
            try:
                await asyncio.sleep(SECONDS_MAX)
            finally:
                await reader.stop()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario())


# --- batches that cannot be decoded -------------------------------------------------------------


async def batches(reader: TopicReader, ends: Mapping[int, int]) -> list[Batch]:
    reader.assign(dict.fromkeys(ends, 0))
    async with aclosing(reader.read(ends, records_max=2)) as polls:
        return [batch async for found in polls for batch in found.values()]


def test_batch_that_cannot_be_decoded_is_left_out_and_named_where_it_would_be() -> None:
    reader, client = topic_reader([0, 1, 2, 3, 4, 5, 6])
    client.broken[0] = Undecodable(2, 5, "gzip")
    found = run(batches(reader, {0: 7}))
    assert [it for batch in found for it in offsets(batch)] == [0, 1, 5, 6]
    (broken,) = [it for it in found if it.undecodable is not None]
    assert (broken.position, broken.next_position) == (2, 2)
    assert broken.undecodable == client.broken[0]


@pytest.mark.parametrize("end", [None, 100])
def test_partition_ends_for_a_reader_at_a_batch_whose_end_is_unknown(end: int | None) -> None:
    reader, client = topic_reader([0, 1, 2, 3], [0, 1, 2, 3])
    client.broken[0] = Undecodable(2, end, "gzip")
    found = run(batches(reader, {0: 4, 1: 4}))
    (broken,) = [it for it in found if it.undecodable is not None]
    assert broken.undecodable == Undecodable(2, None, "gzip")
    assert sum(len(offsets(it)) for it in found) == 2 + 4


def test_follower_reads_the_other_partitions_on() -> None:
    reader, client = topic_reader([0, 1, 2, 3], [0, 1, 2, 3])
    client.broken[0] = Undecodable(2, None, "gzip")

    async def follow() -> int:
        reader.assign({0: 0, 1: 0})
        count = 0
        async with aclosing(reader.read(records_max=1)) as polls:
            async for found in polls:
                count += sum(len(offsets(it)) for it in found.values() if it.position < 2)
                if client.paused and client.positions[1] == 4:
                    return count
        raise AssertionError

    run(follow())
    assert client.paused == [0]


def test_reader_of_receipts_names_what_it_could_not_decode() -> None:
    reader, client = ReceiptsReader(KAFKA, 1), Client(KAFKA.receipts_topic, range(5))
    reader._consumer = client
    client.broken[0] = Undecodable(1, 3, "gzip")
    seen: list[bytes | None] = []
    run(reader.read_all(lambda _, value: seen.append(value)))
    assert seen == [b"0", b"3", b"4"]
    assert reader.undecodable == ["0@1 to 2"]


def test_run_of_events_continues_after_it_and_the_next_run_does_not_rely_on_where() -> None:
    reader, client = EventsReader(KAFKA, 1), Client(KAFKA.events_topic, range(5))
    reader._consumer = client
    client.broken[0] = Undecodable(1, 3, "gzip")

    async def runs() -> list[Batch]:
        found = [it async for it in reader.read_run(0, 0, 3)]
        return found + [it async for it in reader.read_run(0, 1, 2)]

    first, *rest = run(runs())
    assert offsets(first) == [0]
    assert [it.undecodable for it in rest if it.undecodable] == [client.broken[0]] * 2
