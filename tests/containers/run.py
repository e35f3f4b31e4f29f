"""Runs `docker-compose.yml` on a real engine: an event to its receipts, two workers, a clean stop.

    python -m tests.containers.run [--compose COMMAND]      (make containers [COMPOSE=...])

It prints each step with its seconds, and ends with status 1 at the first that fails. The project of
the run has a name of its own: containers and volumes of a user's project stay as they are. But the
published ports are those of the file, and must be free. `engine.py` sets up an engine.
"""

import argparse
import contextlib
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from stream_app import __version__
from stream_app.embedded.process import becomes_true
from tests.steps import StepError, expect, step

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = "stream-app-containers"
IMAGE: Final = f"stream-app:{__version__}"
IMAGE_BYTES_MAX: Final = 150_000_000
"""Over the base: packages of a worker, compiled, and nothing that only builds them."""
SBOM: Final = "/opt/stream-app/sbom.cdx.json"
TOKEN: Final = (ROOT / "docs/examples/docker-compose.token").read_text("utf-8").strip()
EVENT: Final = {"body": {"order": 7}}
LINES: Final = {"orders-archive": {"order": 7}, "everything": EVENT}
"""What each destination of the configuration makes of the event."""
PARTITIONS: Final = 12
SECONDS_MAX: Final = 900.0
"""A command of the engine; the longest downloads and installs the packages of the image."""
RECEIPTS_SECONDS_MAX: Final = 150.0
"""The window of a minute, its grace, and the containers of the commands that ask."""
SHARE_SECONDS_MAX: Final = 60.0
"""From the start of a second worker until both have partitions."""
REQUEST_SECONDS_MAX: Final = 10.0
STOP_SECONDS_MAX: Final = 10.0
"""End of a worker after SIGTERM, as the documents promise it."""


def output(command: Sequence[str], given: str | None = None) -> str:
    """Run a command to its end; return what it printed on standard output."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            input=given,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
    except FileNotFoundError as error:
        raise StepError(f"{command[0]} is not installed; see tests/containers/engine.py") from error
    if done.returncode != 0:
        raise StepError(
            f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def docker(*arguments: str) -> str:
    return output(["docker", *arguments])


def inspected(kind: str, name: str) -> dict[str, Any]:
    """Return what the engine knows of a container or an image."""
    (found,) = json.loads(docker(kind, "inspect", name))
    assert isinstance(found, dict)
    return found


class Project:
    """The project of this run: `docker-compose.yml` under a name of its own.

    Args:
        command: Command of Docker Compose.
    """

    def __init__(self, command: str) -> None:
        self._command = [*shlex.split(command), "--project-name", PROJECT]

    def run(self, *arguments: str, given: str | None = None) -> str:
        return output([*self._command, *arguments], given)

    def ids(self, service: str) -> list[str]:
        """Return the ids of a service's containers, stopped ones included."""
        return self.run("ps", "--all", "--quiet", service).split()

    def ports(self, service: str, port: int) -> list[int]:
        """Return the ports of this machine that lead to a service's containers."""
        found = []
        for container in self.ids(service):
            (bound,) = inspected("container", container)["NetworkSettings"]["Ports"][f"{port}/tcp"]
            expect(bound["HostIp"] == "127.0.0.1", f"{service} is published at {bound}")
            found.append(int(bound["HostPort"]))
        return found


def response(port: int, path: str, token: str | None = None) -> tuple[int, str]:
    """Return status and body of a response from a published port."""
    connection = HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS_MAX)
    with contextlib.closing(connection):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request("GET", path, headers=headers)
        got = connection.getresponse()
        return got.status, got.read().decode()


def document(port: int, path: str, token: str | None = None) -> Any:
    """Return the JSON document of a response."""
    status, body = response(port, path, token)
    expect(status == 200, f"{path} of port {port}: {status} {body}")
    return json.loads(body)


def check_image(found: list[str]) -> None:
    """Look at the image: user, health check, labels, size and SBOM."""
    image = inspected("image", IMAGE)
    config = image["Config"]
    labels = config["Labels"]
    expect(config["User"] == "10001:10001", f"it runs as {config['User']!r}")
    expect("/health/live" in str(config["Healthcheck"]["Test"]), "it has no health check")
    expect(labels["org.opencontainers.image.version"] == __version__, f"its labels are {labels}")
    base = labels["org.opencontainers.image.base.name"]
    size, base_size = image["Size"], inspected("image", base)["Size"]
    found.append(f"{size / 1e6:.1f} MB: {(size - base_size) / 1e6:.1f} MB over {base}")
    expect(size - base_size <= IMAGE_BYTES_MAX, f"more than {IMAGE_BYTES_MAX} bytes over its base")
    confined = ("--rm", "--network=none", "--read-only", "--cap-drop=ALL")
    sbom = json.loads(docker("run", *confined, "--entrypoint=cat", IMAGE, SBOM))
    names = {it["name"] for it in sbom["components"]}
    expect({"aiokafka", "aiobotocore", "faust-streaming"} <= names, f"the SBOM has only {names}")
    whole = sbom["metadata"]["component"]
    found.append(f"SBOM: {sbom['bomFormat']} {sbom['specVersion']}, {len(names)} packages")
    expect((whole["name"], whole["version"]) == ("stream-app", __version__), f"SBOM of {whole}")
    installed = docker("run", *confined, "--entrypoint=python", IMAGE, "-c", _INSTALLED).split()
    expect(sorted(names | {"stream-app"}) == installed, f"the SBOM lacks some of {installed}")


_INSTALLED: Final = (
    "from importlib.metadata import distributions; "
    "print(*sorted({it.name for it in distributions()}))"
)


def value(port: int, name: str) -> float:
    """Return a metric of a worker, summed over its series."""
    status, metrics = response(port, "/metrics")
    expect(status == 200, f"/metrics of port {port}: {status} {metrics}")
    lines = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", metrics, re.MULTILINE)
    expect(lines, f"there is no metric {name}")
    return sum(map(float, lines))


def check_receipts(project: Project, found: list[str]) -> dict[str, Any]:
    """Wait for the receipts of the event, by the metrics of the worker; return one of them."""
    (port,) = project.ports("worker", 9108)
    published = "stream_app_receipts_total"
    if not becomes_true(lambda: value(port, published) >= len(LINES), RECEIPTS_SECONDS_MAX):
        raise StepError(f"{RECEIPTS_SECONDS_MAX:.0f} s and {value(port, published)} receipts")
    printed = project.run(
        *("run", "--rm", "-T", "topics"),
        *("receipts", "--from-beginning", "--exit-at-end", "--json"),
    )
    receipts = [json.loads(line)["receipt"] for line in printed.splitlines()]
    for it in receipts:
        found.append(f"{it['status']}: {it['destination']} {it['object']['key']}")
        expect((it["status"], it["counts"]["delivered"]) == ("delivered", 1), f"receipt {it}")
    expect({it["destination"] for it in receipts} == set(LINES), f"receipts {receipts}")
    return receipts[0]


def check_worker(project: Project, found: list[str]) -> None:
    """Look at the one worker from outside, and at its rights."""
    (container,) = project.ids("worker")
    (port,) = project.ports("worker", 9108)
    expect(document(port, "/health/live")["live"], "it is not live")
    expect(document(port, "/health/ready")["ready"], "it is not ready")
    delivered = value(port, "stream_app_objects_total")
    found.append(f"127.0.0.1:{port}/metrics: stream_app_objects_total is {delivered:.0f}")
    expect(delivered == len(LINES), "not one for each destination")
    state = inspected("container", container)
    expect(state["State"]["Health"]["Status"] == "healthy", f"it is {state['State']['Health']}")
    expect(state["HostConfig"]["ReadonlyRootfs"], "its file system can be written to")
    user = project.run("exec", "-T", "worker", "id", "-u").strip()
    found.append(f"healthy, user {user}, read-only file system")
    expect(user == "10001", f"its user is {user}")


def check_inspector(project: Project, receipt: dict[str, Any], found: list[str]) -> None:
    """Ask the Inspector for the event, with and without its token."""
    (port,) = project.ports("inspector", 8080)
    expect(response(port, "/health")[0] == 200, "it does not respond")
    status, _ = response(port, "/api/about")
    expect(status == 401, f"without the token it responds {status}")
    source = receipt["source"]
    path = f"/api/events/{source['partition']}/{source['first_offset']}"
    event = document(port, path, TOKEN)
    found.append(f"127.0.0.1:{port}{path}: {json.dumps(event)[:100]}...")
    for destination, line in LINES.items():
        sent = document(port, f"{path}/sent/{destination}", TOKEN)
        expect(json.loads(sent["line"]) == line, f"{destination} was sent {sent}")
        found.append(f"line of {destination}: {sent['line']}")


def check_scale(project: Project, found: list[str]) -> None:
    """Wait until two workers share the partitions."""
    ports = project.ports("worker", 9108)
    expect(len(ports) == 2, f"the workers are at {ports}")
    shares: list[float] = []

    def are_shared() -> bool:
        shares[:] = [value(port, "stream_app_partitions_read_back") for port in ports]
        return all(shares) and sum(shares) == PARTITIONS

    if not becomes_true(are_shared, SHARE_SECONDS_MAX):
        raise StepError(f"after {SHARE_SECONDS_MAX:.0f} s the workers have {shares} partitions")
    found.append(f"partitions of the workers at {ports}: {shares}")


def check_stop(project: Project, found: list[str]) -> None:
    """Stop workers and Inspector: each ends in time, with status 0."""
    containers = {it: name for name in ("worker", "inspector") for it in project.ids(name)}
    began = time.monotonic()
    project.run("stop", "worker", "inspector")
    seconds = time.monotonic() - began
    for container, service in containers.items():
        code = inspected("container", container)["State"]["ExitCode"]
        found.append(f"{service}: status {code}")
        expect(code == 0, project.run("logs", "--no-color", "--tail", "50", service))
    expect(seconds < STOP_SECONDS_MAX, f"it took {seconds:.1f} s")


def walk(project: Project) -> None:
    """Do what the head of the file says, and look at the result of each step."""
    with step("build the image"):
        project.run("build")
    with step("image") as found:
        check_image(found)
    with step("start Kafka, S3, topics, a worker and the Inspector"):
        project.run("up", "--wait")
    with step("send an event"):
        project.run(
            *("run", "--rm", "-T", "topics", "send", "--pipeline", "orders"),
            given=json.dumps(EVENT),
        )
    with step("its receipts") as found:
        receipt = check_receipts(project, found)
    with step("health and metrics of the worker") as found:
        check_worker(project, found)
    with step("Inspector") as found:
        check_inspector(project, receipt, found)
    with step("scale to two workers") as found:
        project.run("up", "--wait", "--no-recreate", "--scale", "worker=2")
        check_scale(project, found)
    with step("stop") as found:
        check_stop(project, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compose", default="docker compose", help="command of Docker Compose")
    project = Project(parser.parse_args().compose)
    began = time.monotonic()
    try:
        engine = docker("version", "--format", "{{.Server.Version}}").strip()
        print(f"engine {engine}, Compose {project.run('version', '--short').strip()}")
        walk(project)
    except StepError as failure:
        with contextlib.suppress(StepError):
            print(project.run("logs", "--no-color", "--tail", "10"), file=sys.stderr)
        sys.exit(str(failure))
    finally:
        with contextlib.suppress(StepError):
            project.run("down", "--volumes", "--remove-orphans")
    print(f"all of it in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
