import gzip
import hashlib
import random

import pytest

from stream_app.objects import (
    CHUNK_OVERHEAD_BYTES,
    COMPRESSOR_BYTES,
    SLICE_BYTES,
    Body,
    identifier,
    object_key,
)

AT = 1_795_537_922  # 2026-11-24T16:32:02Z
NAME = "ab" * 32


def noise(count: int, size: int) -> list[bytes]:
    """Return payloads that gzip cannot shrink much."""
    chance = random.Random(7)
    return [chance.randbytes(size // 2).hex().encode() for _ in range(count)]


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


def test_identifier_is_a_hash_of_the_windows_place_and_the_destination() -> None:
    expected = hashlib.sha256(b"events\x003\x004242\x00orders-archive").hexdigest()
    assert identifier("events", 3, 4242, "orders-archive") == expected
    assert len(expected) == 64


def test_identifiers_differ_in_each_of_their_parts() -> None:
    names = {
        identifier("events", 3, 42, "a"),
        identifier("event", 3, 42, "a"),
        identifier("events", 34, 2, "a"),
        identifier("events", 3, 43, "a"),
        identifier("events", 3, 42, "b"),
    }
    assert len(names) == 5


def test_each_payload_becomes_one_line() -> None:
    body = Body()
    body.add([b'{"a":1}', b"2"])
    body.add([b'"x"'])
    assert (body.lines, body.size) == (3, 14)
    assert gzip.decompress(body.finish()) == b'{"a":1}\n2\n"x"\n'


def test_gzip_header_carries_neither_time_nor_name() -> None:
    body = Body()
    body.add([b"1"])
    header = body.finish()[:10]
    assert header[:3] == b"\x1f\x8b\x08"
    assert header[3] == 0, "no optional fields"
    assert header[4:8] == b"\0\0\0\0", "no modification time"


def test_finishing_twice_gives_the_same_bytes() -> None:
    body = Body()
    body.add(noise(50, 10_000))
    first = body.finish()
    assert body.finish() is first


def test_bytes_do_not_depend_on_the_batches() -> None:
    payloads = noise(600, 1_000)
    contents = []
    for size in (1, 7, 256, 600):
        body = Body()
        for start in range(0, len(payloads), size):
            body.add(payloads[start : start + size])
        contents.append(body.finish())
    assert len(set(contents)) == 1
    assert gzip.decompress(contents[0]) == b"".join(it + b"\n" for it in payloads)


def test_a_body_of_exactly_one_slice_is_whole() -> None:
    body = Body()
    body.add([b"x" * (SLICE_BYTES - 1)])
    assert gzip.decompress(body.finish()) == b"x" * (SLICE_BYTES - 1) + b"\n"


def test_a_quiet_body_costs_its_lines_and_no_compressor() -> None:
    body = Body()
    assert body.held == 0
    body.add([b"x" * 999])
    body.add([b"y" * 99])
    assert body.held == 1100 + 2 * CHUNK_OVERHEAD_BYTES


def test_a_full_slice_is_compressed_at_once() -> None:
    body = Body()
    body.add([b"x" * 1023] * 256)
    assert body.size == SLICE_BYTES
    assert body.held < COMPRESSOR_BYTES + 16_384


def test_finishing_releases_the_compressor_and_the_lines() -> None:
    body = Body()
    body.add([b"x" * 1023] * 300)
    content = body.finish()
    assert body.held == len(content) + CHUNK_OVERHEAD_BYTES
