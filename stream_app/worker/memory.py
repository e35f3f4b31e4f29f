"""How a worker's process treats its memory: Python's collector of cycles, and glibc's malloc.

A fetch makes thousands of objects and some megabytes of buffers that are gone a moment later. As
they come, the collector walks over all of them and finds nothing, and malloc asks the system for
each large buffer and gives it back, which costs a page fault for every 4 KB of it: together a fifth
of the CPU of an event.
"""

import ctypes
import gc
from typing import Final

GARBAGE_OBJECTS_MAX: Final = 50_000
"""How many more objects than before there are when Python looks for cycles among them: more than
the records between fetcher and agent. What cycles there are come from requests and their errors."""
MIB: Final = 1024 * 1024
MALLOC_OPTIONS: Final = {
    -3: 6 * MIB,  # M_MMAP_THRESHOLD: smaller buffers are taken from memory that is kept
    -1: 32 * MIB,  # M_TRIM_THRESHOLD: so much may be kept at the end of it
    -8: 1,  # M_ARENA_MAX: what one thread has freed another can use
}
"""By their numbers in glibc's `malloc.h`; each is an int."""


_LIBC: Final = ctypes.CDLL(None)
"""Another one than glibc may have none of what is used here; then nothing is done."""


def settle_malloc() -> None:
    """Let malloc keep buffers for the next fetch.

    To be called before any thread is started, be it one that resolves a name: the memory of its
    own that malloc gives to a thread stays, and later threads take it over.
    """
    if hasattr(_LIBC, "mallopt"):
        for option, value in MALLOC_OPTIONS.items():
            _LIBC.mallopt(option, value)


def settle_collector() -> None:
    """Keep the collector off what is here to stay, and off each fetch."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS_MAX)
