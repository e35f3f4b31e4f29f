"""Test cases of payload expressions: events, and the lines that they have to become.

    [[cases]]
    destination = "orders"
    event = '{"body": {"id": 7}}'      or  file = "events/order.json"
    expect = '{"id":7}'                or  "skipped", "failed", "failed: TEXT"

A line is JSON, so no line is one of the three words. A case is evaluated as a worker evaluates a
record: of the destination's pipeline, in partition 0, at offset 0, and of a fixed time, so that the
same expression has the same outcome tomorrow.

Pure: the caller reads the files.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any, Final, NamedTuple

from stream_app.errors import ConfigurationError
from stream_app.expressions.excerpt import excerpt
from stream_app.expressions.expression import Expression, Failure, Outcome
from stream_app.expressions.trial import Sample
from stream_app.records import Record, TopicPartition, event_mistake

CASES_MAX: Final = 100_000
"""Cases of one file."""
TIMESTAMP_MS: Final = 1_767_225_600_000
"""2026-01-01T00:00:00Z, the time of every record."""
SKIPPED: Final = "skipped"
FAILED: Final = "failed"
FAILED_WITH: Final = "failed: "
TABLE: Final = "cases"
TEXTS: Final = ("name", "destination", "pipeline", "event", "file", "expect")
"""Keys of a case; each value is text."""

_HEADER: Final = re.compile(r"^[ \t]*\[\[[ \t]*cases[ \t]*\]\]", re.MULTILINE)
_EXPECT: Final = re.compile(
    r"""^([ \t]*expect[ \t]*=[ \t]*)(?:'''.*?'''|\"{3}.*?\"{3}|'[^'\n]*'|"(?:[^"\\\n]|\\.)*")""",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Case:
    """Case of one destination."""

    place: str
    """File and number, for messages."""
    name: str
    destination: str
    pipeline: str | None
    event: str | None
    file: str | None
    """File of the event, if that is not in `event`."""
    expect: str | None
    """None: to be written by `updated`."""


class Verdict(NamedTuple):
    """Outcome of a case beside the expected one."""

    case: Case
    found: str
    """As `expect` would have it."""
    excerpt: str | None
    """Two lines that show where the expression threw."""

    @property
    def is_expected(self) -> bool:
        """Whether the case has passed."""
        return _is_expected(self.case.expect, self.found)

    def difference(self) -> list[str]:
        """Return the lines of a difference between what is expected and what is found."""
        return difference(self.case.expect or "", self.found)


def parse_cases(text: str, where: str) -> list[Case]:
    """Return the cases of a file.

    Args:
        text: The file's text.
        where: Its name in messages.

    Raises:
        ConfigurationError: There are mistakes; a line for each.
    """
    entries = _document(text, where)
    mistakes: list[str] = []
    cases = []
    for number, entry in enumerate(entries, start=1):
        place = f"{where}: [[{TABLE}]] {number}"
        found = [*_mistakes(entry)]
        mistakes += [f"{place}: {it}" for it in found]
        if not found:
            name = entry.get("name") or f"{entry['destination']} {number}"
            values = {key: entry.get(key) for key in TEXTS}
            cases.append(Case(**(values | {"name": name}), place=place))
    if mistakes:
        raise ConfigurationError(mistakes)
    return cases


def _document(text: str, where: str) -> Sequence[Any]:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"{where}: {error}; write valid TOML there"]) from None
    entries = document.pop(TABLE, [])
    if document:
        unknown = ", ".join(sorted(document))
        raise ConfigurationError([f"{where}: unknown: {unknown}; write [[{TABLE}]] only"])
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError([f"{where}: there is no case; write [[{TABLE}]] with its keys"])
    if len(entries) > CASES_MAX:
        raise ConfigurationError(
            [f"{where}: {len(entries)} cases; write at most {CASES_MAX} in a file"]
        )
    return entries


def _mistakes(entry: object) -> Iterator[str]:
    """Yield what is wrong in a case; `FOUND; write EXPECTED`."""
    if not isinstance(entry, dict):
        yield f"it is not a table; write [[{TABLE}]]"
        return
    for key, value in entry.items():
        if key not in TEXTS:
            yield f"{key} is unknown; remove it, or write one of {', '.join(TEXTS)}"
        elif not isinstance(value, str):
            yield f"{key} is not text; write it in quotes"
    if "destination" not in entry:
        yield "destination is missing; write the id of one"
    if ("event" in entry) == ("file" in entry):
        found = "event and file are both set" if "event" in entry else "event is missing"
        yield f"{found}; write the event's JSON as event, or the name of its file as file"
    event, expect = entry.get("event"), entry.get("expect", SKIPPED)
    if isinstance(event, str) and (mistake := event_mistake(event.encode())) is not None:
        yield f"event: {mistake}"
    if isinstance(expect, str) and not _is_outcome(expect):
        yield (
            f"expect is neither a line nor an outcome; write one line of JSON, '{SKIPPED}', "
            f"'{FAILED}' or '{FAILED_WITH}TEXT'"
        )


def _is_outcome(expect: str) -> bool:
    if expect in {SKIPPED, FAILED} or expect.startswith(FAILED_WITH):
        return True
    return "\n" not in expect and event_mistake(expect.encode()) is None


def _is_expected(expect: str | None, found: str) -> bool:
    if expect is None:
        return False
    if expect == FAILED:
        return found.startswith(FAILED_WITH)
    if expect.startswith(FAILED_WITH):
        return found.startswith(FAILED_WITH) and expect.removeprefix(FAILED_WITH) in found
    return expect == found


def outcome_text(outcome: Outcome) -> str:
    """Return an outcome as `expect` has it."""
    if isinstance(outcome, bytes):
        return outcome.decode()
    return f"{FAILED_WITH}{outcome.error}" if isinstance(outcome, Failure) else SKIPPED


def judge(case: Case, expression: Expression, event: bytes, pipeline: str | None) -> Verdict:
    """Evaluate the expression of a case's destination.

    Args:
        case: The case.
        expression: The destination's.
        event: The record's value.
        pipeline: The record's key; None: it has none.
    """
    record = Sample(0, TIMESTAMP_MS, None if pipeline is None else pipeline.encode(), event)
    (outcome,) = expression.evaluate([record], case.destination, TopicPartition("events", 0))
    shown = None
    if isinstance(outcome, Failure) and outcome.position is not None:
        shown = excerpt(expression.text, *outcome.position)
    return Verdict(case, outcome_text(outcome), shown)


class ChangedLine(NamedTuple):
    """Record whose outcome differs between two expressions."""

    record: Record
    before: str
    after: str


def changed_lines(
    before: Expression,
    after: Expression,
    records: Sequence[Record],
    destination: str,
    source: TopicPartition,
) -> list[ChangedLine]:
    """Return the records of one partition whose outcomes differ between two expressions."""
    outcomes = (it.evaluate(records, destination, source) for it in (before, after))
    texts = [[outcome_text(outcome) for outcome in found] for found in outcomes]
    return [
        ChangedLine(record, old, new)
        for record, old, new in zip(records, *texts, strict=True)
        if old != new
    ]


def difference(expected: str, found: str) -> list[str]:
    """Return a difference of two outcomes: lines that begin with `-`, `+` or a space.

    Lines of JSON are shown with a value on each line, unless they differ in spelling only.
    """
    sides = _spread(expected), _spread(found)
    if sides[0] == sides[1]:
        sides = [expected], [found]
    lines = unified_diff(*sides, lineterm="", n=2)
    return [it for it in lines if not it.startswith(("--- ", "+++ ", "@@ "))]


def _spread(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [text]
    return json.dumps(value, indent=2, ensure_ascii=False).split("\n")


def updated(text: str, where: str, found: Mapping[int, str]) -> str:
    """Return a file's text with other expectations; all else is as it was.

    Args:
        text: The file's text.
        where: Its name in messages.
        found: The new expectations, by the case's index.

    Raises:
        ConfigurationError: The text has the cases in a form that is not changed here.
    """
    begins = [it.start() for it in _HEADER.finditer(text)]
    pieces = [text[:it] for it in begins[:1]]
    for index, (begin, end) in enumerate(zip(begins, [*begins[1:], len(text)], strict=False)):
        piece = text[begin:end]
        pieces.append(_with_expect(piece, found[index]) if index in found else piece)
    changed = "".join(pieces)
    wanted = [
        entry | ({"expect": found[index]} if index in found else {})
        for index, entry in enumerate(_document(text, where))
    ]
    try:
        is_right = _document(changed, where) == wanted
    except ConfigurationError:
        is_right = False
    if not is_right:
        raise ConfigurationError(
            [f"{where}: the cases are not updated; write each as [[{TABLE}]] with expect on a line"]
        )
    return changed


def _with_expect(piece: str, expect: str) -> str:
    """Return the text of one case with another expectation, or with its first one."""
    written = _quoted(expect)
    changed, count = _EXPECT.subn(lambda it: it[1] + written, piece, count=1)
    if count:
        return changed
    body = piece.rstrip()
    return f"{body}\nexpect = {written}{piece[len(body) :] or chr(10)}"


def _quoted(text: str) -> str:
    """Return text as TOML: as it is between apostrophes, or with escapes."""
    if "'" not in text and text.isprintable():
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
