"""The exception tree, one line for each: what happened, and how it is treated.

    StreamAppError
    ├── ConfigurationError    the operator's text is wrong: every mistake at once, nothing started
    ├── ExpressionError       a payload expression does not compile
    ├── SetupError            a server, topic, port, file or right is missing: one line, then exit
    ├── DeliveryError         a request to S3 failed, `code` as S3 spells it
    │   ├── TransientError    time heals it: retried under back-off
    │   └── PermanentError    somebody must act: retried slowly, then answered by a failed receipt
    ├── FencedError           the partition is no longer ours: its work is dropped, unseen
    ├── UploadGoneError       S3 has lost parts: the partition is built anew from its commit
    └── InvariantError        a rule of the design is broken: nothing is committed from here on

Anything else that is raised is a defect, and crashes the worker before it commits.
"""

from collections.abc import Sequence
from typing import Final

CODE_LENGTH_MAX: Final = 100
MESSAGE_LENGTH_MAX: Final = 1_000
"""Characters that are kept of what a server said: a receipt with more could outgrow its topic."""


class StreamAppError(Exception):
    """Any error that this package raises on purpose."""


class ConfigurationError(StreamAppError):
    """The configuration cannot be used; `mistakes` holds a line for each mistake.

    Lines that show its place may follow a mistake's own, indented.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class ExpressionError(StreamAppError):
    """A payload expression does not compile; the text is the engine's, with its place.

    Args:
        message: What is wrong.
        place: Line and column in the expression, both from 1; None if there is none to show.
    """

    def __init__(self, message: str, place: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.place = place


class SetupError(StreamAppError):
    """Something outside this process is missing or refuses; the text says what to do."""


class DeliveryError(StreamAppError):
    """A request to S3 failed; `code` is S3's error code, or a name of ours for the network."""

    def __init__(self, code: str, message: str) -> None:
        code, message = code[:CODE_LENGTH_MAX], message[:MESSAGE_LENGTH_MAX]
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class TransientError(DeliveryError):
    """Time heals it: 5xx, SlowDown, a conflict, a lost connection, expired credentials."""


class PermanentError(DeliveryError):
    """Somebody must act: a missing bucket, a missing right, a setting that S3 refuses."""


class FencedError(StreamAppError):
    """The partition belongs to another worker, or to a later assignment of this one."""


class UploadGoneError(StreamAppError):
    """Parts that S3 had are not there any more, nor in memory: the partition is built anew."""


class InvariantError(StreamAppError):
    """A rule that the design rests on does not hold; the state that broke it is not committed."""
