"""Declaration of a log event: its name, level, text and fields. Pure."""

from dataclasses import dataclass
from typing import Final, Literal

LINES_PER_MINUTE_MAX: Final = 1_000
"""Of one event that comes once for each partition in a rebalance."""
DELIVERY_LINES_PER_MINUTE_MAX: Final = 100
"""Of one event that comes for each window and destination: 10,000 destinations have as many."""

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Log event: one kind of message.

    Args:
        name: The field `event` in JSON.
        level: The severity.
        meaning: The description in the documents.
        text: The message for people, with `%(name)s` for values; a value of None is shown as
            "none".
        fields: The fields in JSON, beside those of every message; one of None is omitted.
        text_only: Values that only the text has, since the fields contain them in another form.
        lines_max: Messages in a minute, unless the level of the log is `debug`.
    """

    name: str
    level: Level
    meaning: str
    text: str
    fields: tuple[str, ...] = ()
    text_only: tuple[str, ...] = ()
    lines_max: int = LINES_PER_MINUTE_MAX


PARTITION: Final = ("topic", "partition")
OFFSETS: Final = ("first_offset", "end_offset")
WINDOW: Final = ("window", *PARTITION, *OFFSETS)
DELIVERY: Final = ("destination", *WINDOW)
ERROR: Final = ("code", "error")
BUCKET: Final = ("destination", "bucket")
MEMORY: Final = ("held_mib", "bound_mib")
PROGRESS: Final = (
    *("seconds", "events", "unmatched", "delivered", "skipped", "failed", "given_up"),
    *("objects", "bytes", "receipts", "failed_attempts"),
)
STATE: Final = ("open_windows", "waiting", *MEMORY, "unread", "hidden", "lag", "unanswered")
