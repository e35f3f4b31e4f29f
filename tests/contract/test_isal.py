"""isal: what `objects` relies on, so that an upgrade fails here first."""

import zlib
from random import Random

import pytest
from isal import isal_zlib

from stream_app.core.object_body import SLICE_BYTES
from stream_app.core.object_format import GZIP_LEVEL

RAW = -15
"""Deflate with nothing around it."""
END = b"\x03\0"
"""Deflate's last block, an empty one."""


def lines(seed: int, size: int) -> bytes:
    """Text with some repetition in it, as events are."""
    chance = Random(seed)
    words = [chance.randbytes(6).hex() for _ in range(200)]
    text = "".join(f'{{"id": "{chance.choice(words)}"}}\n' for _ in range(size // 22 + 1))
    return text.encode()[:size]


def segment(text: bytes | memoryview) -> bytes:
    """Compress as `objects` does."""
    compressor = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, RAW)
    compressed: bytes = compressor.compress(text) + compressor.flush(isal_zlib.Z_FULL_FLUSH)
    return compressed


@pytest.mark.parametrize("size", [1, 1_000, SLICE_BYTES])
def test_bytes_depend_only_on_the_text(size: int) -> None:
    text = lines(size, size)
    copy = memoryview(b"before" + text + b"behind")[6:-6]  # equal bytes at another address
    assert segment(copy) == segment(text)


def test_bytes_do_not_depend_on_what_memory_held_before() -> None:
    chance = Random(11)
    texts = [lines(it, chance.choice((60, 400, 3_000, 100_000))) for it in range(40)]
    first = [segment(text) for text in texts]
    for _ in range(1_500):
        garbage = chance.randbytes(chance.randrange(1, 300_000))
        other = isal_zlib.compress(garbage, chance.randrange(4))
        del garbage, other
        number = chance.randrange(len(texts))
        assert segment(texts[number]) == first[number]


@pytest.mark.parametrize("text", [b"1\n", lines(1, SLICE_BYTES), Random(7).randbytes(SLICE_BYTES)])
def test_segment_ends_at_a_byte_with_an_empty_block(text: bytes) -> None:
    assert segment(text)[-4:] == b"\0\0\xff\xff"


def test_segments_one_behind_the_other_are_one_stream() -> None:
    texts = [lines(1, SLICE_BYTES), b"\n", lines(2, 1_000), Random(7).randbytes(70_000)]
    reader = zlib.decompressobj(RAW)
    assert reader.decompress(b"".join(map(segment, texts)) + END) == b"".join(texts)
    assert reader.eof
    assert reader.unused_data == b""


def test_segment_looks_back_at_no_other() -> None:
    texts = [lines(1, SLICE_BYTES), lines(1, SLICE_BYTES)]
    for text in texts:
        assert zlib.decompressobj(RAW).decompress(segment(text)) == text
    assert segment(texts[0]) == segment(texts[1])


def test_text_without_repetition_grows_by_less_than_a_thousandth() -> None:
    text = Random(7).randbytes(SLICE_BYTES)
    assert len(segment(text)) < SLICE_BYTES * 1.001


def test_checksum_goes_on_where_it_ended() -> None:
    text = lines(1, 100_000)
    so_far = isal_zlib.crc32(memoryview(text)[:33_333])
    assert isal_zlib.crc32(memoryview(text)[33_333:], so_far) == zlib.crc32(text)
