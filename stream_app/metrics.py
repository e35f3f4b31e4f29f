"""What a worker counts, and every metric that can be read off it.

    receipts, batches, commits ─> Counts ──────┐
    Assignment, Breakers, ReloadState, ... ────┴─ readings() ─> `monitoring`: /metrics

Counting happens once a batch, an attempt, a receipt or a commit, never once a record. All else is
read off the state when somebody asks. Outcomes are counted when their receipt was published, from
the receipt's own tally: so they add up with the receipts.

Pure: it only looks, and knows of Prometheus no more than how it names things.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from platform import python_version
from typing import Final, NamedTuple

from stream_app import __version__
from stream_app.assignment import Assignment, Standing
from stream_app.breakers import Breakers
from stream_app.clockskew import ClockSkew
from stream_app.expressions import TP
from stream_app.receipts import Receipt, Status
from stream_app.settings import Settings

DELAY_BOUNDS_SECONDS: Final = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 21600.0)
"""Of the histogram's buckets; the last one has no bound."""
MIB: Final = 1024 * 1024
STATUSES: Final = (Status.DELIVERED, Status.EMPTY, Status.RETRYING, Status.FAILED)
"""Those that a worker publishes."""


class Kind(StrEnum):
    """What Prometheus calls a metric's type."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """A metric as it is declared."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _counter(name: str, help: str, *labels: str) -> Metric:  # noqa: A002 - the word for it
    return Metric(f"stream_app_{name}_total", Kind.COUNTER, labels, help)


def _gauge(name: str, help: str, *labels: str) -> Metric:  # noqa: A002 - the word for it
    return Metric(f"stream_app_{name}", Kind.GAUGE, labels, help)


METRICS: Final = (
    # --- each destination
    _counter(
        "outcomes",
        "Events that a receipt has answered, by outcome: delivered, skipped, failed (their "
        "expression threw), given_up (their window has a failed receipt).",
        *("destination", "outcome"),
    ),
    _counter("objects", "Objects that a delivered receipt names.", "destination"),
    _counter("object_bytes", "Compressed bytes of those objects.", "destination"),
    _counter("line_bytes", "Bytes of the lines in those objects.", "destination"),
    _counter(
        "failed_attempts",
        "Requests to S3 that failed; each is made again, or its window given up.",
        "destination",
    ),
    _gauge(
        "oldest_undelivered_age_seconds",
        "Age of the oldest minute with a read event that has no receipt; 0 when all have one.",
        "destination",
    ),
    _gauge(
        "destination_broken",
        "1 while requests for it fail and only one at a time is tried, else 0.",
        "destination",
    ),
    # --- each partition
    _gauge(
        "lag_offsets", "From the commit to the end of the partition's log, as fetched.", "partition"
    ),
    _gauge("unread_offsets", "From what was read to the end of the log, as fetched.", "partition"),
    # --- the worker: events and receipts
    _counter("events", "Events read into windows; those read again count again."),
    _counter("lost_offsets", "Offsets that retention deleted before they were read."),
    _counter("receipts", "Receipts that the broker has, by status.", "status"),
    _counter("failed_receipts", "Attempts to publish a receipt that failed and are made again."),
    Metric(
        "stream_app_receipt_delay_seconds",
        Kind.HISTOGRAM,
        (),
        "From the end of a window to its receipt, those with status retrying left out.",
    ),
    # --- the worker: windows and memory
    _gauge("windows_open", "Partitions with an open window that holds an offset."),
    _gauge("closings_pending", "Closed windows whose closing the broker does not have yet."),
    _gauge("windows_unsettled", "Closed windows that owe a receipt."),
    _gauge("deliveries_pending", "Receipts that closed windows owe, one for each destination."),
    _gauge("memory_held_bytes", "Bytes of lines and compressed data that windows hold."),
    _gauge("memory_max_bytes", "Bound of memory_held_bytes: [delivery] memory_max_mib."),
    # --- the worker: Kafka
    _gauge("partitions_assigned", "Partitions that the group has given to this worker."),
    _gauge("partitions_read_back", "Of the assigned partitions, those whose commit was read back."),
    _gauge(
        "partitions_full",
        "Partitions that can close no window: their commit's metadata is full until one settles.",
    ),
    _counter("rebalances", "Times that all partitions were taken away."),
    _counter("rebuilt_partitions", "Times that a partition was forgotten and built anew."),
    _counter("commits", "Commits that the broker has taken."),
    _counter(
        "failed_commits", "Commits that the broker did not take or answer; each is made again."
    ),
    _gauge("last_commit_timestamp_seconds", "When the broker took the last commit; 0: none yet."),
    # --- the worker itself
    _gauge("destinations", "Destinations in use."),
    _gauge(
        "config_last_reload_successful",
        "1 if the configuration file was right when it was read last.",
    ),
    _gauge(
        "config_last_reload_success_timestamp_seconds",
        "When the configuration file was right last; the start counts.",
    ),
    _gauge(
        "config_restart_required", "1 if the file asks for more than a running worker can change."
    ),
    _gauge(
        "s3_clock_skew_seconds",
        "Our clock minus S3's, by the Date of its last answer; exact to a second.",
        "place",
    ),
    _counter("loop_late_seconds", "Seconds by which heartbeats of the event loop came late."),
    _gauge("live", "1 while /health/live answers 200."),
    _gauge("ready", "1 while /health/ready answers 200."),
    _gauge("worker_info", "1: the group, and the topic that it reads.", "group", "events_topic"),
    _gauge("build_info", "1: what runs.", "version", "python_version"),
)


@dataclass(slots=True)
class Outcomes:
    """What became of the events of one destination, or of all."""

    delivered: int = 0
    skipped: int = 0
    failed: int = 0
    """Their expression threw."""
    given_up: int = 0
    """Their payloads were to be delivered, and their window has a `failed` receipt."""
    objects: int = 0
    object_bytes: int = 0
    """Compressed."""
    line_bytes: int = 0
    retries: int = 0
    """Requests to S3 that failed: each is made again, or its window given up."""

    def answered(self, receipt: Receipt) -> None:
        """Add what a receipt says that supersedes any other of its window."""
        tally = receipt.tally
        self.skipped += tally.skipped_count
        self.failed += len(tally.failed)
        if receipt.status is Status.FAILED:
            self.given_up += tally.delivered
            return
        self.delivered += tally.delivered
        if receipt.stored is not None:
            self.objects += 1
            self.object_bytes += receipt.stored.size
            self.line_bytes += receipt.size_uncompressed


@dataclass(slots=True)
class Delays:
    """A histogram of seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(DELAY_BOUNDS_SECONDS) + 1))
    """Of each bucket alone, the one without a bound last."""
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(DELAY_BOUNDS_SECONDS, seconds)] += 1
        self.seconds += seconds


@dataclass(slots=True)
class Counts:
    """What a worker has counted since its start."""

    events: int = 0
    lost_offsets: int = 0
    receipts: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    failed_receipts: int = 0
    commits: int = 0
    failed_commits: int = 0
    committed_at: float = 0.0
    """When the broker took the last commit, in seconds since 1970."""
    rebuilt_partitions: int = 0
    delays: Delays = field(default_factory=Delays)
    total: Outcomes = field(default_factory=Outcomes)
    """Of all destinations, those included that are no more."""
    destinations: dict[str, Outcomes] = field(default_factory=dict)

    def of(self, destination: str) -> Outcomes:
        """Return what became of the events of one destination."""
        return self.destinations.setdefault(destination, Outcomes())

    def published(self, receipt: Receipt, now: float) -> None:
        """Count a receipt that the broker has."""
        self.receipts[receipt.status] += 1
        if receipt.status is Status.RETRYING:
            return
        self.delays.add(max(0.0, now - receipt.window_end))
        self.total.answered(receipt)
        self.of(receipt.destination).answered(receipt)

    def retried(self, destination: str) -> None:
        """Count a request to S3 that has failed."""
        self.total.retries += 1
        self.of(destination).retries += 1

    def totals(self) -> dict[str, int]:
        """Return what a summary of all destinations tells; each number only grows."""
        total = self.total
        return {
            "events": self.events,
            "delivered": total.delivered,
            "skipped": total.skipped,
            "failed": total.failed,
            "given_up": total.given_up,
            "objects": total.objects,
            "bytes": total.object_bytes,
            "receipts": sum(self.receipts.values()),
            "retries": total.retries,
        }

    def committed(self, now: float) -> None:
        """Count a commit that the broker has taken."""
        self.commits += 1
        self.committed_at = now

    def keep(self, destinations: Collection[str]) -> None:
        """Forget destinations that are no more; one that a window still answers begins anew."""
        for id_ in [id_ for id_ in self.destinations if id_ not in destinations]:
            del self.destinations[id_]


@dataclass(slots=True)
class ReloadState:
    """What came of the configuration file when it was read last."""

    destinations: int
    """In use."""
    taken_at: float
    """When it was right last, in seconds since 1970."""
    is_right: bool = True
    needs_restart: bool = False
    """It asks for more than a running worker can change."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What there is to look at."""

    settings: Settings
    """Those that the worker began with."""
    counts: Counts
    assignment: Assignment
    breakers: Breakers
    reload: ReloadState
    skew: ClockSkew
    log_ends: Callable[[], Mapping[TP, int]]
    """Of each partition, as it was fetched last."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What `health` says."""

    live: bool
    ready: bool
    late_seconds: float


Samples = Sequence[tuple[tuple[str, ...], float]]
"""Label values in the order of the metric's labels, and the value."""


def readings(watched: Watched, pulse: Pulse, now: float) -> dict[str, Samples | Delays]:
    """Return the samples of every metric at this moment, by name.

    Args:
        watched: What to look at.
        pulse: What `health` says.
        now: The time in seconds since 1970.
    """
    counts, reload, skew = watched.counts, watched.reload, watched.skew
    kafka = watched.settings.kafka
    partitions = watched.assignment.partitions.values()
    standing = [it for partition in partitions for it in partition.standing()]
    return {
        **_of_destinations(watched, standing, now),
        **_of_partitions(watched),
        **_of_windows(watched, standing),
        "stream_app_events_total": _one(counts.events),
        "stream_app_lost_offsets_total": _one(counts.lost_offsets),
        "stream_app_receipts_total": [
            ((str(status),), count) for status, count in counts.receipts.items()
        ],
        "stream_app_failed_receipts_total": _one(counts.failed_receipts),
        "stream_app_receipt_delay_seconds": counts.delays,
        "stream_app_rebalances_total": _one(watched.assignment.epoch),
        "stream_app_rebuilt_partitions_total": _one(counts.rebuilt_partitions),
        "stream_app_commits_total": _one(counts.commits),
        "stream_app_failed_commits_total": _one(counts.failed_commits),
        "stream_app_last_commit_timestamp_seconds": _one(counts.committed_at),
        "stream_app_destinations": _one(reload.destinations),
        "stream_app_config_last_reload_successful": _one(reload.is_right),
        "stream_app_config_last_reload_success_timestamp_seconds": _one(reload.taken_at),
        "stream_app_config_restart_required": _one(reload.needs_restart),
        "stream_app_s3_clock_skew_seconds": [
            ((place,), seconds) for place, seconds in skew.seconds().items()
        ],
        "stream_app_loop_late_seconds_total": _one(pulse.late_seconds),
        "stream_app_live": _one(pulse.live),
        "stream_app_ready": _one(pulse.ready),
        "stream_app_worker_info": [((kafka.group, kafka.events_topic), 1.0)],
        "stream_app_build_info": [((__version__, python_version()), 1.0)],
    }


def _of_destinations(
    watched: Watched, standing: Sequence[Standing], now: float
) -> dict[str, Samples]:
    """Return the metrics of those destinations that had an event here since the start.

    They begin with 0 when the first event is read, a window before the first receipt: so the first
    count, too, is an increase.
    """
    counts, broken = watched.counts, watched.breakers.opened
    oldest = _oldest(standing)
    known = {id_: counts.destinations.get(id_) or Outcomes() for id_ in oldest}
    known |= counts.destinations
    return {
        "stream_app_outcomes_total": [
            ((id_, outcome), getattr(it, outcome))
            for id_, it in known.items()
            for outcome in ("delivered", "skipped", "failed", "given_up")
        ],
        "stream_app_objects_total": [((id_,), it.objects) for id_, it in known.items()],
        "stream_app_object_bytes_total": [((id_,), it.object_bytes) for id_, it in known.items()],
        "stream_app_line_bytes_total": [((id_,), it.line_bytes) for id_, it in known.items()],
        "stream_app_failed_attempts_total": [((id_,), it.retries) for id_, it in known.items()],
        "stream_app_oldest_undelivered_age_seconds": [
            ((id_,), max(0.0, now - oldest.get(id_, now))) for id_ in known
        ],
        "stream_app_destination_broken": [((id_,), id_ in broken) for id_ in known],
    }


def _of_partitions(watched: Watched) -> dict[str, Samples]:
    ends = watched.log_ends()
    lag, unread = [], []
    for tp, partition in watched.assignment.partitions.items():
        end = ends.get(tp)
        if end is not None:  # Else nothing was fetched yet.
            label = (str(tp.partition),)
            lag.append((label, max(0, end - partition.acknowledged.offset)))
            unread.append((label, max(0, end - partition.position)))
    return {"stream_app_lag_offsets": lag, "stream_app_unread_offsets": unread}


def _of_windows(watched: Watched, standing: Sequence[Standing]) -> dict[str, Samples]:
    assignment = watched.assignment
    closed = [it for it in standing if not it.is_open]
    partitions = assignment.partitions
    return {
        "stream_app_windows_open": _one(len(standing) - len(closed)),
        "stream_app_closings_pending": _one(sum(not it.is_recorded for it in closed)),
        "stream_app_windows_unsettled": _one(sum(bool(it.destinations) for it in closed)),
        "stream_app_deliveries_pending": _one(sum(len(it.destinations) for it in closed)),
        "stream_app_memory_held_bytes": _one(assignment.held),
        "stream_app_memory_max_bytes": _one(watched.settings.delivery.memory_max_mib * MIB),
        "stream_app_partitions_assigned": _one(len(partitions) + len(assignment.missing)),
        "stream_app_partitions_read_back": _one(len(partitions)),
        "stream_app_partitions_full": _one(sum(it.full for it in partitions.values())),
    }


def _oldest(standing: Sequence[Standing]) -> dict[str, int]:
    """Return the start of the oldest window in which each destination has an unanswered event."""
    oldest: dict[str, int] = {}
    for it in sorted(standing, key=lambda it: it.start, reverse=True):
        oldest.update(dict.fromkeys(it.destinations, it.start))
    return oldest


def _one(value: float) -> Samples:
    return [((), value)]
