"""Evaluating expressions for a page: some at a time, in threads, under the engine's own limits."""

import asyncio
from typing import Any, Final

from stream_app.errors import ConfigurationError
from stream_app.expressions import TP, Failure
from stream_app.inspector.configured import Configured
from stream_app.inspector.turns import Turns
from stream_app.trial import Subject, try_events

AT_ONCE_MAX: Final = 2
TRIED: Final = "expression"
"""Stands for the destination of an expression that is tried."""


class Evaluations:
    """Evaluates expressions.

    Args:
        configured: Compiles them.
    """

    def __init__(self, configured: Configured) -> None:
        self._configured = configured
        self._turns = Turns(AT_ONCE_MAX, "evaluate expressions")

    async def line(
        self,
        record: Any,  # noqa: ANN401 - aiokafka's
        text: str,
        destination: str,
    ) -> tuple[bytes | None, str | None]:
        """Return the line that an expression gives for a record, or why there is none.

        Raises:
            BusyError: Too many evaluate.
        """
        async with self._turns.turn():
            return await asyncio.to_thread(self._line, record, text, destination)

    async def trial(
        self, text: str, value: bytes | None, pipeline: str | None, time: float
    ) -> dict[str, Any]:
        """Return what an expression gives for an event, as `stream-app check` tells it.

        Args:
            text: The expression.
            value: The event.
            pipeline: Its record's key.
            time: Of the record, in seconds since 1970.

        Raises:
            BusyError: Too many evaluate.
        """
        async with self._turns.turn():
            return await asyncio.to_thread(self._trial, text, value, pipeline, time)

    def _line(
        self,
        record: Any,  # noqa: ANN401 - aiokafka's
        text: str,
        destination: str,
    ) -> tuple[bytes | None, str | None]:
        try:
            expression = self._configured.expression(text)
        except ConfigurationError as error:
            return None, str(error)
        source = TP(record.topic, record.partition)
        (outcome,) = expression.evaluate([record], destination, source)
        if isinstance(outcome, bytes):
            return outcome, None
        if isinstance(outcome, Failure):
            return None, f"the expression fails: {outcome.error}"
        return None, "skipped: the expression gives undefined"

    def _trial(
        self, text: str, value: bytes | None, pipeline: str | None, time: float
    ) -> dict[str, Any]:
        told: dict[str, Any] = dict.fromkeys(("line", "path", "error", "place", "microseconds"))
        try:
            expression = self._configured.expression(text)
        except ConfigurationError as error:
            first, _, place = error.mistakes[0].partition("\n")
            return told | {"outcome": "failed", "error": first, "place": place or None}
        if value is None:
            return told | {"outcome": "skipped"}
        subject = Subject(TRIED, pipeline, expression)
        (trial,) = try_events(
            subject, [value], topic=self._configured.settings.kafka.events_topic, now=time
        )
        names = ("outcome", "line", "path", "error", "place", "microseconds")
        return {name: getattr(trial, name) for name in names}
