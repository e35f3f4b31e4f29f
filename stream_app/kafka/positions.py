"""Positions of an aiokafka consumer, read without waiting.

`AIOKafkaConsumer.position` waits until an offset is known, for as long as the broker is away. The
states that aiokafka keeps are private; `tests/contract` holds what is relied on.
"""

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition as ClientPartition


def partition_states(consumer: AIOKafkaConsumer) -> dict[ClientPartition, Any]:
    """Return aiokafka's state of each assigned partition whose position is known."""
    states = assigned_states(consumer)
    return {tp: it for tp, it in states.items() if it.has_valid_position}


def assigned_states(consumer: AIOKafkaConsumer) -> dict[ClientPartition, Any]:
    """Return aiokafka's state of each assigned partition."""
    subscription = consumer._subscription.subscription  # noqa: SLF001
    assignment = subscription and subscription.assignment
    return {tp: assignment.state_value(tp) for tp in assignment.tps} if assignment else {}
