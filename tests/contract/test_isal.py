"""isal: what `objects` relies on, so that an upgrade fails here first."""

import gzip
import zlib
from random import Random

import pytest
from isal import isal_zlib

from stream_app.objects import LEVEL, SLICE_BYTES


def lines(seed: int, size: int) -> bytes:
    """Text with some repetition in it, as events are."""
    chance = Random(seed)
    words = [chance.randbytes(6).hex() for _ in range(200)]
    text = "".join(f'{{"id": "{chance.choice(words)}"}}\n' for _ in range(size // 22 + 1))
    return text.encode()[:size]


def compressed(*slices: bytes) -> bytes:
    compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, 31)
    return b"".join([*(compressor.compress(it) for it in slices), compressor.flush()])


def sliced(text: bytes, size: int) -> list[bytes]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 1_000, SLICE_BYTES, 5 * SLICE_BYTES + 7])
def test_bytes_depend_only_on_the_sequence_of_slices(size: int) -> None:
    slices = sliced(lines(size, size), SLICE_BYTES)
    first = compressed(*slices)
    copies = [bytes(bytearray(it)) for it in slices]  # equal bytes at other addresses
    assert compressed(*copies) == first


def test_header_names_no_time_and_no_file() -> None:
    member = compressed(b"one line\n")
    assert member[:2] == b"\x1f\x8b"
    assert member[3] == 0, "a flag: a name, a comment or an extra field follows the header"
    assert member[4:8] == bytes(4), "a modification time: a replay would depend on the clock"


@pytest.mark.parametrize("size", [0, 1, 1_000, 3 * SLICE_BYTES + 1])
def test_standard_gzip_reads_what_isal_wrote(size: int) -> None:
    text = lines(size, size)
    assert gzip.decompress(compressed(*sliced(text, SLICE_BYTES))) == text


def test_member_ends_with_the_checksum_and_length_of_the_text() -> None:
    text = lines(1, 100_000)
    member = compressed(text)
    assert member[-8:-4] == zlib.crc32(text).to_bytes(4, "little")
    assert member[-4:] == len(text).to_bytes(4, "little")
