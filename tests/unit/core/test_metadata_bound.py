"""The bound of a commit's metadata, as it is set, learned and kept."""

import pytest

from stream_app.config.settings import OFFSET_METADATA_BYTES_MIN, Kafka
from stream_app.core.commit_metadata import METADATA_BYTES_MAX, Closing, Commit
from stream_app.core.metadata_bound import LEARNED_SECONDS, MetadataBound, size_of
from stream_app.errors import SetupError
from tests.unit.core.builders import MINUTE


def commit_of(count: int) -> Commit:
    """Return a commit with so many closings, one a minute."""
    closings = [
        Closing(11 + it, MINUTE + 62 + 60 * it, MINUTE + 60 * it, settled=False)
        for it in range(count)
    ]
    return Commit(10, tuple(closings))


def test_the_setting_is_the_brokers_default() -> None:
    assert Kafka().offset_metadata_bytes_max == METADATA_BYTES_MAX


def test_a_small_commit_is_not_measured() -> None:
    commit = commit_of(50)
    assert MetadataBound(4096).fit(commit, 0) is commit


def test_closings_are_left_out_from_the_newest_on() -> None:
    bound, whole = MetadataBound(200), commit_of(100)
    fitting = bound.fit(whole, 3)
    assert fitting is not None
    count = len(fitting.closings)
    assert fitting == Commit(10, whole.closings[:count])
    assert size_of(fitting) <= 200 < size_of(Commit(10, whole.closings[: count + 1]))


def test_what_fits_exactly_is_left_as_it_is() -> None:
    whole = commit_of(40)
    assert MetadataBound(size_of(whole)).fit(whole, 0) == whole


def test_what_is_recorded_stays_and_nothing_is_added_to_it() -> None:
    bound = MetadataBound(128)
    assert bound.fit(commit_of(100), 60) == commit_of(60)


def test_a_refusal_halves_the_bound() -> None:
    bound = MetadataBound(4096)
    assert not bound.is_learned
    bound.learn(refused=1000, confirmed=0)
    assert bound.is_learned
    assert bound.bytes_max == 500


def test_what_the_broker_has_is_within_the_bound() -> None:
    bound = MetadataBound(4096)
    bound.learn(refused=260, confirmed=253)
    assert bound.bytes_max == 253


def test_what_the_broker_has_from_before_its_limit_was_lowered_does_not_count() -> None:
    bound = MetadataBound(4096)
    bound.learn(refused=400, confirmed=410)
    assert bound.bytes_max == 200
    bound.learn(refused=398, confirmed=400)
    assert bound.bytes_max == 199


def test_each_refusal_lowers_the_bound() -> None:
    bound, limit = MetadataBound(4096), OFFSET_METADATA_BYTES_MIN
    for _ in range(100):
        sent = bound.fit(commit_of(600), 0)
        assert sent is not None
        if size_of(sent) <= limit:
            break
        before = bound.bytes_max
        bound.learn(size_of(sent), 0)
        assert bound.bytes_max < before
    assert size_of(sent) <= limit
    assert len(sent.closings) > 10


def test_recorded_closings_that_were_refused_are_sent_again_when_they_are_fewer() -> None:
    bound = MetadataBound(4096)
    bound.learn(size_of(commit_of(60)), 0)
    assert bound.fit(commit_of(60), 60) is None
    assert bound.fit(commit_of(70), 60) is None
    assert bound.fit(commit_of(59), 59) == commit_of(59)


def test_a_broker_without_room_for_closings_is_named() -> None:
    bound = MetadataBound(4096)
    with pytest.raises(SetupError, match=r"offset\.metadata\.max\.bytes to 128 at least"):
        bound.learn(refused=128, confirmed=0)
    assert not bound.is_learned
    assert bound.bytes_max == 4096


def test_what_was_learned_is_tried_again_long_after_the_last_refusal() -> None:
    bound = MetadataBound(4096)
    assert not bound.expire(MINUTE)
    bound.learn(refused=1000, confirmed=0)
    assert not bound.expire(MINUTE)
    assert not bound.expire(MINUTE + LEARNED_SECONDS - 1)
    bound.learn(refused=size_of(commit_of(70)), confirmed=0)
    assert not bound.expire(MINUTE + LEARNED_SECONDS)
    assert bound.fit(commit_of(70), 70) is None
    assert bound.expire(MINUTE + 2 * LEARNED_SECONDS)
    assert (bound.bytes_max, bound.is_learned) == (4096, False)
    assert bound.fit(commit_of(70), 70) == commit_of(70)
    assert not bound.expire(MINUTE + 4 * LEARNED_SECONDS)
