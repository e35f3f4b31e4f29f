"""A partition at live pace has one window a minute, whatever timestamps its records have."""

from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.commit_metadata import Commit
from stream_app.core.partition import Partition
from stream_app.records import Batch
from tests.profiles import examples
from tests.unit.core.builders import EVENTS, MINUTE, RULES, Sample, answer

WINDOW = RULES.window_seconds
HOUR = 3600

timestamps = st.one_of(
    st.just(-1),
    st.floats(-120, 10),  # seconds from now: live, with some delay
    st.floats(-HOUR, -HOUR + 300),  # a mirrored topic
    st.floats(-2 * HOUR, 500),
)
"""Seconds from now, or -1 for no time."""
kinds = st.sampled_from(["any", "seconds for milliseconds", "a minute further each"])
steps = st.lists(
    st.tuples(
        st.sampled_from([0.1, 0.25, 0.5, 3, 20, 61, 150]),  # until this step
        st.lists(timestamps, max_size=4),
        st.booleans(),  # whether a tick finds the partition idle afterwards
    ),
    max_size=60,
)


@examples(200)
@given(kinds, timestamps, steps)
def test_any_timestamps_at_live_pace_make_one_window_a_minute(
    kind: str, oldest: float, drawn: list[tuple[float, list[float], bool]]
) -> None:
    begin = now = MINUTE + 3 * HOUR + 17.0
    partition = Partition(EVENTS, RULES, 0, Commit(0, ()))
    log: list[Sample] = []
    for pause, times, is_idle in [(0.0, [oldest], True), *drawn]:
        now += pause
        taken: list[Sample] = []
        for time in times:
            offset = len(log) + len(taken)
            milliseconds = -1 if time == -1 else int((now + time) * 1000)
            if kind == "seconds for milliseconds":
                milliseconds = int(now)
            elif kind == "a minute further each":
                milliseconds = int(begin - 90 * HOUR + offset * WINDOW) * 1000
            taken.append(Sample(offset, milliseconds, b"orders", b"1"))
        log += taken
        if taken:
            fetched = Batch(taken[0].offset, len(log), taken)
            assert partition.collect(fetched, answer(taken), now) is None
        partition.tick(now, len(log) if is_idle else len(log) + 1)
        assert len(partition._closed) <= (now - begin) / WINDOW + 2
    now += 2 * WINDOW + 10
    partition.tick(now, len(log))
    offsets = [it for window in partition._closed for it in range(window.first, window.end)]
    assert offsets == list(range(len(log))), "each event is in one window, the last one too"
