from stream_app.s3.conformance import Conformance
from stream_app.s3.conformance_verdict import Result, Verdict


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
