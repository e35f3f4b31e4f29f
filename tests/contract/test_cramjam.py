"""cramjam: what `objects` relies on for zstd, so that an upgrade fails here first."""

from random import Random

import cramjam
import pytest

from stream_app.core.object_body import SLICE_BYTES
from stream_app.core.object_format import FRAME_TEXT_BYTES_MAX, ZSTD_LEVEL
from tests.contract.test_isal import lines

SIZES = [0, 1, 255, 256, 65_791, 65_792, SLICE_BYTES, FRAME_TEXT_BYTES_MAX]


def segment(text: bytes | memoryview) -> bytes:
    """Compress as `objects` does."""
    return bytes(cramjam.zstd.compress(text, level=ZSTD_LEVEL))


@pytest.mark.parametrize("size", [1, 1_000, SLICE_BYTES])
def test_bytes_depend_only_on_the_text(size: int) -> None:
    text = lines(size, size)
    copy = memoryview(b"before" + text + b"behind")[6:-6]  # equal bytes at another address
    assert segment(copy) == segment(text)


def test_bytes_do_not_depend_on_what_was_compressed_before() -> None:
    chance = Random(11)
    texts = [lines(it, chance.choice((60, 400, 3_000, 100_000))) for it in range(40)]
    first = [segment(text) for text in texts]
    for _ in range(300):
        cramjam.zstd.compress(chance.randbytes(chance.randrange(1, 300_000)), level=3)
        number = chance.randrange(len(texts))
        assert segment(texts[number]) == first[number]


@pytest.mark.parametrize("size", SIZES)
def test_every_frame_states_the_size_of_its_text(size: int) -> None:
    content = segment(lines(size, size))
    assert content[:4] == b"\x28\xb5\x2f\xfd"
    is_single = content[4] >> 5 & 1
    count, at = (is_single, 2, 4, 8)[content[4] >> 6], 6 - is_single
    assert count
    stated = int.from_bytes(content[at : at + count], "little") + (256 if count == 2 else 0)
    assert stated == size


def test_frames_one_behind_the_other_are_one_text() -> None:
    texts = [lines(1, SLICE_BYTES), b"\n", lines(2, 1_000), Random(7).randbytes(70_000)]
    content = b"".join(map(segment, texts))
    assert bytes(cramjam.zstd.decompress(content)) == b"".join(texts)


def test_text_without_repetition_grows_by_less_than_a_thousandth() -> None:
    text = Random(7).randbytes(SLICE_BYTES)
    assert len(segment(text)) < SLICE_BYTES * 1.001


@pytest.mark.parametrize("room", [0, 1, 999])
def test_no_more_is_decompressed_than_there_is_room_for(room: int) -> None:
    into = bytearray(room)
    with pytest.raises(cramjam.DecompressionError):
        cramjam.zstd.decompress_into(segment(b"a" * 1_000), into)
