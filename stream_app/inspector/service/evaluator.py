"""Evaluation of expressions for the page: in threads, a few at a time, within engine limits."""

import asyncio
from time import perf_counter
from typing import Any, Final

from stream_app.errors import ConfigurationError
from stream_app.expressions.expression import Failure
from stream_app.expressions.trial import EXPRESSION_NAME, Subject, try_events
from stream_app.inspector.service.config_watcher import ConfigWatcher
from stream_app.inspector.service.limiter import Limiter
from stream_app.records import TopicPartition

CONCURRENT_EVALUATIONS_MAX: Final = 2


class Evaluator:
    """Evaluates expressions on one event.

    Args:
        config: Compiler of expressions.
    """

    def __init__(self, config: ConfigWatcher) -> None:
        self._config = config
        self._limiter = Limiter(CONCURRENT_EVALUATIONS_MAX, "evaluate expressions")

    async def line(
        self,
        record: Any,  # noqa: ANN401 - aiokafka's
        text: str,
        destination: str,
    ) -> tuple[bytes | None, str | None]:
        """Return the line that an expression yields for a record, or why there is none.

        Raises:
            BusyError: Too many requests evaluate expressions.
        """
        async with self._limiter.slot():
            return await asyncio.to_thread(self._line, record, text, destination)

    async def trial(
        self, text: str, value: bytes | None, pipeline: str | None, time: float
    ) -> dict[str, Any]:
        """Return the result of an expression on an event, as `stream-app check` reports it.

        Args:
            text: The expression.
            value: Value of the record.
            pipeline: Key of the record.
            time: Timestamp of the record, in seconds since 1970.

        Raises:
            BusyError: Too many requests evaluate expressions.
        """
        async with self._limiter.slot():
            return await asyncio.to_thread(self._trial, text, value, pipeline, time)

    def _line(
        self,
        record: Any,  # noqa: ANN401 - aiokafka's
        text: str,
        destination: str,
    ) -> tuple[bytes | None, str | None]:
        try:
            expression = self._config.expression(text)
        except ConfigurationError as error:
            return None, str(error)
        source = TopicPartition(record.topic, record.partition)
        (outcome,) = expression.evaluate([record], destination, source)
        if isinstance(outcome, bytes):
            return outcome, None
        if isinstance(outcome, Failure):
            return None, f"the expression fails: {outcome.error}"
        return None, "skipped: the expression gives undefined"

    def _trial(
        self, text: str, value: bytes | None, pipeline: str | None, time: float
    ) -> dict[str, Any]:
        nothing: dict[str, Any] = dict.fromkeys(("line", "path", "error", "place", "microseconds"))
        try:
            expression = self._config.expression(text)
        except ConfigurationError as error:
            first, _, place = error.mistakes[0].partition("\n")
            return nothing | {"outcome": "failed", "error": first, "place": place or None}
        if value is None:
            return nothing | {"outcome": "skipped"}
        subject = Subject(EXPRESSION_NAME, pipeline, expression)
        (trial,) = try_events(
            subject,
            [value],
            topic=self._config.settings.kafka.events_topic,
            now=time,
            timer=perf_counter,
        )
        return {
            "outcome": trial.outcome,
            "line": trial.line,
            "path": trial.path,
            "error": trial.error,
            "place": trial.excerpt,
            "microseconds": trial.microseconds,
        }
