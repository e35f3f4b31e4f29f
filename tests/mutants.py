"""Takes out one rule of the design at a time and demands that a judge notices: `make mutants`.

A mutant is a text patch. It is applied to a copy of the tree, the judge is run there, and the judge
must fail. A patch whose old text is not there exactly once is an error, so that the list follows
the code. With names as arguments only those mutants are run.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
JUDGE_SECONDS_MAX: Final = 600.0
SIMULATION: Final = (
    *("-m", "pytest", "tests/simulation", "-x", "-q", "-p", "no:cacheprovider"),
    *("-o", "timeout=60"),  # a mutant may loop without an end
)
"""Arguments to Python; the judge of all that the core owes."""
UNIT: Final = (
    *("-m", "pytest", "tests/unit", "-x", "-q", "-p", "no:cacheprovider"),
    *("-o", "timeout=30"),  # the same
)
"""The judge of what the simulation meets too seldom: exact moments and sizes."""
INTEGRATION: Final = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/integration")
"""The judge of what the shell owes to a real broker."""
CHAOS: Final = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/chaos", "-k")
"""The judge of what real workers owe when they are killed; a part of a name follows."""
STREAMING: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
    *("tests/integration/test_streaming.py", "-k"),
)
"""The judge of what real workers owe whose objects leave in parts; a part of a name follows."""


@dataclass(frozen=True)
class Mutant:
    """One rule taken out."""

    name: str
    file: str
    old: str
    new: str
    judge: tuple[str, ...] = SIMULATION


PARTITION: Final = "stream_app/partition.py"
STREAMTIME: Final = "stream_app/streamtime.py"
WINDOW: Final = "stream_app/window.py"
DELIVERY: Final = "stream_app/delivery.py"
ASSIGNMENT: Final = "stream_app/assignment.py"
STORAGE: Final = "stream_app/s3.py"

MUTANTS: Final = (
    Mutant(
        "objects before the closing is recorded",
        PARTITION,
        "        if recorded:\n            self._release(window)\n",
        "        self._release(window)\n",
    ),
    Mutant(
        "a confirmed commit releases closings that it does not hold",
        PARTITION,
        "if not window.recorded and window.end in ends:",
        "if not window.recorded:",
    ),
    Mutant(
        "a confirmation counts for a partition that was rebuilt since",
        PARTITION,
        "        if commit is not self.attempted:\n            return\n",
        "",
        UNIT,
    ),
    Mutant(
        "work of an older epoch counts",
        PARTITION,
        "        if not task.valid:\n            raise FencedError(",
        "        if task is None:\n            raise FencedError(",
    ),
    Mutant(
        "a read-back of an older epoch counts",
        ASSIGNMENT,
        "if epoch != self.epoch or tp not in self._assigned:",
        "if tp not in self._assigned:",
        UNIT,
    ),
    Mutant(
        "windows are kept although somebody else had the partition",
        PARTITION,
        "        elif commit != self.acknowledged:\n            return False\n",
        "",
    ),
    Mutant(
        "a gap between batches is accepted",
        PARTITION,
        "        if batch.position > self.position:\n",
        "        if batch.position < 0:\n",
    ),
    Mutant(
        "recorded closings are not read back",
        "stream_app/closings.py",
        "    return Commit(offset, tuple(closings))\n",
        "    return Commit(offset, ())\n",
    ),
    Mutant(
        "a settled closing is dropped from the metadata early",
        PARTITION,
        "            if closings or not window.settled:\n",
        "            if not window.settled:\n",
    ),
    Mutant(
        "a replay stands under another upload time",
        PARTITION,
        "uploaded_at=recorded.uploaded_at if recorded else None",
        "uploaded_at=recorded.uploaded_at + 1 if recorded else None",
    ),
    Mutant(
        "a commit passes the oldest unsettled window",
        PARTITION,
        "            if not window.settled:\n                return window.first\n",
        "            if not window.settled:\n                return window.end\n",
    ),
    Mutant(
        "a replayed window takes one batch more",
        PARTITION,
        "            if self._replay and self.position >= self._replay[0].end:\n"
        "                self._close_recorded()\n        return None\n",
        "            if self._replay and self.position > self._replay[0].end:\n"
        "                self._close_recorded()\n        return None\n",
    ),
    Mutant(
        "a window takes the first moment of the next minute",
        STREAMTIME,
        "_time(records[place], now) >= self.start + self._length",
        "_time(records[place], now) > self.start + self._length",
        UNIT,
    ),
    Mutant(
        "a window reaches over its minute within a batch",
        STREAMTIME,
        "for it in records[place:] if _time(it, now) >= window_end)",
        "for it in records[place:] if _time(it, now) > window_end)",
        UNIT,
    ),
    Mutant(
        "an idle window closes only beyond the end of the log",
        PARTITION,
        "log_end is None or self.position < log_end or",
        "log_end is None or self.position <= log_end or",
    ),
    Mutant(
        "an idle window closes before the grace is over",
        STREAMTIME,
        "now >= start + length + self._grace",
        "now >= start + length - self._grace",
        UNIT,
    ),
    Mutant(
        "the metadata may grow beyond its bound",
        PARTITION,
        "return size + CLOSING_BYTES_MAX > self._rules.metadata_bytes_max",
        "return size > self._rules.metadata_bytes_max",
        UNIT,
    ),
    Mutant(
        "open windows are not closed for memory",
        ASSIGNMENT,
        "if partition.held_open and partition.close_early(now):",
        "if partition.held_open < 0 and partition.close_early(now):",
    ),
    Mutant(
        "a receipt's lists have no bound",
        WINDOW,
        "            if trial.bytes_estimate >= room:\n",
        "            if trial.bytes_estimate < 0:\n",
        UNIT,
    ),
    Mutant(
        "a run of skipped records goes over a delivered one",
        "stream_app/receipts.py",
        "        self.matched += count\n        self.run_open = False\n",
        "        self.matched += count\n",
    ),
    Mutant(
        "the key does not depend on where the window begins",
        "stream_app/objects.py",
        'f"{topic}\\0{partition}\\0{first_offset}\\0{destination}"',
        'f"{topic}\\0{partition}\\0{destination}"',
    ),
    Mutant(
        "a commit is sent although the partition was revoked",
        "stream_app/fetching.py",
        "                or not owned()\n",
        "",
        (*INTEGRATION, "-k", "commit"),
    ),
    Mutant(
        "a commit is sent in another generation than the partition's",
        "stream_app/fetching.py",
        "                or coordinator.generation != generation\n",
        "",
        (*INTEGRATION, "-k", "commit"),
    ),
    Mutant(
        "an object is written over another",
        STORAGE,
        'condition = {"IfNoneMatch": "*"} if destination.conditional_writes else {}\n        if',
        "condition: dict[str, Any] = {}\n        if",
        (*CHAOS, "kill_after_the_put"),
    ),
    Mutant(
        "an upload has no checksum",
        STORAGE,
        "            **{wanted.checksum_name: wanted.checksum},\n",
        "",
        (*CHAOS, "torn"),
    ),
    Mutant(
        "recorded closings are not read back by the worker",
        "stream_app/consumer.py",
        "decode(committed.offset, committed.metadata)",
        'decode(committed.offset, "")',
        (*CHAOS, "kill_after_the_put"),
    ),
    Mutant(
        "the closing is recorded with another time than that of the first part",
        PARTITION,
        "        uploaded_at = self.window.uploaded_at or uploaded_at\n",
        "        uploaded_at = int(uploaded_at)\n",
    ),
    Mutant(
        "the key has the time of the closing, though parts have left",
        WINDOW,
        "now if self.uploaded_at is None else self.uploaded_at",
        "now",
        UNIT,
    ),
    Mutant(
        "a part counts that was sent under an older assignment",
        PARTITION,
        "        self._check(task)\n        body = task.delivery.leaving\n",
        "        body = task.delivery.leaving\n",
        UNIT,
    ),
    Mutant(
        "a window closes while its lines are compressed",
        PARTITION,
        "        if self.window.busy:\n            return",
        "        if self.window.busy and now < 0:\n            return",
        UNIT,
    ),
    Mutant(
        "uploads of lost partitions are not aborted",
        ASSIGNMENT,
        "        self._abandoned += partition.uploads()\n",
        "",
        UNIT,
    ),
    Mutant(
        "a stuck part is waited for",
        WINDOW,
        "any(body.unsent and not body.is_stuck for body in bodies)",
        "any(body.unsent for body in bodies)",
        UNIT,
    ),
    Mutant(
        "the core does not learn that a part is stuck",
        DELIVERY,
        "            body.is_stuck = True\n",
        "",
        (*STREAMING, "keep_no_other"),
    ),
    Mutant(
        "an object in parts is written over another",
        STORAGE,
        'condition = {"IfNoneMatch": "*"} if destination.conditional_writes else {}\n        found',
        "condition: dict[str, Any] = {}\n        found",
        (*STREAMING, "zombie_at_the_last"),
    ),
    Mutant(
        "a part has no checksum",
        "stream_app/multipart.py",
        "                    **sent,\n",
        "",
        (*STREAMING, "part_that_fails"),
    ),
    Mutant(
        "a lost upload does not build the partition anew",
        STORAGE,
        "    if error.code in UPLOAD_GONE:\n",
        "    if error.code in UPLOAD_GONE and key is None:\n",
        (*STREAMING, "behind"),
    ),
)


def main() -> int:
    """Run the mutants that are named, or all; return 1 when one survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of mutants to be run")
    names = parser.parse_args().names
    chosen = [it for it in MUTANTS if not names or any(name in it.name for name in names)]
    width = max((len(it.name) for it in chosen), default=0)
    print(f"{'mutant':{width}}  {'killed by':44}  seconds", flush=True)
    survivors = 0
    for mutant in chosen:
        started = time.monotonic()
        killer = _judge(mutant)
        survivors += killer is None
        seconds = time.monotonic() - started
        print(f"{mutant.name:{width}}  {killer or 'SURVIVES':44}  {seconds:7.1f}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors or not chosen else 0


def _judge(mutant: Mutant) -> str | None:
    """Return what noticed the mutant, None when nothing did."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "node_modules")
        )
        file = tree / mutant.file
        text = file.read_text()
        if text.count(mutant.old) != 1:
            raise SystemExit(
                f"mutant '{mutant.name}': its old text is {text.count(mutant.old)} times in "
                f"{mutant.file}, not once; write it as the code now reads"
            )
        file.write_text(text.replace(mutant.old, mutant.new))
        _demand_own_package(tree)
        result = _python(tree, *mutant.judge)
    if result is None:
        return f"no end within {JUDGE_SECONDS_MAX:.0f} s"
    if result.returncode == 0:
        return None
    # A fixture that fails has noticed it too; a file that cannot be imported has no test to name.
    lines = result.stdout.splitlines()
    failed = [it for it in lines if it.startswith(("FAILED ", "ERROR ")) and "::" in it]
    if not failed:
        raise SystemExit(
            f"mutant '{mutant.name}': the judge did not run: {result.stdout}{result.stderr}"
        )
    return failed[0].split(" ")[1].rpartition("::")[2]


def _demand_own_package(tree: Path) -> None:
    """Make sure that the copy is judged, not the package that is installed."""
    result = _python(tree, "-c", "import stream_app; print(stream_app.__file__)")
    if result is None or not result.stdout.startswith(str(tree)):
        raise SystemExit(f"the copy in {tree} is not what Python imports: {result}")


def _python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tree,
            capture_output=True,
            text=True,
            timeout=JUDGE_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


if __name__ == "__main__":
    sys.exit(main())
