"""Each alert rule fires when its condition holds, after its time, alone, and with right words.

Prometheus' own `promtool` computes them from series with the names and labels that a worker has.
"""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from stream_app.monitoring.metrics import METRICS, Kind
from tests.docs.blocks import ROOT

PROMTOOL: Final = shutil.which("promtool")
ALERTS: Final = ROOT / "docs" / "alerts.yml"
RULES: Final[dict[str, dict[str, Any]]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    for rule in group["rules"]
}
DECLARED: Final = {it.name.removeprefix("stream_app_"): it for it in METRICS}
PROMTOOL_SECONDS_MAX: Final = 120.0
CHANGE: Final = 31
"""Minute at which each case changes a series."""
END: Final = 120
TARGET: Final = {"job": "stream-app", "instance": "w:9108"}
SAMPLE_LABELS: Final = {
    "destination": "orders",
    "outcome": "delivered",
    "partition": "3",
    "status": "delivered",
    "endpoint": "AWS",
}
HEALTHY: Final = {
    "events_total": f"0+60x{END}",
    "outcomes_total": f"0+60x{END}",
    "oldest_undelivered_age_seconds": f"40x{END}",
    "memory_held_bytes": f"1000000x{END}",
    "memory_max_bytes": f"200000000x{END}",
    "unread_offsets": f"200000x{CHANGE - 1} 100000x{END}",  # a backlog that becomes less
    "last_commit_timestamp_seconds": f"0+60x{END}",
    **dict.fromkeys(
        ("live", "ready", "config_last_reload_successful", "build_info", "worker_info"), f"1x{END}"
    ),
}
"""Series of a worker at work; the others are 0."""


@dataclass(frozen=True)
class Case:
    """A condition from the minute `CHANGE` on, and the alert that it causes."""

    series: dict[str, str]
    """Values from that minute on, by metric."""
    minutes: int
    """From the change to the first evaluation at which the alert fires."""
    summary: str
    labels: tuple[str, ...] = ("job", "instance")
    before: dict[str, str] = field(default_factory=dict)
    """Values until the change; 0 for others."""
    sample: dict[str, str] = field(default_factory=dict)
    """Labels that differ from `SAMPLE_LABELS`."""


CASES: Final = {
    "StreamAppEventsLost": Case(
        {"lost_offsets_total": "5x90"},
        0,
        "5 offsets were deleted by retention before they were read",
    ),
    "StreamAppLogTruncated": Case(
        {"log_truncated_total": "1x90"},
        0,
        "a log ended before the offset that the workers had reached; partitions: 1",
    ),
    "StreamAppPartitionHeldBack": Case(
        {"partitions_held_back": "2x90"},
        0,
        "nothing is read where another program has committed in the workers' group; partitions: 2",
        ("job",),
    ),
    "StreamAppBatchUndecodable": Case(
        {"undecodable_partitions": "1x90"},
        0,
        "a record batch cannot be decoded: its partition waits, or has passed over its events",
    ),
    "StreamAppDeliveryLate": Case(
        {"oldest_undelivered_age_seconds": "301x90"},
        5,
        "events of destination orders have waited for 5m 1s",
        ("job", "destination"),
        {"oldest_undelivered_age_seconds": "40"},
    ),
    "StreamAppDestinationBroken": Case(
        {"destination_circuit_open": "1x90"},
        5,
        "S3 has refused, or not responded to, requests for destination orders for 5 minutes",
        ("job", "destination"),
    ),
    "StreamAppWindowsGivenUp": Case(
        {"outcomes_total": "41x90"},
        0,
        "41 events of destination orders are in no object",
        ("job", "destination"),
        sample={"outcome": "given_up"},
    ),
    "StreamAppNotEncrypted": Case(
        {"not_encrypted_objects_total": "3x90"},
        0,
        "w:9108 has stored 3 objects without the requested encryption",
    ),
    "StreamAppDestinationFailing": Case(
        {"destination_failing": "1x90"},
        0,
        "more than 1 % of the events of destination orders fail: they are in no object",
        ("job", "destination"),
    ),
    "StreamAppEventsUnmatched": Case(
        {"unmatched_events_total": "40x90"},
        0,
        (
            "no destination takes the key of 40 events: they are in no object and no receipt; see "
            "the log: unmatched"
        ),
        ("job",),
    ),
    "StreamAppFallsBehind": Case(
        {"unread_offsets": "1000000+1000x90"},
        15,
        "events arrive faster than they are read: 1.015M wait",
        ("job",),
        {"unread_offsets": "200000"},
    ),
    "StreamAppTransactionOpen": Case(
        {"hidden_offsets_age_seconds": "0+60x90"},
        21,  # 15 minutes, a strict comparison, and `for`
        ("a transaction in partition 3 has been open for 21m 0s: no event behind it can be read"),
        ("job", "partition"),
    ),
    "StreamAppLeaderAway": Case(
        {"partitions_unanswered": "1x90"},
        5,
        (
            "w:9108 has no response from the leaders of partitions, so nothing is read there; "
            "partitions: 1"
        ),
    ),
    "StreamAppMemoryFull": Case(
        {"memory_held_bytes": "190000000x90"},
        10,
        "w:9108 has reached its memory bound and reads more slowly",
        before={"memory_held_bytes": "1000000"},
    ),
    "StreamAppPartitionFull": Case(
        {"partitions_commit_metadata_full": "3x90"},
        5,
        "3 partitions of w:9108 wait: their commit metadata has no room for another closing",
    ),
    "StreamAppCommitsFail": Case(
        {"failed_commits_total": "1+1x90"},
        10,
        "Kafka does not take the commits, or the receipts, of w:9108",
    ),
    "StreamAppReceiptsStuck": Case(
        {"receipts_failing": "7x90"},
        5,
        "7 receipts of w:9108 cannot be published: their windows stay unsettled",
    ),
    "StreamAppReceiptsShortened": Case(
        {"shortened_receipts_total": "2x90"},
        0,
        "the receipts topic took 2 receipts of w:9108 only in a shortened form",
    ),
    "StreamAppReceiptsGivenUp": Case(
        {"unpublished_receipts_total": "2x90"},
        0,
        (
            "2 windows of w:9108 were settled without a receipt: the receipts topic takes none of "
            "their size"
        ),
    ),
    "StreamAppClosingsPending": Case(
        {"closings_pending": "3x90", "last_commit_timestamp_seconds": "1800x90"},
        10,
        "3 windows of w:9108 are closed, and no commit was taken for 5 minutes",
        before={"last_commit_timestamp_seconds": "0+60"},
    ),
    "StreamAppPartitionsRebuilt": Case(
        {"rebuilt_partitions_total": "4x90"},
        0,
        "w:9108 has rebuilt partitions 4 times in an hour",
    ),
    "StreamAppPartitionsStall": Case(
        {"stalled_partitions_total": "4x90"},
        0,
        "partitions of w:9108 stood still 4 times in an hour, and were read again",
    ),
    "StreamAppRebalancesOften": Case(
        {"rebalances_total": "7x90"},
        0,
        "w:9108 has lost all its partitions 7 times in half an hour",
    ),
    "StreamAppConfigurationNotTaken": Case(
        {"config_last_reload_successful": "0x90"},
        5,
        "w:9108 keeps the old destinations: the configuration file has a mistake",
        before={"config_last_reload_successful": "1"},
    ),
    "StreamAppRestartRequired": Case(
        {"config_restart_required": "1x90"},
        60,
        "w:9108 must be restarted to use changed settings of its file",
    ),
    "StreamAppClockOff": Case(
        {"s3_clock_skew_seconds": "-61x90"},
        5,
        "the clock of w:9108 is 1m 1s from that of AWS",
        ("job", "instance", "endpoint"),
    ),
    "StreamAppLoopLate": Case(
        {"event_loop_lag_seconds_total": "0+30x90"},
        16,
        "the event loop of w:9108 is late: the worker has too little CPU",
    ),
    "StreamAppNotLive": Case(
        {"live": "0x90"},
        2,
        "w:9108 must be restarted: see its /health/live",
        before={"live": "1"},
    ),
    "StreamAppNotReady": Case(
        {"ready": "0x90"},
        5,
        "w:9108 is not ready: see its /health/ready",
        before={"ready": "1"},
    ),
    "StreamAppGone": Case(
        {"build_info": "stale"}, 5, "no worker responds to Prometheus", (), {"build_info": "1"}
    ),
}


def series(name: str, **changed: str) -> str:
    """Return a series of a worker as Prometheus stores it."""
    labels = {it: SAMPLE_LABELS.get(it, "x") for it in DECLARED[name].labels}
    text = ", ".join(f'{it}="{value}"' for it, value in (TARGET | labels | changed).items())
    return f"stream_app_{name}{{{text}}}"


def healthy() -> dict[str, str]:
    """Return the values of each series of a worker at work."""
    names = [name for name, it in DECLARED.items() if it.kind is not Kind.HISTOGRAM]
    return {series(name): HEALTHY.get(name, f"0x{END}") for name in names}


def world(case: Case) -> dict[str, str]:
    """Return the values of each series of a worker in which the condition begins."""
    changed = {}
    for name, values in case.series.items():
        before = case.before.get(name, "0")
        changed[series(name, **case.sample)] = f"{before}x{CHANGE - 1} {values}"
    return healthy() | changed


def document(alert: str, case: Case) -> dict[str, Any]:
    """Return the test of one alert in promtool's format."""
    rule, fires = RULES[alert], CHANGE + case.minutes
    labels = {it: (TARGET | SAMPLE_LABELS)[it] for it in case.labels} | rule["labels"]
    fired = {"exp_labels": labels, "exp_annotations": {"summary": case.summary}}
    return {
        "name": alert,
        "interval": "1m",
        "input_series": [{"series": it, "values": values} for it, values in world(case).items()],
        "alert_rule_test": [
            {"eval_time": f"{fires - 1}m", "alertname": alert, "exp_alerts": []},
            {"eval_time": f"{fires}m", "alertname": alert, "exp_alerts": [fired]},
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{fires}m",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}],
            }
        ],
    }


QUIET: Final = {
    "name": "a worker at work",
    "interval": "1m",
    "input_series": [{"series": it, "values": values} for it, values in healthy().items()],
    "promql_expr_test": [
        {"expr": "count(ALERTS)", "eval_time": f"{minute}m", "exp_samples": []}
        for minute in (1, CHANGE, 60, END)
    ],
}


def run(folder: Path, *tests: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    assert PROMTOOL is not None
    file = folder / "test.yml"
    rules = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": list(tests)}
    file.write_text(yaml.safe_dump(rules, sort_keys=False), "utf-8")
    return subprocess.run(
        [PROMTOOL, "test", "rules", str(file)],
        capture_output=True,
        check=False,
        text=True,
        timeout=PROMTOOL_SECONDS_MAX,
    )


needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)"
)


def test_every_alert_has_a_case() -> None:
    assert list(CASES) == list(RULES)


@needs_promtool
def test_rules_are_right_for_prometheus() -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "check", "rules", str(ALERTS)],
        capture_output=True,
        check=False,
        text=True,
        timeout=PROMTOOL_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


@needs_promtool
def test_each_alert_fires_after_its_time_alone_and_with_its_words(tmp_path: Path) -> None:
    done = run(tmp_path, *(document(*it) for it in CASES.items()))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_no_alert_fires_for_a_worker_at_work(tmp_path: Path) -> None:
    done = run(tmp_path, QUIET)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_rule_that_does_not_fire_fails_its_test(tmp_path: Path) -> None:
    case = CASES["StreamAppDestinationFailing"]
    calm = document("StreamAppDestinationFailing", case) | {"input_series": QUIET["input_series"]}
    done = run(tmp_path, calm)
    assert done.returncode != 0
    assert "StreamAppDestinationFailing" in done.stdout + done.stderr
