"""Records what a version writes: commit metadata, and receipts of each status.

    python -m tests.formats.record [0.1.0]

A worker of that version (without an argument: of this tree) delivers to real servers on 127.0.0.1.
The result is `VERSION.json` in this folder, which every later version must read: record it before
each release.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from stream_app import __version__
from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import SETTLED_SECONDS_MAX, Lab, wait_until
from tests.chaos.oracle import Target
from tests.chaos.s3_proxy import Fault, Request
from tests.formats.versions import ROOT, unpacked

EVENTS: Final = 20
TARGETS: Final = (
    Target("everything", "everything/"),
    Target(
        "picky", "picky/", "$event.n % 3 ? $event.n % 3 > 1 ? $event : $event.no.no : undefined"
    ),
    Target("nothing", "nothing/", "$event.no"),
    Target("refused", "refused/"),
    Target("late", "late/"),
)
STATUSES: Final = {"delivered", "empty", "failed", "retrying"}
SETTINGS: Final = "give_up_after_seconds = 1"


def fault(request: Request) -> Fault:
    """Return how S3 fails for two of the destinations."""
    by_prefix = {"refused": Fault.DENY, "late": Fault.BROKEN}
    _, _, prefix, *_ = f"{request.path}//".split("/")
    return by_prefix.get(prefix, Fault.NONE)


async def recorded(lab: Lab, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what a worker, and a redelivery after it, have written."""
    lab.proxy.rule = fault
    worker = lab.launch_worker(environment=environment)
    for number in range(EVENTS):
        await lab.load.send_raw(b'{"n":%d}' % number, pipeline=f"pipeline-{number % 2}")

    async def each_status() -> bool:
        return {it.value["status"] for it in await lab.read_receipts()} == STATUSES

    await wait_until(each_status, SETTLED_SECONDS_MAX, f"receipts: {', '.join(STATUSES)}")
    commits = await _commits(lab)
    lab.proxy.heal()
    await lab.settled()
    commits += await _commits(lab)
    await worker.terminate()
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "stream_app", "redeliver", "--config", str(lab.configuration)],
        cwd=lab.configuration.parent,  # Python looks for the package there first
        env={**os.environ, **lab.s3.environment, **environment},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0
    receipts = await lab.read_receipts()
    return {
        "group": lab.name,
        "commits": commits,
        "receipts": [{"key": it.key, "headers": it.headers, "value": it.value} for it in receipts],
    }


async def _commits(lab: Lab) -> list[dict[str, Any]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=lab.broker)
    await admin.start()
    try:
        tp = TopicPartition(lab.events_topic, 0)
        found = await admin.list_consumer_group_offsets(lab.name, partitions=[tp])
    finally:
        await admin.close()
    return [{"offset": it.offset, "metadata": it.metadata} for it in found.values()]


async def _record(tree: Path, folder: Path, kafka: KafkaServer, s3: S3Server) -> dict[str, Any]:
    async with Lab(
        kafka.address, s3, folder, partitions=1, targets=TARGETS, settings=SETTINGS
    ) as lab:
        return await recorded(lab, {"PYTHONPATH": str(tree)})


def main() -> None:
    version = sys.argv[1] if len(sys.argv) > 1 else __version__
    with tempfile.TemporaryDirectory() as scratch, KafkaServer() as kafka, S3Server() as s3:
        folder = Path(scratch)
        tree = ROOT if version == __version__ else unpacked(version, folder / "package")
        written = asyncio.run(_record(tree, folder, kafka, s3))
    file = Path(__file__).with_name(f"{version}.json")
    file.write_text(json.dumps({"version": version, **written}, indent=1) + "\n", "utf-8")
    print(f"{file}: {len(written['commits'])} commits, {len(written['receipts'])} receipts")


if __name__ == "__main__":
    main()
