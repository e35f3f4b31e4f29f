"""The table of faults for `docs/guarantees.md`, written by the run that it speaks of."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.chaos.injector import Injector, Replays
from tests.chaos.oracle import Balance, Evidence, windows
from tests.chaos.schedule import Kind

BEGIN: Final = "<!-- generated: chaos -->\n"
END: Final = "<!-- end -->"


def command(minutes: float, seed: int) -> str:
    """Command that runs the same schedule again."""
    return f"make chaos MINUTES={minutes:g} SEED={seed}"


@dataclass(frozen=True)
class Outcome:
    """Faults of one run, and its result."""

    minutes: float
    seed: int
    evidence: Evidence
    balance: Balance
    injector: Injector
    replays: Replays
    recovery_seconds: float
    fresh_seconds: float

    @property
    def outcomes(self) -> Counter[str]:
        """Outcomes of the events, by the expressions."""
        return Counter(
            target.outcome(sent.event)
            for sent in self.evidence.sent
            for target in self.evidence.targets
            if target.matches(sent)
        )

    @property
    def in_parts(self) -> int:
        """How many objects left in parts: none of the load's is so large that it is cut at once."""
        return sum("-" in stored.etag for stored in self.evidence.objects)

    def text(self) -> str:
        """The table, as Markdown."""
        performed, drawn = self.injector.performed, self.injector.drawn
        faults = [
            f"| {kind.value} | {performed[kind]}{_missed(drawn[kind] - performed[kind])} |"
            for kind in Kind
        ]
        results = [f"| {what} | {count} |" for what, count in self._results()]
        head = (
            f"`{command(self.minutes, self.seed)}` on {datetime.now(UTC):%Y-%m-%d}, "
            f"{platform.system()} {platform.machine()} with {os.cpu_count()} processors, "
            f"Python {platform.python_version()}:"
        )
        lines = [
            head,
            "",
            "| fault | times |",
            "|---|---|",
            *faults,
            "",
            "| result | count |",
            "|---|---|",
            *results,
        ]
        return "\n".join(lines) + "\n"

    def _results(self) -> Sequence[tuple[str, str]]:
        evidence, balance, outcomes = self.evidence, self.balance, self.outcomes
        receipts = evidence.receipts
        retried = sum(it.value["attempts"] > 1 for it in receipts)
        return (
            ("events sent", f"{len(evidence.sent):,}"),
            ("payloads due, one for each destination of an event", f"{outcomes.total():,}"),
            ("of these skipped by their expression", f"{outcomes['skipped']:,}"),
            ("failed in their expression", f"{outcomes['failed']:,}"),
            ("delivered: one line in one object", f"{balance.delivered:,}"),
            ("**lost**", f"**{balance.lost}**"),
            ("**repeated**", f"**{balance.repeated}**"),
            ("windows", f"{windows(receipts):,}"),
            ("objects", f"{len(evidence.objects):,}"),
            ("objects uploaded in parts", f"{self.in_parts:,}"),
            ("receipts", f"{len(receipts):,}"),
            ("receipts after more than one attempt", f"{retried:,}"),
            ("failed attempts that workers logged", f"{self.replays.retries:,}"),
            ("workers started", f"{self.injector.workers_started:,}"),
            ("takeovers of a partition", f"{self.replays.takeovers.total():,}"),
            ("windows rebuilt from a recorded closing", f"{self.replays.replayed:,}"),
            ("uploads whose object existed", f"{self.replays.there_already:,}"),
            ("partitions rebuilt since parts were lost", f"{self.replays.gone:,}"),
            ("maximum memory of a worker", f"{self.injector.rss_mib_max} MiB"),
            ("all settled after the last fault within", f"{self.recovery_seconds:.1f} s"),
            ("an event sent then had its receipts within", f"{self.fresh_seconds:.1f} s"),
        )


def write(document: Path, outcome: Outcome) -> None:
    """Put the table between the two marks of a document.

    Raises:
        ValueError: The marks are not there.
    """
    try:
        text = put(document.read_text("utf-8"), outcome.text())
    except ValueError as error:
        raise ValueError(f"{document}: {error}") from None
    document.write_text(text, "utf-8")


def put(text: str, table: str) -> str:
    """Return the text with this table, and no other, between its two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"write {BEGIN.strip()} and {END}, each on a line, where the table goes")
    return before + begin + table + end + after


def _missed(count: int) -> str:
    return f" ({count} more found nothing to hit)" if count else ""
