"""Alert rules, dashboard and documents name the metrics that the code has, and no other."""

import json
import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from stream_app.config.settings import Http
from stream_app.core.failing_destinations import FailingDestination
from stream_app.monitoring import health
from stream_app.monitoring import http as watchserver
from stream_app.monitoring.counts import STATUSES
from stream_app.monitoring.metrics import METRICS, Kind, Metric
from stream_app.s3.clock_skew import ENDPOINTS_MAX
from tests.docs.blocks import ROOT, section
from tests.docs.generate import renewed

DOCS = ROOT / "docs"
REFERENCE = (DOCS / "reference.md").read_text("utf-8")
OPERATIONS = (DOCS / "operations.md").read_text("utf-8")
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DOCS / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana-dashboard.json").read_text("utf-8"))
PANELS = [it for it in DASHBOARD["panels"] if it["type"] != "row"]
PROCESS = set(re.findall(r"`(process_\w+)`", REFERENCE))
SAMPLES: dict[str, Metric] = {
    name: it
    for it in METRICS
    for name in (
        [f"{it.name}_{ending}" for ending in ("bucket", "sum", "count")]
        if it.kind is Kind.HISTOGRAM
        else [it.name]
    )
}
TARGET_LABELS = {"job", "instance"}
"""Prometheus puts them on everything that it scrapes."""
VALUES = {
    "outcome": {"delivered", "skipped", "failed", "given_up"},
    "status": {str(it) for it in STATUSES},
}
USE = re.compile(r"\b((?:stream_app|process)_\w+)\s*(?:\{([^}]*)\})?(\[)?")
SELECTOR = re.compile(r'(\w+)\s*(?:=~|=|!=|!~)\s*"([^"]*)"')
TESTED = [pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES] + [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]


def test_alerts_and_panels_were_found() -> None:
    assert len(RULES) > 10
    assert len(PANELS) > 20
    assert len(PROCESS) == 6


@pytest.mark.parametrize("expression", TESTED)
def test_expression_uses_metrics_and_labels_that_exist(expression: str) -> None:
    uses = USE.findall(expression)
    assert uses, expression
    labels = set(TARGET_LABELS)
    for name, selectors, _ in uses:
        assert name in SAMPLES or name in PROCESS, f"{name} is no metric"
        mine = set(SAMPLES[name].labels) if name in SAMPLES else set()
        if name.endswith("_bucket"):
            mine.add("le")
        for label, value in SELECTOR.findall(selectors):
            assert label in mine | TARGET_LABELS, f"{name} has no label {label}"
            if label in VALUES:
                assert set(value.split("|")) <= VALUES[label], f"{label} is never {value}"
        labels |= mine
    for grouped in re.findall(r"\b(?:by|on|group_left|without) \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", grouped)) <= labels, grouped


@pytest.mark.parametrize("expression", TESTED)
def test_counters_are_looked_at_by_their_increase_and_gauges_as_they_are(expression: str) -> None:
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)
    for before, (name, _, is_range) in zip(
        USE.split(expression)[:: USE.groups + 1], USE.findall(expression), strict=False
    ):
        function = re.search(r"(\w+)\($", before)
        counts = name.endswith(("_total", "_bucket", "_sum", "_count"))
        assert bool(is_range) is (
            function is not None and function[1] in ("rate", "increase", "deriv")
        ), expression
        if counts:
            assert function is not None, expression
            assert function[1] in ("rate", "increase"), expression
        elif is_range:
            assert function is not None, expression
            assert function[1] == "deriv", expression


def test_each_alert_has_a_name_of_its_own_a_gravity_and_words() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"StreamApp([A-Z][a-z]+)+", rule["alert"])
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "0m"))
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        kept = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        known = {label for name, *_ in USE.findall(rule["expr"]) for label in SAMPLES[name].labels}
        assert named <= (set(re.split(r",\s*", kept[0])) if kept else known | TARGET_LABELS)


def test_what_to_do_is_written_for_each_alert_and_for_no_other() -> None:
    alerts = section(OPERATIONS, "Alerts")
    assert re.findall(r"^\| `(StreamApp\w+)` \| .{20,} \|$", alerts, re.MULTILINE) == [
        rule["alert"] for rule in RULES
    ]


def test_every_metric_is_in_the_document_as_it_is_declared() -> None:
    assert renewed(DOCS / "reference.md") == REFERENCE
    table = section(REFERENCE, "Metrics")
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [it.name for it in METRICS]
    named = set(re.findall(r"`(stream_app_\w+)`", REFERENCE + OPERATIONS))
    assert named <= {it.name for it in METRICS}


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {
        name for panel in PANELS for it in panel["targets"] for name, *_ in USE.findall(it["expr"])
    }
    missing = [
        it.name for it in METRICS if not {name for name in shown if name.startswith(it.name)}
    ]
    assert missing == []


def test_dashboard_can_be_imported_anywhere() -> None:
    variables = {it["name"]: it for it in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    source = {"type": "prometheus", "uid": "${datasource}"}
    for name, variable in variables.items():
        if name != "datasource":
            assert variable["datasource"] == source
            metric, label = re.fullmatch(  # type: ignore[union-attr] # one of the two forms
                r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variable["query"]["query"]
            ).groups()
            assert label in {*SAMPLES[metric].labels, *TARGET_LABELS}
    used = set(re.findall(r"\$(\w+)", " ".join(str(it["targets"]) for it in PANELS)))
    assert used <= {*variables, "__rate_interval"}
    for panel in PANELS:
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        assert panel["title"]
        assert panel["description"]


def test_panels_do_not_lie_on_each_other() -> None:
    assert len({it["id"] for it in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [(it["gridPos"], it["title"]) for it in DASHBOARD["panels"]]
    for (one, name), (two, other) in combinations(places, 2):
        apart = any(
            a[start] + a[size] <= b[start]
            for a, b in ((one, two), (two, one))
            for start, size in (("x", "w"), ("y", "h"))
        )
        assert apart, f"{name} lies on {other}"
        assert one["x"] + one["w"] <= 24


def test_numbers_of_the_document_are_those_of_the_code() -> None:
    words = " ".join(OPERATIONS.split())
    port = Http().port
    assert f"from {port} to {port + watchserver.PORTS_MAX - 1}" in words
    assert (
        f"more than {health.STALLED_SECONDS_MAX:.0f} of the last "
        f"{health.STALLS_KEPT_SECONDS:.0f} s, "
        f"in pauses of {health.STALL_SECONDS_MIN:.0f} s or more"
    ) in words
    assert f"has not responded for {health.THREAD_SECONDS_MAX:.0f} s" in words
    assert f"has not run for {health.COMMIT_STALL_SECONDS_MAX:.0f} s" in words
    longest = health.STALLS_KEPT_SECONDS - health.STALLED_SECONDS_MAX
    assert f"called not live for at most {longest:.0f} s" in words
    assert f"at most {ENDPOINTS_MAX} servers" in words
    outcomes = len(VALUES["outcome"])
    mine = [it for it in METRICS if "destination" in it.labels]
    assert f"A destination has {len(mine) - 1 + outcomes} series" in words
    assert f"a partition {sum('partition' in it.labels for it in METRICS)} in" in words


def test_examples_of_health_have_the_fields_of_a_response() -> None:
    examples = [
        json.loads(it)
        for it in re.findall(r"```json\n(.*?)```", section(OPERATIONS, "Health"), re.DOTALL)
    ]
    durations = health.durations(health.LoopMonitor(0.0), health.Progress(), 0.0)
    assert list(examples[0]) == ["live", "reasons", "seconds"]
    assert list(examples[0]["seconds"]) == list(durations)
    membership = health.Membership(
        has_started=True,
        is_ending=False,
        is_member=True,
        partitions_read_back=examples[1]["partitions"]["read_back"],
        partitions_missing=examples[1]["partitions"]["missing"],
    )
    assert list(examples[1]) == ["ready", "reasons", "partitions", "warnings"]
    failing = health.warnings([FailingDestination("orders", 0.0, 44, 14)], [])
    assert tuple(examples[1]["warnings"]) == failing
    assert tuple(examples[1]["reasons"]) == health.ready(membership).reasons
