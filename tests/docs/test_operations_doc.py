"""Settings, commands and files in the documents for operators fit the program."""

import re
import tomllib
from configparser import ConfigParser
from dataclasses import fields
from typing import Any

import pytest
import yaml

from benchmarks.memory import BESIDE_MIB
from stream_app.cli.main import STATUS_WRONG, stream_app
from stream_app.config.files import CONFIG_VARIABLE
from stream_app.config.parser import environment_name, parse
from stream_app.config.settings import (
    OFFSET_METADATA_BYTES_MIN,
    TABLES,
    Delivery,
    Destination,
    Http,
)
from stream_app.core.commit_metadata import METADATA_BYTES_MAX
from stream_app.core.receipt import RECEIPT_BYTES_MAX
from stream_app.redelivery.run import RECEIPT_BYTES_MAX as REDELIVERED_BYTES_MAX
from stream_app.worker.faust_app import END_SECONDS_MAX
from tests.docs.blocks import ROOT, section

DOCS = ROOT / "docs"
OPERATIONS = (DOCS / "operations.md").read_text("utf-8")
DEPLOY = (DOCS / "deploy.md").read_text("utf-8")
MIGRATING = (DOCS / "migrating.md").read_text("utf-8")
MANIFESTS = {
    manifest["kind"]: manifest
    for manifest in yaml.safe_load_all((DOCS / "examples/kubernetes.yaml").read_text("utf-8"))
}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["x-stream-app"]
STOP_SECONDS_MAX = 10
"""Bound in the documents for the end of a worker after SIGTERM."""
PROBED_AT = environment_name("http", "bind")
VARIABLES = {CONFIG_VARIABLE} | {
    environment_name(table, setting.name)
    for table, kind in TABLES.items()
    for setting in fields(kind)
}
SETTINGS = {setting.name for kind in (*TABLES.values(), Destination) for setting in fields(kind)}


@pytest.fixture(scope="module")
def unit() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] - names keep their case
    parser.read(DOCS / "examples/stream-app.service")
    return parser


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    template: dict[str, Any] = MANIFESTS["Deployment"]["spec"]["template"]
    return template


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def bytes_of(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi?|Gi?)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"M": 2**20, "G": 2**30}[unit[0]]


def memory_is_enough(limit: str) -> bool:
    return bytes_of(limit) >= (Delivery().memory_max_mib + BESIDE_MIB) * 2**20


def test_unit_starts_a_worker(unit: ConfigParser) -> None:
    program, command, *options = unit["Service"]["ExecStart"].split()
    assert program.endswith("/bin/stream-app")
    stream_app.commands[command].make_context(command, options)


def test_unit_stops_a_worker_by_sigterm_and_waits_for_it(unit: ConfigParser) -> None:
    assert unit["Service"]["KillSignal"] == "SIGTERM"
    assert int(unit["Service"]["TimeoutStopSec"]) > STOP_SECONDS_MAX


def test_unit_restarts_a_worker_unless_its_configuration_is_wrong(unit: ConfigParser) -> None:
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(unit["Service"]["RestartPreventExitStatus"]) == STATUS_WRONG


def test_unit_reloads_the_configuration_by_sighup(unit: ConfigParser) -> None:
    assert unit["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_unit_leaves_enough_memory(unit: ConfigParser) -> None:
    assert memory_is_enough(unit["Service"]["MemoryMax"])


def test_manifests_name_each_other(pod: dict[str, Any]) -> None:
    spec = MANIFESTS["Deployment"]["spec"]
    assert spec["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert pod["spec"]["serviceAccountName"] == MANIFESTS["ServiceAccount"]["metadata"]["name"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert (
        volumes["configuration"]["configMap"]["name"] == MANIFESTS["ConfigMap"]["metadata"]["name"]
    )


def test_configuration_of_the_manifests_is_right_and_where_the_worker_looks(
    container: dict[str, Any], pod: dict[str, Any]
) -> None:
    ((file, text),) = MANIFESTS["ConfigMap"]["data"].items()
    assert parse(text, {}, file).destinations
    assert tomllib.loads(text)["kafka"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert variables[CONFIG_VARIABLE] == f"{mounts['configuration']['mountPath']}/{file}"
    assert "subPath" not in mounts["configuration"]
    assert set(mounts) == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_container_is_the_one_of_the_compose_file(
    container: dict[str, Any], pod: dict[str, Any]
) -> None:
    assert container["image"] == COMPOSE["image"]
    context = pod["spec"]["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == COMPOSE["user"]
    assert container["securityContext"]["readOnlyRootFilesystem"] == COMPOSE["read_only"]
    assert container["securityContext"]["capabilities"]["drop"] == COMPOSE["cap_drop"]


def test_container_starts_a_worker_with_variables_that_exist(container: dict[str, Any]) -> None:
    command, *options = container["args"]
    stream_app.commands[command].make_context(command, options)
    assert {variable["name"] for variable in container["env"]} <= VARIABLES


def test_worker_ends_within_the_time_that_the_documents_promise() -> None:
    assert END_SECONDS_MAX < STOP_SECONDS_MAX
    assert f"SIGTERM or Ctrl-C ends a worker within {STOP_SECONDS_MAX} s" in OPERATIONS


def test_pod_waits_for_its_worker_to_end(pod: dict[str, Any]) -> None:
    assert pod["spec"]["terminationGracePeriodSeconds"] > STOP_SECONDS_MAX


def test_container_has_enough_memory(container: dict[str, Any]) -> None:
    assert memory_is_enough(container["resources"]["limits"]["memory"])


def test_probes_request_the_workers_health(container: dict[str, Any]) -> None:
    (port,) = container["ports"]
    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }
    assert {container[probe]["httpGet"]["port"] for probe in paths} == {port["name"]}
    assert port["containerPort"] == Http().port
    assert {"name": PROBED_AT, "value": "0.0.0.0"} in container["env"]  # noqa: S104 - a pod's own


def test_files_are_on_the_page() -> None:
    for name in ("stream-app.service", "kubernetes.yaml"):
        assert f"<!-- generated: examples/{name} -->" in DEPLOY


def rows(heading: str, text: str = OPERATIONS) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    lines = [line for line in section(text, heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_worker_is_granted_what_the_security_tests_give_it() -> None:
    assert {
        (resource, right) for who, resource, right in rows("Rights in Kafka") if who == "worker"
    } == {
        ("the events topic", "READ"),
        ("the group", "READ"),
        ("the receipts topic", "WRITE"),
    }


def test_sizes_that_kafka_must_take_are_those_of_the_code() -> None:
    topics = {row[0]: row for row in rows("Topics")}
    sizes = re.findall(r"(\d+) KiB", " ".join(topics["`max.message.bytes`"]))
    assert [int(number) * 1024 for number in sizes] == [RECEIPT_BYTES_MAX, REDELIVERED_BYTES_MAX]
    assert f"`offset.metadata.max.bytes` should be at least {METADATA_BYTES_MAX:,}" in OPERATIONS
    assert f"less than {OFFSET_METADATA_BYTES_MIN} ends it" in OPERATIONS


@pytest.mark.parametrize(
    "program", ["Kafka Connect's S3 sink", "Vector", "Firehose", "MSK Data Delivery"]
)
def test_settings_of_the_translations_exist(program: str) -> None:
    table = rows(f"From {program}", MIGRATING)
    assert len(table) > 10
    named = {name for *_, ours in table for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", ours)}
    assert named <= SETTINGS


def quoted() -> list[str]:
    """Return the messages that the tables of remedies quote, cut at what varies in them."""
    texts = [text for first, *_ in rows("Redelivering") for text in re.findall(r"`([^`]+)`", first)]
    texts += [
        text
        for _, remedy in rows("By log event")
        for text in re.findall(r"`([^`]+)`", remedy)
        if " " in text and not text.startswith(("stream-app ", "["))
    ]
    return [
        part.strip() for text in texts for part in re.split(r"…|\b[NM]\b", text) if len(part) > 4
    ]


THE_LIBRARYS = ("Heartbeat failed", "rebalancing", "Marking", "Group Coordinator Request failed")


def test_every_message_that_the_documents_quote_is_one_of_the_code() -> None:
    source = "\n".join(it.read_text("utf-8") for it in (ROOT / "stream_app").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    parts = quoted()
    assert len(parts) > 15
    own = [it for it in parts if not it.startswith(THE_LIBRARYS)]
    assert [it for it in own if it not in source] == []
