import orjson
import pytest

from stream_app.core.receipt import Status
from stream_app.inspector.core.index import (
    ENTRY_BYTES,
    NOT_LISTED,
    Event,
    EventOutcome,
    EventStatus,
    Index,
    effective_receipt,
)
from tests.unit.inspector.core.messages import entry, index, publish, receipt
from tests.unit.samples import MINUTE


def status_of(receipts: Index, offset: int) -> EventStatus:
    return receipts.outcomes(Event(0, offset, b"orders"))["archive"].status


def test_event_is_pending_until_a_receipt_covers_it() -> None:
    receipts = index()
    assert status_of(receipts, 3) is EventStatus.PENDING
    publish(receipts, receipt(0, 10))
    assert status_of(receipts, 3) is EventStatus.DELIVERED
    assert status_of(receipts, 10) is EventStatus.PENDING


def test_pending_event_of_a_failing_destination_says_for_what_it_waits() -> None:
    receipts = index(configured={"archive": "orders", "other": "orders"})

    def pending(destination: str = "archive") -> EventOutcome:
        return receipts.outcomes(Event(0, 30, b"orders"))[destination]

    plain = pending("other")
    assert pending() == plain
    for status in (Status.RETRYING, Status.FAILED):
        publish(receipts, receipt(0, 10, status=status))
        assert pending().status is EventStatus.PENDING
        assert (pending().reason or "").endswith(f"whose last receipt is `{status}`")
        assert pending().error == "AccessDenied: Access Denied"
        assert pending("other") == plain
    publish(receipts, receipt(10, 20, status=Status.DELIVERED))
    assert pending() == plain, "it was served since"
    publish(receipts, receipt(20, 20, status=Status.FAILED))
    assert pending() == plain, "a batch that cannot be decoded is not about the destination"


def test_outcomes_are_of_the_destinations_that_match() -> None:
    receipts = index(configured={"archive": "orders", "other": "signups", "every": None})
    assert set(receipts.outcomes(Event(0, 1, b"orders"))) == {"archive", "every"}
    assert set(receipts.outcomes(Event(0, 1, None))) == {"every"}
    publish(receipts, receipt(destination="gone", pipeline="signups"))
    assert set(receipts.outcomes(Event(0, 1, b"signups"))) == {"other", "every", "gone"}


def test_receipt_separates_skipped_failed_and_delivered_events() -> None:
    receipts = index(receipt(0, 10, skipped=[(1, 2), (5, 5)], failed=[7]))
    statuses = [status_of(receipts, it) for it in range(10)]
    assert [it for it, of in enumerate(statuses) if of is EventStatus.SKIPPED] == [1, 2, 5]
    assert [it for it, of in enumerate(statuses) if of is EventStatus.FAILED] == [7]
    assert statuses.count(EventStatus.DELIVERED) == 6
    assert receipts.outcomes(Event(0, 7, b"orders"))["archive"].error == "TypeError: 7"


def test_shortened_receipt_leaves_the_events_that_it_does_not_list_unknown() -> None:
    whole = receipt(0, 100, skipped=[(it, it) for it in range(0, 100, 2)], failed=[1])
    short = whole.shortened(len(whole.message(MINUTE).value) - 100)
    assert short is not None
    assert short.lists is not None
    end = short.lists.end_offset
    assert end is not None
    receipts = index(short)
    statuses = [status_of(receipts, it) for it in range(100)]
    assert statuses[:4] == [
        EventStatus.SKIPPED, EventStatus.FAILED, EventStatus.SKIPPED, EventStatus.DELIVERED
    ]  # fmt: skip
    assert EventStatus.UNKNOWN not in statuses[:end]
    assert set(statuses[end:]) == {EventStatus.UNKNOWN}
    found = receipts.outcomes(Event(0, end, b"orders"))["archive"]
    assert found.reason == NOT_LISTED


def test_window_with_nothing_to_write_skips_all_its_events() -> None:
    receipts = index(receipt(0, 3, status=Status.EMPTY, skipped=[(0, 2)]))
    assert status_of(receipts, 1) is EventStatus.SKIPPED


@pytest.mark.parametrize(
    ("status", "expected"),
    [(Status.RETRYING, EventStatus.RETRYING), (Status.FAILED, EventStatus.FAILED)],
)
def test_late_window_and_one_given_up_differ(status: Status, expected: EventStatus) -> None:
    receipts = index(receipt(0, 10, status=status, skipped=[(4, 4)]))
    found = receipts.outcomes(Event(0, 3, b"orders"))["archive"]
    assert found.status is expected
    assert found.error == "AccessDenied: Access Denied"
    assert status_of(receipts, 4) is EventStatus.SKIPPED


def test_the_order_of_receipts_does_not_decide() -> None:
    late, failed, done = (
        receipt(status=it) for it in (Status.RETRYING, Status.FAILED, Status.DELIVERED)
    )
    for order in ((late, failed, done), (done, failed, late), (failed, done, late)):
        receipts = index(*order)
        assert status_of(receipts, 3) is EventStatus.DELIVERED
    receipts = index(failed, late)
    assert status_of(receipts, 3) is EventStatus.FAILED


def test_redelivered_window_supersedes_one_that_was_given_up() -> None:
    receipts = index(receipt(status=Status.FAILED), receipt(status=Status.REDELIVERED))
    found = receipts.outcomes(Event(0, 3, b"orders"))["archive"]
    assert found.status is EventStatus.DELIVERED
    assert [it.status for it in found.entries] == [Status.REDELIVERED, Status.FAILED]


def test_effective_receipt_of_a_failed_event_has_the_fewest_answers() -> None:
    receipts = index(
        receipt(0, 10, failed=[3, 4, 5]),
        receipt(0, 10, status=Status.REDELIVERED, answers=(3, 4, 5), failed=[4], skipped=[(5, 5)]),
    )
    assert status_of(receipts, 3) is EventStatus.DELIVERED
    assert status_of(receipts, 4) is EventStatus.FAILED
    assert status_of(receipts, 5) is EventStatus.SKIPPED
    publish(receipts, receipt(0, 10, status=Status.REDELIVERED, answers=(4,)))
    assert status_of(receipts, 4) is EventStatus.DELIVERED
    # That receipt does not cover the other failed events.
    assert len(receipts.outcomes(Event(0, 3, b"orders"))["archive"].entries) == 2


def test_announced_redelivery_changes_no_outcome() -> None:
    receipts = index(
        receipt(0, 10, failed=[3]), receipt(0, 10, status=Status.RETRYING, answers=(3,))
    )
    assert status_of(receipts, 3) is EventStatus.FAILED


def test_answers_without_their_window_have_no_effect() -> None:
    receipts = index(receipt(0, 10, status=Status.REDELIVERED, answers=(3,)))
    assert status_of(receipts, 3) is EventStatus.PENDING
    assert receipts.window("archive", 0, 0) == ()


def test_outcome_counts_have_every_status() -> None:
    receipts = index(receipt(0, 10), configured={"archive": "orders", "every": None})
    assert receipts.outcome_counts(Event(0, 3, b"orders")) == {
        "matched": 2,
        "delivered": 1,
        "skipped": 0,
        "failed": 0,
        "pending": 1,
        "retrying": 0,
        "unknown": 0,
    }


def test_event_that_later_windows_have_long_passed_is_unknown() -> None:
    receipts = index(receipt(100, 110))
    assert status_of(receipts, 3) is EventStatus.PENDING, (
        "the windows of other destinations may be slower"
    )
    publish(receipts, receipt(110, 120, start=MINUTE + 60))
    assert status_of(receipts, 3) is EventStatus.PENDING
    publish(receipts, receipt(120, 130, start=MINUTE + 180))
    assert status_of(receipts, 3) is EventStatus.UNKNOWN
    assert status_of(receipts, 500) is EventStatus.PENDING
    other_partition = receipts.outcomes(Event(1, 3, b"orders"))["archive"].status
    assert other_partition is EventStatus.PENDING


def test_older_window_does_not_move_the_frontier_back() -> None:
    receipts = index(receipt(100, 110), receipt(50, 60), receipt(200, 210, start=MINUTE + 600))
    assert status_of(receipts, 99) is EventStatus.UNKNOWN


def test_receipt_published_twice_is_indexed_once() -> None:
    receipts = index(receipt(), receipt())
    assert receipts.receipt_count == 1


def test_receipts_of_another_group_or_topic_are_ignored() -> None:
    receipts = index(receipt(group="other"), receipt(topic="others"))
    assert (receipts.receipt_count, receipts.not_receipts) == (0, 0)


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b"\xff", b"[" * 2000])
def test_message_that_is_not_a_receipt_is_counted(value: bytes | None) -> None:
    receipts = index()
    headers = receipt().message(0).headers
    assert receipts.add(0, 0, headers, value) is None
    assert receipts.add(0, 0, (), receipt().message(0).value) is None
    assert (receipts.receipt_count, receipts.not_receipts) == (0, 2)


def test_receipt_without_a_time_is_indexed() -> None:
    receipts = index()
    message = receipt().message(0)
    headers = [it for it in message.headers if it[0] != "ce_time"]
    added = receipts.add(0, 0, headers, message.value)
    assert added is not None
    assert (added.published_at, receipts.oldest_at) == (None, None)


def test_oldest_receipts_are_evicted_when_there_are_too_many() -> None:
    windows = [receipt(it, it + 10, start=MINUTE + 6 * it) for it in range(0, 50, 10)]
    receipts = index(*windows, receipts_max=3)
    assert receipts.receipt_count == 3
    assert receipts.oldest_at == windows[2].window_end + 3
    assert [it.source.first_offset for it in receipts.of_destination("archive")] == [20, 30, 40]
    assert status_of(receipts, 25) is EventStatus.DELIVERED
    assert status_of(receipts, 5) is EventStatus.UNKNOWN


def test_oldest_receipts_are_evicted_when_they_take_too_much_memory() -> None:
    one = len(receipt().message(0).value) + ENTRY_BYTES
    receipts = index(
        *(receipt(it, it + 1, destination=f"d{it}") for it in range(9)), bytes_max=3 * one
    )
    assert receipts.receipt_count == 3
    assert receipts.memory_bytes <= 3 * one
    assert receipts.destinations() == ["archive", "d6", "d7", "d8"]


def test_receipts_of_one_window_are_evicted_one_by_one() -> None:
    receipts = index(receipt(status=Status.RETRYING), receipt(), receipts_max=1)
    assert [it.status for it in receipts.of_destination("archive")] == [Status.DELIVERED]
    publish(receipts, receipt(10, 20))
    assert status_of(receipts, 3) is EventStatus.PENDING
    assert status_of(receipts, 13) is EventStatus.DELIVERED


def test_another_destination_keeps_its_runs_when_one_is_evicted() -> None:
    receipts = index(receipt(destination="gone"), receipt(), receipts_max=1)
    assert set(receipts.outcomes(Event(0, 3, b"orders"))) == {"archive"}


def test_nothing_is_kept_of_a_partition_whose_receipts_are_evicted() -> None:
    receipts = index(receipt(partition=1), receipt(), receipts_max=1)
    assert receipts.outcomes(Event(1, 3, b"orders"))["archive"].status is EventStatus.PENDING


def test_effective_receipt_of_a_window_comes_first() -> None:
    receipts = index(
        receipt(status=Status.RETRYING),
        receipt(failed=[3]),
        receipt(status=Status.FAILED),
        receipt(status=Status.REDELIVERED, answers=(3,)),
        receipt(10, 20),
        receipt(partition=1),
    )
    found = receipts.window("archive", 0, 0)
    assert [(it.status, it.answers is None) for it in found] == [
        (Status.DELIVERED, True),
        (Status.REDELIVERED, False),
        (Status.FAILED, True),
        (Status.RETRYING, True),
    ]
    assert receipts.window("archive", 0, 5) == ()
    assert receipts.window("nobody", 0, 0) == ()


def test_of_equal_receipts_the_newer_one_is_effective() -> None:
    receipts = index(receipt(), receipt(status=Status.REDELIVERED))
    assert effective_receipt(receipts.of_destination("archive")).status is Status.REDELIVERED


def test_other_destinations_can_be_configured_later() -> None:
    receipts = index()
    receipts.configure({"new": "orders"})
    assert set(receipts.outcomes(Event(0, 3, b"orders"))) == {"new"}


def test_entry_keeps_the_receipt_as_it_was_published() -> None:
    published = receipt(failed=[3])
    found = entry(published)
    assert found.document() == orjson.loads(orjson.dumps(published.document()))
    assert (found.published_at, found.size, found.failed) == (
        MINUTE + 63,
        812,
        1,
    )


# --- offsets that began anew ------------------------------------------------------------------

LATER = MINUTE + 3600


def test_receipt_of_an_earlier_log_does_not_answer_for_a_window_of_the_new_one() -> None:
    receipts = index(receipt(0, 10), receipt(0, 10, status=Status.FAILED, start=LATER))
    assert status_of(receipts, 3) is EventStatus.FAILED
    (only,) = receipts.outcomes(Event(0, 3, b"orders"))["archive"].entries
    assert only.source.closed_at == LATER + 62
    assert [it.status for it in receipts.window("archive", 0, 0)] == [Status.FAILED]


def test_receipt_of_an_earlier_log_that_comes_late_does_not_count() -> None:
    receipts = index(receipt(0, 10, status=Status.FAILED, start=LATER), receipt(0, 10))
    assert status_of(receipts, 3) is EventStatus.FAILED


def test_many_small_windows_of_an_earlier_log_do_not_hide_a_large_one() -> None:
    earlier = [receipt(10 * n, 10 * n + 10, failed=[10 * n + 5]) for n in range(20)]
    receipts = index(*earlier, receipt(0, 150, start=LATER))
    assert status_of(receipts, 145) is EventStatus.DELIVERED
    assert status_of(receipts, 155) is EventStatus.FAILED, "no window of the new log has it"


def test_superseded_receipts_leave_the_index_like_all_others() -> None:
    receipts = index(receipt(0, 10), receipt(0, 20, start=LATER), receipts_max=2)
    publish(receipts, receipt(20, 30, start=LATER + 60), receipt(30, 40, start=LATER + 120))
    assert receipts.receipt_count == 2
    assert status_of(receipts, 25) is EventStatus.DELIVERED
    assert status_of(receipts, 5) is not EventStatus.DELIVERED
