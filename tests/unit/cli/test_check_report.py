import json

import pytest
from click.testing import CliRunner

from stream_app.cli.check_report import NAMES_MAX, REASONS_MAX, engine_lines, new_report
from stream_app.cli.main import stream_app
from stream_app.config.settings import S3, Delivery, Destination, Kafka, Settings
from stream_app.expressions.expression import compile_expression
from stream_app.kafka.cluster_findings import ResourceCheck
from stream_app.s3.conformance import Conformance
from stream_app.s3.conformance_verdict import Result, Verdict

SETTINGS = Settings(
    Kafka(), S3(), Delivery(), (Destination(id="a", bucket="my-bucket"),), name="c.toml"
)
FAULT = Verdict(
    "conditional-put", Result.FAILED, "ignored\x1b[2J", "twice", "conditional_writes = false"
)


def of(*verdicts: Verdict) -> list[Conformance]:
    return [Conformance("http://127.0.0.1:1", "my-bucket", "x/", ("a",), verdicts)]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(("result", "status"), [(Result.FAILED, 1), (Result.UNKNOWN, 0)])
def test_fault_of_a_server_is_status_1(
    capsys: pytest.CaptureFixture[str], *, as_json: bool, result: Result, status: int
) -> None:
    report = new_report(as_json=as_json)
    results = of(FAULT._replace(result=result))
    report.conformance(results)
    assert report.summary(SETTINGS, None, None, results) == status
    output, error = capsys.readouterr()
    if as_json:
        document, summary = map(json.loads, output.splitlines())
        assert document == {
            "kind": "conformance",
            "endpoint": "http://127.0.0.1:1",
            "bucket": "my-bucket",
            "folder": "x/",
            "destinations": ["a"],
            "question": "conditional-put",
            "result": str(result),
            "found": "ignored\x1b[2J",
            "meaning": "twice",
            "setting": "conditional_writes = false",
        }
        assert summary["status"] == status
        assert error == ""
    else:
        lines = output.splitlines()
        assert lines[0] == "http://127.0.0.1:1, s3://my-bucket/x/"
        assert lines[1].split() == ["QUESTION", "RESULT", "FOUND"]
        assert lines[2].split() == ["conditional-put", str(result), r"ignored\x1b[2J"]
        assert ("set or change: conditional_writes = false" in error) == bool(status)


@pytest.mark.parametrize("other", [["--offline"], ["--expression", "1"]])
def test_conformance_needs_s3(other: list[str]) -> None:
    result = CliRunner().invoke(stream_app, ["check", "--conformance", *other])
    assert result.exit_code == 2
    assert f"{other[0]} does not" in result.output


def test_what_was_not_checked_in_kafka_is_said_and_no_success_is_claimed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = new_report(as_json=False)
    found = [
        ResourceCheck("broker", "1", "h\x1b:9092"),
        ResourceCheck("topic", "e", notes=("a note",), unchecked=("its configuration",)),
    ]
    report.kafka(found)
    assert report.summary(SETTINGS, found, None, None) == 0
    output, error = capsys.readouterr()
    assert [it.split(maxsplit=2) for it in output.splitlines()] == [
        ["KAFKA", "RESULT", "FOUND"],
        ["broker", "1", r"well             h\x1b:9092"],
        ["topic", "e", "not all checked"],
        [],
        ["c.toml:", "no", "mistakes; 1 destination; Kafka responds, not all of it was checked"],
    ]
    assert error.splitlines() == [
        "stream-app: note: a note",
        "stream-app: not checked: its configuration",
    ]


@pytest.mark.parametrize(("problems", "status"), [((), 0), (("missing", "hidden"), 1)])
def test_problem_of_kafka_is_status_1(
    capsys: pytest.CaptureFixture[str], problems: tuple[str, ...], status: int
) -> None:
    found = [ResourceCheck("topic", "e", "1 partition", problems)]
    report = new_report(as_json=True)
    report.kafka(found)
    assert report.summary(SETTINGS, found, None, None) == status
    document, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert document == {
        "kind": "kafka",
        "resource": "topic",
        "name": "e",
        "detail": "1 partition",
        "problems": list(problems),
        "notes": [],
        "unchecked": [],
    }
    assert (summary["kafka_problems"], summary["status"]) == (len(problems), status)
    text = new_report(as_json=False)
    text.kafka(found)
    assert text.summary(SETTINGS, found, None, None) == status
    output, error = capsys.readouterr()
    assert error == "".join(f"stream-app: {it}\n" for it in problems)
    assert output.endswith("Kafka has what a worker needs\n") is not bool(problems)


# --- Destinations whose expressions need the engine ---------------------------------------------


def lines(payloads: list[str]) -> list[str]:
    ids = [f"d{number}" for number in range(len(payloads))]
    return engine_lines(ids, [compile_expression(it) for it in payloads])


def test_fast_paths_need_no_line() -> None:
    assert lines(["$event", "$event.a ? $event.b : undefined"]) == []


def test_reason_of_most_destinations_is_first_and_names_a_few() -> None:
    assert lines(["$event.a + 1", *["$event.map(f)"] * (NAMES_MAX + 2)]) == [
        "engine: calls .map at column 7 (d1, d2, d3 and 2 more)",
        "engine: uses + at column 10 (d0)",
    ]


def test_reasons_are_as_many_as_a_person_reads() -> None:
    shown = lines([f"{' ' * number}$event.a + 1" for number in range(REASONS_MAX + 2)])
    assert len(shown) == REASONS_MAX + 1
    assert shown[-1] == "engine: 2 more reasons (2 destinations)"
