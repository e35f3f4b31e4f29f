"""A window at its destinations: what may happen to it, in which order.

OPEN ─CLOSE→ DECIDED ─RECORD→ RECORDED ─UPLOAD→ STORED ─PUBLISH→ SETTLED

A delivery goes this way once; any other move raises and changes nothing. `docs/architecture.md`
shows the table.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, NamedTuple

from stream_app.closings import METADATA_BYTES_MAX, Closing
from stream_app.errors import FencedError, InvariantError
from stream_app.expressions import TP
from stream_app.objects import SIZES, Body, Sizes
from stream_app.receipts import (
    RECEIPT_BYTES_MAX,
    Problem,
    Receipt,
    Source,
    Status,
    Stored,
    Tally,
)
from stream_app.settings import Destination

DELIVERY_BYTES: Final = 1024
"""What a window takes for each destination beside its lines and lists: the objects around them."""
WAITING_BYTES: Final = 5 * 1024
"""What it takes more once it is closed: whoever delivers it, and waits to be served."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the settings decides about windows and receipts."""

    group: str
    window_seconds: int
    grace_seconds: float
    receipt_bytes_max: int = RECEIPT_BYTES_MAX
    metadata_bytes_max: int = METADATA_BYTES_MAX
    waiting_bytes: int = WAITING_BYTES
    sizes: Sizes = SIZES


class State(Enum):
    """Where one window stands at one destination."""

    OPEN = auto()
    """It collects; parts of it may leave, of which nothing is visible."""
    DECIDED = auto()
    """Closed; the closing is not yet committed, so nothing may become visible."""
    RECORDED = auto()
    """The closing is committed: the object may be written."""
    STORED = auto()
    """The object is there, or was given up, or is not needed: the receipt is due."""
    SETTLED = auto()
    """The broker has the receipt."""


class Move(Enum):
    """What can happen to a delivery."""

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
"""All legal moves."""


class Upload(NamedTuple):
    """An upload in parts that was begun."""

    destination: Destination
    key: str
    id: str


@dataclass(slots=True, eq=False)
class Delivery:
    """One window at one destination."""

    destination: Destination
    body: Body | None
    """None as soon as nobody needs the bytes any more."""
    tally: Tally = field(default_factory=Tally)
    size_uncompressed: int = 0
    """Of all lines, once the window has closed."""
    key: str = ""
    """The object's; empty until something of it leaves, or the window closes."""
    state: State = State.OPEN
    receipt: Receipt | None = None
    is_shed: bool = False
    """It stands in the way of others: it is given up, its destination being broken."""

    def move(self, move: Move) -> None:
        """Go where the table says; any other move is a broken invariant."""
        following = NEXT.get((self.state, move))
        if following is None:
            raise InvariantError(f"object {self.key}: {move.name} in state {self.state.name}")
        self.state = following

    def close(self) -> None:
        """No line comes any more."""
        self.move(Move.CLOSE)
        body = self.content
        body.is_closed = True
        self.size_uncompressed = body.size
        if not body.lines:
            self.body = None

    @property
    def content(self) -> Body:
        """The body, by whoever knows that it is needed still."""
        if self.body is None:
            raise InvariantError(f"object {self.key}: its bytes are asked for, and gone")
        return self.body

    @property
    def leaving(self) -> Body:
        """The body, by whoever sends a part: the delivery may have been given up meanwhile.

        Raises:
            FencedError: It was, and its bytes are gone.
        """
        if self.body is None:
            raise FencedError(f"object {self.key}: its bytes are gone; no part is sent any more")
        return self.body

    @property
    def held(self) -> int:
        """Bytes of memory."""
        return DELIVERY_BYTES + self.tally.held + (self.body.held if self.body else 0)


@dataclass(slots=True)
class ClosedWindow:
    """A window whose end is decided."""

    first: int
    end: int
    uploaded_at: int
    window_start: int
    deliveries: dict[str, Delivery]
    """Those that are not settled, by destination."""
    recorded: bool = False
    """The broker has the closing."""

    @property
    def settled(self) -> bool:
        """Whether every destination has its answer."""
        return not self.deliveries

    @property
    def waiting(self) -> list[Delivery]:
        """The recorded deliveries whose object is not there."""
        return [it for it in self.deliveries.values() if it.state is State.RECORDED]

    def receipt(
        self,
        delivery: Delivery,
        tp: TP,
        rules: Rules,
        status: Status,
        *,
        attempts: int,
        stored: Stored | None = None,
        problem: Problem | None = None,
    ) -> Receipt:
        """Return what there is to say of it at one destination."""
        return Receipt(
            status=status,
            group=rules.group,
            destination=delivery.destination.id,
            pipeline=delivery.destination.pipeline,
            window_start=self.window_start,
            window_end=self.window_start + rules.window_seconds,
            source=Source(*tp, self.first, self.end),
            tally=delivery.tally,
            bucket=delivery.destination.bucket,
            key=delivery.key,
            size_uncompressed=delivery.size_uncompressed,
            uploaded_at=self.uploaded_at,
            attempts=attempts,
            stored=stored,
            problem=problem,
        )

    @property
    def closing(self) -> Closing:
        """The window as the commit records it."""
        return Closing(self.end, self.uploaded_at, self.window_start, self.settled)
