"""The benchmarks run, evaluate every event, and give the rows that the documents show."""

import asyncio
import re
import subprocess
import sys
from itertools import dropwhile, takewhile
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner

from benchmarks import expressions, objects, report, rig, stages, throughput
from benchmarks.expressions import (
    ALL_ENGINE,
    ALL_FAST,
    CASES,
    ENGINE,
    FAST,
    SIZES,
    Size,
    batch,
    measure,
    verify,
)
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.expressions.expression import compile_expression
from tests.docs.blocks import ROOT

PERFORMANCE = ROOT / "docs" / "performance.md"
IMAGE_BYTES_MAX = 150_000
FLAME_GRAPH_BYTES_MAX = 1_000_000
SECONDS_MAX = 500
MADE_UP = throughput.Cost(
    rate=1e5, cpu_us=5.0, cores=1.0, rss_added_mib=50.0, broker_us=1.0, s3_us=1.0
)


def rows(text: str, begin: str = "| payload ") -> list[list[str]]:
    """Return the cells of the table that begins so, but for the line of dashes."""
    rest = dropwhile(lambda line: not line.startswith(begin), text.splitlines())
    head, _, *body = takewhile(lambda line: line.startswith("|"), rest)
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in (head, *body)]


def test_table_of_expressions_has_the_rows_and_columns_of_the_benchmark() -> None:
    # Measuring also compares the result of every payload with that of the function by hand.
    head, *computed = expressions.rows(
        {
            name: [side for size in SIZES for side in measure(payloads, size, 0)]
            for name, payloads in CASES.items()
        }
    )
    shown_head, *shown = rows(block("expressions"))
    assert [row[0] for row in computed] == list(CASES)
    assert shown_head == head
    assert [row[:2] for row in shown] == [row[:2] for row in computed]
    assert [len(row) for row in shown] == [len(row) for row in computed]


def test_benchmark_prints_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    name, payloads = next(iter(CASES.items()))
    monkeypatch.setattr(expressions, "CASES", {name: payloads})
    ran = CliRunner().invoke(expressions.main, ["--seconds", "0"])
    assert ran.exit_code == 0, ran.output
    head, row = rows(ran.output)
    assert head[0] == "payload"
    assert row[:2] == [name, "fast path"]


@pytest.mark.parametrize("name", CASES)
def test_payload_takes_the_path_that_the_table_names(name: str) -> None:
    uses_engine = {compile_expression(text).uses_engine for text, _ in CASES[name]}
    assert uses_engine == {name not in FAST and name != ALL_FAST}


def test_every_payload_is_in_a_row_of_all() -> None:
    assert list(CASES[ALL_ENGINE]) == list(ENGINE.values())
    assert list(CASES[ALL_FAST]) == list(FAST.values())


@pytest.mark.parametrize(("size", "length"), [*zip(SIZES, (1_000, 100_000), strict=True)])
def test_events_are_as_large_as_the_table_says(size: Size, length: int) -> None:
    assert {round(len(record.value or b"") / length, 1) for record in batch(size)} == {1.0}


@pytest.mark.parametrize("other", [b'"PUT"', b"null", None])
def test_difference_from_what_is_written_by_hand_ends_the_benchmark(other: bytes | None) -> None:
    records = batch(SIZES[0])
    verify([("$event.method", lambda event: orjson.dumps(event["method"]))], records)
    with pytest.raises(click.ClickException, match=r"event 0: ours, by hand \(b'\"POST\"', "):
        verify([("$event.method", lambda _: other)], records)


def test_skipped_event_is_no_null() -> None:
    with pytest.raises(click.ClickException, match=r"event 0: ours, by hand \(b'null', None\)"):
        verify([("null", lambda _: None)], batch(SIZES[0]))


def test_objects_are_delivered_and_give_the_rows_of_the_document(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    measured = objects.text(rig.Servers(kafka, s3), tmp_path, 20, 1)
    for begin, texts in (("| an object with ", 1), ("| the PUT alone ", 1)):
        head, *printed = rows(measured, begin)
        shown_head, *shown = rows(block("objects"), begin)
        assert shown_head == head
        assert [row[:texts] for row in shown] == [row[:texts] for row in printed]


@pytest.mark.parametrize(("cpu_us", "rate"), [(500.0, 900.0), (500.1, 899.9)])
def test_figures_of_objects_are_medians_beside_their_targets(cpu_us: float, rate: float) -> None:
    costs = [
        objects.Cost(5_000, cpu, per_second, 1.0, 1.0, 1.0)
        for cpu, per_second in ((cpu_us, rate), (1.0, 1.0), (9e9, 9e9))
    ]
    _, of_cpu, of_rate, *_ = objects.rows(costs)
    verdict = "reached" if cpu_us == objects.CPU_US_WANTED else "missed"
    assert of_cpu[-1] == of_rate[-1] == verdict


def block(name: str) -> str:
    """Return what a benchmark has written into the document."""
    text = PERFORMANCE.read_text("utf-8")
    _, begin, rest = text.partition(report.BEGIN.format(name))
    assert begin, f"{PERFORMANCE} has no place for {name}"
    return rest.partition(report.END)[0]


def test_every_side_answers_all_events_and_prints_the_rows_of_the_document() -> None:
    # The program fails if a side has not evaluated every event.
    ran = subprocess.run(
        [sys.executable, "benchmarks/throughput.py", "--events", "2000", "--turns", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert ran.returncode == 0, ran.stderr
    for begin, texts in (("| payload ", 2), ("| this, ", 2)):
        head, *printed = rows(ran.stdout, begin)
        shown_head, *shown = rows(block("throughput"), begin)
        assert len(printed) > len(throughput.EXPRESSIONS)
        assert shown_head == head
        assert [row[:texts] for row in shown] == [row[:texts] for row in printed]


@pytest.mark.parametrize(("cpu_us", "verdict"), [(5.0, "reached"), (5.1, "missed")])
def test_target_is_missed_by_what_is_beyond_it(cpu_us: float, verdict: str) -> None:
    turn = dict.fromkeys(throughput.CASES, MADE_UP)
    turn[throughput.Case(throughput.BODY, "this")] = MADE_UP._replace(cpu_us=cpu_us)
    first, *_ = throughput.target_rows([turn])[1:]
    assert first[0] == "CPU of naive, `$event.body`"
    assert first[-1] == verdict


def test_ratio_is_the_median_of_those_of_the_turns() -> None:
    turns = []
    for rate in (1e5, 3e5, 8e5):
        turn = dict.fromkeys(throughput.CASES, MADE_UP)
        turn[throughput.Case(throughput.WHOLE, "this")] = MADE_UP._replace(rate=rate)
        turns.append(turn)
    ratios = {row[0]: row[2] for row in throughput.target_rows(turns)}
    assert ratios["rate of naive, `$event`"] == "3.00 (1.00..8.00)"


def test_stages_take_every_event_into_objects(
    kafka: KafkaServer,
    s3: S3Server,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    servers = rig.Servers(kafka, s3)
    for number, payload in enumerate(stages.PAYLOADS):
        settings = stages.settings_for(servers, tmp_path, payload, bucket)
        costs = asyncio.run(
            stages.measure(settings, stages.fetches(3_000), 3_000, f"objects-{number}")
        )
        assert list(costs) == list(stages.STAGES)


def test_document_has_a_place_for_each_benchmark_and_no_other() -> None:
    marks = re.findall(r"<!-- generated: (\S+) -->", PERFORMANCE.read_text("utf-8"))
    assert marks == list(report.BENCHMARKS)


def test_stages_of_the_document_are_explained_in_their_order() -> None:
    shown = [row[0] for row in rows(block("stages"), "| stage, ")[1:]]
    assert shown == [stages.RECEIVE, *stages.STAGES, "rest", "whole"]
    explained = [row[0] for row in rows(PERFORMANCE.read_text("utf-8"), "| stage |")[1:]]
    assert explained == shown[:-1]


def test_block_takes_the_place_of_the_former_one() -> None:
    text = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n<!-- generated: y -->\n<!-- end -->\n"
    once = report.put(text, "x", "new")
    assert once == text.replace("old", "new")
    assert report.put(once, "x", "new") == once


def test_document_without_a_place_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("<!-- generated: x -->\n")
    with pytest.raises(click.ClickException, match=r"write <!-- generated: x --> and <!-- end -->"):
        report.write(document, "x", "new")


def test_every_picture_of_the_document_is_there_and_small() -> None:
    names = re.findall(r"\]\((images/\S+\.svg)\)", PERFORMANCE.read_text("utf-8"))
    assert names
    for name in names:
        bytes_max = FLAME_GRAPH_BYTES_MAX if "flame" in name else IMAGE_BYTES_MAX
        assert 0 < (PERFORMANCE.parent / name).stat().st_size < bytes_max, name


def test_flame_graph_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    graph = tmp_path / "graph.svg"
    program = f"{sys.prefix}/bin/py-spy record --output {graph}"
    graph.write_text(f"<text>{program}</text><title>{ROOT}/benchmarks/rig.py</title>")
    throughput.clean(graph)
    assert str(tmp_path) not in graph.read_text()
    assert "<title>benchmarks/rig.py</title>" in graph.read_text()


def test_flame_graph_that_would_name_a_folder_is_refused(tmp_path: Path) -> None:
    graph = tmp_path / "graph.svg"
    graph.write_text(f"<title>{Path.home()}/secret.py</title>")
    with pytest.raises(click.ClickException, match="names folders of this machine"):
        throughput.clean(graph)
