import gzip
from dataclasses import fields

import pytest

from stream_app.config.settings import Destination
from stream_app.core import object_format
from stream_app.core.object_format import Decompressor


def member(*texts: bytes) -> bytes:
    """Return an object of one segment for each text."""
    crc = size = 0
    for text in texts:
        crc, size = object_format.crc(memoryview(text), crc), size + len(text)
    segments = (object_format.segment(memoryview(text)) for text in texts)
    return b"".join((object_format.HEADER, *segments, object_format.trailer(crc, size)))


def test_segments_between_header_and_trailer_are_one_gzip_member() -> None:
    assert gzip.decompress(member(b"1\n2\n", b"3\n")) == b"1\n2\n3\n"
    assert gzip.decompress(member()) == b""


def test_a_segment_is_decompressed_by_itself() -> None:
    assert object_format.decompressed(object_format.segment(memoryview(b"1\n" * 1000))) == (
        b"1\n" * 1000
    )


def test_the_trailer_has_the_size_modulo_four_gibibytes() -> None:
    assert object_format.trailer(1, 2**32 + 5) == object_format.trailer(1, 5)


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_lines_are_decompressed_in_bounded_pieces_whatever_the_bytes_arrive_in(step: int) -> None:
    content, decompressor = member(b"12345\n" * 500) + member(b"6\n"), Decompressor(64)
    pieces = [
        piece
        for start in range(0, len(content), step)
        for piece in decompressor.pieces(content[start : start + step])
    ]
    assert b"".join(pieces) == b"12345\n" * 500 + b"6\n"
    assert max(map(len, pieces)) <= 64


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="the object is not gzip"):
        list(Decompressor(64).pieces(b"plain text"))


def test_the_default_content_type_of_a_destination_is_that_of_the_format() -> None:
    (setting,) = [it for it in fields(Destination) if it.name == "content_type"]
    assert setting.default == object_format.CONTENT_TYPE
