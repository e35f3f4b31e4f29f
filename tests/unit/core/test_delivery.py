import itertools

import pytest

from stream_app.core.closed_windows import ClosedWindow
from stream_app.core.commit_metadata import Closing
from stream_app.core.delivery import DELIVERY_BYTES, NEXT, Delivery, Move, State
from stream_app.core.object_body import ObjectBody
from stream_app.errors import FencedError, InvariantError
from tests.unit.core.builders import ORDERS


def delivery(state: State = State.DECIDED, body: ObjectBody | None = None) -> Delivery:
    it = Delivery(ORDERS)
    it.body, it.key, it.state = body, "test/x.gz", state
    return it


def test_a_delivery_goes_its_way_in_four_moves() -> None:
    it = Delivery(ORDERS)
    assert it.state is State.OPEN
    seen = []
    for move in (Move.CLOSE, Move.RECORD, Move.UPLOAD, Move.PUBLISH):
        it.move(move)
        seen.append(it.state)
    assert seen == [State.DECIDED, State.RECORDED, State.STORED, State.SETTLED]


def test_a_delivery_that_closes_knows_the_size_of_its_lines() -> None:
    it = Delivery(ORDERS)
    it.content.add([b"12", b"3"])
    it.close()
    assert (it.state, it.size_uncompressed) == (State.DECIDED, 5)
    assert it.content.is_closed


def test_a_delivery_that_closes_without_a_line_needs_no_bytes() -> None:
    it, body = Delivery(ORDERS), ObjectBody()
    it.body = body
    it.close()
    assert it.body is None
    assert (it.size_uncompressed, body.is_closed) == (0, True)


def test_bytes_that_are_gone_cannot_be_asked_for() -> None:
    with pytest.raises(
        InvariantError, match=r"test/x\.gz: its bytes are requested after their release"
    ):
        _ = delivery().content


def test_upload_of_a_part_of_a_dropped_delivery_stops() -> None:
    with pytest.raises(FencedError, match=r"test/x\.gz: its bytes are gone"):
        _ = delivery().leaving
    body = ObjectBody()
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
    body = ObjectBody()
    body.add([b"x" * 1000])
    assert delivery(body=body).held == DELIVERY_BYTES + body.held


@pytest.mark.parametrize(("open_count", "settled"), [(1, False), (0, True)])
def test_a_window_is_settled_when_no_delivery_is_open(open_count: int, *, settled: bool) -> None:
    open_ones = {str(number): delivery() for number in range(open_count)}
    window = ClosedWindow(40, 45, 70, 0, open_ones)
    assert window.settled is settled
    assert window.closing == Closing(45, 70, 0, settled)
