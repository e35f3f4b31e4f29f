"""Values that are events, and the mistakes of those that are not."""

import pytest

from stream_app.records import OutOfRange, event_mistake


@pytest.mark.parametrize(
    "value", [b"1", b'{"a": [null]}', b'"\\ud800"', b"12345678901234567890123"]
)
def test_json_value_is_an_event(value: bytes) -> None:
    assert event_mistake(value) is None


@pytest.mark.parametrize(
    ("value", "mistake"),
    [
        (b"{", "it is not JSON: Expecting property name"),
        (b"1 2", "it is not JSON: Extra data: line 1 column 3"),
        (b"NaN", "it is not JSON: NaN is not a JSON value; write one JSON value on each line"),
        (b'"\xff"', "byte 2 of the line is not UTF-8; write UTF-8"),
        (b"[" * 100_000, "it is nested too deeply; write a flatter event"),
    ],
)
def test_mistake_of_a_value_has_its_position(value: bytes, mistake: str) -> None:
    assert (event_mistake(value) or "").startswith(mistake)


def test_response_without_a_record_reads_nothing() -> None:
    assert OutOfRange(7).next_position == 7
