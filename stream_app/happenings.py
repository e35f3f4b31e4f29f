"""What can happen in a worker's life, as its log names it: each kind is declared here, once.

`logs.say` writes one; `docs/logs.md` (by a test) draws on these declarations. A name and its fields
stay what they are: alarms of operators hang on them.

Pure: declarations only.
"""

from dataclasses import dataclass
from typing import Final, Literal

LINES_PER_MINUTE_MAX: Final = 1_000
"""Of one kind: what comes for each partition, once in a rebalance."""
DELIVERY_LINES_PER_MINUTE_MAX: Final = 100
"""Of one kind that comes for each window and destination: 10,000 destinations have as many."""

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Happening:
    """One kind of message.

    Args:
        name: What `event` is in JSON.
        level: How grave it is.
        meaning: What it says.
        fields: Which fields it may have beside those of every message.
        lines_max: How many there are in a minute, unless the log is at `debug`.
    """

    name: str
    level: Level
    meaning: str
    fields: tuple[str, ...] = ()
    lines_max: int = LINES_PER_MINUTE_MAX


FIELDS: Final = {
    "added": "destinations that are new in the file",
    "address": "where metrics and health are served",
    "already_existed": "true: S3 had the object, a predecessor has written it",
    "attempts": "attempts so far",
    "bound_mib": "`[delivery] memory_max_mib`",
    "broker": "where Kafka answers",
    "bucket": "the destination's bucket",
    "bytes": "size of the object, or objects, compressed",
    "changed": "destinations that are other than before",
    "closings": "recorded closings beyond the committed offset: windows that are rebuilt",
    "code": "the error's code as S3 spells it, or the name of its class",
    "config": "the configuration file",
    "delivered": "events that are a line of an object, once for each destination",
    "destination": "a destination's `id`",
    "destinations": "how many destinations",
    "end_offset": "the first offset that is not meant any more",
    "endpoint": "the S3 server, or `AWS`",
    "error": "the error in its own words",
    "events": "events taken out of Kafka, those that were read again included",
    "events_topic": "`[kafka] events_topic`",
    "failed": "events whose expression gave no payload, once for each destination",
    "first_offset": "the first offset that is meant",
    "generation": "of the consumer group",
    "given_up": "events of windows that were given up, once for each destination",
    "group": "`[kafka] group`",
    "held_mib": "memory that windows hold, in MiB",
    "key": "the object's key",
    "lag": "offsets between what is committed and the ends of the partitions",
    "lines": "lines of the object",
    "left_out": "messages that were left out, by `event`",
    "memory_max_mib": "`[delivery] memory_max_mib`",
    "numbers": "the partitions' numbers, as runs: `0-3, 7`",
    "objects": "objects that are there",
    "offset": "the committed offset",
    "open_windows": "partitions with an open window",
    "partition": "the partition's number",
    "partitions": "how many partitions",
    "process": "the process' number",
    "receipts": "receipts that the broker has",
    "receipts_topic": "`[kafka] receipts_topic`",
    "region": "the bucket's region",
    "removed": "destinations that are not in the file any more",
    "retries": "attempts to write to S3 that failed",
    "role": "the role's ARN",
    "seconds": "how long it took, or lasted",
    "signal": "the signal's name",
    "skipped": "events whose expression gave `undefined`, once for each destination",
    "status": "the process' exit status",
    "table": "the table of the configuration file",
    "topic": "the partition's topic",
    "unread": "offsets between what was read and the ends of the partitions",
    "upload": "S3's id of the upload in parts",
    "version": "of stream-app",
    "waited_seconds": "how long of it no batch was taken",
    "waiting": "objects that are due and not there",
    "window": "start of the window's minute, `2026-11-24T16:31:00Z`",
    "window_seconds": "`[delivery] window_seconds`",
}
"""What each field says."""

WINDOW: Final = ("window", "topic", "partition", "first_offset", "end_offset")
DELIVERY: Final = ("destination", *WINDOW)
ERROR: Final = ("code", "error")
BUCKET: Final = ("destination", "bucket")

# --- the process -----------------------------------------------------------------------------

STARTING: Final = Happening(
    "starting",
    "info",
    "A worker begins, with this configuration.",
    (
        *("version", "process", "config", "group", "broker", "events_topic", "receipts_topic"),
        *("endpoint", "region", "destinations", "window_seconds", "memory_max_mib"),
    ),
)
NOT_STARTED: Final = Happening(
    "not-started",
    "error",
    "It cannot begin; the message says what to do. In text it is a line as of any other command.",
    ("status",),
)
READY: Final = Happening(
    "ready",
    "info",
    "It takes part in the group and can write to S3.",
    ("destinations", "window_seconds", "address"),
)
NOT_WATCHED: Final = Happening(
    "not-watched",
    "warning",
    "It serves no metrics and health: its ports are taken, or cannot be listened at.",
)
WATCHING_FAILED: Final = Happening(
    "watching-failed", "error", "It serves no metrics and health any more: a defect, report it."
)
STOPPING: Final = Happening("stopping", "info", "A signal tells it to end.", ("signal",))
CRASHED: Final = Happening(
    "crashed",
    "error",
    "It must not go on and ends; nothing more is committed. See exit status 1.",
    ERROR,
)
STOPPED: Final = Happening("stopped", "info", "It has ended: its last message.", ("status",))
SUMMARY: Final = Happening(
    "summary",
    "info",
    "What was done since the last one, once a minute and at the end, and how things stand, but for "
    "the end.",
    (
        *("seconds", "events", "delivered", "skipped", "failed", "given_up", "objects", "bytes"),
        *("receipts", "retries", "open_windows", "waiting", "held_mib", "bound_mib", "unread"),
        "lag",
    ),
)
LEFT_OUT: Final = Happening(
    "left-out",
    "info",
    "So many more messages there were in the minute before; `--log-level debug` leaves none out.",
    ("left_out",),
)
LIBRARY: Final = Happening(
    "library",
    "warning",
    "A message of a library, which `logger` names, at the level that it has there.",
)

# --- partitions ------------------------------------------------------------------------------

ASSIGNED: Final = Happening(
    "assigned",
    "info",
    "The group has given it these partitions.",
    ("topic", "partitions", "numbers", "generation"),
)
REVOKED: Final = Happening(
    "revoked",
    "info",
    "A rebalance begins: all partitions may go; what was collected is kept for the case that not.",
    ("topic", "partitions", "numbers"),
)
TAKEN_OVER: Final = Happening(
    "taken-over",
    "info",
    "It reads a partition from its commit.",
    ("topic", "partition", "offset", "closings"),
)
KEPT: Final = Happening(
    "kept",
    "info",
    "A partition has come back, and nobody had it meanwhile: its windows go on.",
    ("topic", "partition", "offset", "closings"),
)
REBUILT: Final = Happening(
    "rebuilt",
    "error",
    "A partition is forgotten and read again from its commit: a batch, or parts of an object, were "
    "lost.",
    ("topic", "partition", *ERROR),
)
LOST: Final = Happening(
    "lost",
    "error",
    "Retention has deleted events before they were read.",
    ("topic", "partition", "first_offset", "end_offset"),
)
GAP: Final = Happening(
    "gap",
    "warning",
    "Offsets are missing, and the broker cannot be asked whether retention has deleted them.",
    ("topic", "partition", "first_offset", "end_offset", *ERROR),
)
NOT_OURS: Final = Happening(
    "not-ours",
    "debug",
    "Work of an earlier assignment is dropped; whoever has the partition does it.",
    ("topic", "partition"),
)

# --- Kafka -----------------------------------------------------------------------------------

NOT_READ_BACK: Final = Happening(
    "not-read-back", "warning", "Commits cannot be read back; it is tried again.", ERROR
)
NOT_COMMITTED: Final = Happening(
    "not-committed", "warning", "A commit has failed; it is tried again, and windows wait.", ERROR
)
BROKER_AWAY: Final = Happening(
    "broker-away", "warning", "The group's broker is away: nothing can be committed.", ("broker",)
)
BROKER_BACK: Final = Happening("broker-back", "info", "It is back.", ("broker", "seconds"))
LAGGING: Final = Happening(
    "lagging",
    "warning",
    "More events wait in Kafka than were read in a minute: a backlog, or too few workers.",
    ("events", "unread"),
)
CAUGHT_UP: Final = Happening("caught-up", "info", "That is over.", ("events", "unread", "seconds"))

# --- memory ----------------------------------------------------------------------------------

PRESSED: Final = Happening(
    "memory-pressure",
    "warning",
    "The memory bound is reached: no batch is taken until there is room. The worker slows down.",
    ("held_mib", "bound_mib"),
)
RELIEVED: Final = Happening(
    "memory-relieved",
    "info",
    "That is over.",
    ("held_mib", "bound_mib", "seconds", "waited_seconds"),
)

# --- windows at their destinations -----------------------------------------------------------

CLOSED: Final = Happening(
    "window-closed",
    "debug",
    "A window has closed, and the broker has its closing.",
    (*WINDOW, "destinations"),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
STORED: Final = Happening(
    "stored",
    "info",
    "An object is there; its receipt follows.",
    (*DELIVERY, "bucket", "key", "lines", "bytes", "attempts", "already_existed"),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
NOT_STORED: Final = Happening(
    "not-stored",
    "warning",
    "One of the first attempts of a window has failed; it is tried again.",
    (*DELIVERY, "attempts", *ERROR),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
LATE: Final = Happening(
    "late",
    "warning",
    "A window is retried for a minute; a `retrying` receipt says so.",
    (*DELIVERY, "attempts", *ERROR),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
GIVEN_UP: Final = Happening(
    "given-up",
    "error",
    "A window is not tried any more; a `failed` receipt names its events.",
    (*DELIVERY, "attempts", *ERROR),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
BREAKER_OPENED: Final = Happening(
    "breaker-opened",
    "warning",
    "A destination is broken: its windows wait, and one at a time probes.",
    ("destination", *ERROR),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
BREAKER_CLOSED: Final = Happening(
    "breaker-closed",
    "info",
    "It is served again, after so long.",
    ("destination", "seconds"),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
NOT_PUBLISHED: Final = Happening(
    "not-published",
    "warning",
    "A receipt could not be published; it is tried again.",
    (*DELIVERY, "attempts", *ERROR),
    DELIVERY_LINES_PER_MINUTE_MAX,
)

# --- S3 --------------------------------------------------------------------------------------

REGION_LEARNT: Final = Happening(
    "region-learnt",
    "info",
    "S3 says that a bucket is in another region; it is asked there from now on.",
    (*BUCKET, "region"),
)
REGION_UNKNOWN: Final = Happening(
    "region-unknown",
    "info",
    "S3 says that a bucket is in another region, and does not say where.",
    (*BUCKET, *ERROR),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
NOT_ASSUMED: Final = Happening(
    "role-not-assumed",
    "warning",
    "New credentials of a role cannot be had; those that it has are good for a while.",
    ("role", *ERROR),
)
NOT_ABORTED: Final = Happening(
    "not-aborted",
    "warning",
    "An upload in parts that nobody goes on with could not be aborted: its parts are paid for.",
    (*BUCKET, "key", "upload", *ERROR),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
NOT_BEGUN: Final = Happening(
    "not-begun",
    "debug",
    "It is not known whether an upload in parts was begun, so it is not aborted.",
    (*BUCKET, "key", *ERROR),
    DELIVERY_LINES_PER_MINUTE_MAX,
)
CONNECTION_LOST: Final = Happening(
    "connection-lost",
    "debug",
    "A connection to S3 has ended under a request, which is repeated, or its attempt tells of it.",
    ERROR,
    DELIVERY_LINES_PER_MINUTE_MAX,
)

# --- the configuration -----------------------------------------------------------------------

RELOADED: Final = Happening(
    "reloaded",
    "info",
    "The file has other destinations, which hold from each partition's next window on.",
    ("config", "destinations", "added", "changed", "removed"),
)
NOT_RELOADED: Final = Happening(
    "not-reloaded",
    "error",
    "The file has a mistake, one message for each; the old destinations stay.",
    ("config",),
)
NOT_CHANGED: Final = Happening(
    "not-changed", "info", "The file has the same destinations as before.", ("config",)
)
NEEDS_RESTART: Final = Happening(
    "needs-restart",
    "warning",
    "A table of the file has changed that is only read when a worker starts.",
    ("config", "table"),
)
