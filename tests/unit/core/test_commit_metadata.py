import base64
import zlib
from dataclasses import replace

import pytest

from stream_app.core.commit_metadata import (
    CLOSING_BYTES_MAX,
    HEADER_BYTES_MAX,
    METADATA_BYTES_MAX,
    Closing,
    Commit,
    UnmarkedCommitError,
    decode,
    encode,
)
from stream_app.errors import InvariantError

AT = 1_795_537_922
OFFSET_MAX = 2**63 - 1
EPOCH_MAX = 2**31 - 1


def metadata(*packed: int, offset: int = 42, next_epoch: int = 0) -> str:
    content = bytes(5) + next_epoch.to_bytes(4, "big") + bytes(packed)
    mark = zlib.crc32(str(offset).encode() + content).to_bytes(4, "big")
    return "2" + base64.urlsafe_b64encode(content + mark).rstrip(b"=").decode()


def old_metadata(*packed: int) -> str:
    """Return the metadata of a version before 0.2."""
    return "1" + base64.urlsafe_b64encode(bytes(packed)).rstrip(b"=").decode()


def test_a_commit_without_closings_has_our_mark() -> None:
    assert encode(Commit(42, ())) == metadata(0, 0)
    assert decode(42, metadata(0, 0)) == Commit(42, ())


def test_the_format_is_the_documented_one() -> None:
    # (45-42)*2+1 = 7; zigzag(5) = 10; zigzag(5-2) = 6. Then (47-45)*2 = 4; zigzag(-1) = 1; 0.
    commit = Commit(42, (Closing(45, 5, 2, settled=True), Closing(47, 4, 4, settled=False)), 3)
    assert encode(commit) == metadata(12, 0, 7, 10, 6, 4, 1, 0)


def test_a_truncated_log_is_in_the_metadata() -> None:
    commit = Commit(42, (), 3, is_truncated=True)
    assert encode(commit) == metadata(13, 0)
    assert decode(42, metadata(13, 0)) == commit


def test_the_leader_epoch_is_in_the_metadata_and_takes_the_same_bytes_whatever_it_is() -> None:
    commit = Commit(42, (), 3, leader_epoch=7)
    assert encode(commit) == metadata(12, 0, next_epoch=8)
    assert decode(42, encode(commit)) == commit
    newest = replace(commit, leader_epoch=EPOCH_MAX)
    assert decode(42, encode(newest)) == newest
    assert len(encode(newest)) == len(encode(replace(commit, leader_epoch=-1)))


def test_the_newest_closing_time_stays_when_the_offset_has_passed_its_window() -> None:
    commit = decode(42, encode(Commit(42, (), 60, newest_at=75)))
    assert commit.newest_at == 75
    assert commit.restarted(7, 50.5).began_at == 76


def test_commit_is_beyond_a_log_that_ends_before_its_last_window() -> None:
    commit = Commit(42, (Closing(45, 5, 2, settled=True),))
    assert not commit.is_beyond(45)
    assert commit.is_beyond(44)
    assert Commit(42, (), is_truncated=True).is_beyond(50)


def test_closings_of_a_version_before_0_2_keep_their_names() -> None:
    old = Closing(45, 5, 2, settled=True, is_named_by_time=False)
    assert decode(42, old_metadata(7, 10, 6)) == Commit(42, (old,))
    commit = Commit(42, (old, Closing(47, 4, 4, settled=False)), 3)
    assert encode(commit) == metadata(12, 1, 7, 10, 6, 4, 1, 0)
    assert decode(42, encode(commit)) == commit


def test_an_older_closing_cannot_have_the_newer_name() -> None:
    newer = Closing(45, 5, 2, settled=True)
    older = Closing(47, 4, 4, settled=False, is_named_by_time=False)
    with pytest.raises(InvariantError, match="closing at offset 45"):
        encode(Commit(42, (newer, older)))


def test_a_log_that_follows_a_truncated_one_is_in_the_metadata() -> None:
    commit = Commit(42, (), 3, is_after_truncation=True)
    assert encode(commit) == metadata(14, 0)
    assert decode(42, metadata(14, 0)) == commit


def test_a_restart_has_later_names_than_all_before() -> None:
    def begun(began_at: int) -> Commit:
        return Commit(7, (), began_at, is_after_truncation=True)

    closing = Closing(45, 70, 2, settled=False)
    assert Commit(42, (closing,), 60).restarted(7, 50.5) == begun(71)
    assert Commit(42, (), 60).restarted(7, 50.5) == begun(61)
    assert Commit(42, (), 60).restarted(7, 80.5) == begun(81)


def test_the_end_of_a_commit_is_that_of_its_last_window() -> None:
    assert Commit(42, ()).end == 42
    assert Commit(42, (Closing(45, 5, 2, settled=True),)).end == 45


def test_closings_are_read_back_as_they_were_written() -> None:
    commit = Commit(
        4242,
        (
            Closing(4300, AT, AT - 62, settled=False),
            Closing(4301, AT, AT - 2, settled=True),
            Closing(900_000, AT - 3600, AT - 3660, settled=False),
        ),
    )
    assert decode(4242, encode(commit)) == commit


def test_numbers_beyond_seven_bits_are_read_back() -> None:
    commit = Commit(0, (Closing(OFFSET_MAX, 2**40, 2**40 + 2**33, settled=True),))
    assert decode(0, encode(commit)) == commit


def test_no_closing_takes_more_than_its_bound() -> None:
    worst = Closing(OFFSET_MAX, 2**62, -(2**62), settled=True)
    commit = Commit(0, (worst,), 2**62, leader_epoch=EPOCH_MAX)
    assert len(encode(commit)) <= HEADER_BYTES_MAX + CLOSING_BYTES_MAX


def test_metadata_holds_five_hundred_usual_closings() -> None:
    closings = tuple(
        Closing(1000 + 30 * n, AT + 60 * n, AT - 62 + 60 * n, settled=False) for n in range(1, 501)
    )
    assert len(encode(Commit(1000, closings))) <= METADATA_BYTES_MAX


@pytest.mark.parametrize("end", [41, 42])
def test_a_closing_at_or_below_the_offset_is_a_broken_invariant(end: int) -> None:
    with pytest.raises(InvariantError, match=f"closing at offset {end} does not lie beyond 42"):
        encode(Commit(42, (Closing(end, AT, AT, settled=False),)))


def test_closings_out_of_order_are_a_broken_invariant() -> None:
    closings = (Closing(50, AT, AT, settled=False), Closing(50, AT, AT, settled=False))
    with pytest.raises(InvariantError, match="does not lie beyond 50"):
        encode(Commit(42, closings))


@pytest.mark.parametrize(
    "unmarked",
    [
        "",  # another client; a version before 0.2, where no closing was open
        "3" + metadata(2, 0, 0)[1:],  # another version
        "consumer-7 on host-a",
        '{"owner": "somebody"}',
        "2",
        "1",
        "2é",  # not ASCII
        "2*=*",  # not base64
        "2A",  # one letter of base64 stands for no byte
        "2A===",
        metadata(0, 0, offset=43),  # the offset has moved without us
        metadata(0, 0, 2, 0),  # not three numbers
        metadata(0, 0, 2, 0, 0x80),  # a number that does not end
        metadata(0, 0, 0, 0, 0),  # a closing that ends where it begins
        metadata(0, 0, 1, 0, 0),  # the same, settled
        metadata(0),
        metadata(),
        old_metadata(2, 0),
        old_metadata(0, 0, 0),
    ],
)
def test_a_commit_that_is_not_ours_is_recognized(unmarked: str) -> None:
    with pytest.raises(UnmarkedCommitError, match="commit at offset 42 has metadata") as caught:
        decode(42, unmarked)
    assert caught.value.offset == 42
    assert decode(42, unmarked, accept_unmarked=True) == Commit(42, ())


def test_our_commits_are_read_alike_where_others_are_accepted() -> None:
    commit = Commit(42, (Closing(45, 5, 2, settled=True),), 3)
    assert decode(42, encode(commit), accept_unmarked=True) == commit


def test_a_message_shows_only_the_beginning_of_long_metadata() -> None:
    with pytest.raises(UnmarkedCommitError) as caught:
        decode(42, "x" * 5000)
    assert len(str(caught.value)) < 400
