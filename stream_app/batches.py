"""A fetch of one partition, and what each destination answers to it.

The unit of work is the batch. Records are grouped by their key once, each destination evaluates
its expression over the records it matches in one call, and only what is not delivered is looked
at one by one.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stream_app.errors import InvariantError
from stream_app.expressions import (
    TP,
    Expression,
    Outcome,
    Record,
    Route,
    compile_expression,
    evaluate,
)
from stream_app.settings import Destination


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition in offset order, with the positions around them.

    Offsets may have holes (compaction, transaction markers), so the positions say more than the
    records do: a batch without records still moves its partition on.
    """

    position: int
    """The consumer's position before the fetch: where the batch continues."""
    next_position: int
    """The position after it: where the next batch will continue."""
    records: Sequence[Record]

    def after(self, offset: int) -> "Batch":
        """Return what of this batch lies at `offset` or beyond."""
        if offset <= self.position:
            return self
        cut = bisect_left(self.records, offset, key=_offset)
        return Batch(offset, max(offset, self.next_position), self.records[cut:])

    def pieces(self, count: int) -> list["Batch"]:
        """Return it in at most so many pieces of about the same size, one behind the other."""
        pieces, rest = [], self
        size = -(-len(self.records) // count)
        for place in range(size, len(self.records), max(1, size)):
            offset = self.records[place].offset
            behind = rest.after(offset)
            pieces.append(Batch(rest.position, offset, rest.records[: -len(behind.records)]))
            rest = behind
        return [*pieces, rest]


@dataclass(frozen=True, slots=True)
class Answers:
    """What one destination answers to the records of a batch that it matches."""

    destination: Destination
    offsets: Sequence[int]
    """Ascending."""
    outcomes: Sequence[Outcome]
    """As long as `offsets`."""
    exceptions: Sequence[int]
    """Places in the two where the outcome is not a payload, ascending."""


class GapError(InvariantError):
    """A batch does not continue where its partition stands: records between were not seen."""

    def __init__(self, tp: TP, position: int, found: int) -> None:
        super().__init__(
            f"{tp.topic}/{tp.partition}: expected offset {position}, the batch starts at {found}"
        )
        self.position = position
        self.found = found


_ONLY_LINES: Final = frozenset({bytes})
_Compiled = tuple[Destination, Expression]


class Program:
    """The destinations with their compiled expressions; matches records by pipeline.

    Args:
        destinations: All of them.
        expressions: Theirs, in the same order; left out: compiled here, each text once.

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
        """Their ids."""
        self._every: list[_Compiled] = []
        self._by_pipeline: defaultdict[bytes, list[_Compiled]] = defaultdict(list)
        for destination, expression in zip(destinations, expressions, strict=True):
            compiled = (destination, expression)
            if destination.pipeline is None:
                self._every.append(compiled)
            else:
                self._by_pipeline[destination.pipeline.encode()].append(compiled)
        self.uses_engine = any(
            expression.uses_engine
            for group in (self._every, *self._by_pipeline.values())
            for _, expression in group
        )
        """Whether evaluation may take long: the caller then does it in a thread."""

    def answer(self, records: Sequence[Record], source: TP) -> list[Answers]:
        """Evaluate records in offset order; destinations that match none are left out."""
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
        return _answers(matched, source)


def _answers(
    matched: Sequence[tuple[Sequence[_Compiled], Sequence[Record]]], source: TP
) -> list[Answers]:
    destinations: list[Destination] = []
    offsets: list[Sequence[int]] = []
    routes: list[Route] = []
    for group, records in matched:
        numbers: Sequence[int] = [record.offset for record in records]
        for destination, expression in group:
            destinations.append(destination)
            offsets.append(numbers)
            routes.append(Route(expression, destination.id, records))
    answers = []
    for destination, numbers, outcomes in zip(
        destinations, offsets, evaluate(routes, source), strict=True
    ):
        exceptions: Sequence[int] = ()
        if not _ONLY_LINES.issuperset(map(type, outcomes)):
            exceptions = [place for place, it in enumerate(outcomes) if it.__class__ is not bytes]
        answers.append(Answers(destination, numbers, outcomes, exceptions))
    return answers


def _offset(record: Record) -> int:
    return record.offset
