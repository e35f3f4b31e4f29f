"""Metrics of a worker, each with how it is read.

    receipts, batches, commits ─> Counts ───────────┐
    Assignment, CircuitBreakers, ReloadState, ... ──┴─ readings() ─> `prometheus`: /metrics

Counters are those of `counts`; all else is read from the state at a scrape.

Pure: state is read and not changed, and Prometheus is known only by how it names things.
"""

from collections.abc import Callable, Iterator, KeysView, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, islice
from platform import python_version
from typing import Final, NamedTuple

from stream_app import __version__
from stream_app.config.settings import MIB, Settings
from stream_app.core.assignment import Assignment
from stream_app.core.circuit_breaker import CircuitBreakers
from stream_app.core.closed_windows import WindowSnapshot
from stream_app.core.partition import Partition
from stream_app.monitoring.accumulators import Delays, OutcomeCounts
from stream_app.monitoring.counts import Counts
from stream_app.monitoring.destination_counts import OTHERS, DestinationCounts
from stream_app.monitoring.open_transactions import HiddenEnd, OpenTransactions
from stream_app.monitoring.reload_state import ReloadState
from stream_app.monitoring.unanswered_partitions import UnansweredPartitions
from stream_app.records import TopicPartition
from stream_app.s3.clock_skew import ClockSkew

OUTCOMES: Final = ("delivered", "skipped", "failed", "given_up")


@dataclass(frozen=True, slots=True)
class MetricSources:
    """State of a worker that metrics are read from."""

    settings: Settings
    """Settings at the start of the worker."""
    counts: Counts
    assignment: Assignment
    breakers: CircuitBreakers
    reload: ReloadState
    skew: ClockSkew
    not_encrypted: Callable[[], int]
    """Returns how many objects S3 has stored without the requested encryption."""
    log_ends: Callable[[], Mapping[TopicPartition, int]]
    """Returns the end of each partition for readers of committed records, as of its last fetch."""
    high_watermarks: Callable[[], Mapping[TopicPartition, int]]
    """Returns the end of each partition's log, as of its last fetch."""
    open_transactions: OpenTransactions = field(default_factory=OpenTransactions)
    unanswered: UnansweredPartitions = field(default_factory=UnansweredPartitions)

    def unanswered_partitions(self) -> Mapping[TopicPartition, float]:
        """Return the partitions without a response for longer than the session, with the time."""
        return self.unanswered.longer_than(self.settings.kafka.session_timeout_seconds)


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """Result of the health checks."""

    live: bool
    ready: bool
    loop_lag_seconds: float


Samples = Sequence[tuple[tuple[str, ...], float]]
"""Label values in the order of the metric's labels, and the value."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of a worker at one scrape: the sources, and what several metrics share."""

    sources: MetricSources
    health: HealthStatus
    now: float
    """Seconds since 1970."""
    open_windows: int
    closed: Sequence[WindowSnapshot]
    destinations: Sequence[tuple[tuple[str], OutcomeCounts]]
    """Label and counters of the destinations that had an event here since the start.

    A destination begins with 0 when its first event is read, a window before the first receipt: so
    the first count, too, is an increase. All that have no counters of their own are one, the last.
    """
    oldest: Mapping[str, int]
    """Start of the oldest window with an event of a destination without a receipt, by label."""
    broken: Mapping[str, int]
    """Destinations whose circuit breaker is open, by label."""
    failing: Mapping[str, int]
    """Destinations whose events fail, by label."""
    partitions: Sequence[Partition]
    """Partitions whose end of the log is known, since they were fetched."""
    ends: Mapping[TopicPartition, int]
    """Their ends for readers of committed records."""
    high_watermarks: Mapping[TopicPartition, int]
    """The ends of their logs."""

    def by_partition(self, value: Callable[[Partition], float]) -> Samples:
        """Return a value, at least 0, for each of the partitions."""
        return [((str(it.tp.partition),), max(0, value(it))) for it in self.partitions]

    def hidden(self, partition: Partition) -> HiddenEnd | None:
        """Return what an open transaction hides of a partition, if it does."""
        return self.sources.open_transactions.hidden.get(partition.tp)


class Kind(StrEnum):
    """Type of a metric, as Prometheus names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """Declaration of a metric.

    Args:
        name: The whole name.
        kind: The type.
        labels: Names of its labels.
        help: The description.
        read: Returns the samples; a number is the one sample of a metric without labels.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    read: Callable[[Snapshot], float | Samples | Delays]


def _counter(
    name: str,
    help: str,  # noqa: A002 - the word for it
    read: Callable[[Snapshot], float | Samples],
    *labels: str,
) -> Metric:
    return Metric(f"stream_app_{name}_total", Kind.COUNTER, labels, help, read)


def _gauge(
    name: str,
    help: str,  # noqa: A002 - the word for it
    read: Callable[[Snapshot], float | Samples],
    *labels: str,
) -> Metric:
    return Metric(f"stream_app_{name}", Kind.GAUGE, labels, help, read)


METRICS: Final = (
    # --- each destination
    _counter(
        "outcomes",
        "Events that a receipt has answered, by outcome: delivered, skipped, failed (their "
        "expression threw), given_up (their window has a failed receipt).",
        lambda it: [
            ((label[0], outcome), getattr(counts, outcome))
            for label, counts in it.destinations
            for outcome in OUTCOMES
        ],
        "destination",
        "outcome",
    ),
    _counter(
        "objects",
        "Objects that a delivered receipt names.",
        lambda it: [(label, counts.objects) for label, counts in it.destinations],
        "destination",
    ),
    _counter(
        "object_bytes",
        "Compressed bytes of those objects.",
        lambda it: [(label, counts.object_bytes) for label, counts in it.destinations],
        "destination",
    ),
    _counter(
        "line_bytes",
        "Bytes of the lines in those objects.",
        lambda it: [(label, counts.line_bytes) for label, counts in it.destinations],
        "destination",
    ),
    _counter(
        "failed_attempts",
        "Requests to S3 that failed; each is retried, or its window given up.",
        lambda it: [(label, counts.failed_attempts) for label, counts in it.destinations],
        "destination",
    ),
    _counter(
        "not_encrypted_objects",
        "Uploads that S3 stored without the encryption that sse or kms_key_id requests.",
        lambda it: it.sources.not_encrypted(),
    ),
    _gauge(
        "oldest_undelivered_age_seconds",
        "Age of the oldest minute with a read event that has no receipt; 0 when all have one.",
        lambda it: [
            (label, max(0.0, it.now - it.oldest.get(label[0], it.now)))
            for label, _ in it.destinations
        ],
        "destination",
    ),
    _gauge(
        "destination_circuit_open",
        "1 while requests for it fail and only one at a time is tried, else 0; of the others, how "
        "many.",
        lambda it: [(label, it.broken.get(label[0], 0)) for label, _ in it.destinations],
        "destination",
    ),
    _gauge(
        "destination_failing",
        "1 while more than 1 % of its events of the last 10 minutes fail, else 0; of the others, "
        "how many.",
        lambda it: [(label, it.failing.get(label[0], 0)) for label, _ in it.destinations],
        "destination",
    ),
    _gauge(
        "destinations_left_out",
        "Destinations that had an event and no metrics of their own, by "
        "[http] metrics_destinations_max.",
        lambda it: len(it.sources.counts.destinations.left_out),
    ),
    # --- each partition
    _gauge(
        "lag_offsets",
        "From the commit to the end of the partition's log, as fetched.",
        lambda it: it.by_partition(
            lambda partition: it.high_watermarks[partition.tp] - partition.acknowledged.offset
        ),
        "partition",
    ),
    _gauge(
        "unread_offsets",
        "From what was read to what can be read, as fetched: the end of the log, or the first open "
        "transaction.",
        lambda it: it.by_partition(lambda partition: it.ends[partition.tp] - partition.position),
        "partition",
    ),
    _gauge(
        "hidden_offsets",
        "From the first open transaction to the end of the log: nothing of it can be read yet.",
        lambda it: it.by_partition(
            lambda partition: it.high_watermarks[partition.tp] - it.ends[partition.tp]
        ),
        "partition",
    ),
    _gauge(
        "hidden_offsets_age_seconds",
        "For how long the same open transaction has hidden them; 0 while none is open.",
        lambda it: it.by_partition(
            lambda partition: 0.0 if (end := it.hidden(partition)) is None else end.seconds
        ),
        "partition",
    ),
    # --- the worker: events and receipts
    _counter(
        "events",
        "Events read into windows; those read again count again.",
        lambda it: it.sources.counts.events,
    ),
    _counter(
        "unmatched_events",
        "Those of them whose key is the pipeline of no destination: they are in no object and no "
        "receipt.",
        lambda it: it.sources.counts.unmatched_events,
    ),
    _counter(
        "lost_offsets",
        "Offsets that were gone before they were delivered: retention deleted them, or the log was "
        "truncated.",
        lambda it: it.sources.counts.lost_offsets,
    ),
    _counter(
        "undecodable_offsets",
        "Offsets that were passed over, since their record batch could not be decoded.",
        lambda it: it.sources.counts.undecodable_offsets,
    ),
    _gauge(
        "undecodable_partitions",
        "Partitions that wait at a record batch that cannot be decoded.",
        lambda it: len(it.sources.assignment.waits),
    ),
    _counter(
        "receipts",
        "Receipts that the broker has acknowledged, by status.",
        lambda it: [
            ((str(status),), count) for status, count in it.sources.counts.receipts.items()
        ],
        "status",
    ),
    _counter(
        "failed_receipts",
        "Attempts to publish a receipt that failed; each is retried.",
        lambda it: it.sources.counts.failed_receipts,
    ),
    _gauge(
        "receipts_failing",
        "Receipts that were not published at the last attempt; each is tried again.",
        lambda it: len(it.sources.counts.failing_receipts),
    ),
    _counter(
        "shortened_receipts",
        "Receipts that the topic did not take whole: error texts are cut, and perhaps the lists.",
        lambda it: it.sources.counts.shortened_receipts,
    ),
    _counter(
        "unpublished_receipts",
        "Receipts that the topic refused as too large in their shortest form: their windows were "
        "settled without one.",
        lambda it: it.sources.counts.unpublished_receipts,
    ),
    Metric(
        "stream_app_receipt_delay_seconds",
        Kind.HISTOGRAM,
        (),
        "From the end of a window to its receipt; receipts with status retrying do not count.",
        lambda it: it.sources.counts.delays,
    ),
    # --- the worker: windows and memory
    _gauge(
        "windows_open",
        "Partitions with an open window that holds an offset.",
        lambda it: it.open_windows,
    ),
    _gauge(
        "closings_pending",
        "Closed windows whose closing the broker has not acknowledged yet.",
        lambda it: sum(not window.is_recorded for window in it.closed),
    ),
    _gauge(
        "windows_unsettled",
        "Closed windows that owe a receipt.",
        lambda it: sum(bool(window.destinations) for window in it.closed),
    ),
    _gauge(
        "deliveries_pending",
        "Receipts that closed windows owe, one for each destination.",
        lambda it: sum(len(window.destinations) for window in it.closed),
    ),
    _gauge(
        "memory_held_bytes",
        "Bytes of lines and compressed data that windows hold.",
        lambda it: it.sources.assignment.held,
    ),
    _gauge(
        "memory_max_bytes",
        "Bound of memory_held_bytes: [delivery] memory_max_mib.",
        lambda it: it.sources.settings.delivery.memory_max_mib * MIB,
    ),
    # --- the worker: Kafka
    _gauge(
        "partitions_assigned",
        "Partitions that the group has assigned to this worker.",
        lambda it: len(it.sources.assignment.partitions) + len(it.sources.assignment.missing),
    ),
    _gauge(
        "partitions_read_back",
        "Assigned partitions whose commit was read back.",
        lambda it: len(it.sources.assignment.partitions),
    ),
    _gauge(
        "partitions_commit_metadata_full",
        "Partitions that can close no window: their commit's metadata is full until one settles.",
        lambda it: sum(partition.full for partition in it.sources.assignment.partitions.values()),
    ),
    _gauge(
        "partitions_held_back",
        "Partitions that are not read: another program has committed for them in the group.",
        lambda it: len(it.sources.assignment.held_back),
    ),
    _gauge(
        "partitions_unanswered",
        "Partitions whose leader has not responded for longer than session_timeout_seconds: their "
        "lag, unread and hidden offsets are as they were then, or unknown.",
        lambda it: len(it.sources.unanswered_partitions()),
    ),
    _counter(
        "rebalances",
        "Times that all partitions were revoked.",
        lambda it: it.sources.assignment.epoch,
    ),
    _counter(
        "rebuilt_partitions",
        "Times that a partition was dropped and rebuilt from its commit.",
        lambda it: it.sources.counts.rebuilt_partitions,
    ),
    _counter(
        "stalled_partitions",
        "Times that a partition stood still below the end of its log and was fetched again.",
        lambda it: it.sources.counts.stalled_partitions,
    ),
    _counter(
        "log_truncated",
        "Times that a partition's log had lost records that the group had read.",
        lambda it: it.sources.counts.truncated_logs,
    ),
    _counter(
        "commits",
        "Commits that the broker has acknowledged.",
        lambda it: it.sources.counts.commits,
    ),
    _counter(
        "failed_commits",
        "Commits that the broker has not acknowledged; each is retried.",
        lambda it: it.sources.counts.failed_commits,
    ),
    _gauge(
        "last_commit_timestamp_seconds",
        "Time of the last commit that the broker acknowledged; 0: none yet.",
        lambda it: it.sources.counts.committed_at,
    ),
    # --- the worker itself
    _gauge("destinations", "Destinations in use.", lambda it: it.sources.reload.destinations),
    _gauge(
        "config_last_reload_successful",
        "1 if the configuration file was valid when it was read last.",
        lambda it: it.sources.reload.is_valid,
    ),
    _gauge(
        "config_last_reload_success_timestamp_seconds",
        "Time when the configuration file was valid last; the start counts.",
        lambda it: it.sources.reload.succeeded_at,
    ),
    _gauge(
        "config_restart_required",
        "1 if the file has a change that a running worker cannot apply.",
        lambda it: it.sources.reload.needs_restart,
    ),
    _gauge(
        "s3_clock_skew_seconds",
        "Our clock minus S3's, by the Date of its last response; exact to a second.",
        lambda it: [
            ((endpoint,), seconds) for endpoint, seconds in it.sources.skew.seconds().items()
        ],
        "endpoint",
    ),
    _counter(
        "event_loop_lag_seconds",
        "Seconds by which heartbeats of the event loop came late.",
        lambda it: it.health.loop_lag_seconds,
    ),
    _gauge("live", "1 while /health/live returns 200.", lambda it: it.health.live),
    _gauge("ready", "1 while /health/ready returns 200.", lambda it: it.health.ready),
    _gauge(
        "worker_info",
        "1: the group, and the topic that it reads.",
        lambda it: [((it.sources.settings.kafka.group, it.sources.settings.kafka.events_topic), 1)],
        "group",
        "events_topic",
    ),
    _gauge(
        "build_info",
        "1: the versions.",
        lambda _: [((__version__, python_version()), 1)],
        "version",
        "python_version",
    ),
)


def readings(
    sources: MetricSources, health: HealthStatus, now: float
) -> dict[str, Samples | Delays]:
    """Return the samples of every metric at this moment, by name.

    Args:
        sources: The worker's state.
        health: The result of the health checks.
        now: The time in seconds since 1970.
    """
    snapshot = _snapshot(sources, health, now)
    return dict(_read(snapshot))


def _read(snapshot: Snapshot) -> Iterator[tuple[str, Samples | Delays]]:
    for metric in METRICS:
        value = metric.read(snapshot)
        yield metric.name, [((), value)] if isinstance(value, int | float) else value


def _snapshot(sources: MetricSources, health: HealthStatus, now: float) -> Snapshot:
    partitions = sources.assignment.partitions
    windows = [it for partition in partitions.values() for it in partition.snapshots()]
    closed = [it for it in windows if not it.is_open]
    counts = sources.counts
    shown = _shown(counts.destinations, windows)
    destinations = [((id_,), it) for id_, it in shown.items()]
    if counts.destinations.left_out or sources.reload.destinations > counts.destinations.own_max:
        destinations.append(((OTHERS,), counts.destinations.others))
    ends, high_watermarks = sources.log_ends(), sources.high_watermarks()
    return Snapshot(
        sources,
        health,
        now,
        open_windows=len(windows) - len(closed),
        closed=closed,
        destinations=destinations,
        oldest=_oldest(windows, shown.keys()),
        broken=_by_label(sources.breakers.opened, shown.keys()),
        failing=_by_label(counts.failing.failing.keys(), shown.keys()),
        # The two mappings may be of two fetches, with a revocation between them.
        partitions=[it for tp, it in partitions.items() if tp in ends and tp in high_watermarks],
        ends=ends,
        high_watermarks=high_watermarks,
    )


def _shown(
    counts: DestinationCounts, windows: Sequence[WindowSnapshot]
) -> dict[str, OutcomeCounts]:
    """Return the counters of the destinations that are shown; new ones begin with 0."""
    shown = dict(counts.own)
    room = counts.own_max - len(shown)
    if room > 0:
        ids = chain.from_iterable(it.destinations for it in windows)
        new = (id_ for id_ in dict.fromkeys(ids) if id_ not in shown and id_ not in counts.left_out)
        shown |= {id_: OutcomeCounts() for id_ in islice(new, room)}
    return shown


def _oldest(windows: Sequence[WindowSnapshot], shown: KeysView[str]) -> dict[str, int]:
    oldest: dict[str, int] = {}
    for it in sorted(windows, key=lambda it: it.start, reverse=True):
        own = shown & it.destinations
        oldest.update(dict.fromkeys(own, it.start))
        if len(own) < len(it.destinations):
            oldest[OTHERS] = it.start
    return oldest


def _by_label(ids: AbstractSet[str], shown: KeysView[str]) -> dict[str, int]:
    """Return 1 for each of these destinations that is shown, and how many others there are."""
    own = shown & ids
    return {**dict.fromkeys(own, 1), OTHERS: len(ids) - len(own)}
