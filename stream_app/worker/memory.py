"""Memory settings of the worker process: Python's garbage collector, and glibc's malloc.

A fetch makes thousands of objects and some megabytes of buffers that are freed a moment later. By
default the collector examines all of them and finds nothing, and malloc requests each large buffer
from the system and returns it, which costs a page fault for every 4 KB: together a fifth of the CPU
of an event.
"""

import ctypes
import gc
from typing import Final

from stream_app.config.settings import MIB

GARBAGE_OBJECTS_MAX: Final = 50_000
"""New objects before Python looks for cycles: more than the records between fetcher and agent. The
only cycles are made by requests and their errors."""
MALLOC_OPTIONS: Final = {
    -3: 6 * MIB,  # M_MMAP_THRESHOLD: smaller buffers are taken from memory that is kept
    -1: 32 * MIB,  # M_TRIM_THRESHOLD: so much may be kept at the end of it
    -8: 1,  # M_ARENA_MAX: what one thread has freed another can use
}
"""Values by the numbers of the options in glibc's `malloc.h`; each is an int."""

_LIBC: Final = ctypes.CDLL(None)
"""The C library; one without `mallopt` is left as it is."""


def tune_malloc() -> None:
    """Let malloc keep buffers for the next fetch.

    Call before any thread is started, also one that resolves names: malloc gives each thread memory
    of its own, which stays after its end.
    """
    if hasattr(_LIBC, "mallopt"):
        for option, value in MALLOC_OPTIONS.items():
            _LIBC.mallopt(option, value)


def tune_collector() -> None:
    """Exclude permanent objects from garbage collection, and collect more rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS_MAX)
