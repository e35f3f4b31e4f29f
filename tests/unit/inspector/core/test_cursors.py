"""Positions in the events topic, and reading back through all partitions."""

import random

import pytest

from stream_app.inspector.core.cursors import (
    Item,
    RecordPosition,
    ReverseMerge,
    Run,
    format_cursor,
    format_window_cursor,
    parse_cursor,
    parse_start,
    parse_time,
    parse_window_cursor,
    shares,
)


def item(time_ms: int, offset: int) -> Item:
    return Item(time_ms, offset, None, {"offset": offset})


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("0@42", RecordPosition(0, 42)),
        (" 11@0 ", RecordPosition(11, 0)),
        ("2026-11-25T12:00:00Z", 1_795_608_000_000),
        ("2026-11-25T12:00:00.123Z", 1_795_608_000_123),
        ("2026-11-25T14:00:00+02:00", 1_795_608_000_000),
        ("2026-11-25 12:00", 1_795_608_000_000),
        ("2026-11-25", 1_795_564_800_000),
        ("0001-01-01T00:00:00+23:59", 0),
    ],
)
def test_start_is_an_event_or_a_time(text: str, start: RecordPosition | int) -> None:
    assert parse_start(text) == start


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "1@", "@1", "-1@2", "1@2@3", "٣@4", "\x00"],
)
def test_any_other_start_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a position; write partition@offset"):
        parse_start(text)


def test_position_is_written_as_it_is_parsed() -> None:
    assert parse_start(str(RecordPosition(0, 42))) == RecordPosition(0, 42)


@pytest.mark.parametrize("offsets", [[0], [1, 35, 36, 37], [2**62, 0, 9_999_999]])
def test_cursor_is_parsed_as_it_was_formatted(offsets: list[int]) -> None:
    assert parse_cursor(format_cursor(offsets), len(offsets)) == offsets


def test_partition_added_later_has_nothing_to_read() -> None:
    assert parse_cursor(format_cursor([5, 6]), 4) == [5, 6, 0, 0]


@pytest.mark.parametrize("text", ["", ".", "1.", "A", "1 2", "1.2.3", "-1", "é", "1" * 14])
def test_text_that_is_not_a_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="begin again without one"):
        parse_cursor(text, 2)


def test_cursor_of_a_window_is_parsed_as_it_was_formatted() -> None:
    assert parse_window_cursor(format_window_cursor(4242, 17)) == (4242, 17)
    with pytest.raises(ValueError, match="is not a cursor of a window"):
        parse_window_cursor("4242")


@pytest.mark.parametrize(
    ("sizes", "total", "given"),
    [
        ([10, 10], 100, [10, 10]),
        ([100, 10, 1], 30, [19, 10, 1]),
        ([100, 100, 100], 30, [10, 10, 10]),
        ([0, 5], 3, [0, 3]),
        ([], 3, []),
    ],
)
def test_each_partition_has_its_share(sizes: list[int], total: int, given: list[int]) -> None:
    assert shares(sizes, total) == given


def test_newest_of_all_partitions_comes_first() -> None:
    back = ReverseMerge([0, 0], [2, 2])
    missing = back.missing()
    assert missing == {0: Run(0, 2), 1: Run(0, 2)}
    assert back.missing() == {0: Run(0, 2), 1: Run(0, 2)}
    back.add(missing, {0: [item(10, 0), item(40, 1)], 1: [item(20, 0), item(30, 1)]})
    assert back.missing() == {}
    found = []
    while (taken := back.pop()) is not None:
        found.append((taken[0], taken[1].offset))
    assert found == [(0, 1), (1, 1), (1, 0), (0, 0)]
    assert back.at_end
    assert back.positions == [0, 0]


def test_partition_that_is_empty_has_nothing_to_read() -> None:
    back = ReverseMerge([7, 0], [7, 0])
    assert back.missing() == {}
    assert back.at_end
    assert back.pop() is None


def test_position_below_the_log_becomes_its_beginning() -> None:
    back = ReverseMerge([50], [20])
    assert back.positions == [50]
    assert back.at_end


def test_holes_are_read_in_runs_that_grow() -> None:
    back = ReverseMerge([0], [10_000], run=10)
    sizes = []
    while missing := back.missing():
        sizes.append(missing[0].end - missing[0].first)
        back.add(missing, {})
        assert back.positions == [missing[0].first]
    assert sizes[:4] == [10, 20, 40, 80]
    assert max(sizes) == 2_000
    assert sum(sizes) == 10_000
    assert back.at_end


def test_less_is_read_at_a_time_where_reading_is_slow() -> None:
    back = ReverseMerge([0], [10_000], run=64)
    sizes = []
    for was_slow in (False, True, True, True, True, True, False):
        missing = back.missing()
        sizes.append(missing[0].end - missing[0].first)
        back.add(missing, {}, was_slow=was_slow)
    assert sizes == [64, 128, 32, 8, 2, 1, 1]


def test_pages_of_any_size_hold_every_record_once_in_the_same_order() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    logs = [
        {
            offset: item(chance.randrange(1000), offset)
            for offset in range(chance.randrange(60))
            if chance.random() < 0.7
        }
        for _ in range(3)
    ]
    ends = [max(log, default=-1) + 1 for log in logs]

    def read(limit: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        where = ends
        while True:
            back = ReverseMerge([0, 0, 0], where, run=chance.randrange(1, 9))
            taken = 0
            while taken < limit and not back.at_end:
                if missing := back.missing():
                    back.add(
                        missing,
                        {
                            number: [logs[number][it] for it in range(*run) if it in logs[number]]
                            for number, run in missing.items()
                        },
                    )
                elif (one := back.pop()) is not None:
                    found.append((one[0], one[1].offset))
                    taken += 1
            if back.at_end:
                return found
            where = parse_cursor(format_cursor(back.positions), 3)

    whole = read(1000)
    assert len(whole) == sum(map(len, logs))
    for number, log in enumerate(logs):
        assert [it for partition, it in whole if partition == number] == sorted(log, reverse=True)
    assert read(1) == read(7) == whole


def test_merge_reads_only_within_runs() -> None:
    within = {0: [Run(10, 12), Run(50, 90)]}
    back = ReverseMerge([5, 0], [100, 40], run=30, within=within)
    assert back.missing() == {0: Run(60, 90)}, "partition 1 has no runs"
    back.add({0: Run(60, 90)}, {0: [Item(1, 60, None, {})]})
    assert back.pop() == (0, Item(1, 60, None, {}))
    assert back.missing() == {0: Run(50, 60)}
    back.add({0: Run(50, 60)}, {})
    assert back.missing() == {0: Run(10, 12)}
    back.add({0: Run(10, 12)}, {0: [Item(2, 11, None, {})]})
    assert not back.at_end
    assert back.pop() == (0, Item(2, 11, None, {}))
    assert back.missing() == {}
    assert back.at_end
    assert back.positions == [5, 0]


def test_merge_begins_within_a_run_and_ends_at_the_begin_of_the_log() -> None:
    back = ReverseMerge([20], [30], run=100, within={0: [Run(0, 15), Run(18, 60)]})
    assert back.missing() == {0: Run(20, 30)}
    back.add({0: Run(20, 30)}, {})
    assert back.missing() == {}
    assert back.at_end


def test_time_is_parsed_in_utc_unless_it_names_a_zone() -> None:
    assert parse_time("1970-01-01T00:00:01") == 1_000
    assert parse_time(" 1970-01-01T01:00:00+01:00 ") == 0
    assert parse_time("1960-01-01") == 0
    with pytest.raises(ValueError, match="'0@4' is not a time; write one as 2026-"):
        parse_time("0@4")
