import itertools

import pytest

from stream_app.closings import Closing
from stream_app.deliveries import DELIVERY_BYTES, NEXT, ClosedWindow, Delivery, Move, State
from stream_app.errors import FencedError, InvariantError
from stream_app.objects import Body
from stream_app.receipts import Tally
from tests.unit.records import ORDERS


def delivery(state: State = State.DECIDED, body: Body | None = None) -> Delivery:
    return Delivery(ORDERS, body, Tally(), 0, "test/x.gz", state)


def test_a_delivery_goes_its_way_in_four_moves() -> None:
    it = Delivery(ORDERS, Body())
    assert it.state is State.OPEN
    seen = []
    for move in (Move.CLOSE, Move.RECORD, Move.UPLOAD, Move.PUBLISH):
        it.move(move)
        seen.append(it.state)
    assert seen == [State.DECIDED, State.RECORDED, State.STORED, State.SETTLED]


def test_a_delivery_that_closes_knows_the_size_of_its_lines() -> None:
    it = Delivery(ORDERS, Body())
    it.content.add([b"12", b"3"])
    it.close()
    assert (it.state, it.size_uncompressed) == (State.DECIDED, 5)
    assert it.content.is_closed


def test_a_delivery_that_closes_without_a_line_needs_no_bytes() -> None:
    it, body = Delivery(ORDERS, Body()), Body()
    it.body = body
    it.close()
    assert it.body is None
    assert (it.size_uncompressed, body.is_closed) == (0, True)


def test_bytes_that_are_gone_cannot_be_asked_for() -> None:
    with pytest.raises(InvariantError, match=r"test/x\.gz: its bytes are asked for, and gone"):
        _ = delivery().content


def test_whoever_sends_a_part_of_what_was_given_up_stops() -> None:
    with pytest.raises(FencedError, match=r"test/x\.gz: its bytes are gone"):
        _ = delivery().leaving
    body = Body()
    assert delivery(body=body).leaving is body


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
