"""A worker whose wall clock a test can step: `python -P clocked_worker.py CLOCK worker ...`.

CLOCK is a file of two numbers: the seconds by which this process' clock is off, and the time at
which it stands still, 0 while it goes. Both may change at any moment. `time.time` is replaced here,
in the worker's own process and before anything else is imported, so the worker, Faust, mode and
aiokafka all read the stepped clock, while the product has no switch for it and the test patches
nothing. What stays true are `time.monotonic`, as on a real machine whose clock is set, and
`datetime.now`, by which botocore signs: S3 allows signatures to be 15 minutes off, and the steps
are smaller.

A clock that stands within a window keeps that window open, however slow the machine is.
"""

import mmap
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

CLOCK: Final = struct.Struct("dd")


def set_clock(file: Path, seconds: float, *, stands_at: float = 0.0) -> None:
    """Put a worker's clock off by so many seconds from now on; or let it stand still at a time."""
    with file.open("r+b" if file.exists() else "wb") as clock:
        clock.write(CLOCK.pack(seconds, stands_at))


def _stepped(file: Path, true_time: Callable[[], float]) -> Callable[[], float]:
    with file.open("rb") as opened:
        clock = mmap.mmap(opened.fileno(), CLOCK.size, access=mmap.ACCESS_READ)

    def stepped() -> float:
        seconds, stands_at = CLOCK.unpack_from(clock)
        return float(stands_at or true_time() + seconds)

    return stepped


if __name__ == "__main__":
    time.time = _stepped(Path(sys.argv.pop(1)), time.time)

    from stream_app.cli.main import main

    main()
