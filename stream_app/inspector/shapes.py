"""The shape of a receipt, as far as the Inspector relies on it.

Whoever may write to the receipts topic may write anything; a value of another type must not come as
far as an answer, where it would fail again and again. Pure.
"""

from typing import Annotated, Final

import msgspec

OFFSET_MAX: Final = 2**63 - 1
PARTITION_MAX: Final = 2**31 - 1

_Count = Annotated[int, msgspec.Meta(ge=0, le=OFFSET_MAX)]


class _Source(msgspec.Struct):
    topic: str
    partition: Annotated[int, msgspec.Meta(ge=0, le=PARTITION_MAX)]
    first_offset: _Count
    end_offset: _Count


class _Counts(msgspec.Struct):
    matched: _Count
    delivered: _Count
    skipped: _Count
    failed: _Count


class _Failed(msgspec.Struct):
    offset: _Count
    error: str


class _Object(msgspec.Struct):
    bucket: str
    key: str
    size: _Count | None
    etag: str | None


class _Error(msgspec.Struct):
    code: str
    message: str


class _Receipt(msgspec.Struct):
    destination: str
    pipeline: str | None
    source: _Source
    counts: _Counts
    skipped: list[tuple[_Count, _Count]]
    failed: list[_Failed]
    object: _Object | None
    error: _Error | None
    answers: list[_Count] | None = None


_DECODER: Final = msgspec.json.Decoder(_Receipt)


def require_receipt(value: bytes) -> None:
    """Raise ValueError unless this is a receipt's document; what is unknown may stand beside."""
    try:
        _DECODER.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"it is no receipt: {error}") from error
