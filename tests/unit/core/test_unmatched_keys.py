"""Keys that no destination takes are counted within a bound and reported once a minute."""

from stream_app.core.unmatched_keys import (
    KEY_BYTES_MAX,
    KEYS_MAX,
    REPORT_SECONDS,
    REPORTED_KEYS_MAX,
    UnmatchedKeys,
)


def test_first_key_is_reported_at_once_and_the_next_ones_after_a_minute() -> None:
    keys = UnmatchedKeys()
    assert keys.report(100.0) == []
    keys.add({b"ordres": 2, None: 1})
    assert keys.report(101.0) == [(b"ordres", 2), (None, 1)]
    keys.add({b"ordres": 3})
    keys.add({b"ordres": 4})
    assert keys.report(101.0 + REPORT_SECONDS - 1) == []
    assert keys.reported == [(b"ordres", 2), (None, 1)]
    assert keys.report(101.0 + REPORT_SECONDS) == [(b"ordres", 7)]
    assert keys.reported == [(b"ordres", 7)]


def test_report_is_forgotten_when_a_minute_has_passed_without_such_an_event() -> None:
    keys = UnmatchedKeys()
    keys.add({b"ordres": 2})
    keys.report(100.0)
    assert keys.report(100.0 + REPORT_SECONDS) == []
    assert keys.reported == []
    keys.add({b"ordres": 1})
    assert keys.report(101.0 + REPORT_SECONDS) == [(b"ordres", 1)]


def test_only_the_most_frequent_keys_are_reported() -> None:
    keys = UnmatchedKeys()
    keys.add({b"%d" % number: number for number in range(1, 20)})
    found = keys.report(0.0)
    assert found == [(b"%d" % number, number) for number in range(19, 19 - REPORTED_KEYS_MAX, -1)]


def test_number_and_length_of_the_kept_keys_are_bounded() -> None:
    keys = UnmatchedKeys()
    for number in range(10 * KEYS_MAX):
        keys.add({b"%d" % number + b"x" * 1_000_000: 1})
    keys.add({b"0" + b"x" * 1_000_000: 5})
    assert len(keys._counts) == KEYS_MAX
    ((key, events), *_) = keys.report(0.0)
    assert key is not None
    assert (len(key), events) == (KEY_BYTES_MAX, 6)
    assert keys._counts == {}
