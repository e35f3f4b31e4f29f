from stream_app.core.progress_watchdog import CHECK_SECONDS_MAX
from stream_app.monitoring.unanswered_partitions import Fetch, UnansweredPartitions
from stream_app.records import TopicPartition

A, B = TopicPartition("events", 0), TopicPartition("events", 1)
T = 1000.0


def seconds(*rounds: dict[TopicPartition, Fetch], step: float = 1.0) -> dict[TopicPartition, float]:
    """Return the silences after checks of these states, one a second."""
    unanswered = UnansweredPartitions()
    for number, fetches in enumerate(rounds):
        unanswered.check(T + number * step, fetches)
    return unanswered.longer_than(0.0)


def test_partition_is_silent_from_its_last_response_on() -> None:
    answered = {A: Fetch(1, is_held=False), B: Fetch(1, is_held=False)}
    goes_on = {A: Fetch(2, is_held=False), B: Fetch(1, is_held=False)}
    assert seconds(answered) == {}
    assert seconds(answered, goes_on, goes_on) == {A: 1.0, B: 2.0}
    assert seconds(answered, goes_on, goes_on, answered) == {B: 3.0}


def test_partition_that_was_never_answered_for_is_silent_since_it_is_assigned() -> None:
    nothing = {A: Fetch(None, is_held=False)}
    assert seconds(nothing, nothing, nothing) == {A: 2.0}


def test_no_time_counts_while_no_response_is_due() -> None:
    asked, held = {A: Fetch(1, is_held=False)}, {A: Fetch(1, is_held=True)}
    assert seconds(asked, asked, held) == {}
    assert seconds(asked, asked, held, held, asked) == {A: 1.0}


def test_partition_that_is_assigned_anew_begins_anew() -> None:
    asked: dict[TopicPartition, Fetch] = {A: Fetch(None, is_held=False)}
    assert seconds(asked, asked, {}, asked) == {}


def test_pause_of_the_process_counts_as_one_check() -> None:
    asked = {A: Fetch(1, is_held=False)}
    assert seconds(asked, asked, step=3600.0) == {A: CHECK_SECONDS_MAX}


def test_only_longer_silences_are_returned() -> None:
    unanswered = UnansweredPartitions()
    for number in range(4):
        unanswered.check(T + number, {A: Fetch(1, is_held=False)})
    assert unanswered.longer_than(3.0) == {}
    assert unanswered.longer_than(2.9) == {A: 3.0}
