"""Records, batches and answers for tests of the core, and the steps of a closing in one call.

A record's value is its outcome at every destination: `skip`, `fail TEXT`, or a payload. So
these tests need no expression, and matching by pipeline is written a second time, naively.
"""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import replace
from random import Random

from stream_app.config.settings import Destination
from stream_app.core.commit_metadata import Commit
from stream_app.core.delivery import DELIVERY_BYTES, WAITING_BYTES
from stream_app.core.object_body import Sizes
from stream_app.core.partition import Partition, WindowPolicy
from stream_app.core.receipt import Receipt, Stored
from stream_app.core.router import DestinationOutcomes
from stream_app.core.tasks import DeliveryTask
from stream_app.core.window import Window
from stream_app.expressions.expression import SKIP, Failure, Outcome
from stream_app.records import Batch, TopicPartition
from tests.unit.samples import MINUTE, Sample

EVENTS = TopicPartition("events", 3)
RULES = WindowPolicy(group="stream-app", window_seconds=60, grace_seconds=2)
ORDERS = Destination(id="orders-archive", bucket="my-bucket", pipeline="orders", prefix="test/")
EVERY = Destination(id="every", bucket="other-bucket")
TINY = Sizes(slice=100, part=900, part_min=150, parts_max=25)
"""Sizes by which a payload of 900 bytes of noise is a part."""
FULL_PAYLOADS = 4
"""So many such payloads fill an object."""
STREAMING = replace(RULES, sizes=TINY)
"""Rules under which parts leave after a few hundred bytes."""


def record(offset: int, second: float, value: str = "1", key: bytes | None = b"orders") -> Sample:
    """Return a record whose time is `second` seconds after MINUTE."""
    return Sample(offset, int((MINUTE + second) * 1000), key, value.encode())


def noise(size: int, seed: int = 7) -> str:
    """Return a payload that gzip cannot shrink below three quarters."""
    chance = Random(seed)
    return b64encode(chance.randbytes(size * 3 // 4 + 3)).decode()[:size]


def batch(*records: Sample, position: int | None = None, after: int | None = None) -> Batch:
    """Return a fetch; its positions are those right around the records unless given."""
    return Batch(
        records[0].offset if position is None else position,
        records[-1].offset + 1 if after is None else after,
        records,
    )


def minutes(count: int) -> Batch:
    """Return a fetch of so many records from offset 10 on, each of a minute of its own."""
    return batch(*(record(10 + number, 60 * number) for number in range(count)))


def outcome(sample: Sample) -> Outcome:
    text = (sample.value or b"").decode()
    if text == "skip":
        return SKIP
    if text.startswith("fail "):
        return Failure(f"events/3@{sample.offset}", text.removeprefix("fail "))
    return text.encode()


def answer(records: Iterable[Sample], *destinations: Destination) -> list[DestinationOutcomes]:
    """Return what destinations (ORDERS when none is given) answer to records."""
    answers = []
    for destination in destinations or (ORDERS,):
        pipeline = destination.pipeline
        matched = [it for it in records if pipeline is None or it.key == pipeline.encode()]
        if matched:
            outcomes = [outcome(it) for it in matched]
            places = [n for n, it in enumerate(outcomes) if not isinstance(it, bytes)]
            answers.append(
                DestinationOutcomes(destination, [it.offset for it in matched], outcomes, places)
            )
    return answers


def collect(
    partition: Partition, fetched: Batch, second: float, *destinations: Destination
) -> Batch | None:
    """Hand a batch in at `second` seconds after MINUTE."""
    answers = answer(fetched.records, *destinations)  # type: ignore[arg-type] # they are samples
    return partition.collect(fetched, answers, MINUTE + second)


def stored(content: bytes, *, already_existed: bool = False) -> Stored:
    return Stored(
        *(len(content), '"etag"', None, "c2hhMjU2"),
        already_existed=already_existed,
        stored_at=MINUTE + 63,
    )


def record_closings(partition: Partition) -> Commit | None:
    """Commit what is due, as if the broker confirmed at once."""
    commit = partition.to_commit()
    if commit is not None:
        partition.recorded(commit)
    return commit


def compress(window: Window, *, whole: bool = False, second: float = 5) -> int:
    """Compress what is due in an open window, as the shell does; return of how many bodies."""
    taken = window.compressions(whole=whole)
    for it in taken:
        it.compression.perform()
    window.compressed(taken, int(MINUTE + second))
    return len(taken)


def settle(work: DeliveryTask) -> tuple[bytes | None, Receipt]:
    """Take one delivery through upload and receipt."""
    partition = work.partition
    content = partition.content(work)
    receipt = partition.uploaded(work, None if content is None else stored(content), attempts=1)
    partition.published(work)
    return content, receipt


def settle_all(partition: Partition) -> list[tuple[bytes | None, Receipt]]:
    """Commit and settle until nothing is due."""
    settled = []
    while True:
        record_closings(partition)
        works = partition.delivery_tasks()
        if not works:
            return settled
        settled += [settle(work) for work in works]


def held_closed(partition: Partition) -> int:
    """Return from scratch what the unsettled deliveries of closed windows take."""
    return sum(
        DELIVERY_BYTES + WAITING_BYTES + it.tally.held + (it.body.held if it.body else 0)
        for window in partition._closed
        for it in window.deliveries.values()
    )


def held_open(partition: Partition) -> int:
    """Return from scratch what the open window takes."""
    contents = partition.window._deliveries.values()
    return sum(DELIVERY_BYTES + it.tally.held + it.body.held for it in contents)
