from collections.abc import Sequence
from dataclasses import replace

import pytest

from stream_app.config.settings import Delivery, Kafka
from stream_app.core.commit_metadata import Commit, UnmarkedCommitError
from stream_app.kafka.cluster_findings import (
    OPERATIONS,
    OPERATIONS_UNKNOWN,
    RECEIPT_BYTES_MIN,
    GroupFacts,
    PartitionFacts,
    ResourceCheck,
    TopicFacts,
    check_events_topic,
    check_group,
    check_receipts_topic,
    duration,
)

KAFKA = Kafka(events_topic="e", receipts_topic="r", group="g")
PROTOCOL = "stream-app"
DAY_MS = 24 * 3600 * 1000
CONFIGS = {
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": str(7 * DAY_MS),
}


def operations(*names: str) -> int:
    return sum(1 << OPERATIONS[name] for name in names)


def topic(name: str = "e", *rights: str, **configs: str) -> TopicFacts:
    return TopicFacts(
        name,
        partitions=(PartitionFacts(0, has_leader=True, in_sync=1), PartitionFacts(1, True, 1)),  # noqa: FBT003
        operations=operations(*(rights or ("READ", "WRITE", "DESCRIBE"))),
        configs=CONFIGS | {key.replace("_", "."): value for key, value in configs.items()},
    )


def events(facts: TopicFacts, delivery: Delivery | None = None) -> ResourceCheck:
    return check_events_topic(facts, KAFKA, delivery or Delivery())


def receipts(facts: TopicFacts) -> ResourceCheck:
    return check_receipts_topic(facts, KAFKA)


def group(**facts: object) -> ResourceCheck:
    given = {"state": "Empty", "kind": "consumer", "commits": {}, "operations": operations("READ")}
    return check_group(GroupFacts(**(given | facts)), KAFKA, PROTOCOL)  # type: ignore[arg-type]


def test_topics_with_the_defaults_of_kafka_are_well() -> None:
    assert events(topic()) == ResourceCheck(
        "topic", "e", "2 partitions, kept for 7 days, READ and WRITE"
    )
    assert receipts(topic("r", "WRITE")) == ResourceCheck(
        "topic", "r", "2 partitions, kept for 7 days, WRITE"
    )


@pytest.mark.parametrize("check", [events, receipts])
def test_topic_that_does_not_exist_is_a_problem_and_nothing_else_is_said(check: object) -> None:
    found = check(TopicFacts("t", exists=False))  # type: ignore[operator]
    assert found == ResourceCheck(
        "topic", "t", "", ("topic 't' does not exist; create it with: stream-app topics",)
    )


@pytest.mark.parametrize(("check", "right"), [(events, "READ"), (receipts, "WRITE")])
def test_missing_right_is_named(check: object, right: str) -> None:
    text = (
        f"topic 't': user 'anonymous' has not the right {right}, which a worker needs; grant it "
        f"with kafka-acls.sh --add --operation {right}"
    )
    other = {"READ": "WRITE", "WRITE": "READ"}[right]
    for facts in (TopicFacts("t", is_visible=False), topic("t", "DESCRIBE", other)):
        assert check(facts).problems == (text,)  # type: ignore[operator]


def test_what_the_broker_does_not_say_is_not_checked() -> None:
    found = events(replace(topic(), operations=OPERATIONS_UNKNOWN, configs=None))
    assert (found.problems, found.detail) == ((), "2 partitions")
    assert found.unchecked == (
        "topic 'e': the broker does not say what its user may do",
        (
            "topic 'e': its configuration (retention, cleanup.policy, max.message.bytes), which "
            "takes the right DESCRIBE_CONFIGS"
        ),
    )


@pytest.mark.parametrize("check", [events, receipts])
def test_partitions_without_a_leader_are_a_problem(check: object) -> None:
    parts = tuple(PartitionFacts(it, has_leader=it == 0, in_sync=1) for it in range(8))
    (problem,) = check(replace(topic("t"), partitions=parts, configs=None)).problems  # type: ignore[operator]
    assert problem.startswith("topic 't': no leader for partitions 1, 2, 3, 4, 5 and 2 more: ")


@pytest.mark.parametrize(
    ("check", "configs", "text"),
    [
        (events, {"cleanup_policy": "compact,delete"}, "removes events before they are read"),
        (receipts, {"cleanup_policy": "compact"}, "keeps one receipt of each destination"),
        (events, {"retention_ms": str(DAY_MS - 1)}, "keeps events for 24 h (retention.ms), and S3"),
        (receipts, {"max_message_bytes": str(RECEIPT_BYTES_MIN - 1)}, "are shortened, or refused"),
        (
            receipts,
            {"min_insync_replicas": "2"},
            "min.insync.replicas=2 in partitions 0, 1: no receipt",
        ),
    ],
)
def test_configuration_that_loses_something_is_a_problem(
    check: object, configs: dict[str, str], text: str
) -> None:
    (problem,) = check(topic("t", **configs)).problems  # type: ignore[operator]
    assert text in problem


@pytest.mark.parametrize(
    ("check", "configs"),
    [
        (events, {"retention_ms": str(DAY_MS)}),
        (events, {"max_message_bytes": "1000"}),
        (receipts, {"max_message_bytes": str(RECEIPT_BYTES_MIN)}),
        (receipts, {"retention_ms": "1"}),
    ],
)
def test_configuration_that_loses_nothing_is_none(check: object, configs: dict[str, str]) -> None:
    assert check(topic("t", **configs)).problems == ()  # type: ignore[operator]


def test_events_outlast_the_longer_of_the_two_times() -> None:
    facts = topic(retention_ms="7200000")
    assert events(facts, Delivery(retry_for_seconds=600, give_up_after_seconds=7200)).problems == ()
    long = Delivery(retry_for_seconds=600, give_up_after_seconds=7201)
    assert "S3 is tried for 2 h" in events(facts, long).problems[0]


def test_topic_without_an_end_is_kept_for_ever_and_a_limit_of_bytes_is_noted() -> None:
    found = events(topic(retention_ms="-1", retention_bytes="1000"))
    assert (found.problems, found.unchecked) == ((), ())
    assert "kept for ever" in found.detail
    assert found.notes[0].startswith("topic 'e' has retention.bytes=1000: beyond that")


def test_number_that_is_none_counts_as_the_default() -> None:
    found = events(topic(retention_ms="", retention_bytes="unlimited"))
    assert (found.problems, found.notes) == ((), ())


# --- the group -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"state": "Dead", "kind": ""},
        {"state": "Stable", "protocol": PROTOCOL},
        {"state": "PreparingRebalance", "protocol": ""},
    ],
)
def test_group_that_workers_can_join_is_well(facts: dict[str, object]) -> None:
    assert group(members=1, commits={0: Commit(3, ())}, **facts) == ResourceCheck(
        "group", "g", "1 member, 1 partition with a commit"
    )


@pytest.mark.parametrize("facts", [{"is_visible": False}, {"operations": operations("DESCRIBE")}])
def test_missing_right_on_the_group_is_named(facts: dict[str, object]) -> None:
    (problem,) = group(**facts).problems
    assert problem.startswith("group 'g': user 'anonymous' has not the right READ")


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"protocol": "range"}, "'range' (kafkacat at 10.0.0.1, b at h, c at h, d at h, e at h)"),
        ({"kind": "connect", "protocol": ""}, "'connect' (kafkacat"),
    ],
)
def test_members_of_another_kind_are_a_problem(facts: dict[str, object], shown: str) -> None:
    clients = ("kafkacat at 10.0.0.1", "b at h", "c at h", "d at h", "e at h", "f at h")
    (problem,) = group(state="Stable", clients=clients, **facts).problems
    assert f"group 'g' has members with the protocol {shown}" in problem


@pytest.mark.parametrize(
    ("partitions", "shown"),
    [([2], "partition 2"), (range(7), "partitions 0, 1, 2, 3, 4 and 2 more")],
)
def test_commits_of_another_program_are_a_problem(partitions: Sequence[int], shown: str) -> None:
    commits = {9: Commit(1, ())} | {it: UnmarkedCommitError(it + 40, "") for it in partitions}
    found = group(commits=commits)
    (problem,) = found.problems
    assert problem == (
        f"group 'g': a commit of another program for {shown} (partition {partitions[0]}: offset "
        f'{partitions[0] + 40}): no worker reads there; see "Commits of others" in '
        "docs/operations.md"
    )


def test_what_the_coordinator_does_not_say_is_not_checked() -> None:
    found = group(operations=OPERATIONS_UNKNOWN, commits=None)
    assert (found.problems, found.detail) == ((), "0 members")
    assert found.unchecked == (
        "group 'g': the broker does not say what its user may do",
        "group 'g': its commits could not be read",
    )


def test_hidden_group_is_one_problem() -> None:
    assert group(is_visible=False, commits=None).unchecked == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (3599, "3599 s"), (3600, "1 h"), (172799, "48 h"), (172800, "2 days")],
)
def test_duration_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
