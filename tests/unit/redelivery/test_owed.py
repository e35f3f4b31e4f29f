from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from stream_app.config.settings import Destination
from stream_app.core.commit_metadata import Closing, Commit, UnmarkedCommitError
from stream_app.core.delivery import Delivery
from stream_app.core.object_key import identifier, object_key
from stream_app.core.receipt import Message, Problem, Receipt, Source, Status, Stored, Tally
from stream_app.core.receipt_decoder import Announced, ObjectLocation
from stream_app.errors import SetupError
from stream_app.redelivery.owed import (
    ANNOUNCED,
    CANDIDATE_BYTES,
    OFFSET_BYTES,
    Owed,
    OwedFilter,
    OwedSearch,
    events_identifier,
    obstacle,
)
from tests.unit.samples import MINUTE

ORDERS = Destination(id="orders", bucket="my-bucket", pipeline="orders", prefix="test/")
SOURCE = Source("events", 3, 10, 20)
REFUSED = Problem("AccessDenied", "Access Denied", retryable=False)
TIMEOUT = Problem("TimeoutError", "no answer", retryable=True)
ANNOUNCEMENT = Problem(ANNOUNCED, "is about to be written", retryable=True)
STORED = Stored(812, "e", None, "c2hhMjU2", already_existed=False, stored_at=None)
FAILED_EVENTS = OwedFilter(failed_events=True)


def receipt(
    status: Status = Status.FAILED,
    *,
    source: Source = SOURCE,
    destination: Destination = ORDERS,
    failed: Sequence[int] = (),
    problem: Problem | None = REFUSED,
    stored: Stored | None = None,
    answers: tuple[int, ...] | None = None,
    minute: int = 0,
) -> Receipt:
    matched = 5 if answers is None else len(answers)
    tally = Tally(matched, failed=[(it, f"events/3@{it}", "no") for it in failed])
    name = identifier(
        source.topic, source.partition, source.first_offset, source.closed_at, destination.id
    )
    return Receipt(
        status=status,
        group="stream-app",
        destination=destination.id,
        pipeline=destination.pipeline,
        window_start=MINUTE + 60 * minute,
        window_end=MINUTE + 60 * minute + 60,
        source=source,
        tally=tally,
        bucket=destination.bucket,
        key=object_key(destination.prefix, MINUTE + 62, name),
        size_uncompressed=40,
        closed_at=MINUTE + 62,
        attempts=9,
        stored=stored,
        problem=problem,
        answers=answers,
    )


def final(status: Status = Status.DELIVERED, **options: Any) -> Receipt:
    stored = None if status is Status.EMPTY else STORED
    return receipt(status, problem=None, stored=stored, **options)


def delivered(matched: int, to: Destination = ORDERS) -> Delivery:
    delivery = Delivery(to)
    delivery.tally, delivery.size_uncompressed = Tally(matched), 40
    return delivery


def announced(owed: Owed, checksum: str = "c2hhMjU2", to: Destination = ORDERS) -> Receipt:
    """The receipt with which a run announces its object."""
    stored = replace(STORED, checksum=checksum)
    answer, delivery = owed.build_receipt, delivered(5, to)
    return answer(Status.RETRYING, "stream-app", delivery, stored=stored, problem=ANNOUNCEMENT)


def withdrawn(owed: Owed, checksum: str = "c2hhMjU2", to: Destination = ORDERS) -> Receipt:
    return replace(announced(owed, checksum, to), status=Status.FAILED, problem=REFUSED)


def message(it: Receipt) -> Message:
    return it.message(MINUTE + 100)


def search(*receipts: Receipt, wanted: OwedFilter | None = None) -> OwedSearch:
    """Read a topic with these receipts twice."""
    found = OwedSearch("stream-app", wanted or OwedFilter())
    for take in (found.collect, found.update):
        for it in receipts:
            take(message(it).headers, message(it).value)
    return found


def note(found: OwedSearch, *receipts: Receipt) -> None:
    for it in receipts:
        found.update(message(it).headers, message(it).value)


def one(*receipts: Receipt, wanted: OwedFilter | None = None) -> Owed:
    (owed,) = search(*receipts, wanted=wanted).owed()
    return owed


def mine(owed: Owed, checksum: str = "c2hhMjU2", to: Destination = ORDERS) -> Announced:
    return Announced(owed.location(to), checksum)


# --- windows that were given up --------------------------------------------------------------


def test_window_with_a_failed_receipt_alone_is_owed() -> None:
    owed = one(receipt())
    assert (owed.first, owed.end, owed.matched, owed.events) == (10, 20, 5, None)
    assert owed.receipt.id == receipt().id


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.REDELIVERED, Status.EMPTY])
def test_window_with_a_final_receipt_is_not_owed_whatever_their_order(status: Status) -> None:
    assert search(receipt(), final(status)).owed() == []
    assert search(final(status), receipt()).owed() == []


@pytest.mark.parametrize("closed_at", [MINUTE - 3600, MINUTE + 3600])
def test_receipt_of_another_life_of_the_topic_does_not_answer_for_the_same_offsets(
    closed_at: int,
) -> None:
    other = replace(SOURCE, closed_at=closed_at)
    lives = (final(source=other), receipt(), final(Status.REDELIVERED, source=other))
    assert one(*lives).receipt.id == receipt().id
    assert search(*lives, final()).owed() == []


def test_window_that_is_late_is_not_owed() -> None:
    late = receipt(Status.RETRYING, problem=TIMEOUT)
    assert search(late).owed() == []
    assert len(search(receipt(), late).owed()) == 1


def test_final_receipt_of_another_destination_or_run_delivers_nothing() -> None:
    other = replace(ORDERS, id="other")
    elsewhere = Source("events", 3, 20, 30)
    found = search(receipt(), final(destination=other), final(source=elsewhere)).owed()
    assert [it.receipt.source for it in found] == [SOURCE]


def test_receipt_published_twice_is_owed_once() -> None:
    assert len(search(receipt(), receipt()).owed()) == 1


def test_receipts_of_another_group_do_not_count() -> None:
    other = replace(receipt(), group="other")
    assert search(other).owed() == []
    assert len(search(receipt(), replace(final(), group="other")).owed()) == 1


def test_what_is_owed_comes_in_the_order_of_partitions_and_offsets() -> None:
    sources = [Source("events", 1, 5, 6), Source("events", 0, 7, 9), Source("events", 0, 2, 7)]
    found = search(*(receipt(source=it) for it in sources)).owed()
    assert [it.receipt.source for it in found] == sources[::-1]


def test_failure_of_a_run_does_not_hide_the_receipt_of_the_worker() -> None:
    owed = one(receipt(problem=TIMEOUT))
    own = withdrawn(owed, to=replace(ORDERS, bucket="other-bucket"))
    for receipts in ((receipt(problem=TIMEOUT), own), (own, receipt(problem=TIMEOUT))):
        assert one(*receipts).receipt.retryable
        assert one(*receipts).receipt.location == owed.receipt.location


def test_failure_of_a_run_stands_for_the_receipt_of_the_worker_where_that_is_gone() -> None:
    own = withdrawn(one(receipt()))
    assert one(own).receipt.id == receipt().id


@pytest.mark.parametrize(
    ("wanted", "minutes"),
    [
        (OwedFilter(), {0, 1, 2}),
        (OwedFilter(since=MINUTE + 60), {1, 2}),
        (OwedFilter(until=MINUTE + 60), {0}),
        (OwedFilter(since=MINUTE + 1, until=MINUTE + 61), {1}),
        (OwedFilter(destinations=frozenset({"orders"})), {0, 1, 2}),
        (OwedFilter(destinations=frozenset({"other"})), set()),
        (OwedFilter(ids=frozenset({receipt(source=Source("events", 0, 1, 2)).id})), {1}),
    ],
)
def test_only_what_is_wanted_is_owed(wanted: OwedFilter, minutes: set[int]) -> None:
    receipts = [receipt(source=Source("events", 0, it, it + 1), minute=it) for it in range(3)]
    found = search(*receipts, wanted=wanted)
    assert {it.receipt.source.first_offset for it in found.owed()} == minutes
    assert found.found is bool(minutes)


def test_ids_that_no_failed_receipt_has_are_named() -> None:
    wanted = OwedFilter(ids=frozenset({receipt().id, final().id, "0" * 64}))
    assert search(receipt(), final(), wanted=wanted).unknown_ids() == sorted(["0" * 64, final().id])


def test_more_than_fits_in_memory_is_refused() -> None:
    found = OwedSearch("stream-app", OwedFilter(), memory_bytes_max=2 * CANDIDATE_BYTES)
    receipts = [receipt(source=Source("events", 0, it, it + 1)) for it in range(3)]
    for it in receipts[:2] * 2:
        found.collect(message(it).headers, message(it).value)
    with pytest.raises(SetupError, match="3 so far; select fewer: --destination, --since"):
        found.collect(message(receipts[2]).headers, message(receipts[2]).value)


def test_failed_offsets_count_as_memory() -> None:
    many = message(final(failed=range(100)))
    found = OwedSearch("stream-app", FAILED_EVENTS, CANDIDATE_BYTES + 100 * OFFSET_BYTES)
    found.collect(many.headers, many.value)
    found = OwedSearch("stream-app", FAILED_EVENTS, CANDIDATE_BYTES + 100 * OFFSET_BYTES - 1)
    with pytest.raises(SetupError, match="1 so far"):
        found.collect(many.headers, many.value)


# --- messages that are no receipts -----------------------------------------------------------


def mangled(**changes: Any) -> bytes:
    return orjson.dumps({**receipt().document(), **changes})


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"no json",
        b"[]",
        b"{}",
        mangled(status="lost"),
        mangled(window={"start": "yesterday", "end": "today"}),
        mangled(source={"topic": "events", "partition": "3", "first_offset": 1, "end_offset": 2}),
        mangled(object={"bucket": "b", "key": "x.gz"}),
        mangled(
            object={
                **(receipt().document()["object"]),
                "key": final(source=Source("events", 3, 11, 20)).key,
            }
        ),
        mangled(object=["x"]),
    ],
)
def test_message_that_is_not_a_receipt_is_counted_and_skipped(value: bytes | None) -> None:
    found = OwedSearch("stream-app", OwedFilter())
    for take in (found.collect, found.update):
        take(message(receipt()).headers, value)
    assert (found.unreadable, found.owed()) == (1, [])


@pytest.mark.parametrize(
    "changes",
    [{"ce_type": None}, {"ce_type": b"com.example.other"}, {"ce_id": None}, {"ce_type": b"\xff"}],
)
def test_message_without_the_headers_of_a_receipt_is_counted(
    changes: Mapping[str, bytes | None],
) -> None:
    headers = {**dict(message(receipt()).headers), **changes}
    found = OwedSearch("stream-app", OwedFilter())
    found.collect([(name, it) for name, it in headers.items() if it], message(receipt()).value)
    assert (found.unreadable, found.owed()) == (1, [])


# --- failed events ---------------------------------------------------------------------------


def test_failed_events_of_a_delivered_window_are_owed() -> None:
    owed = one(final(failed=[12, 15]), wanted=FAILED_EVENTS)
    assert (owed.first, owed.end, owed.matched, owed.events) == (12, 16, 2, (12, 15))


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.REDELIVERED, Status.EMPTY])
def test_failed_events_are_owed_whatever_the_final_receipt_is(status: Status) -> None:
    assert one(final(status, failed=[12]), wanted=FAILED_EVENTS).events == (12,)


def test_failed_events_of_a_window_that_was_given_up_wait_for_the_window() -> None:
    assert search(receipt(failed=[12]), wanted=FAILED_EVENTS).owed() == []


def test_window_without_failed_events_owes_none() -> None:
    assert search(final(), wanted=FAILED_EVENTS).owed() == []


def test_what_fails_again_is_owed_again() -> None:
    whole = final(failed=[12, 15, 17])
    first = final(Status.REDELIVERED, answers=(12, 15, 17), failed=[12, 17])
    second = final(Status.EMPTY, answers=(12, 17), failed=[17])
    assert one(first, whole, wanted=FAILED_EVENTS).events == (12, 17)
    assert one(second, whole, first, wanted=FAILED_EVENTS).events == (17,)
    third = final(Status.REDELIVERED, answers=(17,))
    assert search(whole, first, second, third, wanted=FAILED_EVENTS).owed() == []


def test_receipt_that_delivers_nothing_does_not_block_the_search() -> None:
    whole = final(failed=[12])
    same = final(Status.REDELIVERED, answers=(12,), failed=[12])
    assert one(whole, same, wanted=FAILED_EVENTS).events == (12,)


def test_delivery_of_failed_events_does_not_deliver_the_window() -> None:
    assert one(receipt(), final(Status.REDELIVERED, answers=(12,))).events is None
    assert search(receipt(answers=(12,), stored=STORED)).owed() == []


def test_failed_events_are_chosen_by_the_id_of_any_receipt_that_led_to_them() -> None:
    whole = final(failed=[12, 15])
    answer = final(Status.REDELIVERED, answers=(12, 15), failed=[15])
    for it in (whole, answer):
        wanted = replace(FAILED_EVENTS, ids=frozenset({it.id}))
        found = search(whole, answer, wanted=wanted)
        assert [owed.events for owed in found.owed()] == [(15,)]
        assert found.unknown_ids() == []
    wanted = replace(FAILED_EVENTS, ids=frozenset({"0" * 64}))
    found = search(whole, answer, wanted=wanted)
    assert (found.owed(), found.unknown_ids()) == ([], ["0" * 64])


# --- while it delivers -----------------------------------------------------------------------


def test_window_that_is_delivered_meanwhile_is_no_longer_owed() -> None:
    found = search(receipt())
    (owed,) = found.owed()
    note(found, receipt(Status.RETRYING, problem=TIMEOUT), final(answers=(12,)))
    assert found.is_owed(owed)
    note(found, final(Status.REDELIVERED))
    assert not found.is_owed(owed)


def test_failed_events_that_are_delivered_meanwhile_are_no_longer_owed() -> None:
    found = search(final(failed=[12]), wanted=FAILED_EVENTS)
    (owed,) = found.owed()
    note(found, final(failed=[12]))
    assert found.is_owed(owed)
    note(found, final(Status.REDELIVERED, answers=(12,)))
    assert not found.is_owed(owed)


# --- where its object goes -------------------------------------------------------------------


def test_window_is_redelivered_under_its_original_key() -> None:
    assert one(receipt()).location(ORDERS) == ObjectLocation("my-bucket", receipt().key)


def test_object_of_a_named_window_has_the_time_in_its_name() -> None:
    source = replace(SOURCE, closed_at=MINUTE + 62)
    owed = one(receipt(source=source))
    assert owed.closed_at == MINUTE + 62
    assert owed.location(ORDERS).key == receipt(source=source).key


def test_corrected_bucket_and_prefix_change_the_location_and_nothing_else_of_the_key() -> None:
    to = replace(ORDERS, bucket="other-bucket", prefix="corrected")
    key = receipt().key.replace("test/", "corrected/")
    assert one(receipt()).location(to) == ObjectLocation("other-bucket", key)


def test_another_format_changes_the_end_of_the_key_and_is_in_doubt_after_a_lost_response() -> None:
    to = replace(ORDERS, format="zstd")
    key = receipt().key.removesuffix(".gz") + ".zst"
    owed = one(receipt(problem=replace(REFUSED, retryable=True)))
    mine = Announced(owed.location(to), "c2hhMjU2")
    assert mine.location == ObjectLocation("my-bucket", key)
    assert owed.doubt(mine) == ObjectLocation("my-bucket", receipt().key)


def test_failed_events_have_a_key_of_their_own_that_depends_on_them_alone() -> None:
    owed = one(final(failed=[12, 15]), wanted=FAILED_EVENTS)
    name = events_identifier(owed.receipt.source, "orders", [12, 15])
    assert owed.location(ORDERS) == ObjectLocation(
        "my-bucket", object_key("test/", MINUTE + 62, name)
    )
    other = one(final(failed=[12]), wanted=FAILED_EVENTS)
    assert (
        len(
            {
                owed.location(ORDERS),
                other.location(ORDERS),
                ObjectLocation("my-bucket", final().key),
            }
        )
        == 3
    )


def test_failed_events_of_a_window_without_an_object_have_its_end_in_their_key() -> None:
    owed = one(final(Status.EMPTY, failed=[12]), wanted=FAILED_EVENTS)
    assert owed.closed_at == MINUTE + 60


def test_receipt_of_a_redelivery_names_what_is_owed() -> None:
    owed = one(final(failed=[12, 15]), wanted=FAILED_EVENTS)
    answer = owed.build_receipt(
        Status.REDELIVERED, "stream-app", delivered(2), attempts=1, stored=STORED
    )
    assert (answer.answers, answer.source, answer.key) == (
        (12, 15),
        SOURCE,
        owed.location(ORDERS).key,
    )
    assert (answer.window_start, answer.window_end) == (MINUTE, MINUTE + 60)
    assert (
        answer.id
        != one(receipt())
        .build_receipt(Status.REDELIVERED, "stream-app", delivered(5), stored=STORED)
        .id
    )


# --- doubt -----------------------------------------------------------------------------------


def test_there_is_no_doubt_after_a_refusal_wherever_the_object_goes() -> None:
    owed = one(receipt())
    assert owed.doubt(mine(owed)) is None
    assert owed.doubt(mine(owed, to=replace(ORDERS, bucket="other-bucket"))) is None
    assert owed.doubt(None) is None


def test_worker_without_a_response_may_have_left_its_object() -> None:
    owed = one(receipt(problem=TIMEOUT))
    assert owed.doubt(mine(owed)) is None, "the same place: S3 keeps one"
    original = owed.location(ORDERS)
    assert owed.doubt(mine(owed, to=replace(ORDERS, prefix="other/"))) == original
    assert owed.doubt(None) == original


def test_run_that_ended_midway_may_have_left_its_object() -> None:
    owed = one(receipt())
    owed = one(receipt(), announced(owed))
    assert owed.doubt(mine(owed)) is None, "the same object: S3 keeps one"
    assert owed.doubt(mine(owed, "b3RoZXI=")) == owed.location(ORDERS)
    assert owed.doubt(mine(owed, to=replace(ORDERS, bucket="other-bucket"))) == owed.location(
        ORDERS
    )
    assert owed.doubt(None) == owed.location(ORDERS)


def test_announcement_that_was_withdrawn_leaves_no_doubt() -> None:
    owed = one(receipt())
    owed = one(receipt(), announced(owed), withdrawn(owed))
    assert owed.doubt(mine(owed, "b3RoZXI=")) is None


def test_one_of_two_runs_that_withdraws_leaves_the_other_in_doubt() -> None:
    owed = one(receipt())
    owed = one(receipt(), announced(owed), announced(owed), withdrawn(owed))
    assert owed.doubt(mine(owed, "b3RoZXI=")) == owed.location(ORDERS)


def test_withdrawal_of_what_was_never_announced_counts_for_nothing() -> None:
    owed = one(receipt())
    owed = one(receipt(), withdrawn(owed), announced(owed))
    assert owed.doubt(mine(owed, "b3RoZXI=")) == owed.location(ORDERS)


def test_announcement_that_comes_while_it_delivers_is_noted() -> None:
    found = search(receipt())
    (owed,) = found.owed()
    note(found, announced(owed, "b3RoZXI="))
    assert owed.doubt(mine(owed)) == owed.location(ORDERS)


def test_announcement_of_failed_events_puts_the_window_in_no_doubt() -> None:
    events = one(final(failed=[12]), wanted=FAILED_EVENTS)
    owed = one(receipt(), announced(events))
    assert owed.doubt(None) is None
    events = one(final(failed=[12]), announced(events, "b3RoZXI="), wanted=FAILED_EVENTS)
    assert events.doubt(mine(events)) == events.location(ORDERS)


def test_object_is_the_workers_when_location_lines_and_size_are() -> None:
    owed = one(receipt())
    assert owed.is_same_object(mine(owed), 5, 40)
    assert not owed.is_same_object(mine(owed), 4, 40)
    assert not owed.is_same_object(mine(owed), 5, 41)
    assert not owed.is_same_object(mine(owed, to=replace(ORDERS, bucket="other-bucket")), 5, 40)


def test_object_is_ours_when_another_run_has_announced_it() -> None:
    owed = one(receipt())
    owed = one(receipt(), announced(owed), withdrawn(owed), announced(owed))
    assert owed.is_same_object(mine(owed), 4, 30)
    assert not owed.is_same_object(mine(owed, "b3RoZXI="), 4, 30)


def test_object_that_only_this_run_has_announced_is_not_known() -> None:
    events = one(final(failed=[12]), wanted=FAILED_EVENTS)
    events = one(final(failed=[12]), announced(events), wanted=FAILED_EVENTS)
    assert not events.is_same_object(mine(events), 5, 40)


def test_failure_of_a_run_proves_nothing_about_the_object_of_the_worker() -> None:
    owed = one(withdrawn(one(receipt())))
    assert not owed.is_same_object(mine(owed), 5, 40)


# --- what is in the way ----------------------------------------------------------------------


def in_the_way(
    owed: Owed,
    *destinations: Destination,
    topic: str = "events",
    commit: Commit | UnmarkedCommitError | None = Commit(20, ()),  # noqa: B008 - frozen
) -> str | None:
    commits = {} if commit is None else {3: commit}
    return obstacle(owed, {it.id: it for it in destinations or (ORDERS,)}, topic, commits)


def test_settled_window_has_no_obstacle() -> None:
    assert in_the_way(one(receipt())) is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"topic": "others"}, "its events are of topic 'events'; set [kafka] events_topic to it"),
        ({"commit": None}, "the group has committed nothing for this partition"),
        ({"commit": UnmarkedCommitError(20, "")}, "the commit at offset 20 has metadata '', not"),
        ({"commit": Commit(19, ())}, "workers have not settled the window yet"),
        ({"commit": Commit(20, (), MINUTE + 63)}, "the log of partition 3 has begun anew at"),
        (
            {"commit": Commit(5, (Closing(20, MINUTE, MINUTE, settled=False),))},
            "workers have not settled the window yet",
        ),
        (
            {"commit": Commit(5, (Closing(25, MINUTE, MINUTE, settled=True),))},
            "workers have not settled the window yet",
        ),
    ],
)
def test_obstacle_is_explained(options: dict[str, Any], text: str) -> None:
    found = in_the_way(one(receipt()), **options)
    assert found is not None
    assert text in found


def test_window_that_is_settled_before_an_older_one_may_be_delivered() -> None:
    closings = (
        Closing(10, MINUTE, MINUTE, settled=False),
        Closing(20, MINUTE, MINUTE, settled=True),
    )
    assert in_the_way(one(receipt()), commit=Commit(5, closings)) is None


def test_destination_that_is_gone_or_takes_other_events_is_an_obstacle() -> None:
    owed = one(receipt())
    gone = in_the_way(owed, replace(ORDERS, id="other"))
    assert gone == "the destination is not in the configuration; put it back there"
    assert in_the_way(owed, replace(ORDERS, pipeline=None)) == (
        "the destination took pipeline 'orders' then and takes every pipeline now; set its "
        "pipeline back for a while"
    )


def test_window_of_a_batch_that_could_not_be_decoded_is_owed_whatever_it_holds() -> None:
    passed_over = replace(receipt(), tally=Tally(), size_uncompressed=0)
    owed = one(passed_over)
    assert (owed.first, owed.end, owed.matched) == (10, 20, None)
    assert search(passed_over, final(Status.EMPTY)).owed() == []


def test_receipt_of_such_a_batch_has_another_id_than_one_of_a_window_that_was_given_up() -> None:
    assert replace(receipt(), tally=Tally()).id != receipt().id
