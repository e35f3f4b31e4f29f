"""Fuzzer of `compile_expression` and `evaluate`: nothing escapes the engine.

    python -m tests.fuzz.expressions --seconds 600 --seed 7
    python -m tests.fuzz.expressions --seed 7 --first 1232 --cases 16

The first command looks for defects; the second repeats a group of cases that the first has named.
The engine is C code in our process, so the cases run in a child process, `judge`, in chunks. The
child records each case before running it, so that a crash or a hang is attributed to its
expression; the next child continues behind it. Checked for every case:

- the process lives, and each case comes to an end;
- `compile_expression` raises nothing but `ExpressionError`, `evaluate` nothing at all;
- an outcome is a skip, or one line of JSON within bounds, or a failure with one line of text;
- the outcome is the same when evaluated again, in an engine with higher limits, and together with
  other expressions that share the event; unless a limit was hit;
- the engine alone gives the same over whole events, but for the spelling of what is sliced;
- after each group of cases the realm evaluates *canaries* as a new realm does; one of them lists
  every property of everything that an expression can reach. So nothing leaks;
- memory does not grow beyond the engine's limits.

Not Hypothesis: drawing an expression there costs more than evaluating it, and its shrinking runs in
the process that a defect would crash. A seed and a number identify a case instead.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.fuzz.judge import GROUP_CASES, ROOT, SABOTAGES, SHOWN_LENGTH_MAX

CHUNK_CASES: Final = 32 * GROUP_CASES
"""Cases of one child, all in one engine."""
CASE_SECONDS_MAX: Final = 20.0
"""A case, or a check of the canaries, that takes longer is a hang."""
START_SECONDS_MAX: Final = 60.0
"""Time for a child to reach its first case, on a busy machine."""
POLL_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Defect:
    """Violated guarantee."""

    kind: str
    """`crash`, `hang`, `exception`, `outcome`, `difference`, `leak` or `memory`."""
    case: int
    """Number of the case; of the group's last case if the group shows the defect."""
    detail: str
    shown: str
    """The expressions and records."""

    def headline(self) -> str:
        """Return the defect and the arguments that reproduce it."""
        group = self.case - self.case % GROUP_CASES
        return f"{self.kind}: {self.detail}\n(--first {group} --cases {GROUP_CASES})"


@dataclass
class Report:
    """Result of a run."""

    cases: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Outcomes and comparisons by kind."""
    defects: list[Defect] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)


def run(
    seed: int,
    *,
    seconds: float,
    cases: int | None = None,
    first: int = 0,
    case_seconds_max: float = CASE_SECONDS_MAX,
    sabotage: str | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Report:
    """Run cases from `first` until time or cases are used up, through crashes and hangs."""
    report = Report()
    deadline = time.monotonic() + seconds
    at, end = first, sys.maxsize if cases is None else first + cases
    while at < end and time.monotonic() < deadline:
        # Chunks begin at multiples, wherever an earlier one stopped: so each can be repeated.
        last = min(at - at % CHUNK_CASES + CHUNK_CASES, end)
        found = len(report.defects), len(report.slow)
        with tempfile.TemporaryDirectory() as folder:
            child = _Child(Path(folder), case_seconds_max)
            arguments = ["--seed", f"{seed}", "--first", f"{at}", "--last", f"{last}"]
            arguments += ["--seconds", f"{max(0.0, deadline - time.monotonic())}"]
            child.run([*arguments, *(["--sabotage", sabotage] if sabotage else [])])
            reached = child.add_to(report, at)
        report.cases += reached - at
        at = reached
        for defect in report.defects[found[0] :]:
            log(f"\n{defect.headline()}\n{defect.shown}\n")
        for slow in report.slow[found[1] :]:
            log(f"\n{slow}\n")
        log(f"{report.cases} cases, {len(report.defects)} defects, {len(report.slow)} slow")
    return report


class _Child:
    """Process that judges a chunk of cases."""

    def __init__(self, folder: Path, case_seconds_max: float) -> None:
        self._folder = folder
        self._case_seconds_max = case_seconds_max
        self._hung = False
        self._status = 0

    def run(self, arguments: list[str]) -> None:
        """Run the process to its end; abort it when a case takes too long."""
        command = [sys.executable, "-m", "tests.fuzz.judge", f"{self._folder}", *arguments]
        with (self._folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(command, cwd=ROOT, stderr=stderr)
            try:
                seen, since = b"", time.monotonic()
                while process.poll() is None and not self._hung:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(POLL_SECONDS)
                    step = self._journal().partition(b",")[0]
                    if step != seen:
                        seen, since = step, time.monotonic()
                    seconds_max = self._case_seconds_max if step else START_SECONDS_MAX
                    self._hung = time.monotonic() - since > seconds_max
                if self._hung:
                    process.send_signal(signal.SIGABRT)  # faulthandler writes a traceback.
                self._status = process.wait()
            finally:
                process.kill()

    def add_to(self, report: Report, first: int) -> int:
        """Add the child's findings; return the number of the next case."""
        reached = first
        text = self._read("report")
        for line in text[: text.rfind("\n") + 1].splitlines():
            kind, value = json.loads(line)
            if kind == "defect":
                report.defects.append(Defect(*value))
            elif kind == "slow":
                report.slow.append(value)
            elif kind == "reached":
                reached = value
            else:
                report.counts.update(value)
        if self._status == 0:
            return reached
        trace = f"status {self._status}\n{self._read('stderr')[:SHOWN_LENGTH_MAX]}"
        entry = self._journal()
        if not entry:
            raise RuntimeError(f"the child did not start: {trace}")
        _, case, shown = json.loads(entry)
        kind = "hang" if self._hung else "crash"
        report.defects.append(Defect(kind, case, trace, shown[:SHOWN_LENGTH_MAX]))
        return int(case) + 1

    def _journal(self) -> bytes:
        path = self._folder / "journal"
        return path.read_bytes() if path.exists() else b""

    def _read(self, name: str) -> str:
        path = self._folder / name
        return path.read_text("utf-8", errors="replace") if path.exists() else ""


def main() -> None:
    """Parse the arguments, run, and exit with 1 if there was a defect."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.expressions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of all randomness")
    parser.add_argument("--seconds", type=float, default=60.0, help="maximum duration of the run")
    parser.add_argument("--cases", type=int, help="maximum number of cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--sabotage", choices=SABOTAGES, help="remove a safeguard first")
    arguments = parser.parse_args()
    report = run(**vars(arguments), log=lambda line: print(line, flush=True))
    print(f"\nseed {arguments.seed}, {report.cases} cases: {dict(report.counts)}")
    sys.exit(bool(report.defects))


if __name__ == "__main__":
    main()
