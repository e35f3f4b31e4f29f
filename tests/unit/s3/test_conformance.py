import gzip

import pytest

from stream_app.s3.conformance import NAME, Conformance, empty_object
from stream_app.s3.conformance_verdict import Result, Verdict


@pytest.mark.parametrize("size", [0, 100, 64 * 1024])
def test_empty_object_is_a_gzip_member_without_a_byte(size: int) -> None:
    content = empty_object(size, "comment")
    assert gzip.decompress(content) == b""
    assert len(content) == max(size, len(empty_object(0, "comment")))
    assert NAME.encode() in content


def test_fault_is_one_line_with_its_meaning_and_its_setting() -> None:
    fault = Verdict("conditional-put", Result.FAILED, "ignored", "twice", "a = false")
    faults = Conformance(
        "http://127.0.0.1:1",
        "my-bucket",
        "x/",
        ("a", "b"),
        (fault, Verdict("write", Result.PASSED, "written"), fault._replace(setting=None)),
    ).faults()
    where = "http://127.0.0.1:1, bucket 'my-bucket' (destinations a, b): conditional-put: ignored"
    assert faults == [
        f"{where}; twice; set or change: a = false",
        f"{where}; twice; no setting avoids it",
    ]
