"""Server-sent events for open pages."""

import json
from typing import Any

from stream_app.core.receipt import Receipt
from stream_app.inspector.core.index import Entry
from stream_app.inspector.core.rows import TextSearch
from stream_app.inspector.core.sse import (
    MESSAGE_ROWS_MAX,
    MESSAGE_RUNS_MAX,
    QUEUED_MESSAGES_MAX,
    Mailbox,
    message,
    newest,
    receipts_message,
)
from tests.unit.inspector.core.messages import index, publish, receipt
from tests.unit.samples import MINUTE, Sample


def samples(count: int, value: bytes = b"{}") -> list[Sample]:
    return [
        Sample(offset=number, value=value, timestamp=MINUTE * 1000 + number)
        for number in range(count)
    ]


def entries(*receipts: Receipt) -> list[Entry]:
    found = publish(index(), *receipts)
    return [it for it in found if it is not None]


def data(text: bytes) -> Any:
    name, _, rest = text.decode().partition("\ndata: ")
    assert rest.endswith("\n\n")
    return name, json.loads(rest)


def test_message_is_a_server_sent_event() -> None:
    assert message("rows", {"a": "b\n\nevent: x"}) == (
        b'event: rows\ndata: {"a":"b\\n\\nevent: x"}\n\n'
    )


def test_newest_records_become_rows_and_the_others_are_counted() -> None:
    chosen, more = newest(samples(500), None)
    assert [it.offset for it in chosen] == list(range(499, 449, -1))
    assert more == 450
    assert newest(samples(3), None)[1] == 0
    assert newest([], None) == ([], 0)


def test_only_matches_become_rows() -> None:
    records = [*samples(10), Sample(offset=77, value=b'{"a":"Needle"}')]
    chosen, more = newest(records, TextSearch("needle", None))
    assert [it.offset for it in chosen] == [77]
    assert more == 0


def test_matches_beyond_the_rows_are_counted() -> None:
    chosen, more = newest(samples(80, b'"needle"'), TextSearch("needle", None))
    assert len(chosen) == MESSAGE_ROWS_MAX
    assert more == 30


def test_records_that_were_not_searched_are_counted() -> None:
    records = samples(100, b'"needle"')
    assert newest(records, TextSearch("no", None), scanned_max=40) == ([], 60)
    chosen, more = newest(records, TextSearch("needle", None), scanned_bytes_max=80)
    assert (len(chosen), more) == (11, 89)
    assert newest([Sample(value=None)], TextSearch("x", None), scanned_bytes_max=0) == ([], 0)


def test_message_names_each_run_and_destination_once() -> None:
    document = receipts_message(
        entries(receipt(0, 10), receipt(0, 10, destination="other"), receipt(10, 20))
    )
    assert document == {
        "runs": [
            {"partition": 0, "first_offset": 0, "end_offset": 10},
            {"partition": 0, "first_offset": 10, "end_offset": 20},
        ],
        "destinations": ["archive", "other"],
    }


def test_many_runs_are_merged_by_partition() -> None:
    many = [receipt(10 * n, 10 * n + 10, partition=n % 2) for n in range(MESSAGE_RUNS_MAX + 1)]
    assert receipts_message(entries(*many))["runs"] == [
        {"partition": 0, "first_offset": 0, "end_offset": 10 * MESSAGE_RUNS_MAX + 10},
        {"partition": 1, "first_offset": 10, "end_offset": 10 * MESSAGE_RUNS_MAX},
    ]


def test_messages_keep_their_order() -> None:
    mailbox = Mailbox()
    assert mailbox.pop() is None
    mailbox.put(b"a")
    mailbox.put(b"b")
    assert [mailbox.pop(), mailbox.pop(), mailbox.pop()] == [b"a", b"b", None]


def test_slow_page_gets_the_number_of_messages_it_missed() -> None:
    mailbox = Mailbox()
    for number in range(QUEUED_MESSAGES_MAX + 10):
        mailbox.put(b"%d" % number)
    text = mailbox.pop()
    assert text is not None
    assert data(text) == ("event: behind", {"missed": QUEUED_MESSAGES_MAX + 10})
    assert mailbox.pop() is None
    mailbox.put(b"next")
    assert mailbox.pop() == b"next"


def test_queued_messages_have_a_bound_in_bytes() -> None:
    mailbox = Mailbox(bytes_max=10)
    mailbox.put(b"12345")
    mailbox.put(b"67890")
    assert mailbox.pop() == b"12345"
    mailbox.put(b"123456")
    text = mailbox.pop()
    assert text is not None
    assert data(text) == ("event: behind", {"missed": 2})
