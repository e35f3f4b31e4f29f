"""Findings about a cluster, from what its brokers say of topics, group and rights. Pure.

A right is read from the operations that the broker's authorizer allows, and not tried: to try WRITE
would be to write a record, and to try READ on a group would be to join it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stream_app.config.settings import Delivery, Kafka
from stream_app.core.commit_metadata import Commit, UnmarkedCommitError
from stream_app.text import counted, listed

OPERATIONS: Final[Mapping[str, int]] = {
    "READ": 3,
    "WRITE": 4,
    "DESCRIBE": 8,
    "DESCRIBE_CONFIGS": 10,
}
"""Number of each operation in Kafka's protocol: its bit in a set of operations."""
OPERATIONS_UNKNOWN: Final = -(2**31)
"""The set of operations where a broker does not say which ones it allows."""
RECEIPT_BYTES_MIN: Final = 1_000_000
"""Least `max.message.bytes` of the receipts topic: receipts of `redeliver` have up to 768 KiB, and
the default of every version of Kafka is more than this."""
PARTITIONS_SHOWN_MAX: Final = 5
UNLIMITED: Final = -1
COMPACT: Final = "compact"
CONFIGS: Final = frozenset(
    {
        "cleanup.policy",
        "max.message.bytes",
        "min.insync.replicas",
        "retention.bytes",
        "retention.ms",
    }
)
"""Configuration of a topic that is looked at."""
GROUP_STATES_EMPTY: Final = frozenset({"Dead", "Empty"})
"""States of a group without a member; Kafka calls one that does not exist `Dead`."""

_HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class ResourceCheck:
    """Result of the check of one resource of Kafka."""

    resource: str
    """Its kind: `cluster`, `broker`, `topic` or `group`."""
    name: str
    detail: str = ""
    """What was found."""
    problems: tuple[str, ...] = ()
    """One line each: what is wrong, and what to do."""
    notes: tuple[str, ...] = ()
    """One line each: what may be intended."""
    unchecked: tuple[str, ...] = ()
    """One line each: what could not be looked at, and why."""


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """Facts about a partition, as the cluster's metadata has them."""

    partition: int
    has_leader: bool
    in_sync: int
    """Number of its replicas that are in sync."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """Facts about a topic, as a broker states them."""

    name: str
    exists: bool = True
    is_visible: bool = True
    """Whether the user may describe it."""
    partitions: tuple[PartitionFacts, ...] = ()
    operations: int = OPERATIONS_UNKNOWN
    configs: Mapping[str, str] | None = None
    """None: the user may not describe them."""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """Facts about the consumer group, as its coordinator states them."""

    is_visible: bool = True
    """Whether the user may describe it."""
    state: str = ""
    kind: str = ""
    """Type of its protocol: `consumer`, unless it is not one of consumers."""
    protocol: str = ""
    """Empty while the group has no member, or rebalances."""
    members: int = 0
    clients: tuple[str, ...] = ()
    """Client id and host of each member."""
    operations: int = OPERATIONS_UNKNOWN
    commits: Mapping[int, Commit | UnmarkedCommitError] | None = None
    """Its commits of the events topic, by partition; None: they could not be read."""


def may(operations: int, operation: str) -> bool | None:
    """Return whether a set of operations has one; None where the broker does not say."""
    if operations == OPERATIONS_UNKNOWN:
        return None
    return bool(operations & 1 << OPERATIONS[operation])


def check_events_topic(facts: TopicFacts, kafka: Kafka, delivery: Delivery) -> ResourceCheck:
    """Return what is wrong with the events topic."""
    compaction = "removes events before they are read"
    problems, unchecked = _check_topic(facts, kafka, "READ", compaction)
    configs, notes = facts.configs or {}, []
    needed = max(delivery.retry_for_seconds, delivery.give_up_after_seconds)
    retained = _number(configs, "retention.ms", UNLIMITED)
    if retained != UNLIMITED and retained < needed * 1000:
        problems.append(
            f"topic '{facts.name}' keeps events for {duration(retained / 1000)} (retention.ms), "
            f"and S3 is tried for {duration(needed)} (retry_for_seconds, give_up_after_seconds): "
            "events would be deleted while they wait; keep them for a week or more"
        )
    size = _number(configs, "retention.bytes", UNLIMITED)
    if size != UNLIMITED:
        notes.append(
            f"topic '{facts.name}' has retention.bytes={size}: beyond that events are deleted "
            "whether they are delivered or not"
        )
    return _topic_check(facts, problems, unchecked, notes)


def check_receipts_topic(facts: TopicFacts, kafka: Kafka) -> ResourceCheck:
    """Return what is wrong with the receipts topic."""
    compaction = "keeps one receipt of each destination"
    problems, unchecked = _check_topic(facts, kafka, "WRITE", compaction)
    configs = facts.configs or {}
    size = _number(configs, "max.message.bytes", RECEIPT_BYTES_MIN)
    if size < RECEIPT_BYTES_MIN:
        problems.append(
            f"topic '{facts.name}' has max.message.bytes={size}: larger receipts are shortened, or "
            "refused; set it to 1048576"
        )
    required = _number(configs, "min.insync.replicas", 1)
    lacking = [it.partition for it in facts.partitions if it.has_leader and it.in_sync < required]
    if lacking:
        problems.append(
            f"topic '{facts.name}': fewer replicas in sync than min.insync.replicas={required} in "
            f"{_partitions(lacking)}: no receipt is taken there; start the missing brokers"
        )
    return _topic_check(facts, problems, unchecked)


def check_group(facts: GroupFacts, kafka: Kafka, protocol: str) -> ResourceCheck:
    """Return what is wrong with the consumer group.

    Args:
        facts: The group.
        kafka: The connection.
        protocol: The group protocol of workers.
    """
    group, problems, unchecked = kafka.group, [], []
    if not facts.is_visible or may(facts.operations, "READ") is False:
        problems.append(_no_right(kafka, f"group '{group}'", "READ"))
    elif may(facts.operations, "READ") is None:
        unchecked.append(f"group '{group}': the broker does not say what its user may do")
    if facts.state not in {*GROUP_STATES_EMPTY, ""} and (
        facts.kind != "consumer" or facts.protocol not in {protocol, ""}
    ):
        others = ", ".join(facts.clients[:PARTITIONS_SHOWN_MAX])
        problems.append(
            f"group '{group}' has members with the protocol '{facts.protocol or facts.kind}' "
            f"({others}): another client, or a worker before version 0.2. Kafka lets no worker in "
            "beside them; give that client a group of its own, or stop the old workers"
        )
    detail = []
    if facts.is_visible:
        detail.append(counted(facts.members, "member"))
    if facts.commits is not None:
        detail.append(f"{counted(len(facts.commits), 'partition')} with a commit")
        unmarked = {
            it: commit.offset
            for it, commit in facts.commits.items()
            if isinstance(commit, UnmarkedCommitError)
        }
        if unmarked:
            first = next(iter(unmarked))
            problems.append(
                f"group '{group}': a commit of another program for {_partitions(list(unmarked))} "
                f"(partition {first}: offset {unmarked[first]}): no worker reads there; see "
                '"Commits of others" in docs/operations.md'
            )
    elif facts.is_visible:
        unchecked.append(f"group '{group}': its commits could not be read")
    return ResourceCheck(
        "group", group, ", ".join(detail), tuple(problems), unchecked=tuple(unchecked)
    )


def duration(seconds: float) -> str:
    """Return a duration in its largest unit, for a person.

    Example:
        >>> duration(604800), duration(5400), duration(90)
        ('7 days', '1.5 h', '90 s')
    """
    if seconds >= 48 * _HOUR:
        return f"{seconds / 24 / _HOUR:.3g} days"
    return f"{seconds / _HOUR:.3g} h" if seconds >= _HOUR else f"{seconds:g} s"


def _check_topic(
    facts: TopicFacts, kafka: Kafka, operation: str, compaction: str
) -> tuple[list[str], list[str]]:
    """Return the problems that both topics can have, and what was not checked.

    Args:
        facts: The topic.
        kafka: The connection.
        operation: What a worker must be allowed to do.
        compaction: What compaction does to the topic.
    """
    name, problems, unchecked = facts.name, [], []
    if not facts.is_visible:
        return [_no_right(kafka, f"topic '{name}'", operation)], []
    if not facts.exists:
        return [f"topic '{name}' does not exist; create it with: stream-app topics"], []
    if may(facts.operations, operation) is False:
        problems.append(_no_right(kafka, f"topic '{name}'", operation))
    elif may(facts.operations, operation) is None:
        unchecked.append(f"topic '{name}': the broker does not say what its user may do")
    leaderless = [it.partition for it in facts.partitions if not it.has_leader]
    if leaderless:
        problems.append(
            f"topic '{name}': no leader for {_partitions(leaderless)}: nothing can be read or "
            "written there; start the missing brokers"
        )
    if facts.configs is None:
        unchecked.append(
            f"topic '{name}': its configuration (retention, cleanup.policy, max.message.bytes), "
            "which takes the right DESCRIBE_CONFIGS"
        )
    elif COMPACT in (policy := facts.configs.get("cleanup.policy", "")):
        problems.append(
            f"topic '{name}' has cleanup.policy={policy}, which {compaction}; set it to delete"
        )
    return problems, unchecked


def _topic_check(
    facts: TopicFacts, problems: Sequence[str], unchecked: Sequence[str], notes: Sequence[str] = ()
) -> ResourceCheck:
    detail = []
    if facts.partitions:
        detail.append(counted(len(facts.partitions), "partition"))
    if facts.configs is not None and "retention.ms" in facts.configs:
        retained = _number(facts.configs, "retention.ms", UNLIMITED)
        is_unlimited = retained == UNLIMITED
        detail.append("kept for ever" if is_unlimited else f"kept for {duration(retained / 1000)}")
    rights = [it for it in ("READ", "WRITE") if may(facts.operations, it)]
    if rights:
        detail.append(" and ".join(rights))
    return ResourceCheck(
        *("topic", facts.name, ", ".join(detail)), tuple(problems), tuple(notes), tuple(unchecked)
    )


def _number(configs: Mapping[str, str], name: str, default: int) -> int:
    """Return a number of the configuration; the default where there is none."""
    text = configs.get(name, "")
    return int(text) if text.removeprefix("-").isdecimal() else default


def _no_right(kafka: Kafka, resource: str, operation: str) -> str:
    return (
        f"{resource}: {kafka.user} has not the right {operation}, "
        f"which a worker needs; grant it with kafka-acls.sh --add --operation {operation}"
    )


def _partitions(partitions: Sequence[int]) -> str:
    return listed("partition", partitions, PARTITIONS_SHOWN_MAX)
