"""A receipt read back from its message: what `redeliver` needs to know of it.

The receipts topic may hold more than our receipts: those of other groups, of later versions, and
whatever else somebody has written there. So a message is read as a stranger's, and a key counts
only when it is the one that its window has.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from stream_app.objects import identifier, object_key
from stream_app.receipts import FINAL, Source, Status

_KEY_END: Final = re.compile(
    r"[0-9]{4}(?:/[0-9]{2}){3}/([0-9]{4}(?:-[0-9]{2}){5})-[0-9a-f]{64}\.gz\Z"
)
_TYPE: Final = re.compile(r"stream-app\.delivery\.([a-z]+)\.v1")


class Place(NamedTuple):
    """Where an object is to be."""

    bucket: str
    key: str


class Announced(NamedTuple):
    """An object that a run has said it would write."""

    place: Place
    checksum: str


@dataclass(frozen=True, slots=True)
class Told:
    """A receipt, as far as redelivery needs it."""

    id: str
    status: Status
    source: Source
    destination: str
    pipeline: str | None
    window_start: int
    window_end: int
    matched: int
    lines: int
    size_uncompressed: int
    place: Place | None
    checksum: str | None
    retryable: bool
    failed: tuple[int, ...]
    answers: tuple[int, ...] | None

    @property
    def window(self) -> tuple[Source, str]:
        """The window and the destination that it speaks of."""
        return self.source, self.destination

    @property
    def announced(self) -> Announced | None:
        """The object that is announced by it (`retrying`) or withdrawn (`failed`)."""
        if self.status in FINAL or self.place is None or self.checksum is None:
            return None
        return Announced(self.place, self.checksum)


def read(
    headers: Sequence[tuple[str, bytes | None]],
    value: bytes | None,
    group: str,
    of: frozenset[Status],
    *,
    with_failed: bool,
) -> Told | None:
    """Return a receipt of this group and of one of these statuses, None for another one.

    Args:
        headers: The message's.
        value: The message's.
        group: The consumer group whose workers published it.
        of: Statuses; no other receipt is decoded.
        with_failed: Whether the failed events are wanted: they take memory.

    Raises:
        ValueError: The message is no receipt.
    """
    attributes = {name: (text or b"").decode(errors="replace") for name, text in headers}
    match = _TYPE.fullmatch(attributes.get("ce_type", ""))
    if match is None or value is None:
        raise ValueError("it has not the headers of a receipt")
    if match[1] not in of or not attributes.get("ce_source", "").startswith(f"/{group}/"):
        return None
    try:
        return _told(attributes["ce_id"], orjson.loads(value), with_failed=with_failed)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no receipt: {error!r}") from error


def uploaded_at(key: str) -> int:
    """Return the upload time in an object's key; raise ValueError if it has none."""
    match = _KEY_END.search(key)
    if match is None:
        raise ValueError(f"{key} is no key of ours")
    return _seconds(datetime.strptime(match[1], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC))


def _told(id: str, document: Mapping[str, Any], *, with_failed: bool) -> Told:  # noqa: A002
    described, counts, error = document["object"] or {}, document["counts"], document["error"]
    source = Source(**{name: document["source"][name] for name in Source.__slots__})
    numbers = (source.partition, source.first_offset, source.end_offset, counts["matched"])
    if not all(isinstance(number, int) for number in numbers):
        raise TypeError(f"{numbers} are no numbers")
    place = Place(described["bucket"], described["key"]) if described else None
    answers = document.get("answers")
    if place is not None and answers is None:
        name = (source.topic, source.partition, source.first_offset, document["destination"])
        if not place.key.endswith(object_key("", uploaded_at(place.key), identifier(*name))):
            raise ValueError(f"{place.key} is not the key of its window")
    failed = [entry["offset"] for entry in document["failed"]] if with_failed else ()
    window = document["window"]
    return Told(
        id=id,
        status=Status(document["status"]),
        source=source,
        destination=document["destination"],
        pipeline=document["pipeline"],
        window_start=_seconds(datetime.fromisoformat(window["start"])),
        window_end=_seconds(datetime.fromisoformat(window["end"])),
        matched=counts["matched"],
        lines=counts["delivered"],
        size_uncompressed=described.get("uncompressed_size", 0),
        place=place,
        checksum=(described.get("checksum") or {}).get("value"),
        retryable=error is not None and error["retryable"],
        failed=tuple(failed),
        answers=None if answers is None else tuple(answers),
    )


def _seconds(time: datetime) -> int:
    return int(time.timestamp())
