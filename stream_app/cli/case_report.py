"""Reports of `stream-app test`: lines for people, TAP and JUnit XML for programs."""

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

import click

from stream_app.cli.tables import Cell
from stream_app.cli.terminal import Output
from stream_app.text import counted, printable

if TYPE_CHECKING:
    from stream_app.expressions.cases import ChangedLine, Verdict

NAMED_MAX: Final = 20
"""Destinations without a case that are named."""
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def report(verdicts: "Sequence[Verdict]", without: Sequence[str], kind: str) -> None:
    """Print the verdicts.

    Args:
        verdicts: One for each case.
        without: Ids of the destinations that have no case.
        kind: `text`, `tap` or `junit`.
    """
    {"text": _text, "tap": _tap, "junit": _junit}[kind](verdicts, without)


def _text(verdicts: "Sequence[Verdict]", without: Sequence[str]) -> None:
    output = Output(sys.stdout)
    failed = [it for it in verdicts if not it.is_expected]
    for verdict in failed:
        mark = output.mark("✗", "x")
        output.line(
            Cell(f"{mark}{printable(verdict.case.name)}", "bold red"),
            Cell(f"  {printable(verdict.case.place)}", "dim"),
        )
        for line in _details(verdict):
            style = {"-": "red", "+": "green"}.get(line[:1], "dim")
            output.line(Cell(f"    {printable(line)}", style))
    if without:
        output.line(Cell(printable(_without(without)), "yellow"))
    passed = len(verdicts) - len(failed)
    output.line(Cell(f"{counted(len(verdicts), 'case')}: {passed} passed, {len(failed)} failed"))


def _tap(verdicts: "Sequence[Verdict]", without: Sequence[str]) -> None:
    lines = ["TAP version 13", f"1..{len(verdicts)}"]
    for number, verdict in enumerate(verdicts, start=1):
        status = "ok" if verdict.is_expected else "not ok"
        lines.append(f"{status} {number} - {printable(verdict.case.name).replace('#', ' ')}")
        if not verdict.is_expected:
            details = (f"    {printable(it)}" for it in _details(verdict))
            lines += ["  ---", f"  at: {printable(verdict.case.place)!r}", "  difference: |"]
            lines += [*details, "  ..."]
    if without:
        lines.append(f"# {printable(_without(without))}")
    click.echo("\n".join(lines))


def _junit(verdicts: "Sequence[Verdict]", without: Sequence[str]) -> None:
    failed = sum(not it.is_expected for it in verdicts)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="stream-app" tests="{len(verdicts)}" failures="{failed}" errors="0">',
    ]
    for verdict in verdicts:
        case = verdict.case
        names = f"classname={_attribute(case.destination)} name={_attribute(case.name)}"
        if verdict.is_expected:
            lines.append(f"  <testcase {names}/>")
            continue
        text = "\n".join([case.place, *_details(verdict)])
        lines += [
            f"  <testcase {names}>",
            f"    <failure message={_attribute(case.place)}>{_xml(text)}</failure>",
            "  </testcase>",
        ]
    if without:
        lines.append(f"  <system-out>{_xml(_without(without))}</system-out>")
    click.echo("\n".join([*lines, "</testsuite>"]))


def _details(verdict: "Verdict") -> list[str]:
    return [*verdict.difference(), *(verdict.excerpt or "").splitlines()]


def _without(ids: Sequence[str]) -> str:
    named = ", ".join(ids[:NAMED_MAX])
    more = f" and {len(ids) - NAMED_MAX} more" if len(ids) > NAMED_MAX else ""
    return f"destinations without a case: {len(ids)} ({named}{more})"


def _xml(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text))


def _attribute(text: str) -> str:
    return quoteattr(_NO_XML.sub("\ufffd", text))


def report_changes(
    destination: str, matched: int, changed: "Sequence[ChangedLine]", partitions: Sequence[int]
) -> None:
    """Print which lines of a destination differ.

    Args:
        destination: Its id.
        matched: Number of events that it takes.
        changed: The first of those that differ.
        partitions: Partition of each of them.
    """
    output = Output(sys.stdout)
    output.line(Cell(f"{destination}: {counted(matched, 'event')}, {len(partitions)} differ"))
    for partition, change in zip(partitions, changed, strict=False):
        from stream_app.expressions.cases import difference

        output.line(Cell(f"  {partition}@{change.record.offset}", "bold"))
        for line in difference(change.before, change.after):
            style = {"-": "red", "+": "green"}.get(line[:1], "dim")
            output.line(Cell(f"    {printable(line)}", style))
