"""What is an event, and what is said of a value that is none."""

import pytest

from stream_app.events import event_mistake


@pytest.mark.parametrize(
    "value", [b"1", b'{"a": [null]}', b'"\\ud800"', b"12345678901234567890123"]
)
def test_json_value_is_an_event(value: bytes) -> None:
    assert event_mistake(value) is None


@pytest.mark.parametrize(
    ("value", "mistake"),
    [
        (b"{", "it is no JSON: Expecting property name"),
        (b"1 2", "it is no JSON: Extra data: line 1 column 3"),
        (b"NaN", "it is no JSON: NaN is no JSON value; write one JSON value on each line"),
        (b'"\xff"', "byte 2 of the line is no UTF-8; write UTF-8"),
        (b"[" * 100_000, "it is nested too deeply; write a flatter event"),
    ],
)
def test_what_is_no_event_is_told_with_its_place(value: bytes, mistake: str) -> None:
    assert (event_mistake(value) or "").startswith(mistake)
