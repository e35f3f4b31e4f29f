"""A worker whose wall clock a test can step: `python -P clocked_worker.py CLOCK worker ...`.

CLOCK is a file of eight bytes, the seconds by which this process' clock is off; it may change at
any moment. `time.time` is replaced here, in the worker's own process and before anything else is
imported, so the worker, Faust, mode and aiokafka all read the stepped clock, while the product
has no switch for it and the test patches nothing. What stays true are `time.monotonic`, as on a
real machine whose clock is set, and `datetime.now`, by which botocore signs: S3 allows signatures
to be 15 minutes off, and the steps are smaller.
"""

import mmap
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

OFFSET: Final = struct.Struct("d")


def set_clock(file: Path, seconds: float) -> None:
    """Put a worker's clock off by so many seconds, from now on."""
    with file.open("r+b" if file.exists() else "wb") as clock:
        clock.write(OFFSET.pack(seconds))


def _stepped(file: Path, true_time: Callable[[], float]) -> Callable[[], float]:
    with file.open("rb") as clock:
        offset = mmap.mmap(clock.fileno(), OFFSET.size, access=mmap.ACCESS_READ)
    return lambda: true_time() + float(OFFSET.unpack_from(offset)[0])


if __name__ == "__main__":
    time.time = _stepped(Path(sys.argv.pop(1)), time.time)

    from stream_app.cli import main

    main()
