"""Assignor of the consumer group: the workers' own group protocol."""

from typing import Final

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

PROTOCOL: Final = "stream-app"


class StreamAppAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc] # it is untyped
    """Round robin under a protocol name of our own.

    A group has one protocol, which all its members know. So the broker refuses a client of another
    kind that has the group's id by mistake (INCONSISTENT_GROUP_PROTOCOL), or refuses us while one
    is there; under a name that every client knows it would be given some of the partitions.
    """

    name = PROTOCOL
