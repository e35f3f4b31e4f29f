"""Mistakes that a shell could make; the oracle must see each of them."""

import enum


class Sabotage(enum.Enum):
    """One mistake, made by every worker of a world."""

    NO_CHECKSUM = enum.auto()
    NO_IF_NONE_MATCH = enum.auto()
    NO_READ_BACK = enum.auto()
    PUBLISH_FIRST = enum.auto()
    NO_OWNERSHIP_CHECK = enum.auto()
    NO_DOUBT = enum.auto()
    """Go on in the same generation after a commit without an answer."""
    COMPLETE_EARLY = enum.auto()
    """Complete an object in parts when its window has closed, not when that is recorded."""
    STREAM_NEW_KEY = enum.auto()
    """Take the present for the closing time when parts leave a recorded window that is rebuilt."""
    FORGET_PARTS = enum.auto()
    """Where an upload is gone, begin another one and send it what is in memory still."""
    ABANDON_NOTHING = enum.auto()
    """Leave the uploads of partitions that were dropped as they are."""
    NOTE_LATE = enum.auto()
    """Note what was compressed when the next batch comes, however long that takes."""
    NO_WAKE = enum.auto()
    """Let who waits for memory look again only when something was settled, not every second."""
    RESET_TO_EARLIEST = enum.auto()
    """Go on at the log's start, without a word, where the broker has no record at a position."""
    RESTART_AT_ONCE = enum.auto()
    """Begin a truncated log again without what was read being settled."""
    NO_END_CHECK = enum.auto()
    """Rely on the broker's errors where a log ends before what was read."""
    NO_WATCHDOG = enum.auto()
    """Leave a partition that stands still to its next record."""
