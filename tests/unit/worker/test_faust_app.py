"""The end of a worker process, within its bound, by its exit status."""

import subprocess
import sys

import pytest

ENDING = """
import signal, time
from stream_app.config.settings import S3, Delivery, Destination, Kafka, Settings
from stream_app.worker.faust_app import Worker, new_app

class Quick(Worker):
    end_seconds_max = 2.0  # enough for both steps

settings = Settings(Kafka(), S3(), Delivery(), (Destination("d", "my-bucket"),))
worker = Quick(new_app(settings), quiet=True)
for step in {steps}:
    if step == "signal":
        worker._schedule_shutdown(signal.SIGTERM)
    else:
        worker._crash(RuntimeError(step))
time.sleep(20)  # as a stop that waits for a server that is down
print("it goes on", flush=True)
"""
SECONDS_MAX = 120


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        (["signal"], 0),
        (["crash"], 1),
        (["signal", "crash while stopping"], 1),
        (["crash", "signal"], 1),
    ],
)
def test_crash_decides_the_status_also_while_stopping(steps: list[str], status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING.format(steps=steps)],
        capture_output=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert (done.stdout, done.returncode) == (b"", status), done.stderr.decode()
