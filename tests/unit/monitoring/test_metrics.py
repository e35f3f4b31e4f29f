"""Counters of a worker, and metrics that are read from its state."""

import re
from dataclasses import replace

import pytest

from stream_app.config.settings import S3, Delivery, Kafka, Settings
from stream_app.core.assignment import Assignment
from stream_app.core.circuit_breaker import FAILURES_MAX, CircuitBreakers
from stream_app.core.commit_metadata import Closing, Commit
from stream_app.core.receipt import Problem, Receipt, Source, Status, Stored, Tally
from stream_app.errors import TransientError
from stream_app.monitoring.accumulators import DELAY_BOUNDS_SECONDS, Delays
from stream_app.monitoring.counts import STATUSES, Counts
from stream_app.monitoring.destination_counts import OTHERS, DestinationCounts
from stream_app.monitoring.health import LoopMonitor
from stream_app.monitoring.metrics import (
    METRICS,
    HealthStatus,
    Kind,
    MetricSources,
    Samples,
    readings,
)
from stream_app.monitoring.open_transactions import OpenTransactions
from stream_app.monitoring.reload_state import ReloadState
from stream_app.monitoring.unanswered_partitions import Fetch, UnansweredPartitions
from stream_app.records import TopicPartition
from stream_app.s3.clock_skew import ClockSkew
from tests.unit.core.builders import EVENTS, EVERY, MINUTE, ORDERS, RULES, answer, batch, record

STORED = Stored(100, None, None, "", already_existed=False, stored_at=MINUTE + 61)
HEALTH = HealthStatus(live=True, ready=False, loop_lag_seconds=1.5)
NAMES = {it.name: it for it in METRICS}
SETTINGS = Settings(Kafka(), S3(), Delivery(), ())


class World:
    """A worker's state without a worker."""

    def __init__(self) -> None:
        self.assignment = Assignment(RULES, 1024 * 1024)
        self.breakers = CircuitBreakers(60.0)
        self.counts = Counts()
        self.reload = ReloadState(destinations=2, succeeded_at=5.0)
        self.skew = ClockSkew()
        self.not_encrypted = 0
        self.log_ends: dict[TopicPartition, int] = {}
        self.high_watermarks: dict[TopicPartition, int] = {}
        self.open_transactions = OpenTransactions()
        self.unanswered = UnansweredPartitions()

    def hold(self, commit: Commit, tp: TopicPartition = EVENTS) -> None:
        self.assignment.assigned([tp])
        self.assignment.loaded(tp, self.assignment.epoch, commit)

    def feed(self, offset: int, second: float, value: str = "1") -> None:
        fetched = batch(record(offset, second, value))
        answers = answer(fetched.records, ORDERS, EVERY)  # type: ignore[arg-type] # samples
        self.assignment.collect(EVENTS, self.assignment.epoch, fetched, answers, MINUTE + second)

    def commit(self) -> None:
        self.assignment.recorded(self.assignment.commits())

    def sources(self) -> MetricSources:
        return MetricSources(
            SETTINGS,
            self.counts,
            self.assignment,
            self.breakers,
            self.reload,
            self.skew,
            lambda: self.not_encrypted,
            lambda: self.log_ends,
            lambda: self.log_ends | self.high_watermarks,
            self.open_transactions,
            self.unanswered,
        )

    def read(self, second: float = 0.0) -> dict[str, Samples | Delays]:
        return readings(self.sources(), HEALTH, MINUTE + second)

    def value(self, name: str, *labels: str, second: float = 0.0) -> float:
        samples = self.read(second)[f"stream_app_{name}"]
        assert not isinstance(samples, Delays)
        return dict(samples)[labels]


def receipt(status: Status, **changes: object) -> Receipt:
    """Return a receipt of 10 matched events: 5 lines, 3 skipped, 2 failed."""
    tally = Tally()
    tally.deliver(5)
    for offset in range(3):
        tally.skip(offset)
    for offset in range(2):
        tally.fail(offset, "record", "error")
    whole = Receipt(
        status=status,
        group="g",
        destination=ORDERS.id,
        pipeline=None,
        window_start=MINUTE,
        window_end=MINUTE + 60,
        source=Source(*EVENTS, 0, 10),
        tally=tally,
        bucket="b",
        key="k",
        size_uncompressed=400,
        closed_at=MINUTE + 60,
        attempts=1,
        stored=STORED if status is Status.DELIVERED else None,
        problem=Problem("NoSuchBucket", "", retryable=False)
        if status in (Status.FAILED, Status.RETRYING)
        else None,
    )
    return replace(whole, **changes)  # type: ignore[arg-type] # its fields


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS, ids=lambda it: it.name)
def test_name_is_as_prometheus_wants_it(metric: object) -> None:
    name, kind, labels, text, _ = metric  # type: ignore[misc] # a Metric
    assert re.fullmatch(r"stream_app_[a-z0-9_]+", name)
    assert name.endswith("_total") is (kind is Kind.COUNTER)
    # Base units, and no reserved ending on what is none.
    assert not re.search(r"_(ms|milliseconds|minutes|kib|mib|percent)(_|$)", name)
    assert kind is Kind.HISTOGRAM or not re.search(r"_(sum|count|bucket|created)$", name)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in labels)
    assert "le" not in labels
    assert text.endswith(".")


def test_every_declared_metric_is_read_with_its_labels_and_no_other() -> None:
    world = World()
    world.hold(Commit(0, ()))
    world.feed(0, 0)
    world.log_ends[EVENTS] = 1
    world.skew.record("here", "Tue, 24 Nov 2026 16:31:07 GMT", MINUTE)
    samples_by_name = world.read()
    assert samples_by_name.keys() == NAMES.keys()
    assert len(METRICS) == len(NAMES)
    for name, samples in samples_by_name.items():
        if isinstance(samples, Delays):
            assert NAMES[name].kind is Kind.HISTOGRAM
        else:
            assert samples, f"{name} has no sample in a worker at work"
            assert {len(labels) for labels, _ in samples} == {len(NAMES[name].labels)}
            assert len({labels for labels, _ in samples}) == len(samples)


# --- counting ------------------------------------------------------------------------------------


def test_delivered_receipt_counts_its_tally_and_its_object() -> None:
    world = World()
    world.counts.published(receipt(Status.DELIVERED), MINUTE + 63)
    for outcome, count in (("delivered", 5), ("skipped", 3), ("failed", 2), ("given_up", 0)):
        assert world.value("outcomes_total", ORDERS.id, outcome) == count
    assert world.value("objects_total", ORDERS.id) == 1
    assert world.value("object_bytes_total", ORDERS.id) == 100
    assert world.value("line_bytes_total", ORDERS.id) == 400
    assert world.value("receipts_total", "delivered") == 1
    assert world.counts.total == world.counts.destinations.own[ORDERS.id]


def test_payloads_of_a_failed_receipt_are_given_up_and_not_delivered() -> None:
    world = World()
    world.counts.published(receipt(Status.FAILED), MINUTE + 700)
    for outcome, count in (("delivered", 0), ("skipped", 3), ("failed", 2), ("given_up", 5)):
        assert world.value("outcomes_total", ORDERS.id, outcome) == count
    assert world.value("objects_total", ORDERS.id) == 0


def test_empty_receipt_counts_no_object() -> None:
    tally = Tally()
    tally.skip(0)
    world = World()
    world.counts.published(receipt(Status.EMPTY, tally=tally), MINUTE + 62)
    assert world.value("outcomes_total", ORDERS.id, "skipped") == 1
    assert world.value("outcomes_total", ORDERS.id, "delivered") == 0
    assert world.value("objects_total", ORDERS.id) == 0


def test_retrying_receipt_counts_only_itself() -> None:
    world = World()
    world.counts.published(receipt(Status.RETRYING), MINUTE + 120)
    assert world.value("receipts_total", "retrying") == 1
    assert world.counts.destinations.own == {}
    assert sum(world.counts.delays.counts) == 0


def test_every_status_of_a_worker_is_there_before_its_first_receipt() -> None:
    samples = World().read()["stream_app_receipts_total"]
    assert samples == [((str(status),), 0) for status in STATUSES]
    assert set(Status) - set(STATUSES) == {Status.REDELIVERED}  # another command's


def test_delay_is_from_the_end_of_the_window_and_never_negative() -> None:
    counts = Counts()
    for second in (50, 60.4, 61, 62, 10**6):
        counts.published(receipt(Status.DELIVERED), MINUTE + second)
    expected = [0] * (len(DELAY_BOUNDS_SECONDS) + 1)
    expected[0], expected[1], expected[-1] = 3, 1, 1
    assert counts.delays.counts == expected
    assert counts.delays.seconds == pytest.approx(0 + 0.4 + 1 + 2 + 10**6 - 60)


def test_objects_without_the_requested_encryption_are_counted() -> None:
    world = World()
    world.not_encrypted = 2
    assert world.value("not_encrypted_objects_total") == 2


def test_failed_attempts_are_counted_by_destination() -> None:
    world = World()
    world.counts.attempt_failed("a")
    world.counts.attempt_failed("a")
    world.counts.attempt_failed("b")
    assert world.value("failed_attempts_total", "a") == 2
    assert world.counts.total.failed_attempts == 3


def test_removed_destination_stays_in_the_sum_alone() -> None:
    counts = Counts()
    counts.attempt_failed("a")
    counts.attempt_failed("b")
    counts.keep({"b"})
    assert counts.destinations.own.keys() == {"b"}
    assert counts.total.failed_attempts == 2


def failed_attempts(world: World) -> dict[str, float]:
    samples = world.read()["stream_app_failed_attempts_total"]
    assert not isinstance(samples, Delays)
    return {label: value for (label,), value in samples}


def test_destinations_beyond_the_bound_are_one_that_is_there_from_the_start() -> None:
    world = World()
    world.counts.destinations = DestinationCounts(2)
    assert failed_attempts(world) == {}
    world.reload.destinations = 3
    assert failed_attempts(world) == {OTHERS: 0}
    world.hold(Commit(0, ()))
    world.counts.destinations.own_max = 1
    world.feed(0, 0)
    assert failed_attempts(world).keys() == {ORDERS.id, OTHERS}
    assert world.value("destinations_left_out") == 0  # None has counted anything yet.
    for name in ("outcomes_total", "destination_circuit_open", "oldest_undelivered_age_seconds"):
        samples = world.read(10)[f"stream_app_{name}"]
        assert {labels[0] for labels, _ in samples} == {ORDERS.id, OTHERS}  # type: ignore[union-attr] # samples
    assert world.value("oldest_undelivered_age_seconds", OTHERS, second=10) == 10
    for id_ in (ORDERS.id, EVERY.id, EVERY.id):
        world.counts.published(receipt(Status.EMPTY, destination=id_, tally=Tally()), MINUTE + 62)
    world.counts.destinations.own_max = 2  # A destination that was left out has no zeros to show.
    assert failed_attempts(world).keys() == {ORDERS.id, OTHERS}
    assert world.value("destinations_left_out") == 1


def test_failing_destination_takes_the_place_of_a_sound_one_and_begins_with_zero() -> None:
    world = World()
    world.counts.destinations = DestinationCounts(2)
    for id_ in "abc":
        done = receipt(Status.DELIVERED, destination=id_, tally=Tally())
        world.counts.published(done, MINUTE + 62)
    assert failed_attempts(world) == {"a": 0, "b": 0, OTHERS: 0}
    assert world.value("objects_total", OTHERS) == 1
    world.counts.attempt_failed("a")  # So b is the one to go.
    world.counts.attempt_failed("d")
    # What it counts for the others is an increase that is seen.
    assert failed_attempts(world) == {"a": 1, "d": 0, OTHERS: 1}
    world.counts.attempt_failed("d")
    world.counts.attempt_failed("b")  # No place: both fail.
    assert failed_attempts(world) == {"a": 1, "d": 1, OTHERS: 2}
    assert world.value("destinations_left_out") == 2
    world.counts.published(receipt(Status.DELIVERED, destination="a", tally=Tally()), MINUTE + 62)
    world.counts.published(receipt(Status.FAILED, destination="b"), MINUTE + 62)
    assert failed_attempts(world) == {"d": 1, "b": 0, OTHERS: 2}
    assert world.value("outcomes_total", OTHERS, "given_up") == 5
    assert world.counts.total.failed_attempts == 4


def test_other_destinations_that_are_broken_or_fail_are_counted() -> None:
    world = World()
    world.counts.destinations = DestinationCounts(1)
    for id_ in "abc":
        for _ in range(2):  # Four failed events are enough for a share.
            world.counts.published(receipt(Status.DELIVERED, destination=id_), MINUTE + 62)
        for number in range(FAILURES_MAX):
            breaker = world.breakers.of(id_)
            breaker.failed(TransientError("SlowDown", ""), is_probe=False, now=float(number))
    world.counts.failing.check(1.0)
    for name in ("destination_circuit_open", "destination_failing"):
        assert world.value(name, "a") == 1
        assert world.value(name, OTHERS) == 2


def test_place_of_a_removed_destination_is_free_again() -> None:
    counts = DestinationCounts(1)
    counts.of("a").objects += 1
    counts.of("b").objects += 1
    counts.keep({"b", "c"})
    assert (counts.own, counts.left_out) == ({}, {"b"})
    counts.of("b").objects += 1  # Not yet: the series begins with 0.
    assert (counts.own["b"].objects, counts.others.objects, counts.left_out) == (0, 2, set())
    counts.of("b").objects += 1
    assert counts.own["b"].objects == 1


def test_without_own_counters_all_are_others() -> None:
    counts = DestinationCounts(0)
    for fails in (False, True):
        assert counts.of("a", fails=fails) is counts.others
    assert (counts.own, counts.left_out) == ({}, {"a"})


def test_last_commit_has_a_time() -> None:
    world = World()
    assert world.value("last_commit_timestamp_seconds") == 0
    world.counts.committed(7.5)
    world.counts.committed(8.5)
    assert world.value("commits_total") == 2
    assert world.value("last_commit_timestamp_seconds") == 8.5


# --- windows -------------------------------------------------------------------------------------


def test_destination_appears_with_its_first_event_and_zeros() -> None:
    world = World()
    world.hold(Commit(0, ()))
    assert world.read()["stream_app_outcomes_total"] == []
    world.feed(0, 0)
    for id_ in (ORDERS.id, EVERY.id):
        assert world.value("outcomes_total", id_, "delivered") == 0
        assert world.value("destination_circuit_open", id_) == 0


def test_window_is_open_then_pending_then_unsettled_then_gone() -> None:
    world = World()
    world.hold(Commit(0, ()))
    names = ("windows_open", "closings_pending", "windows_unsettled", "deliveries_pending")

    def seen() -> list[float]:
        return [world.value(name) for name in names]

    assert seen() == [0, 0, 0, 0]
    world.feed(0, 0)
    assert seen() == [1, 0, 0, 0]
    world.feed(1, 61)
    assert seen() == [1, 1, 1, 2]
    world.commit()
    assert seen() == [1, 0, 1, 2]
    for work in world.assignment.delivery_tasks():
        content = work.partition.content(work)
        assert content is not None
        work.partition.uploaded(work, STORED, 1)
        work.partition.published(work)
    assert seen() == [1, 0, 0, 0]
    world.commit()
    assert seen() == [1, 0, 0, 0]


def test_age_is_that_of_the_oldest_minute_without_a_receipt() -> None:
    world = World()
    world.hold(Commit(0, ()))
    world.feed(0, 0)
    world.feed(1, 61)
    age = "oldest_undelivered_age_seconds"
    assert world.value(age, ORDERS.id, second=70) == 70
    world.commit()
    orders, every = world.assignment.delivery_tasks()
    for work in (orders,):
        work.partition.content(work)
        work.partition.uploaded(work, STORED, 1)
        work.partition.published(work)
    assert world.value(age, ORDERS.id, second=70) == 10
    assert world.value(age, every.delivery.destination.id, second=70) == 70
    # A clock that was set back makes no age negative.
    assert world.value(age, ORDERS.id, second=-100) == 0


def test_destination_that_owes_nothing_has_no_age() -> None:
    world = World()
    world.counts.published(receipt(Status.DELIVERED), MINUTE + 62)
    assert world.value("oldest_undelivered_age_seconds", ORDERS.id, second=500) == 0


def test_window_that_a_predecessor_recorded_is_as_old_as_its_minute() -> None:
    world = World()
    world.hold(Commit(0, (Closing(2, MINUTE + 60, MINUTE, settled=False),)))
    assert world.value("windows_open") == 0
    world.feed(0, 0)
    assert world.value("windows_open") == 1
    assert world.value("oldest_undelivered_age_seconds", EVERY.id, second=300) == 300


def test_open_circuit_breaker_is_a_metric() -> None:
    world = World()
    world.counts.attempt_failed(ORDERS.id)
    breaker = world.breakers.of(ORDERS.id)
    for number in range(FAILURES_MAX):
        assert world.value("destination_circuit_open", ORDERS.id) == 0
        breaker.failed(TransientError("SlowDown", ""), is_probe=False, now=float(number))
    assert world.value("destination_circuit_open", ORDERS.id) == 1
    breaker.succeeded()
    assert world.value("destination_circuit_open", ORDERS.id) == 0


def test_failing_destination_is_a_metric_until_it_is_removed() -> None:
    world = World()
    world.counts.published(receipt(Status.DELIVERED), MINUTE + 63)
    assert world.value("destination_failing", ORDERS.id) == 0
    world.counts.published(receipt(Status.DELIVERED), MINUTE + 63)
    world.counts.failing.check(1.0)
    assert world.value("destination_failing", ORDERS.id) == 1
    world.counts.keep({EVERY.id})
    assert world.counts.failing.failing == {}


def test_retrying_receipt_makes_no_destination_fail() -> None:
    world = World()
    for _ in range(3):
        world.counts.published(receipt(Status.RETRYING), MINUTE + 63)
    assert world.counts.failing.check(1.0) == ([], [])


# --- partitions ----------------------------------------------------------------------------------


def test_lag_is_from_the_commit_and_unread_from_the_position() -> None:
    world = World()
    world.hold(Commit(10, ()))
    assert world.read()["stream_app_lag_offsets"] == []  # nothing was fetched yet
    world.log_ends[EVENTS] = 25
    world.feed(10, 0)
    assert world.value("lag_offsets", "3") == 15
    assert world.value("unread_offsets", "3") == 14
    world.log_ends[EVENTS] = 5  # fetched before the partition was assigned to us
    assert world.value("lag_offsets", "3") == world.value("unread_offsets", "3") == 0


def test_events_behind_an_open_transaction_are_lag_and_hidden_and_not_unread() -> None:
    world = World()
    world.hold(Commit(10, ()))
    world.log_ends[EVENTS] = 10
    for now in (100.0, 101.0, 190.0):
        world.open_transactions.check(now, world.log_ends, {EVENTS: 110})
    world.high_watermarks[EVENTS] = 110
    assert world.value("lag_offsets", "3") == 100
    assert world.value("unread_offsets", "3") == 0
    assert world.value("hidden_offsets", "3") == 100
    assert world.value("hidden_offsets_age_seconds", "3") == 90
    world.open_transactions.check(191.0, {EVENTS: 111}, {EVENTS: 111})
    assert world.value("hidden_offsets_age_seconds", "3") == 0


def test_partition_without_a_response_for_longer_than_the_session_is_counted() -> None:
    world = World()
    for now in range(int(SETTINGS.kafka.session_timeout_seconds) + 1):
        world.unanswered.check(float(now), {EVENTS: Fetch(None, is_held=False)})
    assert world.value("partitions_unanswered") == 0
    world.unanswered.check(now + 1.0, {EVENTS: Fetch(None, is_held=False)})
    assert world.value("partitions_unanswered") == 1


def test_partition_whose_end_was_published_in_part_has_no_lag_yet() -> None:
    world = World()
    world.hold(Commit(10, ()))
    world.high_watermarks[EVENTS] = 110
    assert world.read()["stream_app_lag_offsets"] == []


def test_partitions_are_counted_by_whether_they_are_read_back() -> None:
    world = World()
    world.assignment.assigned([EVENTS, TopicPartition("events", 4)])
    world.assignment.loaded(EVENTS, 0, Commit(0, ()))
    assert world.value("partitions_assigned") == 2
    assert world.value("partitions_read_back") == 1
    assert world.value("partitions_commit_metadata_full") == 0
    world.assignment.revoked()
    assert world.value("partitions_assigned") == 0
    assert world.value("rebalances_total") == 1


# --- the rest ------------------------------------------------------------------------------------


def test_memory_has_its_bound_beside_it() -> None:
    world = World()
    world.hold(Commit(0, ()))
    world.feed(0, 0, "x" * 1000)
    assert world.value("memory_held_bytes") == world.assignment.held > 1000
    assert world.value("memory_max_bytes") == Delivery().memory_max_mib * 1024 * 1024


def test_reload_health_and_names_are_metrics() -> None:
    world = World()
    world.reload.is_valid = False
    assert world.value("config_last_reload_successful") == 0
    assert world.value("config_last_reload_success_timestamp_seconds") == 5.0
    assert world.value("config_restart_required") == 0
    assert world.value("destinations") == 2
    assert (world.value("live"), world.value("ready")) == (1, 0)
    assert world.value("event_loop_lag_seconds_total") == HEALTH.loop_lag_seconds
    assert world.value("worker_info", "stream-app", "events") == 1
    assert LoopMonitor(0.0).lag_seconds == 0


def test_receipt_that_fails_is_counted_until_it_ends_with_the_time_of_its_first_attempt() -> None:
    world = World()
    assert world.counts.longest_failing() is None
    world.counts.receipt_failed("a", "KafkaConnectionError", 10.0)
    world.counts.receipt_failed("b", "ReceiptTimeout", 11.0)
    world.counts.receipt_failed("a", "ReceiptTimeout", 12.0)
    assert world.value("receipts_failing") == 2
    assert world.value("failed_receipts_total") == 3
    assert world.counts.longest_failing() == (10.0, "ReceiptTimeout")
    world.counts.receipt_ended("a")
    assert world.counts.longest_failing() == (11.0, "ReceiptTimeout")
    world.counts.receipt_ended("b")
    world.counts.receipt_ended("b")
    assert world.value("receipts_failing") == 0
