"""Search for one line of an object while its bytes arrive."""

import gzip
import random
import zlib

import pytest

from stream_app.core.object_format import FORMATS, GZIP, ObjectFormat
from stream_app.inspector.core.line_finder import PIECE_BYTES, LineFinder

LINES = [b'{"n":%d,"text":"%b"}' % (number, b"x" * (number % 97)) for number in range(2_000)]
OBJECT = gzip.compress(b"".join(line + b"\n" for line in LINES))


def find(
    content: bytes, number: int, chunk: int = 100, format_: ObjectFormat = GZIP, **bounds: int
) -> bytes | None:
    finder = LineFinder(number, format_, **bounds)
    for start in range(0, len(content), chunk):
        if finder.feed(content[start : start + chunk]):
            break
    return finder.line


@pytest.mark.parametrize("number", [1, 2, 999, 2_000])
@pytest.mark.parametrize("chunk", [1, 100, len(OBJECT)])
def test_line_is_found_with_chunks_of_any_size(number: int, chunk: int) -> None:
    assert find(OBJECT, number, chunk) == LINES[number - 1]


@pytest.mark.parametrize("number", [1, 999, 2_000])
@pytest.mark.parametrize("chunk", [100, 100_000])
def test_line_of_an_object_of_zstd_is_found(number: int, chunk: int) -> None:
    zstd, text = FORMATS["zstd"], b"".join(line + b"\n" for line in LINES)
    slices = [memoryview(text)[it : it + 50_000] for it in range(0, len(text), 50_000)]
    content = b"".join(map(zstd.segment, slices))
    assert find(content, number, chunk, zstd) == LINES[number - 1]


def test_no_more_is_unpacked_than_the_line_needs() -> None:
    content = gzip.compress(random.Random(1).randbytes(PIECE_BYTES).replace(b"\n", b"") + b"\nb\n")
    finder = LineFinder(1, GZIP)
    fed = 0
    while not finder.feed(content[fed : fed + 1000]):
        fed += 1000
    assert fed < len(content)


def test_line_beyond_the_last_is_not_found() -> None:
    assert find(OBJECT, 2_001) is None


def test_object_of_several_members_is_one_text() -> None:
    content = gzip.compress(b"one\ntw") + gzip.compress(b"o\nthree\n")
    assert find(content, 2) == b"two"
    assert find(content, 3, len(content)) == b"three"


def test_output_much_larger_than_its_input_comes_in_pieces() -> None:
    long = b"a" * (3 * PIECE_BYTES)
    content = gzip.compress(long + b"\nb\n")
    assert find(content, 1, len(content)) == long
    assert find(content, 2, len(content)) == b"b"


def test_line_that_ends_with_a_piece_is_found() -> None:
    content = gzip.compress(b"a" * (PIECE_BYTES - 1) + b"\n" + b"b" * PIECE_BYTES + b"\n")
    assert find(content, 2, len(content)) == b"b" * PIECE_BYTES


def test_bomb_ends_at_the_bound() -> None:
    content = gzip.compress(b"\n" * (4 * PIECE_BYTES))
    with pytest.raises(ValueError, match="beyond 2097152 unpacked bytes"):
        find(content, 100_000_000, len(content), unpacked_bytes_max=2 * PIECE_BYTES)


def test_line_that_does_not_end_is_given_up() -> None:
    content = gzip.compress(b"a" * (4 * PIECE_BYTES))
    with pytest.raises(ValueError, match="longer than 1048576 bytes"):
        find(content, 1, len(content), line_bytes_max=PIECE_BYTES)


@pytest.mark.parametrize(
    "content", [b"plain text\n", zlib.compress(b"a\n"), OBJECT[:50] + b"x" * 99]
)
def test_object_that_is_not_gzip_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="the object is not gzip"):
        find(content, 1_000)
