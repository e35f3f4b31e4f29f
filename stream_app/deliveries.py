"""A closed window at its destinations: what may happen to it, in which order.

DECIDED ─RECORD→ RECORDED ─UPLOAD→ STORED ─PUBLISH→ SETTLED

A delivery goes this way once; any other move raises and changes nothing. `docs/architecture.md`
shows the table.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from stream_app.closings import Closing
from stream_app.errors import InvariantError
from stream_app.objects import Body
from stream_app.receipts import Receipt, Tally
from stream_app.settings import Destination

DELIVERY_BYTES: Final = 1024
"""What a window takes for each destination beside its lines and lists: the objects around them."""


class State(Enum):
    """Where one window stands at one destination."""

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

    RECORD = auto()
    UPLOAD = auto()
    PUBLISH = auto()


NEXT: Final = {
    (State.DECIDED, Move.RECORD): State.RECORDED,
    (State.RECORDED, Move.UPLOAD): State.STORED,
    (State.STORED, Move.PUBLISH): State.SETTLED,
}
"""All legal moves."""


@dataclass(slots=True)
class Delivery:
    """One closed window at one destination."""

    destination: Destination
    tally: Tally
    body: Body | None
    """None as soon as nobody needs the bytes any more."""
    size_uncompressed: int
    key: str
    state: State = State.DECIDED
    receipt: Receipt | None = None
    is_shed: bool = False
    """It stands in the way of others: it is given up, its destination being broken."""

    def move(self, move: Move) -> None:
        """Go where the table says; any other move is a broken invariant."""
        following = NEXT.get((self.state, move))
        if following is None:
            raise InvariantError(f"object {self.key}: {move.name} in state {self.state.name}")
        self.state = following

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

    @property
    def closing(self) -> Closing:
        """The window as the commit records it."""
        return Closing(self.end, self.uploaded_at, self.window_start, self.settled)
