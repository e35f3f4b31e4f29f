"""Delivery: one window at one destination, and the order of its states.

OPEN ─CLOSE→ DECIDED ─RECORD→ RECORDED ─UPLOAD→ STORED ─PUBLISH→ SETTLED

Each transition happens once; any other raises and changes nothing. `docs/architecture.md` shows the
table. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from stream_app.config.settings import Destination
from stream_app.core.commit_metadata import METADATA_BYTES_MAX
from stream_app.core.memory_account import MemoryAccount
from stream_app.core.object_body import SIZES, ObjectBody, Sizes
from stream_app.core.object_format import FORMATS
from stream_app.core.receipt import (
    RECEIPT_BYTES_MAX,
    Problem,
    Receipt,
    ReceiptScope,
    Status,
    Stored,
    Tally,
)
from stream_app.errors import FencedError, InvariantError

DELIVERY_BYTES: Final = 1024
"""Memory of one delivery in a window, beside lines and lists."""
WAITING_BYTES: Final = 5 * 1024
"""Memory of one delivery of a closed window, more: its task, which waits for S3."""


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """Window and receipt limits, taken from the settings."""

    group: str
    window_seconds: int
    grace_seconds: float
    undecodable_seconds: float = 600.0
    """Time for which a batch that cannot be decoded is tried again, before it is passed over."""
    receipt_bytes_max: int = RECEIPT_BYTES_MAX
    metadata_bytes_max: int = METADATA_BYTES_MAX
    waiting_bytes: int = WAITING_BYTES
    sizes: Sizes = SIZES


class State(Enum):
    """State of a delivery."""

    OPEN = auto()
    """Lines are collected; parts may be uploaded, of which nothing is visible."""
    DECIDED = auto()
    """The window is closed; its closing is not committed, so nothing may become visible."""
    RECORDED = auto()
    """The closing is committed: the object may be stored."""
    STORED = auto()
    """The object is stored, or was given up, or is not needed: the receipt is due."""
    SETTLED = auto()
    """The broker has the receipt."""


class Move(Enum):
    """Transition of a delivery."""

    CLOSE = auto()
    RECORD = auto()
    UPLOAD = auto()
    PUBLISH = auto()


NEXT: Final = {
    (State.OPEN, Move.CLOSE): State.DECIDED,
    (State.DECIDED, Move.RECORD): State.RECORDED,
    (State.RECORDED, Move.UPLOAD): State.STORED,
    (State.STORED, Move.PUBLISH): State.SETTLED,
}
"""All legal transitions."""


class MultipartUpload(NamedTuple):
    """A multipart upload that S3 has created."""

    destination: Destination
    key: str
    id: str


class Delivery:
    """One window at one destination.

    Args:
        destination: The destination.
        sizes: Of slices and parts of the body.
        account: Where the memory of the delivery is counted; left out: an account of its own.
    """

    __slots__ = (
        "_account",
        "_counted",
        "_counted_tally",
        "body",
        "destination",
        "is_dropped",
        "key",
        "problem",
        "receipt",
        "size_uncompressed",
        "state",
        "tally",
    )

    def __init__(
        self, destination: Destination, sizes: Sizes = SIZES, account: MemoryAccount | None = None
    ) -> None:
        self.destination = destination
        self._account = MemoryAccount() if account is None else account
        self.body: ObjectBody | None = ObjectBody(sizes, self._account, FORMATS[destination.format])
        """None once the bytes are not needed any more."""
        self.tally = Tally()
        self.size_uncompressed = 0
        """Bytes of all lines, once the window has closed."""
        self.key = ""
        """The object's key; empty until a part is uploaded, or the window closes."""
        self.state = State.OPEN
        self.receipt: Receipt | None = None
        self.problem: Problem | None = None
        """Reason why nothing is delivered, of a window that is passed over."""
        self.is_dropped = False
        """Given up to free memory: the destination is broken and holds more than its share."""
        self._counted = self._counted_tally = 0
        """Bytes that the account includes, beside those of the body."""
        self._count(DELIVERY_BYTES)

    def move(self, move: Move) -> None:
        """Make a transition.

        Raises:
            InvariantError: `NEXT` does not allow it; nothing was changed.
        """
        following = NEXT.get((self.state, move))
        if following is None:
            raise InvariantError(f"object {self.key}: {move.name} in state {self.state.name}")
        self.state = following

    def close(self, waiting_bytes: int = 0) -> None:
        """End the collection of lines.

        Args:
            waiting_bytes: Memory that the delivery takes from now on, beside lines and lists.
        """
        self.move(Move.CLOSE)
        self._count(waiting_bytes)
        body = self.content
        body.is_closed = True
        self.size_uncompressed = body.size
        if not body.lines:
            self.release_body()

    @property
    def content(self) -> ObjectBody:
        """The body.

        Raises:
            InvariantError: It was released.
        """
        if self.body is None:
            raise InvariantError(f"object {self.key}: its bytes are requested after their release")
        return self.body

    @property
    def leaving(self) -> ObjectBody:
        """The body, for a part upload.

        Raises:
            FencedError: The delivery was given up meanwhile, and the body released.
        """
        if self.body is None:
            raise FencedError(f"object {self.key}: its bytes are gone; no part is sent any more")
        return self.body

    def receipt_in(
        self,
        scope: ReceiptScope,
        status: Status,
        key: str,
        *,
        attempts: int,
        stored: Stored | None = None,
        problem: Problem | None = None,
        answers: tuple[int, ...] | None = None,
    ) -> Receipt:
        """Return a receipt of this delivery.

        Args:
            scope: The group, and the window that was delivered.
            status: What the receipt records.
            key: The object's.
            attempts: Requests that it took.
            stored: The object, if one was written.
            problem: Why the window is late or given up.
            answers: The failed events that were delivered alone; None: every event of the window.
        """
        return Receipt(
            status=status,
            group=scope.group,
            destination=self.destination.id,
            pipeline=self.destination.pipeline,
            window_start=scope.window_start,
            window_end=scope.window_end,
            source=scope.source,
            tally=self.tally,
            bucket=self.destination.bucket,
            key=key,
            size_uncompressed=self.size_uncompressed,
            closed_at=scope.closed_at,
            attempts=attempts,
            stored=stored,
            problem=problem,
            answers=answers,
        )

    @property
    def held(self) -> int:
        """Bytes of memory."""
        return DELIVERY_BYTES + self.tally.held + (self.body.held if self.body else 0)

    def count_tally(self) -> None:
        """Report to the account by how much the tally has grown."""
        held = self.tally.held
        self._count(held - self._counted_tally)
        self._counted_tally = held

    def release_body(self) -> None:
        """Free the bytes of the object: nobody needs them any more."""
        if self.body is not None:
            self.body.release()
            self.body = None

    def release(self) -> None:
        """Leave the account: the delivery is settled."""
        self.release_body()
        self._count(-self._counted)

    def _count(self, held: int) -> None:
        self._counted += held
        self._account.add(held)


def open_uploads(deliveries: Iterable[Delivery]) -> list[MultipartUpload]:
    """Return the multipart uploads of deliveries that were created and are not completed."""
    return [
        MultipartUpload(it.destination, it.key, it.body.upload_id)
        for it in deliveries
        if it.body is not None and it.body.upload_id is not None
    ]
