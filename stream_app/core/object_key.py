"""Object key and identifier: written for a window, read back from a receipt.

    [PREFIX]/YYYY/MM/DD/HH/YYYY-MM-DD-HH-MM-SS-IDENTIFIER.gz      or .zst

The key is a pure function of topic, partition, the window's first offset, destination and the
recorded closing time, so that a worker that rebuilds a window writes to the same key. The closing
time is in the identifier as well: offsets begin anew when a topic is deleted and created again, or
when a broker loses its log, and another window must not have the same name. Not the bytes: these
differ between builds of the compressor, and a multipart upload needs its key before its content is
complete. Pure.
"""

import hashlib
import re
from datetime import UTC, datetime
from typing import Final

from stream_app.core.object_format import FORMATS, GZIP, ObjectFormat

_KEY_END: Final = re.compile(
    r"[0-9]{4}(?:/[0-9]{2}){3}/([0-9]{4}(?:-[0-9]{2}){5})-[0-9a-f]{64}(?:"
    + "|".join(re.escape(it.suffix) for it in FORMATS.values())
    + r")\Z"
)


def identifier(
    topic: str, partition: int, first_offset: int, closed_at: int | None, destination: str
) -> str:
    """Return the 64 hex digits that identify a window's object at one destination.

    Args:
        topic: The events topic.
        partition: Number of the partition.
        first_offset: Of the window.
        closed_at: The window's closing time, in seconds since 1970; None: its closing was recorded
            by a version before 0.2, in which it was not part of the name.
        destination: Id of the destination.
    """
    name = [topic, str(partition), str(first_offset), destination]
    if closed_at is not None:
        name.append(str(closed_at))
    return hashlib.sha256("\0".join(name).encode()).hexdigest()


def folder_of(prefix: str) -> str:
    """Return the beginning of all keys of a destination: its prefix, ended by one slash."""
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"


def object_key(prefix: str, closed_at: int, identifier: str, format_: ObjectFormat = GZIP) -> str:
    """Return the key of an object.

    Args:
        prefix: As configured; one that ends in a slash is not given a second one.
        closed_at: The window's closing time, in seconds since 1970.
        identifier: See `identifier`.
        format_: The object's.
    """
    time = datetime.fromtimestamp(closed_at, UTC)
    name = f"{time:%Y/%m/%d/%H/%Y-%m-%d-%H-%M-%S}-{identifier}{format_.suffix}"
    return folder_of(prefix) + name


def key_time(key: str) -> int:
    """Return the closing time in an object's key, in seconds since 1970.

    Raises:
        ValueError: The key has another form.
    """
    match = _KEY_END.search(key)
    if match is None:
        raise ValueError(f"{key} is not a key of stream-app")
    return int(datetime.strptime(match[1], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC).timestamp())
