"""Pains of the field that a decision of the core cures; `docs/guarantees.md` has the table of all.

Only what no test elsewhere states is here.
"""

import gzip
import time
from dataclasses import replace

import pytest

from stream_app.core.commit_metadata import Commit, decode, encode
from stream_app.core.partition import Partition
from tests.unit.core.builders import (
    EVENTS,
    MINUTE,
    RULES,
    Sample,
    batch,
    collect,
    record,
    record_closings,
)

AT_TEN = Commit(10, ())
DAY_SECONDS = 86_400
CLOCKS_GO_BACK = 1_792_890_000
"""2026-10-25T01:00:00Z: in central Europe 03:00 becomes 02:00."""


def contents(partition: Partition) -> dict[str, bytes]:
    """Return key and text of each object that is due once its closing is recorded."""
    record_closings(partition)
    return {
        str(work.delivery.key): gzip.decompress(partition.content(work) or b"")
        for work in partition.delivery_tasks()
    }


def test_pain_05_replay_splits_where_it_split_before_whatever_time_memory_and_settings_say() -> (
    None
):
    crashed = Partition(EVENTS, RULES, 0, AT_TEN)
    first = [record(10 + n, n, f"{n}") for n in range(5)]
    rest = [record(15 + n, 5 + n, f"{5 + n}") for n in range(7)]
    collect(crashed, batch(*first), 6)
    assert crashed.close_early(MINUTE + 7)  # its memory was full
    collect(crashed, batch(*rest), 60)
    crashed.tick(MINUTE + 62, 22)
    commit = crashed.to_commit()
    assert commit is not None
    # The broker has it. A day later another worker reads all in one batch, with room for it, and
    # would make one window of it.
    elsewise = replace(RULES, window_seconds=3600, grace_seconds=0)
    successor = Partition(EVENTS, elsewise, 0, decode(commit.offset, encode(commit)))
    collect(successor, batch(*first, *rest), DAY_SECONDS)
    replayed = contents(successor)
    assert list(replayed.values()) == [b"0\n1\n2\n3\n4\n", b"5\n6\n7\n8\n9\n10\n11\n"]
    assert replayed == contents(crashed)


@pytest.mark.parametrize("fetched", [1, 7, 120], ids="{} records in a fetch".format)
def test_pain_08_worker_that_is_hours_behind_makes_one_object_a_minute(fetched: int) -> None:
    partition = Partition(EVENTS, RULES, 0, AT_TEN)
    records = [record(10 + n, 2 * n, f"{n}") for n in range(120)]
    for start in range(0, len(records), fetched):
        now = 3 * 3600 + start
        collect(partition, batch(*records[start : start + fetched]), now)
        partition.tick(MINUTE + now, 10 + len(records))
    texts = contents(partition).values()
    assert [len(text.splitlines()) for text in texts] == [30, 30, 30, 30]


def test_pain_11_clocks_that_go_back_make_neither_more_objects_nor_a_name_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        before, after = CLOCKS_GO_BACK - 1800, CLOCKS_GO_BACK + 1800
        assert time.localtime(before)[:5] == time.localtime(after)[:5] == (2026, 10, 25, 2, 30)
        found = {}
        partition = Partition(EVENTS, RULES, 0, AT_TEN)
        for offset, minute in ((10, before), (40, after)):
            records = [Sample(offset + n, (minute + 2 * n) * 1000) for n in range(30)]
            collect(partition, batch(*records), minute + 60 - MINUTE)
            partition.tick(minute + 62, offset + 30)
            found.update(contents(partition))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [text.count(b"\n") for text in found.values()] == [30, 30]
    names = [key.rpartition("/")[2][:19] for key in found]
    assert names == ["2026-10-25-00-31-02", "2026-10-25-01-31-02"]
