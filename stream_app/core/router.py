"""Router: destinations with their compiled expressions, and the outcomes of a batch.

The unit of work is the batch. Records are grouped by their key once, each destination evaluates
its expression over the records that it matches in one call, and only outcomes that are no payload
are examined one by one. Pure.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from textwrap import indent
from types import MappingProxyType
from typing import Final

from stream_app.config.settings import Destination, Settings
from stream_app.core.pipeline_names import PipelineNames
from stream_app.errors import ConfigurationError, ExpressionError
from stream_app.expressions.excerpt import excerpt
from stream_app.expressions.expression import (
    Expression,
    Outcome,
    Route,
    compile_expression,
    evaluate,
)
from stream_app.records import Record, TopicPartition


@dataclass(frozen=True, slots=True)
class DestinationOutcomes:
    """Outcomes of the records of a batch that one destination matches."""

    destination: Destination
    offsets: Sequence[int]
    """Offsets of these records, ascending."""
    outcomes: Sequence[Outcome]
    """One for each offset."""
    exceptions: Sequence[int]
    """Indexes in both where the outcome is not a payload, ascending."""


_ONLY_LINES: Final = frozenset({bytes})
_Compiled = tuple[Destination, Expression]


class Router:
    """Router of records to the destinations that match their pipeline.

    Args:
        destinations: All destinations.
        expressions: Their expressions, in the same order; left out: compiled here, each text once.

    Raises:
        ExpressionError: An expression does not compile.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        expressions: Sequence[Expression] | None = None,
    ) -> None:
        if expressions is None:
            texts = dict.fromkeys(it.payload for it in destinations)
            compiled_once = {text: compile_expression(text) for text in texts}
            expressions = [compiled_once[it.payload] for it in destinations]
        self.destinations = frozenset(it.id for it in destinations)
        """Ids of all destinations."""
        self.all = tuple(destinations)
        """All destinations."""
        self._every: list[_Compiled] = []
        self._by_pipeline: defaultdict[bytes, list[_Compiled]] = defaultdict(list)
        for destination, expression in zip(destinations, expressions, strict=True):
            compiled = (destination, expression)
            if destination.pipeline is None:
                self._every.append(compiled)
            else:
                self._by_pipeline[destination.pipeline.encode()].append(compiled)
        self._every_needs_engine = _needs_engine(self._every)
        self._engine_pipelines = {key for key, it in self._by_pipeline.items() if _needs_engine(it)}

    def needs_engine(self, records: Iterable[Record]) -> bool:
        """Return whether evaluation of these records needs the engine, and so a thread."""
        return self._every_needs_engine or (
            bool(self._engine_pipelines)
            and not self._engine_pipelines.isdisjoint(map(attrgetter("key"), records))
        )

    @property
    def expressions(self) -> dict[str, Expression]:
        """The expressions by their texts."""
        groups = (self._every, *self._by_pipeline.values())
        return {expression.text: expression for group in groups for _, expression in group}

    @cached_property
    def pipelines(self) -> PipelineNames:
        """The pipelines of the destinations."""
        return PipelineNames(it.pipeline for it in self.all)

    def unmatched_keys(self, records: Sequence[Record], end: int) -> Mapping[bytes | None, int]:
        """Return the keys of the records below the offset `end` that match no pipeline, counted.

        It costs something for each record: for a batch that has such records (`unmatched`).
        """
        below = records[: bisect_left(records, end, key=attrgetter("offset"))]
        keys = Counter(map(attrgetter("key"), below))
        for key in keys.keys() & self._by_pipeline.keys():
            del keys[key]
        return keys

    def evaluate(
        self, records: Sequence[Record], source: TopicPartition
    ) -> list[DestinationOutcomes]:
        """Return the outcomes of records in offset order, of destinations that match any."""
        matched: list[tuple[Sequence[_Compiled], Sequence[Record]]] = []
        if self._every and records:
            matched.append((self._every, records))
        if self._by_pipeline:
            groups: defaultdict[bytes | None, list[Record]] = defaultdict(list)
            for record in records:
                groups[record.key].append(record)
            for key, group in groups.items():
                if key is not None and key in self._by_pipeline:
                    matched.append((self._by_pipeline[key], group))
        return _outcomes(matched, source)


def _needs_engine(group: Iterable[_Compiled]) -> bool:
    return any(expression.uses_engine for _, expression in group)


def unmatched(outcomes: Sequence[DestinationOutcomes], records: Sequence[Record], end: int) -> int:
    """Return how many of the records below the offset `end` no destination matches.

    Args:
        outcomes: Of these records, and perhaps of others.
        records: In offset order.
        end: An offset.
    """
    taken = bisect_left(records, end, key=attrgetter("offset"))
    if not taken or any(it.destination.pipeline is None for it in outcomes):
        return 0
    begin = records[0].offset
    # The destinations of a pipeline match the same records.
    pipelines = {it.destination.pipeline: it.offsets for it in outcomes}
    return taken - sum(
        bisect_left(offsets, end) - bisect_left(offsets, begin) for offsets in pipelines.values()
    )


def _outcomes(
    matched: Sequence[tuple[Sequence[_Compiled], Sequence[Record]]], source: TopicPartition
) -> list[DestinationOutcomes]:
    destinations: list[Destination] = []
    offsets: list[Sequence[int]] = []
    routes: list[Route] = []
    for group, records in matched:
        numbers: Sequence[int] = [record.offset for record in records]
        for destination, expression in group:
            destinations.append(destination)
            offsets.append(numbers)
            routes.append(Route(expression, destination.id, records))
    found = []
    for destination, numbers, outcomes in zip(
        destinations, offsets, evaluate(routes, source), strict=True
    ):
        exceptions: Sequence[int] = ()
        if not _ONLY_LINES.issuperset(map(type, outcomes)):
            exceptions = [index for index, it in enumerate(outcomes) if it.__class__ is not bytes]
        found.append(DestinationOutcomes(destination, numbers, outcomes, exceptions))
    return found


def compile_payload(text: str, name: str) -> Expression:
    """Compile one expression.

    Args:
        text: The expression.
        name: Its name in messages.

    Raises:
        ConfigurationError: The expression does not compile; a line, and an excerpt below it.
    """
    try:
        return compile_expression(text)
    except ExpressionError as error:
        mistake = f"{name} does not compile: {' '.join(str(error).split())}"
        if error.position is not None:
            mistake += f"\n{indent(excerpt(text, *error.position), '  ')}"
        raise ConfigurationError([mistake]) from error


def compile_payloads(
    settings: Settings, known: Mapping[str, Expression] = MappingProxyType({})
) -> list[Expression]:
    """Return the destinations' expressions, in their order; the same text is compiled once.

    Args:
        settings: The settings.
        known: Expressions that are compiled, by their texts.

    Raises:
        ConfigurationError: Some do not compile; a line for each text, and an excerpt below it.
    """
    compiled = dict(known)
    mistakes: list[str] = []
    for index, destination in enumerate(settings.destinations):
        text = destination.payload
        if text in compiled:
            continue
        name = f"{settings.place(index)} (id '{destination.id}'): payload"
        try:
            compiled[text] = compile_payload(text, name)
        except ConfigurationError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigurationError(mistakes)
    return [compiled[it.payload] for it in settings.destinations]


def compile_router(settings: Settings, former: Router | None = None) -> Router:
    """Return a router of all destinations, each text compiled once.

    Args:
        settings: The settings.
        former: The router before them, whose expressions are compiled already.

    Raises:
        ConfigurationError: As `compile_payloads` does.
    """
    known = {} if former is None else former.expressions
    return Router(settings.destinations, compile_payloads(settings, known))
