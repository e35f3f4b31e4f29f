import itertools

import pytest

from stream_app.closings import Closing
from stream_app.deliveries import DELIVERY_BYTES, NEXT, ClosedWindow, Delivery, Move, State
from stream_app.errors import InvariantError
from stream_app.objects import Body
from stream_app.receipts import Tally
from tests.unit.records import ORDERS


def delivery(state: State = State.DECIDED, body: Body | None = None) -> Delivery:
    return Delivery(ORDERS, Tally(), body, 0, "test/x.gz", state)


def test_a_delivery_goes_its_way_in_three_moves() -> None:
    it = delivery()
    seen = []
    for move in (Move.RECORD, Move.UPLOAD, Move.PUBLISH):
        it.move(move)
        seen.append(it.state)
    assert seen == [State.RECORDED, State.STORED, State.SETTLED]


@pytest.mark.parametrize(
    ("state", "move"), [pair for pair in itertools.product(State, Move) if pair not in NEXT]
)
def test_an_illegal_move_raises_and_changes_nothing(state: State, move: Move) -> None:
    it = delivery(state)
    with pytest.raises(InvariantError, match=f"test/x.gz: {move.name} in state {state.name}"):
        it.move(move)
    assert it.state is state


def test_a_delivery_without_body_takes_its_frame_and_lists() -> None:
    it = delivery()
    it.tally.fail(1, "events/3@1", "no")
    assert it.held == DELIVERY_BYTES + it.tally.held


def test_a_delivery_with_body_takes_that_as_well() -> None:
    body = Body()
    body.add([b"x" * 1000])
    assert delivery(body=body).held == DELIVERY_BYTES + body.held


@pytest.mark.parametrize(("open_count", "settled"), [(1, False), (0, True)])
def test_a_window_is_settled_when_no_delivery_is_open(open_count: int, *, settled: bool) -> None:
    open_ones = {str(number): delivery() for number in range(open_count)}
    window = ClosedWindow(40, 45, 70, 0, open_ones)
    assert window.settled is settled
    assert window.closing == Closing(45, 70, 0, settled)
