import gzip
import hashlib
import random
import zlib
from dataclasses import replace

import pytest
from isal import igzip

from stream_app.core.object_body import (
    CHUNK_OVERHEAD_BYTES,
    COPIED_BYTES_MAX,
    NEVER_IN_PARTS,
    PART_BYTES,
    PART_BYTES_MIN,
    PARTS_MAX,
    SIZES,
    SLICE_BYTES,
    ObjectBody,
    Sizes,
)
from stream_app.core.object_key import identifier, object_key
from stream_app.errors import InvariantError
from tests.unit.core.builders import TINY

AT = 1_795_537_922  # 2026-11-24T16:32:02Z
NAME = "ab" * 32


def noise(count: int, size: int) -> list[bytes]:
    """Return payloads that gzip cannot shrink much."""
    chance = random.Random(7)
    return [chance.randbytes(size // 2).hex().encode() for _ in range(count)]


def filled(count: int = 20) -> ObjectBody:
    """Return a body of many tiny slices, all of which are compressed: more than one part's."""
    body = ObjectBody(TINY)
    body.add(noise(count, 100))
    compress(body)
    return body


def text(payloads: list[bytes]) -> bytes:
    return b"".join(it + b"\n" for it in payloads)


def sent(body: ObjectBody) -> bytes:
    """Send all parts; return their contents, one behind the other."""
    content = b""
    for part in body.unsent:
        assert part.content is not None
        content += part.content
        body.sent(part, f"part {part.number}")
    return content


def compress(body: ObjectBody, *, whole: bool = False) -> None:
    """Compress what waits, as a thread would."""
    compression = body.compression(whole=whole)
    compression.perform()
    body.compressed(compression)


def test_key_has_the_layout_that_s3_destinations_know() -> None:
    assert object_key("logs", AT, NAME) == f"logs/2026/11/24/16/2026-11-24-16-32-02-{NAME}.gz"


@pytest.mark.parametrize("prefix", ["test", "test/"])
def test_prefix_and_date_are_joined_by_one_slash(prefix: str) -> None:
    assert object_key(prefix, AT, NAME).startswith("test/2026/")


def test_key_without_prefix_begins_with_the_year() -> None:
    assert object_key("", AT, NAME).startswith("2026/11/24/16/2026-")


def test_key_is_in_utc_whatever_the_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    import time  # noqa: PLC0415 - only here is the process's zone changed

    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        assert object_key("", AT, NAME).startswith("2026/11/24/16/2026-11-24-16-32-02-")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_key_pads_each_number_to_two_digits() -> None:
    assert object_key("", 1_767_323_045, NAME).startswith("2026/01/02/03/2026-01-02-03-04-05-")


def test_identifier_is_a_hash_of_the_windows_place_the_destination_and_the_closing_time() -> None:
    expected = hashlib.sha256(b"events\x003\x004242\x00orders-archive\x0060").hexdigest()
    assert identifier("events", 3, 4242, 60, "orders-archive") == expected
    assert len(expected) == 64


def test_identifier_of_a_window_recorded_before_0_2_has_no_time() -> None:
    expected = hashlib.sha256(b"events\x003\x004242\x00orders-archive").hexdigest()
    assert identifier("events", 3, 4242, None, "orders-archive") == expected


def test_identifiers_differ_in_each_of_their_parts() -> None:
    names = {
        identifier("events", 3, 42, 60, "a"),
        identifier("event", 3, 42, 60, "a"),
        identifier("events", 34, 2, 60, "a"),
        identifier("events", 3, 43, 60, "a"),
        identifier("events", 3, 42, 61, "a"),
        identifier("events", 3, 42, 60, "b"),
        identifier("events", 3, 42, None, "a"),
    }
    assert len(names) == 7


def test_each_payload_becomes_one_line() -> None:
    body = ObjectBody()
    body.add([b'{"a":1}', b"2"])
    body.add([b'"x"'])
    assert (body.lines, body.size) == (3, 14)
    assert gzip.decompress(body.finish()) == b'{"a":1}\n2\n"x"\n'


def test_gzip_header_carries_neither_time_nor_name() -> None:
    body = ObjectBody()
    body.add([b"1"])
    header = body.finish()[:10]
    assert header[:3] == b"\x1f\x8b\x08"
    assert header[3] == 0, "no optional fields"
    assert header[4:8] == b"\0\0\0\0", "no modification time"


def test_finishing_twice_gives_the_same_bytes() -> None:
    body = ObjectBody()
    body.add(noise(50, 10_000))
    first = body.finish()
    assert body.finish() is first


def test_bytes_do_not_depend_on_the_batches() -> None:
    payloads = noise(600, 1_000)
    contents = []
    for size in (1, 7, 256, 600):
        body = ObjectBody()
        for start in range(0, len(payloads), size):
            body.add(payloads[start : start + size])
        contents.append(body.finish())
    assert len(set(contents)) == 1
    assert gzip.decompress(contents[0]) == b"".join(it + b"\n" for it in payloads)


def test_a_body_of_exactly_one_slice_is_whole() -> None:
    body = ObjectBody()
    body.add([b"x" * (SLICE_BYTES - 1)])
    assert gzip.decompress(body.finish()) == b"x" * (SLICE_BYTES - 1) + b"\n"


def test_a_quiet_body_costs_its_lines_and_no_compressor() -> None:
    body = ObjectBody()
    assert body.held == 0
    body.add([b"x" * 999])
    body.add([b"y" * 99])
    assert body.held == 1100 + 2 * CHUNK_OVERHEAD_BYTES


def test_a_full_slice_is_due_and_takes_little_when_it_is_compressed() -> None:
    body = ObjectBody()
    body.add([b"x" * 1023] * 255)
    assert not body.is_due
    body.add([b"x" * 1023])
    assert (body.size, body.is_due) == (SLICE_BYTES, True)
    compress(body)
    assert not body.is_due
    assert body.held < 16_384


def test_finishing_releases_the_lines() -> None:
    body = ObjectBody()
    body.add([b"x" * 1023] * 300)
    content = body.finish()
    assert body.held == len(content) + CHUNK_OVERHEAD_BYTES


def test_payloads_of_any_size_wait_as_what_they_are() -> None:
    large, small = b"y" * COPIED_BYTES_MAX, b"x"
    body = ObjectBody()
    body.add([small, large, b"", small])
    body.add([b"", small])
    assert body.waiting == body.size == COPIED_BYTES_MAX + 9
    assert body.held == body.size + 5 * CHUNK_OVERHEAD_BYTES
    assert gzip.decompress(body.finish()) == text([small, large, b"", small, b"", small])


def test_no_payloads_make_no_line() -> None:
    body = ObjectBody()
    body.add([])
    assert (body.held, body.waiting) == (0, 0)
    body.add([b"1"])
    body.add([])
    assert gzip.decompress(body.finish()) == b"1\n"


# --- Segments: compressed apart, one gzip member together -----------------------------------------


def test_segments_are_one_gzip_member_for_every_reader() -> None:
    payloads = noise(30, 100)
    body = ObjectBody(TINY)
    for start in range(0, 30, 7):
        body.add(payloads[start : start + 7])
        compress(body)
    assert len(body._segments) > 20
    content = body.finish()
    reader = zlib.decompressobj(31)
    assert reader.decompress(content) == text(payloads)
    assert reader.eof
    assert reader.unused_data == b"", "a second member"
    assert gzip.decompress(content) == text(payloads)
    assert igzip.decompress(content) == text(payloads)


def test_member_ends_with_checksum_and_size_of_all_lines() -> None:
    payloads = noise(20, 100)
    body = ObjectBody(TINY)
    body.add(payloads)
    compress(body)
    content = body.finish()
    assert content[-8:-4] == zlib.crc32(text(payloads)).to_bytes(4, "little")
    assert content[-4:] == len(text(payloads)).to_bytes(4, "little")


def test_size_in_the_member_is_that_of_the_lines_modulo_4_gib() -> None:
    body = ObjectBody()
    body.add([b"1"])
    body.size += 2**32  # as if so many had gone before
    assert body.finish()[-4:] == (2).to_bytes(4, "little")


def test_digest_is_that_of_the_content() -> None:
    body = filled(3)
    content = body.finish()
    assert body.sha256 == hashlib.sha256(content).digest()
    assert body.size_compressed == len(content)


def test_bytes_do_not_depend_on_when_they_are_compressed() -> None:
    payloads = noise(40, 70)
    late, early = ObjectBody(TINY), ObjectBody(TINY)
    for payload in payloads:
        late.add([payload])
        early.add([payload])
        compress(early)
    assert late.finish() + sent(late) == early.finish() + sent(early)


def test_lines_packed_for_memory_change_no_byte() -> None:
    payloads = noise(40, 70)
    usual, short = ObjectBody(NEVER_IN_PARTS), ObjectBody(NEVER_IN_PARTS)
    for payload in payloads:
        usual.add([payload])
        short.add([payload])
        compress(short, whole=True)
        assert short.waiting == 0
    assert usual.finish() == short.finish()
    assert gzip.decompress(short.finish()) == gzip.decompress(usual.finish()) == text(payloads)


def test_compressing_without_a_full_slice_leaves_the_lines_waiting() -> None:
    body = ObjectBody()
    body.add([b"1", b"", b"2"])
    compress(body)
    assert body.waiting == 5
    assert gzip.decompress(body.finish()) == b"1\n\n2\n"


def test_an_empty_line_may_be_all_that_is_left_of_a_slice() -> None:
    body = ObjectBody(TINY)
    body.add([b"x" * 99, b""])
    compress(body)
    assert body.waiting == 1
    assert gzip.decompress(body.finish()) == b"x" * 99 + b"\n\n"


def test_lines_that_come_while_others_are_compressed_follow_them() -> None:
    body = ObjectBody(TINY)
    body.add([b"a" * 150])
    compression = body.compression()
    body.add([b"b"])
    compression.perform()
    body.compressed(compression)
    assert gzip.decompress(body.finish()) == b"a" * 150 + b"\nb\n"


def test_lines_that_are_compressed_are_held() -> None:
    body = ObjectBody(TINY)
    body.add([b"a" * 150])
    compression = body.compression()
    assert (body.waiting, body.is_busy) == (0, True)
    assert body.held >= 151
    compression.perform()
    body.compressed(compression)
    assert not body.is_busy


def test_a_second_compression_at_the_same_time_is_refused() -> None:
    body = ObjectBody(TINY)
    body.add([b"a" * 150])
    compression = body.compression()
    body.add([b"b" * 150])
    with pytest.raises(InvariantError, match="are being compressed already"):
        body.compression()
    with pytest.raises(InvariantError, match="are being compressed already"):
        body.finish()
    compression.perform()
    body.compressed(compression)
    assert gzip.decompress(body.finish()) == b"a" * 150 + b"\n" + b"b" * 150 + b"\n"


def test_a_compression_that_is_handed_back_twice_repeats_no_line() -> None:
    body = ObjectBody(TINY)
    body.add([b"a" * 150])
    compression = body.compression()
    compression.perform()
    body.compressed(compression)
    with pytest.raises(InvariantError, match="not the expected ones"):
        body.compressed(compression)
    assert gzip.decompress(body.finish()) == b"a" * 150 + b"\n"


# --- Parts ----------------------------------------------------------------------------------------


def test_parts_are_what_s3_takes() -> None:
    assert SIZES.part == PART_BYTES >= SIZES.part_min == PART_BYTES_MIN == 5 * 2**20
    assert SIZES.parts_max == PARTS_MAX == 10_000


def test_too_little_for_a_part_is_not_cut() -> None:
    body = filled(1)
    assert not body.cut()
    assert not body.cut(early=True)
    assert body.parts == []


def test_memory_makes_smaller_parts_than_plenty() -> None:
    body = filled(2)
    assert TINY.part_min <= body.size_compressed < TINY.part
    assert not body.cut()
    assert body.cut(early=True)
    assert [part.number for part in body.parts] == [1]


def test_parts_together_are_the_object() -> None:
    payloads = noise(60, 100)
    body, content = ObjectBody(TINY), b""
    for payload in payloads:
        body.add([payload])
        compress(body)
        if body.cut():
            content += sent(body)
    assert len(body.parts) > 2
    assert body.finish() == b"", "it leaves in parts"
    content += sent(body)
    assert gzip.decompress(content) == text(payloads)
    assert body.sha256 == hashlib.sha256(content).digest()
    assert body.size_compressed == len(content)
    assert [part.number for part in body.parts] == list(range(1, len(body.parts) + 1))
    assert [part.stored for part in body.parts] == [f"part {part.number}" for part in body.parts]


def test_the_last_part_may_be_smaller_than_s3_takes_otherwise() -> None:
    body = filled(12)
    body.cut()
    body.finish()
    first, last = (part.content or b"" for part in body.parts)
    assert len(first) == TINY.part
    assert 0 < len(last) < TINY.part_min


def test_r2_takes_parts_of_one_size_only() -> None:
    """Cloudflare R2 answers InvalidPart where any but the last part has another size."""
    for early in (False, True):
        body = ObjectBody(replace(TINY, parts_max=100))
        cuts = 0
        for count in (7, 1, 12, 30, 3, 25):  # Segments straddle the parts.
            body.add(noise(count, 100))
            compress(body)
            cuts += body.cut(early=early)
            rest = sum(map(len, body._segments))
            assert rest < (body._part_bytes or TINY.part), "what is enough was cut"
        body.add(noise(20, 100))
        body.finish()
        *parts, last = (len(part.content or b"") for part in body.parts)
        size = TINY.part_min if early else TINY.part
        assert (cuts > 2, {*parts}, last <= size) == (True, {size}, True)
        assert gzip.decompress(sent(body)).count(b"\n") == 98


def test_memory_makes_no_smaller_part_behind_a_usual_one() -> None:
    body = filled()
    assert body.cut()
    assert TINY.part_min < sum(map(len, body._segments)) < TINY.part
    assert not body.cut(early=True)


def test_plenty_makes_no_larger_part_behind_a_small_one() -> None:
    body = filled(2)
    assert body.cut(early=True)
    body.add(noise(60, 100))
    compress(body)
    assert body.cut()
    assert {len(part.content or b"") for part in body.parts} == {TINY.part_min}


def test_the_last_part_may_be_as_large_as_the_others() -> None:
    lines = noise(20, 100)
    whole = ObjectBody(TINY)
    whole.add(lines)
    size = len(whole.finish())
    (divisor,) = [it for it in range(2, size) if size % it == 0][:1]
    body = ObjectBody(replace(TINY, part=size // divisor, part_min=1))
    body.add(lines)
    compress(body)
    assert body.cut()
    body.finish()
    assert [len(part.content or b"") for part in body.parts] == [size // divisor] * divisor


def test_finishing_twice_makes_one_last_part() -> None:
    body = filled()
    body.cut()
    assert body.finish() == body.finish() == b""
    assert len(body.parts) == 2
    digest = body.sha256
    sent(body)
    assert body.finish() == b""
    assert (len(body.parts), body.sha256) == (2, digest)


def test_a_part_that_s3_has_takes_no_memory() -> None:
    body = filled()
    before = body.held
    body.cut()
    assert body.held < before, "one piece instead of many"
    sent(body)
    assert body.unsent == []
    rest = sum(map(len, body._segments))
    assert 0 < rest < TINY.part
    assert body.held == body.waiting + rest + 2 * CHUNK_OVERHEAD_BYTES


def test_a_part_sent_twice_counts_once() -> None:
    body = filled()
    body.cut()
    (part,) = body.parts
    body.sent(part, "first")
    held = body.held
    body.is_stuck = True
    body.sent(part, "second")
    assert (body.held, part.stored) == (held, "first")
    assert not body.is_stuck


def test_a_part_that_s3_takes_ends_the_stand_still() -> None:
    body = filled()
    body.cut()
    body.is_stuck = True
    sent(body)
    assert not body.is_stuck


def test_a_body_is_full_before_the_smallest_parts_have_no_room() -> None:
    assert SIZES.object_max == 9_000 * PART_BYTES_MIN
    assert Sizes(part_min=100, parts_max=5).object_max == 400
    sizes = replace(TINY, parts_max=100)
    body = ObjectBody(sizes)
    while not body.is_full:
        assert body.size_compressed < sizes.object_max
        body.add(noise(5, 100))
        compress(body)
        body.cut(early=True)
    assert body.size_compressed >= sizes.object_max
    assert sizes.parts_max - 10 <= len(body.parts) <= sizes.parts_max - 7


def test_the_last_part_takes_all_lines_for_which_no_other_has_room() -> None:
    sizes = replace(TINY, parts_max=5)
    body = ObjectBody(sizes)
    body.add(noise(100, 100))
    compress(body)
    assert body.cut()
    assert len(body.parts) == sizes.parts_max - 1
    assert not body.cut()
    assert not body.cut(early=True)
    body.finish()
    assert len(body.parts) == sizes.parts_max
    assert gzip.decompress(sent(body)) == text(noise(100, 100))


def test_a_body_that_never_goes_in_parts_makes_none() -> None:
    body = ObjectBody(NEVER_IN_PARTS)
    body.add(noise(3, 300_000))
    compress(body)
    assert not body.cut()
    assert gzip.decompress(body.finish()) == text(noise(3, 300_000))


def test_packed_lines_take_less_room_and_fill_their_slice() -> None:
    usual, short = ObjectBody(), ObjectBody()
    for letter in (b"a", b"b", b"c"):
        usual.add([letter * 100_000])
        short.add([letter * 100_000])
        compress(short, whole=True)
        assert short.held < 3_000
        assert short.waiting == 0
    assert short.finish() == usual.finish()
    assert len(gzip.decompress(short.finish())) == 300_003


def test_large_contents_are_kept_in_blocks_and_held_as_before() -> None:
    body = ObjectBody(NEVER_IN_PARTS)
    payloads = noise(90, 100_000)
    for payload in payloads:
        body.add([payload])
        compress(body)
    assert body._blocks == 2, "some 4.5 MB, half of what is written in hex"
    assert body.held == sum(len(it) + CHUNK_OVERHEAD_BYTES for it in body._segments) + (
        body.waiting + CHUNK_OVERHEAD_BYTES * len(body._waiting)
    )
    assert gzip.decompress(body.finish()) == text(payloads)
