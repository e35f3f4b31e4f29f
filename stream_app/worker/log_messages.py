"""Log fields of core objects, and the log events of a worker's start and its rebalances."""

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp

from stream_app import __version__, log_events
from stream_app.config.settings import Delivery, Settings
from stream_app.core.receipt import Stored
from stream_app.core.tasks import DeliveryTask, PartUpload
from stream_app.core.undecodable import PassedOver
from stream_app.errors import FencedError
from stream_app.logs import error_fields, is_written, log_event
from stream_app.records import TopicPartition, Undecodable
from stream_app.text import counted, iso

logger = logging.getLogger(__name__)


def starting(settings: Settings) -> None:
    """Log the start of a worker and its configuration."""
    kafka, s3, delivery = settings.kafka, settings.s3, settings.delivery
    log_event(
        logger,
        log_events.STARTING,
        version=__version__,
        process=os.getpid(),
        config=settings.name,
        group=kafka.group,
        broker=kafka.broker,
        events_topic=kafka.events_topic,
        receipts_topic=kafka.receipts_topic,
        endpoint=s3.endpoint_url or "AWS",
        region=s3.region,
        destinations=len(settings.destinations),
        window_seconds=delivery.window_seconds,
        memory_max_mib=delivery.memory_max_mib,
    )


def ready(settings: Settings, address: str | None) -> None:
    """Log that a worker is a member of the group; `address` is the URL of its metrics."""
    log_event(
        logger,
        log_events.READY,
        destinations=len(settings.destinations),
        counted=counted(len(settings.destinations), "destination"),
        window_seconds=settings.delivery.window_seconds,
        address=address,
    )


def revoked(topic: str, tps: Iterable[TopicPartition]) -> None:
    """Log the begin of a rebalance, if the worker has partitions of the topic."""
    numbers = _numbers(topic, tps)
    if numbers:
        log_event(
            logger,
            log_events.REVOKED,
            topic=topic,
            partitions=len(numbers),
            counted=counted(len(numbers), "partition"),
            numbers=runs(numbers),
        )


def assigned(topic: str, tps: Iterable[TopicPartition], generation: int) -> None:
    """Log the end of a rebalance."""
    numbers = _numbers(topic, tps)
    log_event(
        logger,
        log_events.ASSIGNED,
        topic=topic,
        partitions=len(numbers),
        counted=counted(len(numbers), "partition"),
        numbers=runs(numbers) or None,
        generation=generation,
    )


def _numbers(topic: str, tps: Iterable[TopicPartition]) -> list[int]:
    return sorted(tp.partition for tp in tps if tp.topic == topic)


def runs(numbers: Sequence[int]) -> str:
    """Return ascending numbers as ranges.

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


def handle_loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that no code has awaited; exception handler of the event loop.

    aiohttp writes a request in a task of its own, and awaits the task only if a response comes: a
    connection that has ended by then leaves an exception that no code awaits. The request itself is
    repeated by aiohttp, or fails and is logged as a failed attempt.
    """
    error, task = context.get("exception"), context.get("future")
    name = getattr(task.get_coro(), "__qualname__", "") if isinstance(task, asyncio.Task) else ""
    if isinstance(error, aiohttp.ClientError) and name == "ClientRequest.write_bytes":
        log_event(logger, log_events.CONNECTION_LOST, **error_fields(error))
    else:
        loop.default_exception_handler(context)


# --- partitions and windows ------------------------------------------------------------------


def fenced(work: str, error: FencedError, tp: TopicPartition | None = None) -> None:
    """Log that work of an earlier assignment is dropped, of one partition or of all."""
    topic, partition = (None, None) if tp is None else tp
    log_event(
        logger, log_events.FENCED, work=work, topic=topic, partition=partition, error=str(error)
    )


def undecodable(tp: TopicPartition, batch: Undecodable, delivery: Delivery) -> None:
    """Log that a partition waits at a batch that cannot be decoded."""
    log_event(
        logger,
        log_events.UNDECODABLE,
        offsets=batch.offsets,
        first_offset=batch.first,
        end_offset=batch.end,
        error=batch.reason,
        seconds=delivery.give_up_after_seconds,
        **partition_fields(tp),
    )


def passed_over(tp: TopicPartition, batch: Undecodable, passed: PassedOver) -> None:
    """Log that a batch that cannot be decoded was passed over."""
    log_event(
        logger,
        log_events.PASSED_OVER,
        first_offset=passed.end - passed.given_up,
        end_offset=passed.end,
        last_offset=passed.end - 1,
        error=batch.reason,
        **partition_fields(tp),
    )


def closed(tasks: Sequence[DeliveryTask]) -> None:
    """Log the windows of these tasks, each once, at the level `debug`."""
    if logger.isEnabledFor(logging.DEBUG):
        for task in {id(it.window): it for it in tasks}.values():
            log_event(
                logger,
                log_events.WINDOW_CLOSED,
                subject=window_subject(task),
                destinations=len(task.window.deliveries),
                counted=counted(len(task.window.deliveries), "destination"),
                **window_fields(task),
            )


def stored(task: DeliveryTask, object_: Stored, attempts: int) -> None:
    """Log an object that was stored."""
    if not is_written(logger, log_events.STORED, time.time()):
        return
    delivery = task.delivery
    log_event(
        logger,
        log_events.STORED,
        bucket=delivery.destination.bucket,
        key=delivery.key,
        lines=delivery.tally.delivered,
        counted=counted(delivery.tally.delivered, "line"),
        bytes=object_.size,
        attempts=attempts,
        already_existed=object_.already_existed,
        note=", there already" if object_.already_existed else "",
        **delivery_fields(task),
    )


# --- fields ----------------------------------------------------------------------------------


def subject(task: PartUpload) -> str:
    """Return how texts name a window at its destination."""
    destination = task.delivery.destination.id
    if isinstance(task, DeliveryTask):
        return f"destination {destination}, {window_subject(task)}"
    tp = task.partition.tp
    return f"destination {destination}, open window of {tp.topic}/{tp.partition}"


def window_title(task: PartUpload) -> str:
    """Return how texts of another window of the same destination name a window."""
    partition = task.partition.tp.partition
    if isinstance(task, DeliveryTask):
        clock = iso(task.window.window_start)[11:-1]
        return f"the window of {clock} UTC in partition {partition}"
    return f"the open window of partition {partition}"


def window_subject(task: DeliveryTask) -> str:
    """Return how texts name a window."""
    tp, window = task.partition.tp, task.window
    return (
        f"window {iso(window.window_start)} of {tp.topic}/{tp.partition}, "
        f"offsets {window.first} to {window.end - 1}"
    )


def partition_fields(tp: TopicPartition) -> dict[str, Any]:
    """Return the fields `PARTITION` of `log_events`."""
    return {"topic": tp.topic, "partition": tp.partition}


def window_fields(task: DeliveryTask) -> dict[str, Any]:
    """Return the fields `WINDOW` of `log_events`."""
    return {
        "window": iso(task.window.window_start),
        **partition_fields(task.partition.tp),
        "first_offset": task.window.first,
        "end_offset": task.window.end,
    }


def delivery_fields(task: PartUpload) -> dict[str, Any]:
    """Return the fields `DELIVERY`, of an open window only those known, and the `subject`."""
    tp = task.partition.tp
    where = window_fields(task) if isinstance(task, DeliveryTask) else partition_fields(tp)
    return {"subject": subject(task), "destination": task.delivery.destination.id, **where}
