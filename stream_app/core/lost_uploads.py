"""Lost uploads: how often in a row S3 has lost the parts of one object.

    first loss ──> all parts are sent again; if they are not in memory, the partition is rebuilt
    another ─────> the destination's own permanent error: retried, then a `failed` receipt

One loss has a cause that passes: a lifecycle rule, an operator who tidied up, a response that was
lost. A store that refuses the same object again will go on: rebuilding the partition each time
would hold up its other destinations without an end.

The count outlives the partition's windows, which are forgotten when it is rebuilt. Pure.
"""

from typing import Final, NamedTuple

from stream_app.errors import PermanentError, StreamAppError, TransientError, UploadGoneError
from stream_app.records import TopicPartition

OBJECTS_MAX: Final = 10_000
"""Objects that are remembered. Beyond them the oldest is forgotten: its partition may be rebuilt
once more."""


class WindowObject(NamedTuple):
    """Name of one window's object: the same after a rebuild, also if its key is another."""

    tp: TopicPartition
    first: int
    """The window's first offset."""
    destination: str
    """The destination's id."""


class LostUploads:
    """Lost uploads of one worker.

    Args:
        objects_max: How many objects are remembered.
    """

    def __init__(self, objects_max: int = OBJECTS_MAX) -> None:
        self._objects_max = objects_max
        self._lost: dict[WindowObject, None] = {}

    def error(self, name: WindowObject, gone: UploadGoneError | TransientError) -> StreamAppError:
        """Record a loss; return it if it is the first one in a row, else a `PermanentError`.

        Args:
            name: Which object.
            gone: The loss; a `TransientError` if its parts are in memory.
        """
        if name in self._lost:
            message = f"lost again after all parts were sent anew: {gone}"
            return PermanentError(gone.code, message)
        if len(self._lost) >= self._objects_max:
            del self._lost[next(iter(self._lost))]
        self._lost[name] = None
        return gone

    def ended(self, name: WindowObject) -> None:
        """Forget an object that is stored, or given up."""
        self._lost.pop(name, None)
