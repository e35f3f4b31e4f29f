import orjson
import pytest

from stream_app.inspector.outcomes import ENTRY_BYTES, Event, Index, Outcome, counts
from stream_app.receipts import Status
from tests.unit.inspected import MINUTE, index, receipt, tell


def outcome(held: Index, offset: int, destination: str = "archive") -> Outcome:
    return held.answers(Event(0, offset, b"orders"))[destination].outcome


def test_an_event_is_pending_until_a_receipt_speaks_of_it() -> None:
    held = index()
    assert outcome(held, 3) is Outcome.PENDING
    tell(held, receipt(0, 10))
    assert outcome(held, 3) is Outcome.DELIVERED
    assert outcome(held, 10) is Outcome.PENDING


def test_only_destinations_that_match_the_event_are_asked() -> None:
    held = Index(
        "events",
        "stream-app",
        {"archive": "orders", "other": "signups", "every": None},
        settled_after_seconds=120,
    )
    assert set(held.answers(Event(0, 1, b"orders"))) == {"archive", "every"}
    assert set(held.answers(Event(0, 1, None))) == {"every"}
    tell(held, receipt(destination="gone", pipeline="signups"))
    assert set(held.answers(Event(0, 1, b"signups"))) == {"other", "every", "gone"}


def test_a_receipt_tells_skipped_and_failed_events_from_delivered_ones() -> None:
    held = index()
    tell(held, receipt(0, 10, skipped=[(1, 2), (5, 5)], failed=[7]))
    said = [outcome(held, it) for it in range(10)]
    assert [it for it, of in enumerate(said) if of is Outcome.SKIPPED] == [1, 2, 5]
    assert [it for it, of in enumerate(said) if of is Outcome.FAILED] == [7]
    assert said.count(Outcome.DELIVERED) == 6
    assert held.answers(Event(0, 7, b"orders"))["archive"].error == "TypeError: 7"


def test_a_window_with_nothing_to_write_skips_all_its_events() -> None:
    held = index()
    tell(held, receipt(0, 3, status=Status.EMPTY, skipped=[(0, 2)]))
    assert outcome(held, 1) is Outcome.SKIPPED


@pytest.mark.parametrize(
    ("status", "expected"),
    [(Status.RETRYING, Outcome.RETRYING), (Status.FAILED, Outcome.FAILED)],
)
def test_a_late_window_and_one_given_up_are_told_apart(status: Status, expected: Outcome) -> None:
    held = index()
    tell(held, receipt(0, 10, status=status, skipped=[(4, 4)]))
    answer = held.answers(Event(0, 3, b"orders"))["archive"]
    assert answer.outcome is expected
    assert answer.error == "AccessDenied: Access Denied"
    assert outcome(held, 4) is Outcome.SKIPPED


def test_the_order_of_receipts_does_not_decide() -> None:
    late, failed, done = (
        receipt(status=it) for it in (Status.RETRYING, Status.FAILED, Status.DELIVERED)
    )
    for order in ((late, failed, done), (done, failed, late), (failed, done, late)):
        held = index()
        tell(held, *order)
        assert outcome(held, 3) is Outcome.DELIVERED
    held = index()
    tell(held, failed, late)
    assert outcome(held, 3) is Outcome.FAILED


def test_a_redelivered_window_supersedes_one_that_was_given_up() -> None:
    held = index()
    tell(held, receipt(status=Status.FAILED), receipt(status=Status.REDELIVERED))
    answer = held.answers(Event(0, 3, b"orders"))["archive"]
    assert answer.outcome is Outcome.DELIVERED
    assert [it.status for it in answer.entries] == [Status.REDELIVERED, Status.FAILED]


def test_failed_events_are_answered_by_the_receipt_with_the_fewest_answers() -> None:
    held = index()
    tell(
        held,
        receipt(0, 10, failed=[3, 4, 5]),
        receipt(0, 10, status=Status.REDELIVERED, answers=(3, 4, 5), failed=[4], skipped=[(5, 5)]),
    )
    assert outcome(held, 3) is Outcome.DELIVERED
    assert outcome(held, 4) is Outcome.FAILED
    assert outcome(held, 5) is Outcome.SKIPPED
    tell(held, receipt(0, 10, status=Status.REDELIVERED, answers=(4,)))
    assert outcome(held, 4) is Outcome.DELIVERED
    # The others are not spoken of by it.
    assert len(held.answers(Event(0, 3, b"orders"))["archive"].entries) == 2


def test_an_announced_redelivery_answers_nothing_yet() -> None:
    held = index()
    tell(held, receipt(0, 10, failed=[3]), receipt(0, 10, status=Status.RETRYING, answers=(3,)))
    assert outcome(held, 3) is Outcome.FAILED


def test_answers_without_their_window_tell_nothing() -> None:
    held = index()
    tell(held, receipt(0, 10, status=Status.REDELIVERED, answers=(3,)))
    assert outcome(held, 3) is Outcome.PENDING
    assert held.window("archive", 0, 0) == ()


def test_dest_counts_every_outcome() -> None:
    held = Index(
        "events", "stream-app", {"archive": "orders", "every": None}, settled_after_seconds=120
    )
    tell(held, receipt(0, 10))
    assert held.dest(Event(0, 3, b"orders")) == {
        "matched": 2,
        "delivered": 1,
        "skipped": 0,
        "failed": 0,
        "pending": 1,
        "retrying": 0,
        "unknown": 0,
    }


def test_an_event_that_later_windows_have_long_passed_is_unknown() -> None:
    held = index()
    tell(held, receipt(100, 110))
    assert outcome(held, 3) is Outcome.PENDING, "the windows of other destinations may be slower"
    tell(held, receipt(110, 120, start=MINUTE + 60))
    assert outcome(held, 3) is Outcome.PENDING
    tell(held, receipt(120, 130, start=MINUTE + 180))
    assert outcome(held, 3) is Outcome.UNKNOWN
    assert outcome(held, 500) is Outcome.PENDING
    other_partition = held.answers(Event(1, 3, b"orders"))["archive"].outcome
    assert other_partition is Outcome.PENDING


def test_an_older_window_does_not_move_the_frontier_back() -> None:
    held = index()
    tell(held, receipt(100, 110), receipt(50, 60), receipt(200, 210, start=MINUTE + 600))
    assert outcome(held, 99) is Outcome.UNKNOWN


def test_a_receipt_published_twice_is_held_once() -> None:
    held = index()
    tell(held, receipt(), receipt())
    assert held.held == 1


def test_receipts_of_another_group_or_topic_are_passed_over() -> None:
    held = index()
    tell(held, receipt(group="other"), receipt(topic="others"))
    assert (held.held, held.not_receipts) == (0, 0)


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b"\xff", b"[" * 2000])
def test_what_is_no_receipt_is_counted(value: bytes | None) -> None:
    held = index()
    headers = receipt().message(0).headers
    assert held.add(0, 0, headers, value) is None
    assert held.add(0, 0, (), receipt().message(0).value) is None
    assert (held.held, held.not_receipts) == (0, 2)


def test_a_receipt_without_a_time_is_held() -> None:
    held = index()
    message = receipt().message(0)
    headers = [it for it in message.headers if it[0] != "ce_time"]
    entry = held.add(0, 0, headers, message.value)
    assert entry is not None
    assert (entry.published_at, held.oldest) == (None, None)


def test_the_oldest_receipts_go_when_there_are_too_many() -> None:
    held = index(receipts_max=3)
    windows = [receipt(it, it + 10, start=MINUTE + 6 * it) for it in range(0, 50, 10)]
    tell(held, *windows)
    assert held.held == 3
    assert held.oldest == windows[2].window_end + 3
    assert [it.source.first_offset for it in held.of_destination("archive")] == [20, 30, 40]
    assert outcome(held, 25) is Outcome.DELIVERED
    assert outcome(held, 5) is Outcome.UNKNOWN


def test_the_oldest_receipts_go_when_they_take_too_much_memory() -> None:
    one = len(receipt().message(0).value) + ENTRY_BYTES
    held = index(bytes_max=3 * one)
    tell(held, *(receipt(it, it + 1, destination=f"d{it}") for it in range(9)))
    assert held.held == 3
    assert held.bytes_held <= 3 * one
    assert held.destinations() == ["archive", "d6", "d7", "d8"]


def test_receipts_of_one_window_go_one_by_one() -> None:
    held = index(receipts_max=1)
    tell(held, receipt(status=Status.RETRYING), receipt())
    assert [it.status for it in held.of_destination("archive")] == [Status.DELIVERED]
    tell(held, receipt(10, 20))
    assert outcome(held, 3) is Outcome.PENDING
    assert outcome(held, 13) is Outcome.DELIVERED


def test_another_destination_keeps_its_runs_when_one_goes() -> None:
    held = index(receipts_max=1)
    tell(held, receipt(destination="gone"), receipt())
    assert set(held.answers(Event(0, 3, b"orders"))) == {"archive"}


def test_nothing_is_kept_of_a_partition_whose_receipts_have_gone() -> None:
    held = index(receipts_max=1)
    tell(held, receipt(partition=1), receipt())
    assert held.answers(Event(1, 3, b"orders"))["archive"].outcome is Outcome.PENDING


def test_a_window_gives_the_receipt_that_counts_first() -> None:
    held = index()
    tell(
        held,
        receipt(status=Status.RETRYING),
        receipt(failed=[3]),
        receipt(status=Status.FAILED),
        receipt(status=Status.REDELIVERED, answers=(3,)),
        receipt(10, 20),
        receipt(partition=1),
    )
    found = held.window("archive", 0, 0)
    assert [(it.status, it.answers is None) for it in found] == [
        (Status.DELIVERED, True),
        (Status.REDELIVERED, False),
        (Status.FAILED, True),
        (Status.RETRYING, True),
    ]
    assert held.window("archive", 0, 5) == ()
    assert held.window("nobody", 0, 0) == ()


def test_of_equal_receipts_the_newer_one_counts() -> None:
    held = index()
    tell(held, receipt(), receipt(status=Status.REDELIVERED))
    assert counts(held.of_destination("archive")).status is Status.REDELIVERED


def test_other_destinations_can_be_configured_later() -> None:
    held = index()
    held.configure({"new": "orders"})
    assert set(held.answers(Event(0, 3, b"orders"))) == {"new"}


def test_an_entry_gives_the_receipt_as_it_was_published() -> None:
    held = index()
    published = receipt(failed=[3])
    tell(held, published)
    (entry,) = held.of_destination("archive")
    assert entry.document() == orjson.loads(orjson.dumps(published.document()))
    assert (entry.published_at, entry.size, entry.failed) == (MINUTE + 63, 812, 1)
