"""Messages to the pages that are open."""

import json
from typing import Any

from stream_app.inspector.live import (
    MESSAGES_MAX,
    ROWS_MAX,
    RUNS_MAX,
    Mailbox,
    message,
    newest,
    spoken_of,
)
from stream_app.inspector.outcomes import Entry
from stream_app.inspector.rows import Search
from stream_app.receipts import Receipt
from tests.unit.inspected import MINUTE, Sample, index, receipt


def samples(count: int, value: bytes = b"{}") -> list[Sample]:
    return [
        Sample(offset=number, value=value, timestamp=MINUTE * 1000 + number)
        for number in range(count)
    ]


def entries(*receipts: Receipt) -> list[Entry]:
    held = index()
    found = []
    for number, it in enumerate(receipts):
        told = it.message(it.window_end + 3)
        entry = held.add(0, number, told.headers, told.value)
        assert entry is not None
        found.append(entry)
    return found


def data(text: bytes) -> Any:
    name, _, rest = text.decode().partition("\ndata: ")
    assert rest.endswith("\n\n")
    return name, json.loads(rest)


def test_message_is_a_server_sent_event() -> None:
    assert message("rows", {"a": "b\n\nevent: x"}) == (
        b'event: rows\ndata: {"a":"b\\n\\nevent: x"}\n\n'
    )


def test_rows_are_of_the_newest_and_the_others_are_counted() -> None:
    chosen, more = newest(samples(500), None)
    assert [it.offset for it in chosen] == list(range(499, 449, -1))
    assert more == 450
    assert newest(samples(3), None)[1] == 0
    assert newest([], None) == ([], 0)


def test_only_what_is_searched_for_is_chosen() -> None:
    records = [*samples(10), Sample(offset=77, value=b'{"a":"Needle"}')]
    chosen, more = newest(records, Search("needle", None))
    assert [it.offset for it in chosen] == [77]
    assert more == 0


def test_matches_beyond_the_rows_are_counted() -> None:
    chosen, more = newest(samples(80, b'"needle"'), Search("needle", None))
    assert len(chosen) == ROWS_MAX
    assert more == 30


def test_what_was_not_searched_is_counted() -> None:
    records = samples(100, b'"needle"')
    assert newest(records, Search("no", None), looked_max=40) == ([], 60)
    chosen, more = newest(records, Search("needle", None), looked_bytes_max=80)
    assert (len(chosen), more) == (11, 89)
    assert newest([Sample(value=None)], Search("x", None), looked_bytes_max=0) == ([], 0)


def test_receipts_tell_their_runs_and_destinations_once() -> None:
    told = spoken_of(entries(receipt(0, 10), receipt(0, 10, destination="other"), receipt(10, 20)))
    assert told == {
        "runs": [
            {"partition": 0, "first_offset": 0, "end_offset": 10},
            {"partition": 0, "first_offset": 10, "end_offset": 20},
        ],
        "destinations": ["archive", "other"],
    }


def test_many_runs_are_joined_by_partition() -> None:
    many = [receipt(10 * n, 10 * n + 10, partition=n % 2) for n in range(RUNS_MAX + 1)]
    assert spoken_of(entries(*many))["runs"] == [
        {"partition": 0, "first_offset": 0, "end_offset": 10 * RUNS_MAX + 10},
        {"partition": 1, "first_offset": 10, "end_offset": 10 * RUNS_MAX},
    ]


def test_messages_wait_in_order() -> None:
    mailbox = Mailbox()
    assert mailbox.take() is None
    mailbox.put(b"a")
    mailbox.put(b"b")
    assert [mailbox.take(), mailbox.take(), mailbox.take()] == [b"a", b"b", None]


def test_page_that_is_too_slow_is_told_how_many_messages_it_missed() -> None:
    mailbox = Mailbox()
    for number in range(MESSAGES_MAX + 10):
        mailbox.put(b"%d" % number)
    text = mailbox.take()
    assert text is not None
    assert data(text) == ("event: behind", {"missed": MESSAGES_MAX + 10})
    assert mailbox.take() is None
    mailbox.put(b"next")
    assert mailbox.take() == b"next"


def test_messages_that_wait_have_a_bound_in_bytes() -> None:
    mailbox = Mailbox(bytes_max=10)
    mailbox.put(b"12345")
    mailbox.put(b"67890")
    assert mailbox.take() == b"12345"
    mailbox.put(b"123456")
    text = mailbox.take()
    assert text is not None
    assert data(text) == ("event: behind", {"missed": 2})
