"""`docker-compose.yml` as data: there is no Docker engine where these tests run.

`make containers` runs it on one. The Compose Specification's schema comes with `check-jsonschema`;
nothing of that package is run.
"""

import importlib.metadata
import json
import re
from pathlib import Path

import click
import jsonschema
import pytest
import yaml

from stream_app import __version__
from stream_app.cli import main as cli
from stream_app.cli.inspector import PORT_DEFAULT
from stream_app.config.files import CONFIG_VARIABLE
from stream_app.config.parser import parse
from stream_app.config.settings import TABLES, Settings, environment_name
from stream_app.config.validators import broker_addresses
from stream_app.inspector.core.auth import token_mistake
from stream_app.monitoring.http import PORTS_MAX
from tests.containers import engine

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
OURS = ("worker", "inspector", "topics")
SPECIFICATION = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"

our_services = pytest.mark.parametrize("name", OURS)


def file_of(kind: str, name: str) -> Path:
    """Return the file of a configuration or a secret."""
    return ROOT / COMPOSE[kind][name]["file"]


def settings(name: str) -> Settings:
    """Return what a service's configuration says, its environment included."""
    text = file_of("configs", "stream_app").read_text("utf-8")
    return parse(text, SERVICES[name]["environment"], "stream_app.toml")


def ports(name: str) -> dict[int, range]:
    """Return the ports of this machine at which each port of a container can be reached."""
    found = {}
    for port in SERVICES[name].get("ports", []):
        _, outside, inside = port.split(":")
        first, _, last = outside.partition("-")
        found[int(inside)] = range(int(first), int(last or first) + 1)
    return found


def listeners(variable: str) -> dict[str, tuple[str, int]]:
    """Return Kafka's listeners: host and port by name."""
    found = {}
    for listener in SERVICES["kafka"]["environment"][variable].split(","):
        name, host, port = re.fullmatch(r"([A-Z]+)://([a-z0-9.]*):([0-9]+)", listener).groups()
        found[name] = (host, int(port))
    return found


def test_the_file_is_valid_by_the_compose_specification() -> None:
    path = importlib.metadata.distribution("check-jsonschema").locate_file(SPECIFICATION)
    specification = json.loads(Path(str(path)).read_text("utf-8"))
    validator = jsonschema.Draft7Validator(specification)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(COMPOSE)] == []
    mistaken = {**COMPOSE, "services": {"worker": {"imagee": "stream-app"}}}
    assert not validator.is_valid(mistaken), "the specification is in force"


def test_the_services_are_those_of_the_readme() -> None:
    assert set(SERVICES) == {"inspector", "kafka", "s3", "topics", "worker"}


def take(command: str, arguments: list[str]) -> click.Context:
    """Parse a command line; fail if the program would not take it."""
    # As a run has it: click keeps the first help option that it has made of a command.
    group = click.Context(cli.stream_app, info_name="stream-app", **cli.stream_app.context_settings)
    return cli.stream_app.commands[command].make_context(command, arguments, parent=group)


@our_services
def test_commands_and_options_exist(name: str) -> None:
    command, *arguments = SERVICES[name]["command"]
    assert command == name
    assert take(command, list(arguments))


def test_the_commands_of_the_head_comment_exist() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    runs = re.findall(r"docker compose run --rm (?:-T )?topics (.*)", text)
    assert len(runs) == 2
    for run in runs:
        command, *arguments = run.split()
        assert take(command, arguments)


@our_services
def test_every_variable_of_ours_is_known(name: str) -> None:
    known = {environment_name(table, key) for table in TABLES for key in vars_of(table)}
    ours = {it for it in SERVICES[name]["environment"] if it.startswith("STREAM_APP_")}
    assert len(ours) > 1
    assert ours <= known | {CONFIG_VARIABLE}


def vars_of(table: str) -> list[str]:
    return list(TABLES[table].__dataclass_fields__)


@our_services
def test_the_configuration_is_accepted(name: str) -> None:
    found = settings(name)
    assert [it.id for it in found.destinations] == ["orders-archive", "everything"]
    assert [it.payload for it in found.destinations] == ["$event.body", "$event"]


@our_services
def test_the_configuration_lies_where_the_variable_says(name: str) -> None:
    (config,) = SERVICES[name]["configs"]
    assert config["source"] in COMPOSE["configs"]
    assert SERVICES[name]["environment"][CONFIG_VARIABLE] == config["target"]


@our_services
def test_the_broker_is_the_one_that_kafka_advertises_to_services(name: str) -> None:
    advertised = listeners("KAFKA_ADVERTISED_LISTENERS")
    assert broker_addresses(settings(name).kafka.broker) == [advertised["PLAINTEXT"]]
    assert advertised["PLAINTEXT"][0] == "kafka"


def test_kafka_listens_where_it_advertises() -> None:
    advertised, listened = listeners("KAFKA_ADVERTISED_LISTENERS"), listeners("KAFKA_LISTENERS")
    for name, (_, port) in advertised.items():
        assert listened[name][1] == port
    environment = SERVICES["kafka"]["environment"]
    protocols = dict(
        it.split(":") for it in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    )
    assert set(protocols) == set(listened)
    controller = listened[environment["KAFKA_CONTROLLER_LISTENER_NAMES"]]
    voter = f"{environment['KAFKA_NODE_ID']}@kafka:{controller[1]}"
    assert environment["KAFKA_CONTROLLER_QUORUM_VOTERS"] == voter


def test_this_machine_reaches_kafka_at_the_default_broker() -> None:
    ((host, port),) = broker_addresses(parse(_MINIMAL, {}, "x").kafka.broker)
    assert listeners("KAFKA_ADVERTISED_LISTENERS")["HOST"] == (host, port)
    assert ports("kafka") == {port: range(port, port + 1)}


def test_workers_reach_s3_at_its_port() -> None:
    assert settings("worker").s3.endpoint_url == "http://s3:8333"
    assert ports("s3") == {8333: range(8333, 8334)}


def test_nothing_is_published_beyond_this_machine() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_every_bucket_is_created() -> None:
    (buckets,) = [it for it in SERVICES["s3"]["command"] if it.startswith("-bucket=")]
    created = buckets.removeprefix("-bucket=").split(",")
    assert {it.bucket for it in settings("worker").destinations} == set(created)


def test_workers_have_the_keys_that_s3_accepts() -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert SERVICES["worker"]["environment"][key] == SERVICES["s3"]["environment"][key]


def test_the_worker_can_be_scaled_to_the_number_of_partitions() -> None:
    assert not {"container_name", "hostname"} & set(SERVICES["worker"])
    partitions = int(SERVICES["topics"]["command"][-1])
    assert [len(reached) for reached in ports("worker").values()] == [partitions]


def test_metrics_and_health_of_workers_are_reached_from_this_machine() -> None:
    http = settings("worker").http
    assert http.bind == "0.0.0.0"  # noqa: S104 - of a container
    ((port, reached),) = ports("worker").items()
    assert port == http.port
    of_the_machine = range(http.port, http.port + PORTS_MAX)
    assert not set(of_the_machine) & set(reached)


def test_the_inspector_is_reached_with_the_token_of_the_file() -> None:
    _, _, _, option, path = SERVICES["inspector"]["command"]
    (secret,) = SERVICES["inspector"]["secrets"]
    assert (option, path) == ("--token-file", f"/run/secrets/{secret}")
    assert token_mistake(file_of("secrets", secret).read_text("utf-8").strip()) is None
    assert ports("inspector") == {PORT_DEFAULT: range(PORT_DEFAULT, PORT_DEFAULT + 1)}


def test_services_that_listen_have_a_health_check() -> None:
    # Without `test` it is that of the image, which asks a worker.
    assert "test" not in SERVICES["worker"]["healthcheck"]
    assert f"127.0.0.1', {PORT_DEFAULT}" in SERVICES["inspector"]["healthcheck"]["test"][-1]
    assert SERVICES["topics"]["healthcheck"] == {"disable": True}


def test_each_service_waits_for_what_it_needs() -> None:
    conditions = {
        name: {on: it["condition"] for on, it in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    assert conditions == {
        "inspector": conditions["worker"],
        "kafka": {},
        "s3": {},
        "topics": {"kafka": "service_healthy"},
        "worker": {
            "kafka": "service_healthy",
            "s3": "service_healthy",
            "topics": "service_completed_successfully",
        },
    }
    healthy = {
        on for it in conditions.values() for on, what in it.items() if what == "service_healthy"
    }
    assert all(SERVICES[name]["healthcheck"]["test"][0] == "CMD" for name in healthy)
    assert SERVICES["topics"]["restart"] == "no", "else it would never have completed"


def test_a_stopped_worker_has_the_time_that_it_needs() -> None:
    assert int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) > 10


@our_services
def test_our_image_runs_as_a_user_without_rights(name: str) -> None:
    service = SERVICES[name]
    assert "0" not in service["user"].split(":")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@our_services
def test_our_container_shares_nothing_with_the_machine(name: str) -> None:
    assert not {
        *("privileged", "cap_add", "devices", "group_add", "volumes"),
        *("ipc", "network_mode", "pid", "userns_mode", "uts"),
    } & set(SERVICES[name])


def test_no_container_is_privileged_or_sees_files_of_the_machine() -> None:
    for service in SERVICES.values():
        assert not {"privileged", "cap_add", "devices", "network_mode", "pid"} & set(service)
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]


def test_configuration_and_token_are_files_of_the_repository() -> None:
    # A text in the file (`content`, `environment`) would have to be copied into the container,
    # which Compose refuses where the file system is read-only.
    for it in (*COMPOSE["configs"].values(), *COMPOSE["secrets"].values()):
        assert list(it) == ["file"]
        assert (ROOT / it["file"]).is_file()


@our_services
def test_our_services_have_the_image_of_the_dockerfile(name: str) -> None:
    assert SERVICES[name]["image"] == f"stream-app:{__version__}"
    assert SERVICES[name]["build"] == "."


def test_stand_ins_have_the_names_of_the_images() -> None:
    assert SERVICES["kafka"]["image"] == engine.KAFKA
    assert SERVICES["s3"]["image"] == engine.S3


def test_every_image_has_a_fixed_version() -> None:
    for service in SERVICES.values():
        assert re.search(r":[0-9]+(\.[0-9]+)+$", service["image"])


_MINIMAL = '[[destinations]]\nid = "a"\nbucket = "aaa"\n'
