"""Starts Kafka with the properties that the environment has: KAFKA_LOG_DIRS is `log.dirs`."""

import os
import secrets
import subprocess
from pathlib import Path
from typing import Final

FILE: Final = Path("/tmp/server.properties")  # noqa: S108 - of a container
JAVA: Final = ["/opt/java/bin/java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", "/opt/kafka/libs/*"]
PREFIX: Final = "KAFKA_"

properties = {
    name.removeprefix(PREFIX).replace("_", ".").lower(): value
    for name, value in os.environ.items()
    if name.startswith(PREFIX)
}
FILE.write_text("".join(f"{name}={value}\n" for name, value in properties.items()), "utf-8")
if not Path(properties["log.dirs"], "meta.properties").exists():
    # 16 bytes as 22 characters; the first is fixed, since a dash would start an option.
    cluster = f"k{secrets.token_urlsafe(16)[1:]}"
    tool = [*JAVA, "kafka.tools.StorageTool", "format", "--cluster-id", cluster]
    subprocess.run([*tool, "--config", str(FILE)], check=True)
os.execv(JAVA[0], [*JAVA, "kafka.Kafka", str(FILE)])  # noqa: S606 - the command is ours
