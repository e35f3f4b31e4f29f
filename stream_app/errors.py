"""Exceptions of the package, and how each is handled.

    StreamAppError
    ├── ConfigurationError    the configuration is wrong: all mistakes at once, nothing is started
    ├── ExpressionError       a payload expression does not compile
    ├── SetupError            a server, topic, port, file or right is missing: one line, then exit
    ├── DeliveryError         a request to S3 failed, with S3's error code
    │   ├── TransientError    time heals it: retried with back-off
    │   └── PermanentError    an operator must act: retried slowly, then a failed receipt
    │       └── TooLargeError the receipts topic takes no receipt of this size: it is shortened
    ├── FencedError           the partition was revoked: its work is dropped
    ├── StalledError          this process can make no progress: it ends, and another is started
    ├── InstanceFencedError   another process has the place in the group: this one ends for good
    ├── CommitTooLargeError   a commit's metadata exceeds the broker's limit: a smaller one follows
    ├── UploadGoneError       S3 has lost parts: the partition is rebuilt from its commit, once
    └── InvariantError        an invariant of the design is violated: nothing more is committed

Any other exception is a defect, and crashes the worker before it commits.
"""

from collections.abc import Sequence
from typing import Final

CODE_LENGTH_MAX: Final = 100
MESSAGE_LENGTH_MAX: Final = 1_000
"""Characters of a server's message that are kept: with more a receipt could be too large."""


class StreamAppError(Exception):
    """Base class of the package's errors."""


class ConfigurationError(StreamAppError):
    """Error in the configuration; `mistakes` has a line for each mistake.

    Indented lines that show the position in the text may follow a mistake's own.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class ExpressionError(StreamAppError):
    """A payload expression does not compile; the text is the engine's, with the position.

    Args:
        message: What is wrong.
        position: Line and column in the expression, both from 1; None if there is none to show.
    """

    def __init__(self, message: str, position: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.position = position


class SetupError(StreamAppError):
    """Error of the environment; the message says what is missing or refused, and what to do."""


class DeliveryError(StreamAppError):
    """Failed request to S3 or Kafka; `code` is S3's error code, or the class of the error."""

    def __init__(self, code: str, message: str) -> None:
        code, message = code[:CODE_LENGTH_MAX], message[:MESSAGE_LENGTH_MAX]
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class TransientError(DeliveryError):
    """Failure that time heals: 5xx, SlowDown, conflict, lost connection, expired credentials."""


class PermanentError(DeliveryError):
    """Failure that needs an operator: a missing bucket or right, a setting that S3 refuses."""


class TooLargeError(PermanentError):
    """Refusal of a receipt for its size; `size` is the bytes of its value."""

    def __init__(self, code: str, message: str, size: int) -> None:
        super().__init__(code, message)
        self.size = size


class FencedError(StreamAppError):
    """Work for a partition of another worker, or of a later assignment of this one."""


class InstanceFencedError(StreamAppError):
    """Loss of the place in the group to another process with the same `group_instance_id`."""


class CommitTooLargeError(StreamAppError):
    """Refused commit: the metadata of a partition exceeds the broker's limit, which is unknown."""


class UploadGoneError(StreamAppError):
    """Loss of uploaded parts, which are no longer in memory: the partition must be rebuilt.

    Args:
        code: S3's error code.
        message: Which object, and S3's message.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StalledError(StreamAppError):
    """Standstill that only a new process ends, such as of a library's background task."""


class InvariantError(StreamAppError):
    """Violated invariant of the design; the state is not committed."""
