"""Each process that consumes changes aiokafka's fetcher by a call; no import does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.kafka.record_batches import _Records

CONFIG = """
[kafka]
broker = "kafka://127.0.0.1:1"

[[destinations]]
id = "orders"
bucket = "my-bucket"
"""
UNREACHABLE = """
import sys
from stream_app.cli.main import main
sys.argv = ["stream-app", *{arguments!r}]
try:
    main()
except SystemExit as exit_:
    assert exit_.code == 1, exit_.code
"""
REPORT = """
from aiokafka.consumer import fetcher
print(fetcher.MemoryRecords.__module__)
"""


def fetcher_module(program: str, folder: Path) -> str:
    """Run a program; return the module whose records aiokafka's fetcher uses at its end."""
    config = folder / "stream_app.toml"
    config.write_text(CONFIG, "utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", program + REPORT],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"STREAM_APP_CONFIG": str(config)},
        timeout=180,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1]


def test_import_of_the_connection_changes_nothing(tmp_path: Path) -> None:
    program = "import stream_app.kafka.connection, stream_app.kafka.reader\n"
    assert fetcher_module(program, tmp_path).startswith("aiokafka.record.")


@pytest.mark.parametrize(
    "program",
    [
        UNREACHABLE.format(arguments=["receipts"]),
        UNREACHABLE.format(arguments=["redeliver"]),
        UNREACHABLE.format(arguments=["inspector", "--port", "0"]),
        "from stream_app.app import app\n",
        """
from stream_app.cli.demo import run
def fail(): raise SystemExit(1)
run.KafkaServer = fail  # before the demo reads anything
try:
    run.run_demo(keep=False)
except SystemExit: pass
""",
    ],
    ids=["receipts", "redeliver", "inspector", "worker", "demo"],
)
def test_process_that_consumes_reads_any_header_name(program: str, tmp_path: Path) -> None:
    assert fetcher_module(program, tmp_path) == _Records.__module__
