"""What is no receipt comes no further."""

import json
from typing import Any

import pytest

from stream_app.inspector.outcomes import Event
from stream_app.inspector.shapes import require_receipt
from stream_app.receipts import Status
from tests.unit.inspected import MINUTE, index, receipt


def document(**options: Any) -> dict[str, Any]:
    value = receipt(0, 10, skipped=[(1, 2)], failed=[3], **options).message(MINUTE).value
    found: dict[str, Any] = json.loads(value)
    return found


@pytest.mark.parametrize("status", Status)
def test_receipt_of_a_worker_is_one(status: Status) -> None:
    require_receipt(json.dumps(document(status=status) | {"later": [{}]}).encode())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("destination",), ["a"]),
        (("pipeline",), 5),
        (("source", "partition"), 2**40),
        (("source", "first_offset"), -1),
        (("source", "end_offset"), "9"),
        (("counts", "delivered"), "3"),
        (("counts", "failed"), None),
        (("skipped",), [[1]]),
        (("skipped",), [["1", 2]]),
        (("failed",), [{"error": "x"}]),
        (("failed",), {}),
        (("object", "bucket"), 7),
        (("object", "size"), "1"),
        (("object", "etag"), []),
        (("error",), "x"),
        (("answers",), ["1"]),
    ],
)
def test_receipt_with_a_value_of_another_type_is_counted_and_breaks_nothing(
    path: tuple[str, ...], value: object
) -> None:
    told = document()
    inner = told
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    held = index()
    message = receipt(0, 10).message(MINUTE)
    assert held.add(0, 0, message.headers, json.dumps(told).encode()) is None
    assert held.not_receipts == 1
    assert held.answers(Event(0, 1, b"orders"))["archive"].entry is None


def test_what_is_nested_too_deeply_is_none() -> None:
    with pytest.raises(ValueError, match="it is no receipt"):
        require_receipt(b'{"later":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
