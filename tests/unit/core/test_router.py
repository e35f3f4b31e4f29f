import pytest

from stream_app.config.parser import parse
from stream_app.config.settings import Destination, Settings
from stream_app.core.router import (
    Router,
    compile_payload,
    compile_payloads,
    compile_router,
    unmatched,
)
from stream_app.errors import ConfigurationError, ExpressionError
from stream_app.expressions.expression import SKIP, Failure, compile_expression
from stream_app.records import Batch
from tests.unit.core.builders import EVENTS, Sample, batch, record


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


def test_the_part_before_an_offset_ends_there() -> None:
    fetched = batch(record(10, 0), record(12, 0), record(15, 0), position=9, after=20)
    part = fetched.before(12)
    assert (part.position, part.next_position) == (9, 12)
    assert [it.offset for it in part.records] == [10]


@pytest.mark.parametrize("offset", [11, 99])
def test_everything_lies_before_the_next_position(offset: int) -> None:
    fetched = batch(record(10, 0))
    assert fetched.before(offset) is fetched


def test_nothing_lies_before_the_position() -> None:
    assert batch(record(10, 0)).before(7) == Batch(7, 7, ())


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
    router = Router([to("a", "orders"), to("b", "signups")])
    found = router.evaluate(
        [keyed(1, b"orders"), keyed(2, b"signups"), keyed(3, b"orders")], EVENTS
    )
    assert {it.destination.id: list(it.offsets) for it in found} == {"a": [1, 3], "b": [2]}


def test_a_destination_without_pipeline_matches_every_record() -> None:
    found = Router([to("all")]).evaluate([keyed(1, b"x"), keyed(2, None), keyed(3, b"")], EVENTS)
    assert [list(it.offsets) for it in found] == [[1, 2, 3]]


def test_several_destinations_may_take_one_pipeline() -> None:
    found = Router([to("a", "orders"), to("b", "orders"), to("all")]).evaluate(
        [keyed(1, b"orders")], EVENTS
    )
    assert sorted(it.destination.id for it in found) == ["a", "all", "b"]


def test_a_destination_that_matches_nothing_is_left_out() -> None:
    router = Router([to("a", "orders")])
    assert router.evaluate([keyed(1, b"signups"), keyed(2, None)], EVENTS) == []


def test_no_records_have_no_outcomes() -> None:
    assert Router([to("all"), to("a", "orders")]).evaluate([], EVENTS) == []


def test_a_pipeline_is_compared_as_utf_8() -> None:
    found = Router([to("a", "größe")]).evaluate([keyed(1, "größe".encode())], EVENTS)
    assert [list(it.offsets) for it in found] == [[1]]


def test_exceptions_are_the_indexes_without_a_payload() -> None:
    records = [
        keyed(7, b"k", b'{"v":1}'),
        keyed(8, b"k", b"{}"),
        keyed(9, b"k", b'{"v":2}'),
        keyed(10, b"k", b"no json"),
    ]
    (found,) = Router([to("all")]).evaluate(records, EVENTS)
    assert list(found.exceptions) == [1, 3]
    assert found.outcomes[0] == b"1"
    assert found.outcomes[1] is SKIP
    assert isinstance(found.outcomes[3], Failure)


def test_plain_paths_need_no_engine() -> None:
    assert not Router([to("a", "orders"), to("all")]).needs_engine([keyed(1, b"orders", b"{}")])


@pytest.mark.parametrize("key", [b"orders", b"carts", None])
def test_engine_is_needed_by_records_of_a_destination_with_any_other_expression(
    key: bytes | None,
) -> None:
    records = [keyed(1, b"users", b"{}"), keyed(2, key, b"{}")]
    of_one = Router([to("a", "users"), to("b", "orders", "$event.v + 1")])
    assert of_one.needs_engine(records) == (key == b"orders")
    assert Router([to("a", "users"), to("b", None, "$event.v + 1")]).needs_engine(records)


def test_an_expression_that_does_not_compile_is_refused() -> None:
    with pytest.raises(ExpressionError):
        Router([to("a", payload="$event.")])


def test_destinations_with_one_text_share_its_expression() -> None:
    router = Router([to("a", "orders"), to("b", "orders"), to("c"), to("d", payload="$event.w")])
    groups = (*router._by_pipeline.values(), router._every)
    (a, b), (c, d) = ([expression for _, expression in group] for group in groups)
    assert a is b
    assert a is c
    assert (a.text, d.text) == ("$event.v", "$event.w")


def test_expressions_that_are_compiled_already_are_taken() -> None:
    given = [compile_expression("$event.v"), compile_expression("$event.w")]
    router = Router([to("a", payload="$event."), to("b", payload="$event.")], given)
    assert [expression for _, expression in router._every] == given


def test_every_destination_needs_its_expression() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Router([to("a"), to("b")], [compile_expression("$event.v")])


# --- Compilation ---------------------------------------------------------------------------------

TABLE = '[[destinations]]\nid = "orders"\nbucket = "my-bucket"\n'


def test_right_expressions_compile() -> None:
    compile_payloads(parse(TABLE, {}, "x"))


def test_every_wrong_expression_has_a_line() -> None:
    second = TABLE.replace("orders", "b")
    text = f'{TABLE}payload = "("\n{second}payload = "a.b"\n'
    third = TABLE.replace("orders", "c")
    settings = parse(f'{text}{third}payload = ")"\n', {}, "x.toml")
    with pytest.raises(ConfigurationError) as caught:
        compile_payloads(settings)
    assert [mistake.split(" compile")[0] for mistake in caught.value.mistakes] == [
        "x.toml: [[destinations]] 1 (id 'orders'): payload does not",
        "x.toml: [[destinations]] 3 (id 'c'): payload does not",
    ]
    shown = [mistake.splitlines()[1:] for mistake in caught.value.mistakes]
    assert shown == [["  1 | (", "    |  ^"], ["  1 | )", "    | ^"]]
    assert all(line.isprintable() for it in caught.value.mistakes for line in it.splitlines())


def test_mistake_without_a_position_has_no_excerpt() -> None:
    with pytest.raises(ConfigurationError) as caught:
        compile_payload("1\0", "the expression")
    (mistake,) = caught.value.mistakes
    assert mistake.startswith("the expression does not compile: the expression holds a NUL")
    assert "\n" not in mistake


def test_each_text_is_compiled_once() -> None:
    text = "".join(
        TABLE.replace("orders", f"d{number}") + f'payload = "$event.v{number % 2}"\n'
        for number in range(6)
    )
    first, second, *rest = compile_payloads(parse(text, {}, "x"))
    assert (first.text, second.text) == ("$event.v0", "$event.v1")
    assert all(it is (first, second)[index % 2] for index, it in enumerate(rest))


def test_expression_of_the_router_before_is_kept() -> None:
    def with_texts(*texts: str) -> Settings:
        entries = (f'{TABLE.replace("orders", it)}payload = "$event.{it}"\n' for it in texts)
        return parse("".join(entries), {}, "x")

    former = compile_router(with_texts("a", "b"))
    router = compile_router(with_texts("b", "c"), former)
    assert list(router.expressions) == ["$event.b", "$event.c"]
    assert router.expressions["$event.b"] is former.expressions["$event.b"]


def test_wrong_expression_of_several_destinations_has_a_line_for_each() -> None:
    text = "".join(TABLE.replace("orders", it) + 'payload = "("\n' for it in "abc")
    with pytest.raises(ConfigurationError) as caught:
        compile_router(parse(text, {}, "x"))
    found = [mistake.split(": payload")[0] for mistake in caught.value.mistakes]
    assert found == [f"x: [[destinations]] {n} (id '{it}')" for n, it in enumerate("abc", 1)]


def test_router_has_every_destination() -> None:
    text = TABLE + TABLE.replace("orders", "b")
    assert compile_router(parse(text, {}, "x")).destinations == {"orders", "b"}


# --- events of no destination --------------------------------------------------------------------

MIXED = [keyed(10, b"orders"), keyed(12, b'"orders"'), keyed(13, None), keyed(15, b"orders")]


@pytest.mark.parametrize(("end", "count"), [(10, 0), (11, 0), (13, 1), (14, 2), (16, 2)])
def test_events_of_no_destination_are_counted_up_to_an_offset(end: int, count: int) -> None:
    fetched = batch(*MIXED)
    router = Router([to("a", "orders"), to("b", "orders"), to("c", "signups")])
    outcomes = router.evaluate(fetched.records, EVENTS)
    assert unmatched(outcomes, fetched.records, end) == count
    rest = fetched.after(13)
    assert unmatched(outcomes, rest.records, 16) == 1


def test_destination_of_every_event_leaves_none_without_one() -> None:
    fetched = batch(*MIXED)
    outcomes = Router([to("a", "signups"), to("b")]).evaluate(fetched.records, EVENTS)
    assert unmatched(outcomes, fetched.records, 16) == 0


def test_without_destinations_no_event_has_one() -> None:
    fetched = batch(*MIXED)
    assert unmatched(Router([]).evaluate(fetched.records, EVENTS), fetched.records, 16) == 4


def test_keys_that_match_no_pipeline_are_counted_below_an_offset() -> None:
    router = Router([to("a", "orders"), to("b", "signups")])
    keys = (b"orders", b"ordres", None, b"ordres", b"signups", b"ordres")
    records = [keyed(10 + number, key) for number, key in enumerate(keys)]
    assert router.unmatched_keys(records, 15) == {b"ordres": 2, None: 1}
    assert router.unmatched_keys(records, 10) == {}
    assert router.unmatched_keys(records[4:5], 99) == {}
    assert router.pipelines.nearest(b"ordres") == "orders"
    assert Router([to("all")]).pipelines.nearest(b"ordres") is None
