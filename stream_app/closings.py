"""The recorded closings of a partition, as the metadata string of its offset commit.

A closing is the decision where a window ends and under which upload time its objects stand. It
is made durable before anything of the window becomes visible, and it stays in the metadata until
the committed offset has passed it: the boundary decides what the next window holds, also when
this one is settled already.

    offset                 first offset of the oldest window that is not settled
    "1" + base64url(...)   for each closing beyond it, oldest first, three unsigned varints:
                             (end - previous end) * 2 + settled      the first counts from offset
                             zigzag(uploaded_at - previous one)      the first counts from 0
                             zigzag(uploaded_at - window_start)
    ""                     no closing

Six bytes a closing are usual, so that 4,096 hold some 500 windows of one partition.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stream_app.errors import InvariantError

METADATA_BYTES_MAX: Final = 4096
"""Kafka's default for `offset.metadata.max.bytes`."""
CLOSING_BYTES_MAX: Final = 40
"""More than one closing can take: three varints of ten bytes, in base64."""

_VERSION: Final = "1"


@dataclass(frozen=True, slots=True)
class Closing:
    """Where one window ends; times are whole seconds since 1970, UTC."""

    end: int
    """First offset that is not in the window."""
    uploaded_at: int
    """The upload time, which is in the key of each of the window's objects."""
    window_start: int
    """Start of the window's minute: a replay must not guess it from late records."""
    settled: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """What the offset commit of one partition says."""

    offset: int
    closings: tuple[Closing, ...]


def encode(commit: Commit) -> str:
    """Return the metadata of a commit: ASCII, empty without closings."""
    if not commit.closings:
        return ""
    packed = bytearray()
    end, uploaded_at = commit.offset, 0
    for closing in commit.closings:
        if closing.end <= end:
            raise InvariantError(f"closing at offset {closing.end} does not lie beyond {end}")
        _append(packed, (closing.end - end) * 2 + closing.settled)
        _append(packed, _zigzag(closing.uploaded_at - uploaded_at))
        _append(packed, _zigzag(closing.uploaded_at - closing.window_start))
        end, uploaded_at = closing.end, closing.uploaded_at
    return _VERSION + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(offset: int, metadata: str) -> Commit:
    """Read a commit back.

    Raises:
        InvariantError: The metadata is not this program's, or of a later version of it. It must
            not be passed over: what it records has perhaps been delivered.
    """
    if not metadata:
        return Commit(offset, ())
    foreign = InvariantError(
        f"the commit at offset {offset} carries metadata that this version does not know "
        f"({metadata[:40]!r}); another program or a newer version wrote it: use that one, or a "
        "[kafka] group of its own"
    )
    if not metadata.startswith(_VERSION) or not metadata.isascii():
        raise foreign
    text = metadata[len(_VERSION) :]
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        numbers = list(_numbers(packed))
    except (binascii.Error, IndexError):
        raise foreign from None
    if not numbers or len(numbers) % 3:
        raise foreign
    closings = []
    end, uploaded_at = offset, 0
    for step, later, lag in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        if step < 2:  # noqa: PLR2004 - a closing lies at least one offset (times two) further on
            raise foreign
        end += step // 2
        uploaded_at += _unzigzag(later)
        closings.append(Closing(end, uploaded_at, uploaded_at - _unzigzag(lag), bool(step % 2)))
    return Commit(offset, tuple(closings))


def _append(packed: bytearray, number: int) -> None:
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)


def _numbers(packed: bytes) -> Iterator[int]:
    place = 0
    while place < len(packed):
        number = shift = 0
        while packed[place] & 0x80:
            number |= (packed[place] & 0x7F) << shift
            place, shift = place + 1, shift + 7
        yield number | packed[place] << shift
        place += 1


def _zigzag(number: int) -> int:
    return number * 2 if number >= 0 else -number * 2 - 1


def _unzigzag(number: int) -> int:
    return -(number + 1) // 2 if number % 2 else number // 2
