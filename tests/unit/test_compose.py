"""`docker-compose.yml` as data: there is no Docker engine where the tests run.

The Compose Specification's schema comes with `check-jsonschema`; nothing of that package is run.
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
from stream_app.config.files import CONFIG_VARIABLE
from stream_app.config.parser import parse
from stream_app.config.settings import TABLES, Settings, environment_name
from stream_app.config.validators import broker_addresses

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
OURS = ("worker", "topics")
SPECIFICATION = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"

our_services = pytest.mark.parametrize("name", OURS)


def interpolated(text: str) -> str:
    """Return a text as Compose passes it on; a single dollar would be a variable of Compose."""
    assert "$" not in text.replace("$$", "")
    return text.replace("$$", "$")


def settings(name: str) -> Settings:
    """Return what a service's configuration says, its environment included."""
    content = interpolated(COMPOSE["configs"]["stream_app"]["content"])
    return parse(content, SERVICES[name]["environment"], "stream_app.toml")


def dockerfile(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a service's image: (name, arguments)."""
    text = interpolated(SERVICES[name]["build"]["dockerfile_inline"])
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in lines]  # type: ignore[misc] # always two


def published(name: str) -> set[int]:
    """Return the ports of a container that this machine can reach."""
    return {int(port.rsplit(":", 1)[1]) for port in SERVICES[name].get("ports", [])}


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
    assert set(SERVICES) == {"kafka", "s3", "topics", "worker"}


def take(command: str, arguments: list[str]) -> click.Context:
    """Parse a command line; fail if the program would not take it."""
    # As a run has it: click keeps the first help option that it has made of a command.
    group = click.Context(cli.stream_app, **cli.stream_app.context_settings)
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
    assert published("kafka") == {port}


def test_workers_reach_s3_at_its_port() -> None:
    assert settings("worker").s3.endpoint_url == "http://s3:8333"
    assert published("s3") == {8333}


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


def test_the_worker_can_be_scaled() -> None:
    assert not {"container_name", "ports", "hostname"} & set(SERVICES["worker"])


def test_each_service_waits_for_what_it_needs() -> None:
    conditions = {
        name: {on: it["condition"] for on, it in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    assert conditions == {
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
    (user,) = [text for instruction, text in dockerfile(name) if instruction == "USER"]
    assert user == service["user"]
    assert "0" not in user.split(":")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@our_services
def test_our_container_shares_nothing_with_the_machine(name: str) -> None:
    assert not {
        *("privileged", "cap_add", "devices", "group_add", "volumes", "secrets"),
        *("ipc", "network_mode", "pid", "userns_mode", "uts"),
    } & set(SERVICES[name])


def test_no_container_is_privileged_or_sees_files_of_the_machine() -> None:
    for service in SERVICES.values():
        assert not {"privileged", "cap_add", "devices", "network_mode", "pid"} & set(service)
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]


@our_services
def test_the_working_directory_can_be_written_to(name: str) -> None:
    *_, last = [text for instruction, text in dockerfile(name) if instruction == "WORKDIR"]
    assert last in SERVICES[name]["tmpfs"]


@our_services
def test_our_image_runs_our_module(name: str) -> None:
    instructions = dict(dockerfile(name))
    assert json.loads(instructions["ENTRYPOINT"]) == ["python", "-m", "stream_app"]
    assert json.loads(instructions["CMD"]) == ["worker"]
    assert SERVICES[name]["image"] == f"stream-app:{__version__}"


def test_our_image_is_built_of_files_that_exist_and_locked_packages() -> None:
    instructions = dockerfile("worker")
    for sources in (text.split()[:-1] for name, text in instructions if name == "COPY"):
        assert all((ROOT / source).exists() for source in sources)
    (install,) = [text for name, text in instructions if "pip install" in text]
    assert "--require-hashes -r requirements.txt" in install


def test_our_image_has_a_python_that_the_package_supports() -> None:
    (image,) = [text for name, text in dockerfile("worker") if name == "FROM"]
    found = re.fullmatch(r"python:3\.([0-9]+)-slim", image)
    assert found is not None
    assert int(found[1]) >= 11


def test_every_image_has_a_fixed_version() -> None:
    for service in SERVICES.values():
        assert re.search(r":[0-9]+(\.[0-9]+)+$", service["image"])


_MINIMAL = '[[destinations]]\nid = "a"\nbucket = "aaa"\n'
