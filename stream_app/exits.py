"""How a command ends: its exit status, and what each one means."""

from collections.abc import Mapping
from typing import Final

STATUS_DONE: Final = 0
STATUS_FAILED: Final = 1
STATUS_WRONG: Final = 2
STATUS_INTERRUPTED: Final = 130
STATUS_TERMINATED: Final = 143

MEANINGS: Final[Mapping[int, str]] = {
    STATUS_DONE: "done; a worker or an Inspector that was told to stop",
    STATUS_FAILED: "something outside refuses or is missing: a broker, a topic, a right, a reader",
    STATUS_WRONG: "the command line or the configuration is wrong",
    STATUS_INTERRUPTED: "ended by Ctrl-C before it was done",
    STATUS_TERMINATED: "ended by SIGTERM before it was done",
}
"""What `--help` and docs/cli.md say of each."""
