"""Units, chart and manifests start what the documents say, and fit the program."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from configparser import RawConfigParser
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from benchmarks.memory import BESIDE_MIB
from stream_app.cli.main import STATUS_WRONG
from stream_app.config.files import CONFIG_VARIABLE
from stream_app.config.parser import parse
from stream_app.config.settings import TABLES, Delivery, Http, Kafka, environment_name
from tests.docs.blocks import ROOT
from tests.docs.chart import (
    CASES,
    CHART,
    CUSTOM_KINDS,
    VALUES,
    declared,
    documents,
    heading,
    kubernetes_oldest,
    schema,
    values_text,
)
from tests.unit.test_compose import take

DOCS = ROOT / "docs"
DEPLOY = (DOCS / "deploy.md").read_text("utf-8")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["x-stream-app"]
STOP_SECONDS_MAX = 10
"""Bound in the documents for the end of a worker after SIGTERM."""
INSPECTOR_MIB_MIN = 256
"""More than an Inspector takes with a full memory of receipts, by its page."""
SLOW_DOWN_SECONDS_MIN = 1800
VARIABLES = {CONFIG_VARIABLE} | {
    environment_name(table, setting.name)
    for table, kind in TABLES.items()
    for setting in fields(kind)
}
WORKER_UNIT = "stream-app@.service"
UNITS = (WORKER_UNIT, "stream-app-inspector.service")
EXPOSURE_MAX = 20
"""Of `systemd-analyze security`, in tenths: it calls less than 5.0 "OK", and 9.6 is the default."""
ANALYZE = shutil.which("systemd-analyze")


def unit(name: str) -> RawConfigParser:
    parser = RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign] - names keep their case
    parser.read(DOCS / "examples" / name)
    return parser


def bytes_of(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi?|Gi?)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"M": 2**20, "G": 2**30}[unit[0]]


def memory_is_enough(limit: str, held_mib: int = Delivery().memory_max_mib) -> bool:
    return bytes_of(limit) >= (held_mib + BESIDE_MIB) * 2**20


@pytest.mark.parametrize("name", UNITS)
def test_unit_starts_a_command_that_exists(name: str) -> None:
    program, command, *options = unit(name)["Service"]["ExecStart"].split()
    assert program.endswith("/bin/stream-app")
    take(command, options)
    assert command == ("worker" if name == WORKER_UNIT else "inspector")


@pytest.mark.parametrize("name", UNITS)
def test_unit_stops_by_sigterm_and_waits(name: str) -> None:
    assert unit(name)["Service"]["KillSignal"] == "SIGTERM"
    assert int(unit(name)["Service"]["TimeoutStopSec"]) > STOP_SECONDS_MAX


@pytest.mark.parametrize("name", UNITS)
def test_unit_restarts_unless_the_configuration_is_wrong(name: str) -> None:
    assert unit(name)["Service"]["Restart"] == "on-failure"
    assert unit(name)["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(unit(name)["Service"]["RestartPreventExitStatus"]) == STATUS_WRONG


def test_unit_reloads_a_workers_configuration_by_sighup() -> None:
    assert unit(WORKER_UNIT)["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_unit_leaves_a_worker_enough_memory() -> None:
    assert memory_is_enough(unit(WORKER_UNIT)["Service"]["MemoryMax"])


def test_units_restrict_their_processes_alike() -> None:
    texts = [(DOCS / "examples" / name).read_text("utf-8") for name in UNITS]
    worker, inspector = (text.partition("\nDynamicUser=yes\n")[2] for text in texts)
    assert worker
    assert worker == inspector


@pytest.fixture
def units_here(tmp_path: Path) -> list[str]:
    """Return the units with a program that this machine has, as systemd looks for it."""
    program = tmp_path / "stream-app"
    program.touch(mode=0o755)
    for name in UNITS:
        text = (DOCS / "examples" / name).read_text("utf-8")
        changed = text.replace("/opt/stream-app/bin/stream-app", str(program))
        (tmp_path / name).write_text(changed, "utf-8")
    return [str(tmp_path / name) for name in UNITS]


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on this machine")
def test_systemd_finds_nothing_wrong_with_the_units(units_here: list[str]) -> None:
    found = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", *units_here],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on this machine")
def test_units_expose_little(units_here: list[str]) -> None:
    for path in units_here:
        found = subprocess.run(
            [
                *(str(ANALYZE), "security", "--no-pager", "--offline=yes"),
                *(f"--threshold={EXPOSURE_MAX}", path),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stdout + found.stderr


def test_files_are_on_the_page() -> None:
    for name in (*UNITS, "docker-compose.toml"):
        assert f"<!-- generated: examples/{name} -->" in DEPLOY


def manifests() -> Iterator[dict[str, Any]]:
    for case in CASES:
        yield from documents(case.manifests.read_text("utf-8"))


def of_case(name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what Helm rendered for a case, by kind and name."""
    (case,) = [it for it in CASES if it.values.name == f"{name}-values.yaml"]
    found = documents(case.manifests.read_text("utf-8"))
    return {(it["kind"], it["metadata"]["name"]): it for it in found}


EXAMPLE = of_case("example")
EVERYTHING = of_case("everything")
EXISTING = of_case("existing")
WORKER = ("Deployment", "stream-app")
STATIC = ("StatefulSet", "stream-app")
INSPECTOR = ("Deployment", "stream-app-inspector")


def pods() -> list[dict[str, Any]]:
    """Return the template of each pod."""
    return [
        it if it["kind"] == "Pod" else it["spec"]["template"]
        for it in manifests()
        if it["kind"] in {"Pod", "Deployment", "StatefulSet", "Job"}
    ]


def template(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]
    return found


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def variables(pod: dict[str, Any]) -> dict[str, str | None]:
    return {it["name"]: it.get("value") for it in container(pod)["env"]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.manifests.name)
def test_manifests_are_what_helm_rendered_from_this_chart(case: Any) -> None:
    first, _, rest = case.manifests.read_text("utf-8").partition("\n")
    helm = re.search(r"Helm (v\S+)", first)
    assert helm, first
    if f"{first}\n" != heading(rest, helm[1]):
        pytest.fail(f"{case.manifests.name} is out of date, or was edited; run: make chart")


def test_every_object_is_valid_for_the_oldest_and_the_newest_kubernetes() -> None:
    newest = kubernetes_validate.latest_version()
    kinds = {it["kind"] for it in manifests()}
    # Their definitions come with Go modules: `make chart` holds them against these.
    assert kinds > CUSTOM_KINDS
    checked = [it for it in manifests() if it["kind"] not in CUSTOM_KINDS]
    assert len(checked) > 20
    for document in checked:
        for version in (kubernetes_oldest(), newest):
            kubernetes_validate.validate(document, version, strict=True)


def test_no_object_is_valid_with_a_field_that_kubernetes_does_not_have() -> None:
    wrong = EXAMPLE["PodDisruptionBudget", "stream-app"]
    wrong = {**wrong, "spec": {**wrong["spec"], "maximumUnavailable": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_chart_has_the_programs_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


def test_values_are_those_of_the_schema() -> None:
    assert VALUES.read_text("utf-8") == values_text()
    jsonschema.validate(yaml.safe_load(VALUES.read_text("utf-8")), schema())


def test_every_value_has_a_default_and_a_meaning() -> None:
    for path, declaration in declared():
        if "properties" not in declaration:
            assert declaration["description"].endswith("."), path
            assert "default" in declaration, path


def test_some_case_sets_every_value_to_something_else() -> None:
    cases = [yaml.safe_load(case.values.read_text("utf-8")) for case in CASES]
    for case in cases:
        jsonschema.validate(case, schema())
    same = []
    for path, declaration in declared():
        if "default" in declaration:
            found = [value for case in cases if (value := at(case, path)) is not None]
            if all(value == declaration["default"] for value in found):
                same.append(".".join(path))
    assert same == []


def at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 3},
        {"worker": {"replicas": -1}},
        {"worker": {"memoryMaxMib": 8}},
        {"worker": {"cpu": "much"}},
        {"partitions": 0},
        {"image": {"digest": "sha256:0"}},
        {"inspector": {"token": "short"}},
        {"inspector": {"token": "with a space and long"}},
        {"autoscaling": {"bootstrapServers": "kafka://kafka:9092"}},
        {"autoscaling": {"metadata": {"excludePersistentLag": "true"}}},
        {"networkPolicy": {"egressPorts": [0]}},
    ],
    ids=str,
)
def test_wrong_value_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema())


def test_what_needs_a_definition_or_opens_a_door_is_off_by_default() -> None:
    kinds = {kind for kind, _ in EXAMPLE}
    assert kinds == {"ConfigMap", "Deployment", "PodDisruptionBudget", "ServiceAccount"}


def test_manifests_name_each_other() -> None:
    pod = template(EXAMPLE[WORKER])
    assert EXAMPLE[WORKER]["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in EXAMPLE
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert ("ConfigMap", volumes["configuration"]["configMap"]["name"]) in EXAMPLE


def test_configuration_of_the_manifests_is_right_and_where_the_worker_looks() -> None:
    ((file, text),) = EXAMPLE["ConfigMap", "stream-app"]["data"].items()
    assert parse(text, {}, file).destinations
    assert tomllib.loads(text)["kafka"]
    for pod in pods():
        mounts = {it["name"]: it for it in container(pod)["volumeMounts"]}
        path = f"{mounts['configuration']['mountPath']}/{file}"
        assert variables(pod)[CONFIG_VARIABLE] == path
        assert "subPath" not in mounts["configuration"]
        assert set(mounts) == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_pods_restrict_their_processes_as_the_compose_file_does() -> None:
    for pod in pods():
        context = pod["spec"]["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == COMPOSE["user"]
        assert context["runAsNonRoot"] is True
        own = container(pod)["securityContext"]
        assert own["readOnlyRootFilesystem"] == COMPOSE["read_only"]
        assert own["capabilities"]["drop"] == COMPOSE["cap_drop"]
        assert own["allowPrivilegeEscalation"] is False
        assert pod["spec"]["automountServiceAccountToken"] is False


def test_no_service_of_the_namespace_sets_a_variable_that_looks_like_a_setting() -> None:
    # `STREAM_APP_KAFKA_PORT` of a Service named stream-app-kafka would end every worker.
    assert {pod["spec"]["enableServiceLinks"] for pod in pods()} == {False}


def test_containers_start_commands_that_exist_with_variables_that_exist() -> None:
    started = set()
    for pod in pods():
        command, *options = container(pod)["args"]
        take(command, options)
        assert set(variables(pod)) <= VARIABLES
        started.add(command)
    assert started == {"worker", "inspector", "topics", "check"}


def test_image_is_the_one_of_the_compose_file_unless_another_is_named() -> None:
    assert container(template(EXAMPLE[WORKER]))["image"] == COMPOSE["image"]
    other = container(template(EVERYTHING[WORKER]))["image"]
    assert other == "registry.example/stream-app:0.2.0-1"
    assert container(template(EXISTING[STATIC]))["image"].startswith("stream-app@sha256:")


def test_pod_waits_for_its_worker_to_end() -> None:
    for worker in (EXAMPLE[WORKER], EVERYTHING[WORKER], EXISTING[STATIC]):
        pod = template(worker)
        assert pod["spec"]["terminationGracePeriodSeconds"] > STOP_SECONDS_MAX


def test_one_value_sets_a_workers_memory_and_its_limit() -> None:
    for case in (EXAMPLE, EVERYTHING):
        pod = template(case[WORKER])
        held = variables(pod)[environment_name("delivery", "memory_max_mib")]
        resources = container(pod)["resources"]
        assert memory_is_enough(resources["limits"]["memory"], int(held or 0))
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        assert "cpu" not in resources["limits"]


def test_probes_request_a_workers_health() -> None:
    pod = template(EXAMPLE[WORKER])
    worker = container(pod)
    (port,) = worker["ports"]
    paths = {
        probe: worker[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }
    assert {worker[probe]["httpGet"]["port"] for probe in paths} == {port["name"]}
    assert port["containerPort"] == Http().port
    assert variables(pod)[environment_name("http", "port")] == str(port["containerPort"])


def test_servers_listen_beyond_their_pod() -> None:
    for case, worker, address in (
        (EVERYTHING, WORKER, "0.0.0.0"),  # noqa: S104
        (EXISTING, STATIC, "::"),
    ):
        assert variables(template(case[worker]))[environment_name("http", "bind")] == address
        assert f"--bind={address}" in container(template(case[INSPECTOR]))["args"]


def test_workers_are_replaced_and_drained_one_at_a_time() -> None:
    assert EXAMPLE[WORKER]["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 0,
        "maxUnavailable": 1,
    }
    budget = EXAMPLE["PodDisruptionBudget", "stream-app"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == EXAMPLE[WORKER]["spec"]["selector"]


def test_static_members_have_the_names_of_their_pods() -> None:
    name = environment_name("kafka", "group_instance_id")
    worker = EXISTING[STATIC]
    assert {
        "name": name,
        "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
    } in container(template(worker))["env"]
    assert worker["spec"]["podManagementPolicy"] == "Parallel"
    assert name not in variables(template(EVERYTHING[WORKER]))
    # A name that another machine does not have: %i alone is the same on each.
    text = (DOCS / "examples" / WORKER_UNIT).read_text("utf-8")
    assert f"\n# Environment={name}=%l-%i\n" in text


def test_workers_are_spread_over_zones_and_nodes() -> None:
    spread = template(EXAMPLE[WORKER])["spec"]["topologySpreadConstraints"]
    assert [it["topologyKey"] for it in spread] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    for it in spread:
        assert it["labelSelector"] == EXAMPLE[WORKER]["spec"]["selector"]


def test_inspector_reads_its_token_from_the_secret() -> None:
    for case, secret in ((EVERYTHING, "stream-app-inspector"), (EXISTING, "inspector-login")):
        pod = template(case[INSPECTOR])
        volumes = {it["name"]: it for it in pod["spec"]["volumes"]}
        assert volumes["token"]["secret"]["secretName"] == secret
        # Root owns a Secret's files: the pod's user reads them by its group.
        assert volumes["token"]["secret"]["defaultMode"] == 0o440
        assert pod["spec"]["securityContext"]["fsGroup"] == 10001
        mounts = {it["name"]: it["mountPath"] for it in container(pod)["volumeMounts"]}
        assert f"--token-file={mounts['token']}/token" in container(pod)["args"]
        assert ("Secret", secret) not in EXISTING
    (key,) = EVERYTHING["Secret", "stream-app-inspector"]["stringData"]
    assert key == "token"


def test_ingress_and_service_lead_to_the_inspector() -> None:
    service = EVERYTHING["Service", "stream-app-inspector"]["spec"]
    pod = template(EVERYTHING[INSPECTOR])
    assert service["selector"].items() <= pod["metadata"]["labels"].items()
    (served,), (listening,) = service["ports"], container(pod)["ports"]
    assert served["targetPort"] == listening["name"]
    assert f"--port={listening['containerPort']}" in container(pod)["args"]
    (rule,) = EVERYTHING["Ingress", "stream-app-inspector"]["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {
        "name": "stream-app-inspector",
        "port": {"name": served["name"]},
    }
    assert ("Ingress", "stream-app-inspector") not in EXISTING


def test_inspector_has_memory_and_an_account_of_its_own() -> None:
    pod = template(EXISTING[INSPECTOR])
    assert bytes_of(container(pod)["resources"]["limits"]["memory"]) > INSPECTOR_MIB_MIN * 2**20
    accounts = {
        template(EVERYTHING[it])["spec"]["serviceAccountName"] for it in (WORKER, INSPECTOR)
    }
    assert accounts == {"deliverer", "reader"}
    for account in accounts:
        made = EVERYTHING["ServiceAccount", account]["metadata"]["annotations"]
        assert made == {"eks.amazonaws.com/role-arn": f"arn:aws:iam::123456789012:role/{account}"}
        assert ("ServiceAccount", account) not in EXISTING


def test_scaling_is_by_lag_up_to_the_partitions_and_slow_to_go_down() -> None:
    spec = EVERYTHING["ScaledObject", "stream-app"]["spec"]
    (job,) = [it for (kind, _), it in EVERYTHING.items() if kind == "Job"]
    assert f"--partitions={spec['maxReplicaCount']}" in container(template(job))["args"]
    assert (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) == WORKER
    assert "replicas" not in EVERYTHING[WORKER]["spec"]
    assert EXAMPLE[WORKER]["spec"]["replicas"] == 3
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= SLOW_DOWN_SECONDS_MIN
    (policy,) = down["policies"]
    assert (policy["type"], policy["value"]) == ("Pods", 1)
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "kafka"
    # A new group begins at the first event.
    assert trigger["metadata"]["offsetResetPolicy"] == "earliest"


def test_names_that_autoscaling_repeats_have_the_programs_defaults() -> None:
    values = yaml.safe_load(VALUES.read_text("utf-8"))["autoscaling"]
    assert (values["group"], values["topic"]) == (Kafka().group, Kafka().events_topic)


def test_every_pod_has_a_network_policy() -> None:
    policies = [it for (kind, _), it in EVERYTHING.items() if kind == "NetworkPolicy"]
    for (kind, name), it in EVERYTHING.items():
        if kind in {"Pod", "Deployment", "Job"}:
            labels = (it if kind == "Pod" else it["spec"]["template"])["metadata"]["labels"]
            chosen = [
                policy
                for policy in policies
                if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
            ]
            assert len(chosen) == 1, name
            is_server = "ports" in container(it if kind == "Pod" else it["spec"]["template"])
            assert ("ingress" in chosen[0]["spec"]) == is_server
            assert chosen[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_monitor_scrapes_the_workers() -> None:
    spec = EVERYTHING["PodMonitor", "stream-app"]["spec"]
    assert spec["selector"] == EVERYTHING[WORKER]["spec"]["selector"]
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["port"] in {
        it["name"] for it in container(template(EVERYTHING[WORKER]))["ports"]
    }
    assert endpoint["path"] == "/metrics"
