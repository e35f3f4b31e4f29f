import pytest

from stream_app.batches import Batch, Program
from stream_app.config import Destination
from stream_app.errors import ExpressionError
from stream_app.expressions import SKIP, Failure, compile_expression
from tests.unit.records import EVENTS, Sample, batch, record


def to(name: str, pipeline: str | None = None, payload: str = "$event.v") -> Destination:
    return Destination(id=name, bucket="my-bucket", pipeline=pipeline, payload=payload)


def keyed(offset: int, key: bytes | None, value: bytes = b'{"v":1}') -> Sample:
    return Sample(offset, 0, key, value)


def test_the_rest_of_a_batch_begins_at_the_offset() -> None:
    fetched = batch(record(10, 0), record(12, 0), record(15, 0), position=9, after=20)
    rest = fetched.after(12)
    assert (rest.position, rest.next_position) == (12, 20)
    assert [it.offset for it in rest.records] == [12, 15]


def test_the_rest_after_a_hole_begins_in_the_hole() -> None:
    rest = batch(record(10, 0), record(15, 0)).after(12)
    assert rest.position == 12
    assert [it.offset for it in rest.records] == [15]


@pytest.mark.parametrize("offset", [5, 9])
def test_nothing_is_cut_at_or_below_the_position(offset: int) -> None:
    fetched = batch(record(10, 0), position=9)
    assert fetched.after(offset) is fetched


def test_nothing_is_left_beyond_the_end() -> None:
    assert batch(record(10, 0)).after(99) == Batch(99, 99, ())


def test_pieces_are_of_about_the_same_size_and_contiguous() -> None:
    fetched = batch(*(record(offset, 0) for offset in (10, 12, 15, 16, 19)), position=8, after=25)
    one, two = fetched.pieces(2)
    assert (one.position, one.next_position) == (8, 16)
    assert (two.position, two.next_position) == (16, 25)
    assert [it.offset for it in one.records] == [10, 12, 15]
    assert [it.offset for it in two.records] == [16, 19]


def test_one_piece_is_the_batch() -> None:
    fetched = batch(record(10, 0), record(12, 0), position=9, after=20)
    assert fetched.pieces(1) == [fetched]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_batch_without_records_is_one_piece(count: int) -> None:
    empty = Batch(10, 20, ())
    assert empty.pieces(count) == [empty]


def test_there_are_no_more_pieces_than_records() -> None:
    fetched = batch(record(10, 0), record(12, 0), position=9, after=20)
    assert [len(it.records) for it in fetched.pieces(7)] == [1, 1]


def test_records_go_to_the_destinations_of_their_pipeline() -> None:
    program = Program([to("a", "orders"), to("b", "signups")])
    answers = program.answer(
        [keyed(1, b"orders"), keyed(2, b"signups"), keyed(3, b"orders")], EVENTS
    )
    assert {it.destination.id: list(it.offsets) for it in answers} == {"a": [1, 3], "b": [2]}


def test_a_destination_without_pipeline_matches_every_record() -> None:
    answers = Program([to("all")]).answer([keyed(1, b"x"), keyed(2, None), keyed(3, b"")], EVENTS)
    assert [list(it.offsets) for it in answers] == [[1, 2, 3]]


def test_several_destinations_may_take_one_pipeline() -> None:
    answers = Program([to("a", "orders"), to("b", "orders"), to("all")]).answer(
        [keyed(1, b"orders")], EVENTS
    )
    assert sorted(it.destination.id for it in answers) == ["a", "all", "b"]


def test_a_destination_that_matches_nothing_is_left_out() -> None:
    program = Program([to("a", "orders")])
    assert program.answer([keyed(1, b"signups"), keyed(2, None)], EVENTS) == []


def test_no_records_have_no_answers() -> None:
    assert Program([to("all"), to("a", "orders")]).answer([], EVENTS) == []


def test_a_pipeline_is_compared_as_utf_8() -> None:
    answers = Program([to("a", "größe")]).answer([keyed(1, "größe".encode())], EVENTS)
    assert [list(it.offsets) for it in answers] == [[1]]


def test_exceptions_are_the_places_without_a_payload() -> None:
    records = [
        keyed(7, b"k", b'{"v":1}'),
        keyed(8, b"k", b"{}"),
        keyed(9, b"k", b'{"v":2}'),
        keyed(10, b"k", b"no json"),
    ]
    (answers,) = Program([to("all")]).answer(records, EVENTS)
    assert list(answers.exceptions) == [1, 3]
    assert answers.outcomes[0] == b"1"
    assert answers.outcomes[1] is SKIP
    assert isinstance(answers.outcomes[3], Failure)


def test_plain_paths_need_no_engine() -> None:
    assert not Program([to("a", "orders"), to("all")]).uses_engine


@pytest.mark.parametrize("pipeline", [None, "orders"])
def test_any_other_expression_needs_the_engine(pipeline: str | None) -> None:
    assert Program([to("a"), to("b", pipeline, "$event.v + 1")]).uses_engine


def test_an_expression_that_does_not_compile_is_refused() -> None:
    with pytest.raises(ExpressionError):
        Program([to("a", payload="$event.")])


def test_destinations_with_one_text_share_its_expression() -> None:
    program = Program([to("a", "orders"), to("b", "orders"), to("c"), to("d", payload="$event.w")])
    groups = (*program._by_pipeline.values(), program._every)
    (a, b), (c, d) = ([expression for _, expression in group] for group in groups)
    assert a is b
    assert a is c
    assert (a.text, d.text) == ("$event.v", "$event.w")


def test_expressions_that_are_compiled_already_are_taken() -> None:
    given = [compile_expression("$event.v"), compile_expression("$event.w")]
    program = Program([to("a", payload="$event."), to("b", payload="$event.")], given)
    assert [expression for _, expression in program._every] == given


def test_every_destination_needs_its_expression() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Program([to("a"), to("b")], [compile_expression("$event.v")])
