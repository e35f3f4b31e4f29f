from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_app.core.commit_metadata import (
    CLOSING_BYTES_MAX,
    Closing,
    Commit,
    UnmarkedCommitError,
    decode,
    encode,
)
from stream_app.errors import InvariantError

OFFSET_MAX = 2**63 - 1
seconds = st.one_of(st.integers(1_700_000_000, 1_900_000_000), st.integers(-(2**40), 2**40))


@st.composite
def commits(draw: st.DrawFn) -> Commit:
    ends = draw(st.lists(st.integers(0, OFFSET_MAX), min_size=1, max_size=30, unique=True))
    offset, *beyond = sorted(ends)
    named_by_offset = draw(st.integers(0, len(beyond)))
    closings = tuple(
        Closing(
            *(end, draw(seconds), draw(seconds), draw(st.booleans())),
            is_named_by_time=index >= named_by_offset,
            is_passed_over=draw(st.booleans()),
        )
        for index, end in enumerate(beyond)
    )
    began_at, leader_epoch = draw(st.integers(0, 2**40)), draw(st.integers(-1, 2**31 - 1))
    return Commit(
        *(offset, closings, began_at, draw(st.booleans()), leader_epoch),
        is_after_truncation=draw(st.booleans()),
    )


@given(commits())
def test_a_commit_is_read_back_as_it_was_written(commit: Commit) -> None:
    text = encode(commit)
    assert text.isascii()
    assert decode(commit.offset, text) == commit


@given(commits())
def test_each_closing_takes_no_more_than_its_bound(commit: Commit) -> None:
    sizes = [
        len(encode(replace(commit, closings=commit.closings[:count])))
        for count in range(len(commit.closings) + 1)
    ]
    for before, after in pairwise(sizes):
        assert after - before <= CLOSING_BYTES_MAX


@given(st.integers(0, OFFSET_MAX), st.one_of(st.text(), st.from_regex(r"[12][A-Za-z0-9_\-=]*\Z")))
@example(0, "1\N{DEVANAGARI DIGIT ONE}")
@example(0, "1AAA\n")
@example(0, "1" + "_" * 4000)
def test_foreign_text_is_refused_or_is_a_commit(offset: int, text: str) -> None:
    try:
        commit = decode(offset, text)
    except InvariantError:
        return
    ends = [commit.offset, *(closing.end for closing in commit.closings)]
    assert commit.offset == offset
    assert ends == sorted(set(ends))


@given(commits().filter(lambda commit: commit.closings), st.data())
def test_metadata_cut_short_is_never_taken_for_the_whole(
    commit: Commit, data: st.DataObject
) -> None:
    text = encode(commit)
    cut = data.draw(st.integers(1, len(text) - 1))
    with pytest.raises(UnmarkedCommitError):
        decode(commit.offset, text[:cut])


@given(st.text().filter(lambda text: text and text[0] not in "12"))
def test_another_version_is_refused(text: str) -> None:
    with pytest.raises(InvariantError):
        decode(0, text)
