"""`Dockerfile` as data: there is no Docker engine where these tests run; `make image` builds it."""

import json
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from stream_app import __version__
from stream_app.cli.main import stream_app
from stream_app.config.files import CONFIG_VARIABLE
from stream_app.config.parser import environment_name
from stream_app.config.settings import Http
from tests.containers import engine

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["x-stream-app"]
SECONDS_MAX = 30


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage, (name, arguments); first what is before them all."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", "")
    found: list[list[tuple[str, str]]] = [[]]
    for line in filter(None, text.splitlines()):
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, arguments))
    return found


BEFORE, BUILD, IMAGE = stages()


def only(name: str, stage: list[tuple[str, str]] = IMAGE) -> str:
    """Return the arguments of an instruction that a stage has once."""
    (arguments,) = [text for it, text in stage if it == name]
    return arguments


def assigned(name: str) -> dict[str, str]:
    """Return what an instruction of the image sets: names and values."""
    pairs = re.findall(r'(\S+?)=(?:"([^"]*)"|(\S+))', only(name))
    return {key: quoted or plain for key, quoted, plain in pairs}


def test_base_can_be_given_with_a_digest() -> None:
    assert only("ARG", BEFORE) == f"BASE={engine.PYTHON}"
    assert only("FROM", BUILD).split()[0] == only("FROM") == "${BASE}"
    assert f"\nBASE ?= {engine.PYTHON}\n" in (ROOT / "Makefile").read_text("utf-8")


def test_base_has_a_python_that_the_package_supports() -> None:
    found = re.fullmatch(r"python:3\.([0-9]+)-slim", engine.PYTHON)
    assert found is not None
    assert int(found[1]) >= 11


def test_no_digest_is_claimed() -> None:
    # One that nobody has compared with a registry would be worse than none.
    for name in ("Dockerfile", "Makefile", "docker-compose.yml", "docs/deploy.md"):
        assert not re.search(r"sha256:[0-9a-f]", (ROOT / name).read_text("utf-8"))


def test_every_package_is_locked_by_hash() -> None:
    installs = [it for _, text in BUILD for it in text.split("&&") if " install " in it]
    assert len(installs) == 3
    *locked, own = installs
    assert [re.search(r"--require-hashes -r (\S+)", it)[1] for it in locked] == [  # type: ignore[index]
        "requirements-release.txt",
        "requirements.txt",
    ]
    assert "--no-deps dist/*.whl" in own
    assert not [text for name, text in IMAGE if name == "RUN"]


def test_sources_exist_and_get_into_the_build() -> None:
    sent = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = {
        source.rstrip("/") for name, text in BUILD if name == "COPY" for source in text.split()[:-1]
    }
    assert {it.removeprefix("!") for it in sent if it.startswith("!")} == copied
    assert "*" in sent
    assert all((ROOT / source).exists() for source in copied)


def test_build_backend_is_the_one_of_the_lock_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (backend,) = project["build-system"]["requires"]
    assert backend in project["dependency-groups"]["release"]
    assert f"\n{backend} \\\n" in (ROOT / "requirements-release.txt").read_text("utf-8")


def test_image_runs_a_worker_as_a_user_without_rights() -> None:
    assert json.loads(only("ENTRYPOINT")) == ["stream-app"]
    (command,) = json.loads(only("CMD"))
    assert command == "worker"
    assert command in stream_app.commands
    assert only("USER") == COMPOSE["user"] == "10001:10001"
    assert only("WORKDIR") in COMPOSE["tmpfs"]


def test_configuration_lies_where_compose_puts_it() -> None:
    (config,) = COMPOSE["configs"]
    assert assigned("ENV")[CONFIG_VARIABLE] == config["target"]


def test_labels_describe_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): value for name, value in assigned("LABEL").items()}
    assert labels == {
        "title": project["name"],
        "description": project["description"],
        "version": __version__,
        "revision": "${REVISION}",
        "licenses": project["license"],
        "base.name": "${BASE}",
    }


def test_image_has_a_bill_of_its_packages() -> None:
    (path,) = re.findall(r"--output-file (\S+)", only("RUN", BUILD[-1:]))
    assert path in (ROOT / "Makefile").read_text("utf-8")
    assert path.startswith(only("COPY").split()[-1])


class _Health(BaseHTTPRequestHandler):
    status = 200
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Keep the output of the tests clean."""


@contextmanager
def worker(status: int) -> Iterator[tuple[int, list[str]]]:
    """Serve one status; return the port, and the paths that are requested."""
    paths: list[str] = []
    handler = type("Health", (_Health,), {"status": status, "paths": paths})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, paths
        finally:
            server.shutdown()
            thread.join()


def checked(port: int) -> int:
    """Run the health check of the image; return its status."""
    command = only("HEALTHCHECK")
    assert "--interval=" in command
    assert "--retries=" in command
    program, *arguments = json.loads(command.partition(" CMD ")[2])
    assert program == "python"
    environment = {environment_name("http", "port"): str(port)}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        check=False,
        capture_output=True,
        timeout=SECONDS_MAX,
    ).returncode


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1)])
def test_health_check_asks_a_worker_whether_it_is_live(status: int, expected: int) -> None:
    with worker(status) as (port, paths):
        assert checked(port) == expected
    assert paths == ["/health/live"]


def test_health_check_fails_where_no_worker_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        assert checked(taken.getsockname()[1]) == 1


def test_ports_of_the_image_are_the_defaults() -> None:
    assert str(Http().port) in only("EXPOSE").split()
    assert f"or {Http().port})" in only("HEALTHCHECK")
