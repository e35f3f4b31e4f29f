import gzip
from collections.abc import Callable
from typing import get_args

import cramjam
import pytest

from stream_app.config.settings import Destination, FormatName
from stream_app.core.object_format import (
    FORMATS,
    FRAME_TEXT_BYTES_MAX,
    GZIP,
    ObjectFormat,
    content_type_of,
    format_of,
)

ZSTD = FORMATS["zstd"]
READ: dict[ObjectFormat, Callable[[bytes], bytes]] = {
    GZIP: gzip.decompress,
    ZSTD: lambda content: bytes(cramjam.zstd.decompress(content)),
}
EVERY = pytest.mark.parametrize("format_", FORMATS.values(), ids=FORMATS)


def an_object(format_: ObjectFormat, *texts: bytes) -> bytes:
    """Return an object of one segment for each text."""
    crc = size = 0
    for text in texts:
        crc, size = format_.crc(memoryview(text), crc), size + len(text)
    segments = (format_.segment(memoryview(text)) for text in texts)
    return b"".join((format_.header, *segments, format_.trailer(crc, size)))


def pieces(
    format_: ObjectFormat, content: bytes, step: int = 10_000, most: int = 64
) -> list[bytes]:
    decompressor = format_.decompressor(most)
    return [
        piece
        for start in range(0, len(content), step)
        for piece in decompressor.pieces(content[start : start + step])
    ]


def test_every_name_of_the_setting_is_a_format() -> None:
    assert tuple(FORMATS) == get_args(FormatName)


@EVERY
def test_segments_between_header_and_trailer_are_one_object(format_: ObjectFormat) -> None:
    assert READ[format_](an_object(format_, b"1\n2\n", b"3\n")) == b"1\n2\n3\n"


@EVERY
def test_a_segment_is_decompressed_by_itself(format_: ObjectFormat) -> None:
    text = b"1\n" * 1000
    assert format_.decompressed(format_.segment(memoryview(text))) == text


def test_the_trailer_of_gzip_has_the_size_modulo_four_gibibytes() -> None:
    assert GZIP.trailer(1, 2**32 + 5) == GZIP.trailer(1, 5)


@EVERY
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_lines_are_decompressed_in_bounded_pieces_whatever_the_bytes_arrive_in(
    format_: ObjectFormat, step: int
) -> None:
    content = an_object(format_, b"12345\n" * 500) + an_object(format_, b"6\n")
    found = pieces(format_, content, step)
    assert b"".join(found) == b"12345\n" * 500 + b"6\n"
    assert max(map(len, found)) <= 64


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_791, 65_792, 262_144, 1_048_576])
def test_a_frame_of_any_size_is_decompressed(size: int) -> None:
    for text in (b"\n" * size, bytes(range(256)) * (size // 256) + b"\n" * (size % 256)):
        content = ZSTD.segment(memoryview(text))
        assert b"".join(pieces(ZSTD, content, 5_000, 10**6)) == text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("28b52ffd24186500003031323334350a0100f14a111c134dbd", b"12345\n" * 4),
        ("28b52ffd4058" + "0000" + "030800" + "0a", b"\n" * 256),
        ("28b52ffd4158" + "00" + "0000" + "030800" + "0a", b"\n" * 256),
    ],
    ids=["checksum", "window", "no dictionary"],
)
def test_a_frame_with_other_fields_in_its_header_is_decompressed(content: str, text: bytes) -> None:
    assert b"".join(pieces(ZSTD, bytes.fromhex(content), 1)) == text


@EVERY
@pytest.mark.parametrize("size", [0, 100, 64 * 1024])
def test_an_object_without_lines_is_empty_for_readers(format_: ObjectFormat, size: int) -> None:
    content = format_.without_lines(size, "comment")
    assert READ[format_](content) == b""
    assert b"".join(pieces(format_, content)) == b""
    assert len(content) == max(size, len(format_.without_lines(0, "comment")))
    assert b"comment" in content


@EVERY
@pytest.mark.parametrize("content", [b"plain text", b"plain"])
def test_other_bytes_are_refused(format_: ObjectFormat, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"the object is not (gzip|zstd)"):
        pieces(format_, content)


def forged(size: int) -> bytes:
    """Return a frame that states another size of its text, which has five bytes."""
    content = bytearray(ZSTD.segment(memoryview(b"1234\n")))
    content[5] = size
    return bytes(content)


@pytest.mark.parametrize("size", [1, 4, 6, 200])
def test_a_frame_that_states_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="the object is not zstd"):
        pieces(ZSTD, forged(size))


BOMB = bytes(cramjam.zstd.compress(bytes(FRAME_TEXT_BYTES_MAX + 1)))
UNSTATED = bytes.fromhex("28b52ffd0058010000")
"""A frame with a window and without a size; its block is empty."""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB, "more than 1048576 bytes"),
        (UNSTATED, "does not state the size"),
        (b"\x50\x2a\x4d\x18\xff\xff\xff\x7f", "more than 1048576 bytes"),
        (bytes.fromhex("28b52ffda000001000") + bytes(1_200_000), "more than 1048576 bytes"),
    ],
    ids=["bomb", "unstated", "skippable", "endless"],
)
def test_a_frame_that_no_worker_writes_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pieces(ZSTD, content, 10**7)


@pytest.mark.parametrize("end", range(1, 15))
def test_a_frame_that_is_cut_yields_nothing(end: int) -> None:
    content = ZSTD.segment(memoryview(b"1234\n"))
    assert len(content) == 14
    assert pieces(ZSTD, content[:end]) == ([] if end < 14 else [b"1234\n"])


def test_the_content_type_is_that_of_the_format_unless_it_is_set() -> None:
    assert content_type_of(Destination("d", "b")) == "application/gzip"
    assert content_type_of(Destination("d", "b", format="zstd")) == "application/zstd"
    assert content_type_of(Destination("d", "b", content_type="a/b")) == "a/b"


def test_the_end_of_a_key_names_the_format() -> None:
    assert format_of("a/b.gz") is GZIP
    assert format_of("a/b.zst") is ZSTD
    with pytest.raises(ValueError, match=r"a/b\.xz ends with none of \.gz, \.zst"):
        format_of("a/b.xz")
