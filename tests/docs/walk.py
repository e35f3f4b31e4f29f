"""The commands of a document, one after the other, as a reader types them."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.errors import SetupError
from tests.docs.blocks import block

SECONDS_MAX = 180
BUCKET = "my-bucket"


@dataclass(frozen=True)
class Place:
    """Where a document's commands run: addresses, topics and group instead of the default ones."""

    kafka: KafkaServer
    s3: S3Server
    prefix: str
    """Of the topics and the group, which no other test uses."""

    def here(self, text: str) -> str:
        """Return the document's text with the names of this place."""
        return (
            text.replace("127.0.0.1:9092", self.kafka.address)
            .replace("http://127.0.0.1:8333", self.s3.endpoint_url)
            .replace("delivery-receipts", f"{self.prefix}receipts")
            .replace('"events"', f'"{self.prefix}events"')
        )

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the document's commands."""
        return {
            **os.environ,
            **self.s3.environment,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "S3_ENDPOINT_URL": self.s3.endpoint_url,
            "STREAM_APP_DELIVERY_WINDOW_SECONDS": "2",
            "STREAM_APP_KAFKA_GROUP": f"{self.prefix}group",
            "STREAM_APP_KAFKA_EVENTS_TOPIC": f"{self.prefix}events",
            "STREAM_APP_KAFKA_RECEIPTS_TOPIC": f"{self.prefix}receipts",
        }

    def create_bucket(self) -> None:
        """Create the documents' bucket, unless another document's test has."""
        try:
            self.s3.create_bucket(BUCKET)
        except SetupError as error:
            if "BucketAlready" not in str(error):
                raise


@contextmanager
def walked(document: str, folder: Path, environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Run the block marked `run` and give the first receipt that its last command prints.

    What the block leaves running runs on until the end of the `with`.
    """
    *commands, follow = [line.removeprefix("$ ") for line in block(document, "run").splitlines()]
    background: list[subprocess.Popen[str]] = []

    def start(command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            shlex.split(command),
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        background.append(process)
        return process

    try:
        for command in commands:
            if command.endswith("&"):
                start(command.removesuffix("&"))
            else:
                subprocess.run(
                    ["bash", "-c", command],  # noqa: S607
                    cwd=folder,
                    env=environment,
                    check=True,
                    timeout=SECONDS_MAX,
                )
        receipts = start(follow + " --json")
        assert receipts.stdout
        yield json.loads(receipts.stdout.readline())["receipt"]
    finally:
        for process in background:
            process.terminate()
        for process in background:
            process.communicate(timeout=SECONDS_MAX)
