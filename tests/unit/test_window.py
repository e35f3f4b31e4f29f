import gzip

from stream_app.deliveries import DELIVERY_BYTES
from stream_app.objects import identifier, object_key
from stream_app.receipts import FAILED_ENTRY_BYTES, SKIPPED_RUN_BYTES
from stream_app.window import Window
from tests.unit.records import EVERY, MINUTE, ORDERS, answer, record

KINDS = [record(1, 0, "a"), record(2, 0, "skip"), record(3, 0, "fail no"), record(4, 0, "b")]


def test_answers_become_lines_and_lists() -> None:
    window = Window(None)
    assert window.add(answer(KINDS), 1, 5) == 5
    (delivery,) = window.close("events", 3, 1, MINUTE).values()
    assert delivery.tally.matched == 4
    assert delivery.tally.skipped == [[2, 2]]
    assert delivery.tally.failed == [(3, "events/3@3", "no")]
    assert delivery.body is not None
    assert gzip.decompress(delivery.body.finish()) == b"a\nb\n"
    assert delivery.size_uncompressed == 4


def test_only_the_offsets_asked_for_are_added() -> None:
    window = Window(None)
    window.add(answer(KINDS), 2, 4)
    (delivery,) = window.close("events", 3, 1, MINUTE).values()
    assert delivery.tally.matched == 2
    assert delivery.body is None, "no line, no bytes"


def test_answers_outside_the_offsets_leave_no_trace() -> None:
    window = Window(1000)
    assert window.add(answer(KINDS), 5, 9) == 9
    assert window.close("events", 3, 1, MINUTE) == {}
    assert window.held == 0


def test_each_destination_has_its_own_delivery_and_key() -> None:
    window = Window(None)
    window.add(answer(KINDS, ORDERS, EVERY), 1, 5)
    keys = {it.destination.id: it.key for it in window.close("events", 3, 1, MINUTE).values()}
    assert keys == {
        it.id: object_key(it.prefix, MINUTE, identifier("events", 3, 1, it.id))
        for it in (ORDERS, EVERY)
    }


def test_held_is_what_lines_and_lists_take() -> None:
    window = Window(None)
    for first in range(1, 5):
        window.add(answer(KINDS), first, first + 1)
    (content,) = window._contents.values()
    texts = len("events/3@3") + len('"no"')
    assert content.tally.bytes_estimate == SKIPPED_RUN_BYTES + FAILED_ENTRY_BYTES + texts
    assert window.held == DELIVERY_BYTES + content.body.held + content.tally.held


def test_a_full_list_ends_the_window_behind_the_record_that_filled_it() -> None:
    window = Window(2 * SKIPPED_RUN_BYTES)
    texts = ["skip", "a", "skip", "b", "skip"]
    answers = answer([record(n, 0, text) for n, text in enumerate(texts)])
    assert window.add(answers, 0, 5) == 3
    assert window.full
    (delivery,) = window.close("events", 3, 0, MINUTE).values()
    assert delivery.tally.skipped == [[0, 0], [2, 2]]
    assert delivery.tally.matched == 3


def test_the_bound_counts_what_the_list_holds_already() -> None:
    window = Window(2 * SKIPPED_RUN_BYTES)
    texts = ["skip", "a", "skip", "b"]
    answers = answer([record(n, 0, text) for n, text in enumerate(texts)])
    assert window.add(answers, 0, 2) == 2
    assert not window.full
    assert window.add(answers, 2, 4) == 3
    assert window.full


def test_failures_fill_a_list_by_their_text() -> None:
    window = Window(FAILED_ENTRY_BYTES * 2 + 2 * len("events/3@0") + 100)
    answers = answer([record(n, 0, "fail " + "x" * 100) for n in range(5)])
    assert window.add(answers, 0, 5) == 2
    assert window.full


def test_the_fullest_destination_decides_for_all() -> None:
    window = Window(SKIPPED_RUN_BYTES * 2)
    records = [
        record(0, 0, "skip", key=b"orders"),
        record(1, 0, "a", key=b"orders"),
        record(2, 0, "skip", key=b"orders"),
        record(3, 0, "c", key=b"orders"),
        record(4, 0, "d", key=b"signups"),
    ]
    assert window.add(answer([*records], EVERY, ORDERS), 0, 5) == 3
    tallies = {
        it.destination.id: it.tally.matched for it in window.close("events", 3, 0, MINUTE).values()
    }
    assert tallies == {"orders-archive": 3, "every": 3}


def test_a_destination_whose_first_record_lies_behind_the_cut_is_not_touched() -> None:
    window = Window(SKIPPED_RUN_BYTES)
    records = [record(0, 0, "skip", key=b"signups"), record(1, 0, "a", key=b"orders")]
    assert window.add(answer(records, EVERY, ORDERS), 0, 2) == 1
    assert [it.destination.id for it in window.close("events", 3, 0, MINUTE).values()] == ["every"]


def test_a_recorded_window_has_no_bound() -> None:
    window = Window(None)
    answers = answer([record(n, 0, "fail " + "x" * 1000) for n in range(500)])
    assert window.add(answers, 0, 500) == 500
    assert not window.full


def test_one_long_run_of_skipped_records_does_not_fill_the_list() -> None:
    window = Window(SKIPPED_RUN_BYTES * 3)
    answers = answer([record(n, 0, "skip") for n in range(100)])
    upto = 0
    while upto < 100:
        upto = window.add(answers, upto, 100)
    assert not window.full
    (delivery,) = window.close("events", 3, 0, MINUTE).values()
    assert delivery.tally.skipped == [[0, 99]]
