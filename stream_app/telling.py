"""What a worker tells of its partitions and windows: the texts for people, the fields for machines.

Each function writes one message; `happenings` declares them.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

from stream_app import __version__, happenings
from stream_app.batches import GapError
from stream_app.breakers import Course
from stream_app.closings import Commit
from stream_app.errors import DeliveryError, StreamAppError
from stream_app.expressions import TP
from stream_app.happenings import Happening
from stream_app.logs import say
from stream_app.partition import Stream, Work
from stream_app.receipts import Stored, iso
from stream_app.settings import Settings

logger = logging.getLogger(__name__)

# --- the worker ------------------------------------------------------------------------------


def starting(settings: Settings, config: str) -> None:
    """Tell of a worker that begins, and under which configuration."""
    kafka, s3, delivery = settings.kafka, settings.s3, settings.delivery
    endpoint = s3.endpoint_url or "AWS"
    say(
        *(logger, happenings.STARTING),
        "starting: stream-app %s, process %d, configuration %s: group %s, %s to %s on %s, S3 at %s",
        *(__version__, os.getpid(), config, kafka.group, kafka.events_topic),
        *(kafka.receipts_topic, kafka.broker, endpoint),
        version=__version__,
        process=os.getpid(),
        config=config,
        group=kafka.group,
        broker=kafka.broker,
        events_topic=kafka.events_topic,
        receipts_topic=kafka.receipts_topic,
        endpoint=endpoint,
        region=s3.region,
        destinations=len(settings.destinations),
        window_seconds=delivery.window_seconds,
        memory_max_mib=delivery.memory_max_mib,
    )


def ready(settings: Settings, address: str | None) -> None:
    """Tell of a worker that takes part, and where its metrics and health are."""
    count, seconds = len(settings.destinations), settings.delivery.window_seconds
    say(
        *(logger, happenings.READY),
        "ready: %d destinations, windows of %d s, metrics and health: %s",
        *(count, seconds, address or "nowhere"),
        address=address,
        destinations=count,
        window_seconds=seconds,
    )


def crashed(reason: BaseException) -> None:
    """Tell of an error after which nothing may be committed."""
    say(
        *(logger, happenings.CRASHED, "crashed; nothing more is committed: %r", reason),
        code=type(reason).__name__,
        error=str(reason),
    )


# --- partitions ------------------------------------------------------------------------------


def revoked(topic: str, tps: Iterable[TP]) -> None:
    """Tell of a rebalance that begins, if it takes anything."""
    _rebalanced(happenings.REVOKED, topic, tps)


def assigned(topic: str, tps: Iterable[TP], generation: int) -> None:
    """Tell of a rebalance that ends."""
    _rebalanced(happenings.ASSIGNED, topic, tps, generation)


def _rebalanced(
    what: Happening, topic: str, tps: Iterable[TP], generation: int | None = None
) -> None:
    numbers = sorted(tp.partition for tp in tps if tp.topic == topic)
    if not numbers and generation is None:
        return
    shown = f": {runs(numbers)}" if numbers else ""
    say(
        *(logger, what, "%s: %d partitions of %s%s", what.name, len(numbers), topic, shown),
        topic=topic,
        partitions=len(numbers),
        numbers=runs(numbers),
        generation=generation,
    )


def runs(numbers: Sequence[int]) -> str:
    """Return ascending numbers as people write them.

    Example:
        >>> runs([0, 1, 2, 3, 7])
        '0-3, 7'
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def read_back(tp: TP, commit: Commit, *, kept: bool) -> None:
    """Tell of a partition that is in service now."""
    say(
        *(logger, happenings.KEPT if kept else happenings.TAKEN_OVER),
        "partition %s/%d: %s at offset %s, %d recorded closings",
        *(*tp, "kept" if kept else "taken over", commit.offset, len(commit.closings)),
        offset=commit.offset,
        closings=len(commit.closings),
        **_partition(tp),
    )


def rebuilt(tp: TP, error: StreamAppError) -> None:
    """Tell of a partition that begins again at its commit."""
    say(
        *(logger, happenings.REBUILT, "partition forgotten and rebuilt from its commit: %s", error),
        code=error.code if isinstance(error, DeliveryError) else type(error).__name__,
        error=str(error),
        **_partition(tp),
    )


def lost(tp: TP, gap: GapError, count: int) -> None:
    """Tell of events that were deleted too early."""
    say(
        *(logger, happenings.LOST),
        "partition %s/%d: %d offsets from %d on were deleted by retention before they were read; "
        "keep records longer (retention.ms) or run more workers",
        *(*tp, count, gap.position),
        first_offset=gap.position,
        end_offset=gap.found,
        **_partition(tp),
    )


def unexplained(tp: TP, gap: GapError, error: DeliveryError) -> None:
    """Tell of offsets that are missing, nobody knows why."""
    say(
        *(logger, happenings.GAP, "%s; where the log begins cannot be asked: %s; trying again"),
        *(gap, error),
        first_offset=gap.position,
        end_offset=gap.found,
        **_partition(tp),
        **_error(error),
    )


def not_ours(what: str, error: StreamAppError, tp: TP | None = None) -> None:
    """Tell of work that another assignment has to do."""
    where = {} if tp is None else _partition(tp)
    say(logger, happenings.NOT_OURS, "%s: %s", what, error, **where)


def not_read_back(error: DeliveryError) -> None:
    """Tell of a broker that does not say what is committed."""
    text = "commits cannot be read back: %s; trying again"
    say(logger, happenings.NOT_READ_BACK, text, error, **_error(error))


def not_committed(error: DeliveryError) -> None:
    """Tell of a commit whose outcome is unknown."""
    text = "not committed: %s; trying again"
    say(logger, happenings.NOT_COMMITTED, text, error, **_error(error))


# --- windows ---------------------------------------------------------------------------------


def closed(works: Sequence[Work]) -> None:
    """Tell of the windows whose deliveries these are, if anybody listens."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    for work in {id(it.window): it for it in works}.values():
        window, count = work.window, len(work.window.deliveries)
        say(
            *(logger, happenings.CLOSED),
            "window %s of %s/%d, offsets %d to %d: closed, for %d destinations",
            *(iso(window.window_start), *work.partition.tp, window.first, window.end - 1, count),
            destinations=count,
            **_window(work),
        )


def stored(work: Work, object_: Stored, attempts: int) -> None:
    """Tell of an object that is there."""
    bucket, delivery = work.delivery.destination.bucket, work.delivery
    say(
        *(logger, happenings.STORED, "%s: %d lines at s3://%s/%s%s"),
        *(name(work), delivery.tally.delivered, bucket, delivery.key),
        ", there already" if object_.already_existed else "",
        bucket=bucket,
        key=delivery.key,
        lines=delivery.tally.delivered,
        bytes=object_.size,
        attempts=attempts,
        already_existed=object_.already_existed,
        **_delivery(work),
    )


def not_stored(task: Stream, course: Course) -> None:
    """Tell of an attempt that has failed."""
    _attempts(happenings.NOT_STORED, task, course, "%s: attempt %d: %s")


def late(work: Work, course: Course) -> None:
    """Tell of a window that is retried for long."""
    _attempts(happenings.LATE, work, course, "%s: late, attempt %d: %s")


def given_up(work: Work, course: Course) -> None:
    """Tell of a window that is not tried any more."""
    _attempts(happenings.GIVEN_UP, work, course, "%s: given up at attempt %d: %s")


def _attempts(what: Happening, task: Stream, course: Course, text: str) -> None:
    error = course.error
    say(
        *(logger, what, text, name(task), course.attempts, error),
        attempts=course.attempts,
        **_delivery(task),
        **({} if error is None else _error(error)),
    )


def not_published(work: Work, attempts: int, error: Exception) -> None:
    """Tell of a receipt that the broker does not have."""
    say(
        *(logger, happenings.NOT_PUBLISHED, "%s: receipt, attempt %d: %r"),
        *(name(work), attempts, error),
        attempts=attempts,
        code=type(error).__name__,
        error=str(error),
        **_delivery(work),
    )


def broken(destination: str, error: DeliveryError) -> None:
    """Tell of a destination whose breaker has opened."""
    say(
        *(logger, happenings.BREAKER_OPENED, "destination %s is broken: %s; its windows wait"),
        *(destination, error),
        destination=destination,
        **_error(error),
    )


def served_again(destination: str, seconds: float) -> None:
    """Tell of a destination whose breaker has closed."""
    say(
        *(logger, happenings.BREAKER_CLOSED, "destination %s is served again, after %.1f s"),
        *(destination, seconds),
        destination=destination,
        seconds=round(seconds, 1),
    )


def name(task: Stream) -> str:
    """Return how messages call a window at its destination."""
    tp, destination = task.partition.tp, task.delivery.destination.id
    if not isinstance(task, Work):
        return f"destination {destination}, open window of {tp.topic}/{tp.partition}"
    window = task.window
    return (
        f"destination {destination}, window {iso(window.window_start)} of "
        f"{tp.topic}/{tp.partition}, offsets {window.first} to {window.end - 1}"
    )


# --- fields ----------------------------------------------------------------------------------


def _partition(tp: TP) -> dict[str, Any]:
    return {"topic": tp.topic, "partition": tp.partition}


def _window(work: Work) -> dict[str, Any]:
    return {
        "window": iso(work.window.window_start),
        **_partition(work.partition.tp),
        "first_offset": work.window.first,
        "end_offset": work.window.end,
    }


def _delivery(task: Stream) -> dict[str, Any]:
    where = _window(task) if isinstance(task, Work) else _partition(task.partition.tp)
    return {"destination": task.delivery.destination.id, **where}


def _error(error: DeliveryError) -> dict[str, Any]:
    return {"code": error.code, "error": error.message}
