"""Commit metadata: our mark on an offset commit, and the partition's recorded closings.

A closing is the decision where a window ends, and when: its keys have that time. A closing is
committed before anything of the window becomes visible, and stays in the metadata until the
committed offset has passed it: the boundary decides what the next window includes, even when this
one is settled already.

    offset                 first offset of the oldest window that is not settled
    "2" + base64url(...)   newest closing time, five bytes; leader epoch + 1, four
                           unsigned varints:
                             began_at * 4 + is_after_truncation * 2 + is_truncated
                             number of closings that are named by offset alone: the oldest ones
                             for each closing beyond the offset, oldest first:
                               0, if the window was passed over
                               (end - previous end) * 2 + settled    the first counts from offset
                               zigzag(closed_at - previous one)      the first counts from 0
                               zigzag(closed_at - window_start)
                           mark: CRC-32 of all this and of the offset, four bytes

The mark is there without closings, too: a commit without it, or whose offset does not belong to it,
is one of another program, and what lies before its offset may never have been delivered. Versions
before 0.2 wrote "1", no mark, and nothing at all without closings; their closings are read.

A closing usually takes six bytes, so 4,096 bytes hold some 500 windows of one partition. Pure.
"""

import base64
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from stream_app.errors import InvariantError
from stream_app.records import NO_EPOCH

METADATA_BYTES_MAX: Final = 4096
"""Kafka's default for `offset.metadata.max.bytes`."""
CLOSING_BYTES_MAX: Final = 42
"""Upper bound of one closing: three varints of ten bytes and one of one, in base64."""
HEADER_BYTES_MAX: Final = 45
"""Upper bound of the rest: the version, a time, an epoch, two varints and the mark, in base64."""

_VERSION: Final = "2"
_VERSION_WITHOUT_MARK: Final = "1"
_MARK_BYTES: Final = 4
_PASSED_OVER: Final = 0
"""No number of a closing begins so: a version that does not know it refuses the metadata."""
_TIME_BYTES: Final = 5
_FIXED_BYTES: Final = _TIME_BYTES + 4
"""Time and epoch have a fixed size: a commit must not outgrow its bound since windows are settled,
or since a leader has changed."""


class UnmarkedCommitError(InvariantError):
    """The offset was committed by another program, an operator's tool, or another version."""

    def __init__(self, offset: int, metadata: str) -> None:
        super().__init__(
            f"the commit at offset {offset} has metadata {metadata[:40]!r}, not the mark of "
            "stream-app: another client with the same group id, a tool, or another version has "
            "committed it"
        )
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Closing:
    """Decision where one window ends; times are whole seconds since 1970, UTC."""

    end: int
    """First offset after the window."""
    closed_at: int
    """The closing time, which is in the key of each of the window's objects."""
    window_start: int
    """Start of the window's minute: a replay must not guess it from late records."""
    settled: bool
    is_named_by_time: bool = True
    """Whether the closing time is part of the window's name; not where a version before 0.2 has
    recorded the closing: its objects and receipts may exist under the other name."""
    is_passed_over: bool = False
    """Whether its records are not read: a batch of them could not be decoded for too long."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Offset commit of one partition."""

    offset: int
    closings: tuple[Closing, ...]
    began_at: int = 0
    """When the group began to read this log, in seconds since 1970, or the earliest closing time of
    its windows, if a clock was behind then: a window that was closed before names offsets of
    another log. 0: unknown, since before 0.2."""
    is_truncated: bool = False
    """The log has ended before the offset: what follows there is not what the group has to read
    next, so it begins again at the log's start."""
    leader_epoch: int = NO_EPOCH
    """Newest leader epoch under which a record that was read has been written: it ends before the
    end of the commit only in a log that has lost records."""
    is_after_truncation: bool = False
    """This log has followed one that was truncated: none of its windows has an earlier closing time
    than `began_at`, or it could have the name of a window of that log."""
    is_new: bool = False
    """Nothing is committed: the group begins here. Never encoded."""
    newest_at: int = field(default=0, compare=False)
    """Newest closing time that a window of this log may have, also one that the offset has passed;
    0: none has closed."""

    def is_same(self, other: "Commit") -> bool:
        """Whether nobody has committed between two read-backs, or since a confirmed commit."""
        if self.is_new and other.is_new:
            return self.offset == other.offset  # Each read-back has its own time of the beginning.
        return self == other

    @property
    def newest_closed_at(self) -> int:
        """The newest closing time of this log; when it began, if no window has closed."""
        return max(self.began_at, self.newest_at, *(it.closed_at for it in self.closings))

    @property
    def end(self) -> int:
        """The end of the last recorded window; the offset, if there is none."""
        return self.closings[-1].end if self.closings else self.offset

    def is_beyond(self, log_end: int) -> bool:
        """Whether the log has ended before what the group has read, or recorded."""
        return self.is_truncated or self.end > log_end

    def restarted(self, start: int, now: float) -> "Commit":
        """Return the commit with which the partition begins again.

        No window of the new log may have a name of the old one, so it begins after the newest
        closing time: the clock of another worker may have been ahead.

        Args:
            start: First offset of the log.
            now: The present, in seconds since 1970.
        """
        began_at = max(int(now), self.newest_closed_at) + 1
        return Commit(start, (), began_at, is_after_truncation=True)


def encode(commit: Commit) -> str:
    """Return the metadata of a commit: ASCII, never empty."""
    packed = bytearray(commit.newest_at.to_bytes(_TIME_BYTES, "big"))
    packed += (commit.leader_epoch + 1).to_bytes(_FIXED_BYTES - _TIME_BYTES, "big")
    _append(packed, commit.began_at * 4 + commit.is_after_truncation * 2 + commit.is_truncated)
    named_by_offset = sum(not it.is_named_by_time for it in commit.closings)
    _append(packed, named_by_offset)
    end, closed_at = commit.offset, 0
    for index, closing in enumerate(commit.closings):
        if closing.end <= end:
            raise InvariantError(f"closing at offset {closing.end} does not lie beyond {end}")
        if closing.is_named_by_time != (index >= named_by_offset):
            raise InvariantError(f"closing at offset {closing.end}: an older one has its name")
        if closing.is_passed_over:
            _append(packed, _PASSED_OVER)
        _append(packed, (closing.end - end) * 2 + closing.settled)
        _append(packed, _zigzag(closing.closed_at - closed_at))
        _append(packed, _zigzag(closing.closed_at - closing.window_start))
        end, closed_at = closing.end, closing.closed_at
    packed += _mark(commit.offset, packed)
    return _VERSION + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(offset: int, metadata: str, *, accept_unmarked: bool = False) -> Commit:
    """Return a commit from its offset and metadata.

    Args:
        offset: The committed offset.
        metadata: The commit's metadata.
        accept_unmarked: Whether to begin at the offset of a commit without our mark.

    Raises:
        UnmarkedCommitError: The metadata is not this program's, or belongs to another offset. It
            must not be ignored: events before the offset may never have been delivered, or those
            beyond it may have been.
    """
    try:
        return _decode(offset, metadata)
    except (ValueError, IndexError):
        if accept_unmarked:
            return Commit(offset, ())
        raise UnmarkedCommitError(offset, metadata) from None


def _decode(offset: int, metadata: str) -> Commit:
    """Return a commit.

    Raises:
        ValueError: The metadata is not this program's, or belongs to another offset.
        IndexError: The same: a number does not end.
    """
    version, text = metadata[:1], metadata[1:]
    packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if version == _VERSION:
        content = packed[:-_MARK_BYTES]
        if packed[-_MARK_BYTES:] != _mark(offset, content):
            raise ValueError("mark")
        newest_at = int.from_bytes(content[:_TIME_BYTES], "big")
        next_epoch = int.from_bytes(content[_TIME_BYTES:_FIXED_BYTES], "big")
        head, named_by_offset, *numbers = _numbers(content[_FIXED_BYTES:])
        closings = _closings(offset, numbers, named_by_offset)
        return Commit(
            offset,
            closings,
            began_at=head // 4,
            is_after_truncation=bool(head & 2),
            is_truncated=bool(head & 1),
            leader_epoch=next_epoch - 1,
            newest_at=newest_at,
        )
    numbers = list(_numbers(packed))
    if version != _VERSION_WITHOUT_MARK or not numbers:
        raise ValueError("version")
    return Commit(offset, _closings(offset, numbers, len(numbers)))


def _closings(offset: int, numbers: Sequence[int], named_by_offset: int) -> tuple[Closing, ...]:
    """Return closings from their numbers, three for each, and four if it was passed over.

    Raises:
        ValueError: They are not closings.
        IndexError: The same: numbers are missing.
    """
    closings: list[Closing] = []
    end, closed_at = offset, 0
    left = deque(numbers)
    while left:
        is_passed_over = left[0] == _PASSED_OVER
        if is_passed_over:
            left.popleft()
        step, later, lag = (left.popleft() for _ in range(3))
        if step < 2:  # noqa: PLR2004 - a closing lies at least one offset (times two) further on
            raise ValueError(step)
        end += step // 2
        closed_at += _unzigzag(later)
        closings.append(
            Closing(
                end,
                closed_at,
                closed_at - _unzigzag(lag),
                bool(step % 2),
                is_named_by_time=len(closings) >= named_by_offset,
                is_passed_over=is_passed_over,
            )
        )
    return tuple(closings)


def _mark(offset: int, packed: bytes | bytearray) -> bytes:
    return crc32(packed, crc32(str(offset).encode())).to_bytes(_MARK_BYTES, "big")


def _append(packed: bytearray, number: int) -> None:
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)


def _numbers(packed: bytes) -> Iterator[int]:
    index = 0
    while index < len(packed):
        number = shift = 0
        while packed[index] & 0x80:
            number |= (packed[index] & 0x7F) << shift
            index, shift = index + 1, shift + 7
        yield number | packed[index] << shift
        index += 1


def _zigzag(number: int) -> int:
    return number * 2 if number >= 0 else -number * 2 - 1


def _unzigzag(number: int) -> int:
    return -(number + 1) // 2 if number % 2 else number // 2
