import gzip
from dataclasses import replace

import cramjam
import pytest

from stream_app.config.settings import Destination
from stream_app.core.delivery import DELIVERY_BYTES, Delivery
from stream_app.core.object_key import identifier, object_key
from stream_app.core.receipt import FAILED_ENTRY_BYTES, SKIPPED_RUN_BYTES
from stream_app.core.window import Window
from stream_app.errors import InvariantError
from tests.unit.core.builders import (
    EVENTS,
    EVERY,
    FULL_PAYLOADS,
    MINUTE,
    ORDERS,
    TINY,
    answer,
    compress,
    noise,
    record,
)

KINDS = [record(1, 0, "a"), record(2, 0, "skip"), record(3, 0, "fail no"), record(4, 0, "b")]


def test_answers_become_lines_and_lists() -> None:
    window = Window(EVENTS, 1, None)
    assert window.add(answer(KINDS), 1, 5) == 5
    (delivery,) = window.close(MINUTE).values()
    assert delivery.tally.matched == 4
    assert delivery.tally.skipped == [[2, 2]]
    assert delivery.tally.failed == [(3, "events/3@3", "no")]
    assert delivery.body is not None
    assert gzip.decompress(delivery.body.finish()) == b"a\nb\n"
    assert delivery.size_uncompressed == 4


def test_only_the_offsets_asked_for_are_added() -> None:
    window = Window(EVENTS, 1, None)
    window.add(answer(KINDS), 2, 4)
    (delivery,) = window.close(MINUTE).values()
    assert delivery.tally.matched == 2
    assert delivery.body is None, "no line, no bytes"


def test_answers_outside_the_offsets_leave_no_trace() -> None:
    window = Window(EVENTS, 1, 1000)
    assert window.add(answer(KINDS), 5, 9) == 9
    assert window.close(MINUTE) == {}
    assert window.memory.held == 0


def test_each_destination_has_its_own_delivery_and_key() -> None:
    window = Window(EVENTS, 1, None)
    window.add(answer(KINDS, ORDERS, EVERY), 1, 5)
    keys = {it.destination.id: it.key for it in window.close(MINUTE).values()}
    assert keys == {
        it.id: object_key(it.prefix, MINUTE, identifier("events", 3, 1, MINUTE, it.id))
        for it in (ORDERS, EVERY)
    }


def test_the_format_of_a_destination_is_in_key_and_bytes_and_in_nothing_else_of_the_name() -> None:
    contents = {}
    for to in (ORDERS, replace(ORDERS, format="zstd")):
        window = Window(EVENTS, 1, None)
        window.add(answer(KINDS, to), 1, 5)
        (delivery,) = window.close(MINUTE).values()
        contents[delivery.key] = delivery.content.finish()
    plain, zstd = contents
    assert zstd == plain.removesuffix(".gz") + ".zst"
    assert bytes(cramjam.zstd.decompress(contents[zstd])) == gzip.decompress(contents[plain])


def test_held_is_what_lines_and_lists_take() -> None:
    window = Window(EVENTS, 1, None)
    for first in range(1, 5):
        window.add(answer(KINDS), first, first + 1)
    (content,) = window.deliveries
    texts = len("events/3@3") + len('"no"')
    assert content.tally.bytes_estimate == SKIPPED_RUN_BYTES + FAILED_ENTRY_BYTES + texts
    assert window.memory.held == DELIVERY_BYTES + content.content.held + content.tally.held


def test_a_full_list_ends_the_window_behind_the_record_that_filled_it() -> None:
    window = Window(EVENTS, 1, 2 * SKIPPED_RUN_BYTES)
    texts = ["skip", "a", "skip", "b", "skip"]
    answers = answer([record(n, 0, text) for n, text in enumerate(texts)])
    assert window.add(answers, 0, 5) == 3
    assert window.full
    (delivery,) = window.close(MINUTE).values()
    assert delivery.tally.skipped == [[0, 0], [2, 2]]
    assert delivery.tally.matched == 3


def test_the_bound_counts_what_the_list_holds_already() -> None:
    window = Window(EVENTS, 1, 2 * SKIPPED_RUN_BYTES)
    texts = ["skip", "a", "skip", "b"]
    answers = answer([record(n, 0, text) for n, text in enumerate(texts)])
    assert window.add(answers, 0, 2) == 2
    assert not window.full
    assert window.add(answers, 2, 4) == 3
    assert window.full


def test_failures_fill_a_list_by_their_text() -> None:
    window = Window(EVENTS, 1, FAILED_ENTRY_BYTES * 2 + 2 * len("events/3@0") + 100)
    answers = answer([record(n, 0, "fail " + "x" * 100) for n in range(5)])
    assert window.add(answers, 0, 5) == 2
    assert window.full


def test_the_fullest_destination_decides_for_all() -> None:
    window = Window(EVENTS, 1, SKIPPED_RUN_BYTES * 2)
    records = [
        record(0, 0, "skip", key=b"orders"),
        record(1, 0, "a", key=b"orders"),
        record(2, 0, "skip", key=b"orders"),
        record(3, 0, "c", key=b"orders"),
        record(4, 0, "d", key=b"signups"),
    ]
    assert window.add(answer([*records], EVERY, ORDERS), 0, 5) == 3
    tallies = {it.destination.id: it.tally.matched for it in window.close(MINUTE).values()}
    assert tallies == {"orders-archive": 3, "every": 3}


def test_a_destination_whose_first_record_lies_behind_the_cut_is_not_touched() -> None:
    window = Window(EVENTS, 1, SKIPPED_RUN_BYTES)
    records = [record(0, 0, "skip", key=b"signups"), record(1, 0, "a", key=b"orders")]
    assert window.add(answer(records, EVERY, ORDERS), 0, 2) == 1
    assert [it.destination.id for it in window.close(MINUTE).values()] == ["every"]


def test_a_recorded_window_has_no_bound() -> None:
    window = Window(EVENTS, 1, None)
    answers = answer([record(n, 0, "fail " + "x" * 1000) for n in range(500)])
    assert window.add(answers, 0, 500) == 500
    assert not window.full


def test_one_long_run_of_skipped_records_does_not_fill_the_list() -> None:
    window = Window(EVENTS, 1, SKIPPED_RUN_BYTES * 3)
    answers = answer([record(n, 0, "skip") for n in range(100)])
    upto = 0
    while upto < 100:
        upto = window.add(answers, upto, 100)
    assert not window.full
    (delivery,) = window.close(MINUTE).values()
    assert delivery.tally.skipped == [[0, 99]]


# --- What is compressed, and what leaves, while the window is open --------------------------------


def streaming(*, closed_at: int | None = None) -> Window:
    return Window(EVENTS, 1, None, sizes=TINY, closed_at=closed_at)


def feed(window: Window, offset: int, size: int, *destinations: Destination) -> None:
    """Add a record whose payload has so many bytes."""
    window.add(answer([record(offset, 0, noise(size, offset))], *destinations), offset, offset + 1)


def send(delivery: Delivery) -> bytes:
    """Send all that leaves, as if S3 took it at once."""
    content = b""
    for part in delivery.content.unsent:
        content += part.content or b""
        delivery.content.sent(part, None)
    return content


def test_lines_that_fill_no_slice_are_not_compressed() -> None:
    window = streaming()
    feed(window, 1, 90)
    assert window.compressions() == []
    assert window.memory.compressible == 91


def test_only_full_slices_are_compressed() -> None:
    window = streaming()
    feed(window, 1, 250, ORDERS)
    feed(window, 2, 90, EVERY)
    assert compress(window) == 1
    assert window.memory.compressible == 251 % TINY.slice + 91
    assert window.compressions() == [], "once is enough"


def test_all_that_waits_is_compressed_when_memory_is_short() -> None:
    window = streaming()
    feed(window, 1, 250, ORDERS)
    feed(window, 2, 90, EVERY)
    assert compress(window, whole=True) == 2
    assert window.memory.compressible == 0
    assert window.compressions(whole=True) == []


def test_a_window_of_skipped_records_has_nothing_to_compress() -> None:
    window = streaming()
    window.add(answer([record(1, 0, "skip")]), 1, 2)
    assert window.compressions(whole=True) == []


def test_a_window_is_busy_until_what_was_taken_comes_back() -> None:
    window = streaming()
    feed(window, 1, 250, ORDERS, EVERY)
    taken = window.compressions()
    assert window.busy == 2
    assert window.compressions(whole=True) == [], "what is under way is not taken again"
    for it in taken:
        it.compression.perform()
    window.compressed(taken, MINUTE)
    assert window.busy == 0


def test_lines_that_are_under_way_wait_no_more_and_are_held() -> None:
    window = streaming()
    feed(window, 1, 250)
    held = window.memory.held
    taken = window.compressions()
    assert window.memory.compressible == 0
    assert window.memory.held >= held - 64 * 2, "but for what is around a piece of lines"
    taken[0].compression.perform()
    window.compressed(taken, MINUTE)
    assert window.memory.held == sum(it.held for it in window.deliveries)


def test_a_body_that_is_large_enough_leaves_once_a_part() -> None:
    window = streaming()
    feed(window, 1, 900)
    feed(window, 2, 90, EVERY)
    compress(window)
    assert [it.destination for it in window.leaving()] == [ORDERS]
    assert window.leaving() == []
    feed(window, 3, 900)
    compress(window)
    assert [it.destination for it in window.leaving()] == [ORDERS]


def test_the_first_part_fixes_the_closing_time_for_all() -> None:
    window = streaming()
    feed(window, 1, 90, EVERY)
    assert window.closed_at is None
    feed(window, 2, 900, ORDERS)
    compress(window, second=7)
    assert window.closed_at == MINUTE + 7
    (leaving,) = window.leaving()
    key = object_key("test/", MINUTE + 7, identifier("events", 3, 1, MINUTE + 7, ORDERS.id))
    assert leaving.key == key
    feed(window, 3, 900, ORDERS)
    compress(window, second=9)
    deliveries = window.close(MINUTE + 62)
    assert deliveries[ORDERS.id].key == key
    assert deliveries[EVERY.id].key == object_key(
        "", MINUTE + 7, identifier("events", 3, 1, MINUTE + 7, EVERY.id)
    )


def test_compressing_without_a_part_fixes_no_time() -> None:
    window = streaming()
    feed(window, 1, 150)
    compress(window, second=7)
    assert window.closed_at is None
    assert window.close(MINUTE + 62)[ORDERS.id].key == object_key(
        "test/", MINUTE + 62, identifier("events", 3, 1, MINUTE + 62, ORDERS.id)
    )


def test_parts_of_a_recorded_window_go_under_the_recorded_time() -> None:
    window = streaming(closed_at=MINUTE + 3)
    feed(window, 1, 900)
    compress(window, second=500)
    (leaving,) = window.leaving()
    assert leaving.key == object_key(
        "test/", MINUTE + 3, identifier("events", 3, 1, MINUTE + 3, ORDERS.id)
    )


def test_what_s3_would_take_is_cut_for_the_sake_of_memory() -> None:
    window = streaming()
    feed(window, 1, 250, ORDERS)
    feed(window, 2, 90, EVERY)
    compress(window, whole=True)
    assert window.leaving() == []
    assert window.cut_early(MINUTE + 8)
    assert window.closed_at == MINUTE + 8
    assert [it.destination for it in window.leaving()] == [ORDERS]
    assert window.memory.held == sum(it.held for it in window.deliveries)


def test_too_little_for_a_part_is_not_cut_for_the_sake_of_memory() -> None:
    window = streaming()
    feed(window, 1, 90)
    compress(window, whole=True)
    assert not window.cut_early(MINUTE + 8)
    assert window.closed_at is None


def test_a_window_is_leaving_until_s3_has_its_parts() -> None:
    window = streaming()
    feed(window, 1, 900)
    assert not window.is_leaving
    compress(window)
    assert window.is_leaving
    send(window.deliveries[0])
    assert not window.is_leaving


def test_a_window_whose_parts_are_all_stuck_is_not_leaving() -> None:
    window = streaming()
    feed(window, 1, 900, ORDERS, EVERY)
    compress(window)
    window.deliveries[0].content.is_stuck = True
    assert window.is_leaving, "one is on its way"
    window.deliveries[1].content.is_stuck = True
    assert not window.is_leaving


def test_what_is_not_sent_leaves_again() -> None:
    window = streaming()
    feed(window, 1, 900, ORDERS, EVERY)
    compress(window)
    orders, every = window.leaving()
    send(orders)
    window.leave_again()
    assert window.leaving() == [every]


def test_a_window_ends_before_an_object_has_too_many_parts() -> None:
    window = streaming()
    for offset in range(FULL_PAYLOADS):
        assert not window.full
        feed(window, 1 + offset, 900)
        compress(window)
    assert window.full
    (delivery,) = window.close(MINUTE).values()
    delivery.content.finish()
    assert len(delivery.content.parts) == FULL_PAYLOADS + 1


def test_parts_cut_early_are_no_more_than_s3_takes() -> None:
    window = streaming()
    offset = 1
    while not window.full:
        feed(window, offset, 250)
        compress(window, whole=True)
        window.cut_early(MINUTE)
        offset += 1
    (delivery,) = window.deliveries
    assert len(delivery.content.parts) < TINY.parts_max
    assert TINY.object_max <= delivery.content.size_compressed


def test_an_object_in_parts_is_all_the_lines() -> None:
    window, content = streaming(), b""
    for offset in (1, 2, 3):
        feed(window, offset, 400)
        compress(window)
        for delivery in window.leaving():
            content += send(delivery)
    (delivery,) = window.close(MINUTE).values()
    assert content
    assert delivery.content.finish() == b""
    content += send(delivery)
    assert gzip.decompress(content).decode().split() == [noise(400, n) for n in (1, 2, 3)]


def test_a_closed_delivery_takes_no_line_more() -> None:
    window = streaming()
    feed(window, 1, 90)
    (delivery,) = window.close(MINUTE).values()
    assert delivery.content.is_closed
    with pytest.raises(InvariantError, match="CLOSE in state DECIDED"):
        delivery.close()
