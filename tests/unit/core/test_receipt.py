import hashlib
from dataclasses import replace

import orjson
import pytest

from stream_app.core.receipt import Problem, Receipt, Source, Status, Stored, Tally

RECEIPT = Receipt(
    status=Status.DELIVERED,
    group="stream-app",
    destination="orders-archive",
    pipeline="orders",
    window_start=1_795_537_860,
    window_end=1_795_537_920,
    source=Source("events", 3, 4242, 4300),
    tally=Tally(30, [[4250, 4251]], 2, [(4260, "events/3@4260", "TypeError: no")]),
    bucket="my-bucket",
    key="test/2026/x.gz",
    size_uncompressed=4096,
    closed_at=1_795_537_922,
    attempts=1,
    stored=Stored(812, '"e"', "v1", "c2hhMjU2", already_existed=False, stored_at=1_795_537_925),
)
PROBLEM = Problem("AccessDenied", "Access Denied", retryable=False)


def test_bytes_of_another_build_have_no_checksum() -> None:
    stored = Stored(812, None, None, None, already_existed=True, stored_at=1_795_537_925)
    described = replace(RECEIPT, stored=stored).document()["object"]
    assert (described["size"], described["checksum"]) == (812, None)


def headers(receipt: Receipt) -> dict[str, str]:
    return {name: text.decode() for name, text in receipt.message(1_795_537_923).headers}


def test_tally_counts_each_record_as_one_of_three() -> None:
    tally = Tally()
    tally.deliver(3)
    tally.skip(10)
    tally.fail(11, "events/3@11", "no")
    assert (tally.matched, tally.delivered, tally.skipped_count) == (5, 3, 1)
    assert tally.failed == [(11, "events/3@11", "no")]


def test_skipped_records_in_a_row_are_one_run() -> None:
    tally = Tally()
    for offset in (10, 11, 14):  # 12 and 13 are not matched
        tally.skip(offset)
    assert tally.skipped == [[10, 14]]
    assert tally.skipped_count == 3


def test_a_delivered_record_ends_a_run() -> None:
    tally = Tally()
    tally.skip(10)
    tally.deliver(1)
    tally.skip(12)
    assert tally.skipped == [[10, 10], [12, 12]]


def test_a_failed_record_ends_a_run() -> None:
    tally = Tally()
    tally.skip(10)
    tally.fail(11, "events/3@11", "no")
    tally.skip(12)
    assert tally.skipped == [[10, 10], [12, 12]]


def test_a_longer_run_takes_no_more_bytes() -> None:
    tally = Tally()
    tally.skip(10)
    before = tally.bytes_estimate
    tally.skip(11)
    assert tally.bytes_estimate == before


def test_document_has_the_fields_of_the_design() -> None:
    assert RECEIPT.document() == {
        "status": "delivered",
        "destination": "orders-archive",
        "pipeline": "orders",
        "window": {"start": "2026-11-24T16:31:00Z", "end": "2026-11-24T16:32:00Z"},
        "source": {"topic": "events", "partition": 3, "first_offset": 4242, "end_offset": 4300},
        "counts": {"matched": 30, "delivered": 27, "skipped": 2, "failed": 1},
        "skipped": [[4250, 4251]],
        "failed": [{"offset": 4260, "record": "events/3@4260", "error": "TypeError: no"}],
        "object": {
            "bucket": "my-bucket",
            "key": "test/2026/x.gz",
            "size": 812,
            "lines": 27,
            "uncompressed_size": 4096,
            "etag": '"e"',
            "version_id": "v1",
            "checksum": {"algorithm": "SHA256", "value": "c2hhMjU2"},
        },
        "attempts": 1,
        "already_existed": False,
        "uploaded_at": "2026-11-24T16:32:02Z",
        "stored_at": "2026-11-24T16:32:05Z",
        "error": None,
    }


def test_an_object_that_a_predecessor_finished_is_named_so() -> None:
    assert RECEIPT.stored is not None
    receipt = replace(RECEIPT, stored=replace(RECEIPT.stored, already_existed=True))
    assert receipt.document()["already_existed"] is True


def test_empty_receipt_names_no_object() -> None:
    tally = Tally(2, [[4242, 4243]], 2)
    receipt = replace(RECEIPT, status=Status.EMPTY, stored=None, tally=tally, size_uncompressed=0)
    document = receipt.document()
    assert document["object"] is None
    assert document["uploaded_at"] is None
    assert document["stored_at"] is None
    assert "ce_subject" not in headers(receipt)


@pytest.mark.parametrize("status", [Status.FAILED, Status.RETRYING])
def test_receipt_of_a_late_window_names_the_object_that_would_be(status: Status) -> None:
    document = replace(RECEIPT, status=status, stored=None, problem=PROBLEM).document()
    assert document["object"] == {
        "bucket": "my-bucket",
        "key": "test/2026/x.gz",
        "size": None,
        "lines": 27,
        "uncompressed_size": 4096,
        "etag": None,
        "version_id": None,
        "checksum": None,
    }
    assert document["error"] == {
        "code": "AccessDenied",
        "message": "Access Denied",
        "retryable": False,
    }
    assert document["uploaded_at"] is None
    assert document["stored_at"] is None
    assert document["already_existed"] is False


def test_id_is_a_hash_of_what_the_receipt_speaks_of() -> None:
    name = b"events\x003\x004242\x00orders-archive\x00delivered"
    assert RECEIPT.id == hashlib.sha256(name).hexdigest()


def test_the_same_receipt_published_again_has_the_same_id() -> None:
    again = replace(RECEIPT, attempts=9, closed_at=0, stored=None)
    assert again.id == RECEIPT.id


def test_the_time_of_storage_is_not_part_of_the_id() -> None:
    assert RECEIPT.stored is not None
    later = replace(RECEIPT, stored=replace(RECEIPT.stored, stored_at=1_795_541_530))
    assert later.id == RECEIPT.id
    assert later.document()["stored_at"] == "2026-11-24T17:32:10Z"
    assert later.document()["uploaded_at"] == "2026-11-24T16:32:02Z"


def test_a_later_status_of_the_same_window_has_another_id() -> None:
    ids = {replace(RECEIPT, status=status).id for status in Status}
    assert len(ids) == len(Status)


def test_answer_to_failed_events_has_an_id_of_its_own_for_each_set_of_them() -> None:
    answers: list[tuple[int, ...] | None] = [None, (4260,), (4260, 4270), (4270,)]
    receipts = [replace(RECEIPT, status=Status.REDELIVERED, answers=it) for it in answers]
    assert len({it.id for it in receipts}) == len(receipts)


def test_announcement_has_an_id_of_its_own_for_each_place_and_content() -> None:
    assert RECEIPT.stored is not None
    announced = replace(RECEIPT, status=Status.RETRYING, problem=PROBLEM)
    others = [
        replace(announced, stored=None),
        replace(announced, bucket="other-bucket"),
        replace(announced, key="test/2026/y.gz"),
        replace(announced, stored=replace(RECEIPT.stored, checksum="b3RoZXI=")),
    ]
    assert len({it.id for it in (announced, *others)}) == 5
    assert replace(announced, stored=replace(RECEIPT.stored, etag=None)).id == announced.id


def test_failure_of_a_redelivery_has_the_id_of_the_workers() -> None:
    failed = replace(RECEIPT, status=Status.FAILED, problem=PROBLEM)
    assert failed.id == replace(failed, stored=None).id


def test_announced_object_is_described_and_not_uploaded() -> None:
    document = replace(RECEIPT, status=Status.RETRYING, problem=PROBLEM).document()
    assert document["object"]["size"] == 812
    assert document["uploaded_at"] is None
    assert document["stored_at"] is None


def test_answers_are_named_only_where_there_are_some() -> None:
    assert "answers" not in RECEIPT.document()
    assert replace(RECEIPT, answers=(4260,)).document()["answers"] == (4260,)


def test_message_is_a_cloud_event_in_binary_mode() -> None:
    message = RECEIPT.message(1_795_537_923)
    assert message.key == b"orders-archive"
    assert orjson.loads(message.value) == RECEIPT.document()
    assert headers(RECEIPT) == {
        "ce_specversion": "1.0",
        "ce_id": RECEIPT.id,
        "ce_source": "/stream-app/orders-archive",
        "ce_type": "stream-app.delivery.delivered.v1",
        "ce_subject": "test/2026/x.gz",
        "ce_time": "2026-11-24T16:32:03Z",
        "content-type": "application/json",
    }


def test_half_a_surrogate_pair_in_an_error_does_not_spoil_the_receipt() -> None:
    tally = Tally()
    tally.fail(7, "events/3@7", "Error: \ud800")
    assert tally.failed == [(7, "events/3@7", "Error: ?")]


# --- shortened -----------------------------------------------------------------------------------

ERROR = "TypeError: cannot read property 'x' of undefined, at line 1, column 8"


def large(count: int = 100) -> Receipt:
    """Return a receipt with as many skipped runs as failed events, one after the other."""
    tally = Tally()
    for number in range(count):
        tally.skip(10 * number)
        tally.skip(10 * number + 3)
        tally.fail(10 * number + 5, f"events/3@{10 * number + 5}", ERROR)
    return replace(RECEIPT, tally=tally)


def size(receipt: Receipt) -> int:
    return len(orjson.dumps(receipt.document()))


def test_error_texts_are_cut_first_and_every_event_stays() -> None:
    whole = large()
    short = whole.shortened(size(whole) - 1)
    assert short is not None
    document, before = short.document(), whole.document()
    assert "lists_end_offset" not in document
    assert document["skipped"] == before["skipped"]
    assert [it["offset"] for it in document["failed"]] == [it["offset"] for it in before["failed"]]
    assert {it["error"] for it in document["failed"]} == {ERROR[:40]}
    unlisted = {"failed"}
    assert {name: it for name, it in document.items() if name not in unlisted} == {
        name: it for name, it in before.items() if name not in unlisted
    }
    assert short.id == whole.id


@pytest.mark.parametrize("bytes_max", [1_000, 3_000, 5_000])
def test_lists_are_cut_at_one_offset_and_are_complete_before_it(bytes_max: int) -> None:
    whole = large()
    short = whole.shortened(bytes_max)
    assert short is not None
    assert size(short) <= bytes_max
    document, before = short.document(), whole.document()
    end = document["lists_end_offset"]
    assert document["skipped"] == [it for it in before["skipped"] if it[0] < end]
    assert [it["offset"] for it in document["failed"]] == [
        it["offset"] for it in before["failed"] if it["offset"] < end
    ]
    assert document["counts"] == before["counts"]
    # A further entry would not fit.
    assert size(short) > bytes_max - 40 - 100


def test_each_shorter_form_is_shorter_until_the_lists_are_empty() -> None:
    receipt: Receipt | None = large()
    sizes = []
    while receipt is not None:
        sizes.append(size(receipt))
        shortest, receipt = receipt, receipt.shortened(size(receipt) // 2)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes) < 10
    assert (shortest.document()["skipped"], shortest.document()["failed"]) == ([], [])
    assert shortest.document()["lists_end_offset"] == 0
    assert shortest.document()["counts"] == large().document()["counts"]


def test_receipt_that_answers_failed_events_keeps_its_lists_whole() -> None:
    whole = replace(large(), answers=tuple(range(5, 1000, 10)))
    short = whole.shortened(1_000)
    assert short is not None
    document, before = short.document(), whole.document()
    assert "lists_end_offset" not in document
    assert document["skipped"] == before["skipped"]
    assert [it["offset"] for it in document["failed"]] == [it["offset"] for it in before["failed"]]
    assert {it["error"] for it in document["failed"]} == {ERROR[:40]}
    assert short.shortened(1_000) is None


def test_receipt_without_lists_cannot_be_shortened() -> None:
    assert replace(RECEIPT, tally=Tally(3)).shortened(10) is None
