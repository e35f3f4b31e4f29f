import base64

import pytest

from stream_app.closings import (
    CLOSING_BYTES_MAX,
    METADATA_BYTES_MAX,
    Closing,
    Commit,
    decode,
    encode,
)
from stream_app.errors import InvariantError

AT = 1_795_537_922
OFFSET_MAX = 2**63 - 1


def metadata(*packed: int) -> str:
    return "1" + base64.urlsafe_b64encode(bytes(packed)).rstrip(b"=").decode()


def test_a_commit_without_closings_has_empty_metadata() -> None:
    assert encode(Commit(42, ())) == ""
    assert decode(42, "") == Commit(42, ())


def test_the_format_is_the_documented_one() -> None:
    # (45-42)*2+1 = 7; zigzag(5) = 10; zigzag(5-2) = 6. Then (47-45)*2 = 4; zigzag(-1) = 1; 0.
    commit = Commit(42, (Closing(45, 5, 2, settled=True), Closing(47, 4, 4, settled=False)))
    assert encode(commit) == metadata(7, 10, 6, 4, 1, 0)


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
    assert len(encode(Commit(0, (worst,)))) <= 1 + CLOSING_BYTES_MAX


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
    "foreign",
    [
        "2" + metadata(2, 0, 0)[1:],  # another version
        "consumer-7 on host-a",
        '{"owner": "somebody"}',
        "1é",  # not ASCII
        "1*=*",  # not base64
        "1A",  # one letter of base64 stands for no byte
        "1A===",
        metadata(2, 0),  # not three numbers
        metadata(2, 0, 0x80),  # a number that does not end
        metadata(0, 0, 0),  # a closing that ends where it begins
        metadata(1, 0, 0),  # the same, settled
    ],
)
def test_foreign_metadata_is_refused_with_its_place(foreign: str) -> None:
    with pytest.raises(InvariantError, match="commit at offset 42 carries metadata"):
        decode(42, foreign)


def test_metadata_that_this_version_never_writes_is_refused() -> None:
    # The version alone: without closings the metadata is empty, so somebody else wrote "1".
    with pytest.raises(InvariantError, match="commit at offset 42 carries metadata"):
        decode(42, "1")


def test_a_message_shows_only_the_beginning_of_long_metadata() -> None:
    with pytest.raises(InvariantError) as caught:
        decode(42, "x" * 5000)
    assert len(str(caught.value)) < 400
