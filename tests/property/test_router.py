"""A batch in pieces is the batch."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stream_app.records import Batch
from tests.unit.core.builders import record


@given(
    st.integers(0, 5),
    st.lists(st.integers(1, 4), max_size=30),
    st.integers(0, 5),
    st.integers(1, 40),
)
def test_pieces_of_a_batch_are_the_batch_in_order(
    before: int, steps: list[int], behind: int, count: int
) -> None:
    offsets = [10 + before]
    for step in steps:
        offsets.append(offsets[-1] + step)
    records = [record(offset, 0) for offset in offsets[: len(steps)]]
    fetched = Batch(10, offsets[-1] + behind, records)
    pieces = fetched.pieces(count)
    assert len(pieces) <= count
    assert (pieces[0].position, pieces[-1].next_position) == (10, fetched.next_position)
    assert all(one.next_position == other.position for one, other in pairwise(pieces))
    assert [it for piece in pieces for it in piece.records] == records
    for piece in pieces:
        assert all(piece.position <= it.offset < piece.next_position for it in piece.records)
    sizes = [len(piece.records) for piece in pieces]
    assert max(sizes) <= -(-len(records) // count), "about the same size"
    assert 0 not in sizes or sizes == [0]
