"""How a command ends: its exit status, and what each one means."""

from collections.abc import Mapping
from typing import Final

STATUS_DONE: Final = 0
STATUS_FAILED: Final = 1
STATUS_WRONG: Final = 2
STATUS_INTERRUPTED: Final = 130
STATUS_TERMINATED: Final = 143

MEANINGS: Final[Mapping[int, str]] = {
    STATUS_DONE: "done",
    STATUS_FAILED: "something outside refuses or is missing: a broker, a topic, a right",
    STATUS_WRONG: "the command line or the configuration is wrong",
    STATUS_INTERRUPTED: "ended by Ctrl-C",
    STATUS_TERMINATED: "ended by SIGTERM; a worker that is told to stop has done its work: 0",
}
"""What `--help` and docs/cli.md say of each."""
