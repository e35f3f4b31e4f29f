"""Child process of the fuzzer: runs cases and checks their outcomes.

Started by `expressions`, which lists what is checked. The child draws its cases itself, from seed
and number. It writes its next step to the *journal* and its findings to the *report*, as JSON lines
`[kind, value]`: all that is left of it if it dies.
"""

import argparse
import contextlib
import faulthandler
import json
import os
import random
import re
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, cast

from stream_app.errors import ExpressionError
from stream_app.expressions import engine as engine_module
from stream_app.expressions import expression as expressions_module
from stream_app.expressions.engine import (
    PRELUDE,
    CompiledExpression,
    Engine,
    Limits,
    SourcePosition,
)
from stream_app.expressions.expression import (
    ERROR_LENGTH_MAX,
    LINE_BYTES_MAX,
    SKIP,
    Expression,
    Failure,
    Outcome,
    Route,
    compile_expression,
    evaluate,
)
from stream_app.records import TopicPartition
from tests.fuzz.grammar import LIST_NATIVES, USUAL, Expressions, Made, record
from tests.hostile import HOSTILE
from tests.spelling import is_same

ROOT: Final = Path(__file__).parents[2]
SMALL: Final = Limits(memory_bytes_max=8 * 1024 * 1024, seconds_max=0.02, retry_seconds_max=0.05)
"""Limits that keep hostile cases cheap."""
ROOMY: Final = Limits(memory_bytes_max=64 * 1024 * 1024, seconds_max=0.5, retry_seconds_max=2.0)
GROUP_CASES: Final = 16
"""Cases between two checks of the canaries; those that compile are also evaluated together."""
SLOW_SECONDS: Final = 3.0
"""CPU time; slower cases are reported, but are no defects: some natives are known to overrun."""
GROWTH_BYTES_MAX: Final = 2 * ROOMY.memory_bytes_max
"""Growth of the process that one case may cause."""
ADDRESS_SPACE_BYTES_MAX: Final = 4 * 1024 * 1024 * 1024
"""Confines to the child what escapes the engine's memory limit."""
COMPILE_ERROR_LENGTH_MAX: Final = 1_000
SHOWN_LENGTH_MAX: Final = 4_000
DESTINATION: Final = "archive"
SOURCE: Final = TopicPartition("events", 0)

LIMIT_ERROR: Final = re.compile(
    r"InternalError: (?:interrupted|out of memory)|RangeError: Maximum call stack size exceeded"
)
MAY_HIDE_A_LIMIT: Final = re.compile(
    r"catch|finally|async|using|Disposable|import|eval|Function|constructor|\\u|new Promise"
    r"|Promise\W+(?:try|all|any|race)|extends Promise|stack"
)
"""Syntax that can catch a lack of memory or stack, or see the stack's depth, and give a result."""

WALK: Final = r"""(() => {
  const numbers = new Map(), open = [], list = [];
  const shown = o => {
    if (typeof o === "symbol") return o.toString();
    if (Object(o) !== o) return Object.is(o, -0) ? "-0" : `${o}`;
    if (!numbers.has(o)) { numbers.set(o, numbers.size); open.push(o); }
    return `#${numbers.get(o)}`;
  };
  const generator = (function* () {})();
  [globalThis, generator, (async function* () {})(), async () => 1, generator.map(x => x),
   [].values(), new Map().keys(), new Set().keys(), "".matchAll(/a/g), ""[Symbol.iterator](),
   new Error(), /a/, Iterator.from({ next() {} }), import("x"), (x => x)`tag`].forEach(shown);
  for (let at = 0; at < open.length; at++) {
    const o = open[at];
    list.push(shown(Object.getPrototypeOf(o)), Object.isExtensible(o));
    for (const key of Reflect.ownKeys(o)) {
      const { value, get, set, writable, enumerable, configurable } =
        Object.getOwnPropertyDescriptor(o, key);
      let got;   // Accessors hide the values of names that expressions assign.
      try { got = get?.call(o); } catch {}
      list.push(shown(key), shown(value), shown(get), shown(set), shown(got),
                (writable | 0) + 2 * enumerable + 4 * configurable);
    }
  }
  return list.join();
})()"""
"""Every property of everything that an expression can reach."""

CANARIES: Final = [
    (WALK, None),
    ("[3, 1, 2].map(x => x + 1)", b"[4,2,3]"),
    ("[3, 1, 2].sort()", b"[1,2,3]"),
    ("JSON.stringify({ a: [1, 'b', null], c: undefined })", rb'"{\"a\":[1,\"b\",null]}"'),
    ("[Math.random(), Math.random()]", None),
    ("[Date.now(), new Date(2017, 6, 14).getHours()]", b"[1500000000000,0]"),
    ("[Reflect.ownKeys(Object.prototype).length, Object.keys(globalThis)]", None),
    ("(() => { let n = ''; for (const k in { a: 1 }) n += k; return n; })()", b'"a"'),
    ("[`${{}}`, `${[1, 2]}`, 'a-b'.split('-')]", b'["[object Object]","1,2",["a","b"]]'),
    ("(() => { try { null.x; } catch (e) { return [e.name, e instanceof TypeError]; } })()",
     b'["TypeError",true]'),
    ("typeof n + typeof q + typeof D", b'"undefinedundefinedundefined"'),
    ("$event", b'{"a":[3,1,2]}'),
    ("[$event.a, $context.offset]", b"[[3,1,2],2]"),
]  # fmt: skip
"""Expressions and their lines; None stands for the line of a new engine."""
CANARY_RECORD: Final = Made(b'{"a":[3,1,2]}')

WITNESSES: Final = ["$event", "[$event, $context]", "$event.a", "[1, $event.b, Math.random()]"]
"""Expressions that would show a change of the shared event by the others."""

SEEDS: Final = r"""
(() => { throw new (class extends RangeError { get message() { throw 'x'; } }); })()
(e => { throw { __proto__: RangeError(), get message() { throw e }}})({ get stack() { for (;;); }})
(() => { throw 'a\0b'; })()
(() => { throw { toString() { delete $event.a; return ''; } }; })()
(k => ({ [k]() { throw new Error('x'); } })[k]())('<input>:' + '9'.repeat(5000) + ':1')
(Promise.resolve('x'.repeat(1e5)).then(x => x), Array(100).fill('é'.repeat(2000)))
Array(7000).fill('é'.repeat(500))
(s => { s.defer(() => { $event.a = 1; }); s.dispose(); return $event; })(new DisposableStack())
(s => { s.defer(() => delete $event.a); s.defer(() => x); s.dispose(); })(new DisposableStack())
(() => { using x = { [Symbol.dispose]() { $event.a = 1; } }; throw 5; })()
(Error.captureStackTrace($event), 'stack' in $event)
(JSON.parse('{"p":1,"q":2}', function (k, v) { if (k === 'p') this.q = $event; return 7; }), event)
(Object.setPrototypeOf($event.toString.toString, null), $event)
""".strip().splitlines()
"""Defects of the past: the first cases of every run; mutants of them may find the next defect."""

_Pair = tuple[Outcome, Outcome]


class ViolationError(Exception):
    """A guarantee is violated; `kind` as in `expressions.Defect`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class Judge:
    """Runner of one chunk of cases in one engine."""

    def __init__(self, seed: int, folder: Path, sabotage: str | None) -> None:
        self._seed = seed
        self._journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT)
        self._report = (folder / "report").open("w", buffering=1)
        self._sabotage = CASE_SABOTAGES.get(sabotage or "")
        if sabotage in MODULE_SABOTAGES:
            MODULE_SABOTAGES[sabotage]()
        natives = json.loads(cast("bytes", _alone(LIST_NATIVES, CANARY_RECORD, Engine())))
        self._expressions = Expressions(natives, known_texts())
        self._canaries = [
            (text, expected or _alone(text, CANARY_RECORD, Engine())) for text, expected in CANARIES
        ]
        self._engine = Engine(SMALL)
        self._roomy = Engine(ROOMY)
        self._counts: Counter[str] = Counter()
        self._steps = 0
        self._bytes = _resident()

    def run(self, first: int, last: int, deadline: float) -> None:
        """Judge cases from `first`, in whole groups, until `last` or the deadline."""
        with self._judged(first, "canaries of a new engine"):
            self._check_canaries()
        start = first
        while start < last and time.monotonic() < deadline:
            texts: list[str] = []
            events: list[Made] = []
            end = min(start - start % GROUP_CASES + GROUP_CASES, last)
            for case in range(start, end):
                chance = random.Random(f"{self._seed}/{case}")
                if case < len(SEEDS):
                    text, records = SEEDS[case], [Made(value) for value in USUAL]
                else:
                    text = self._expressions.draw(chance)
                    records = [record(chance) for _ in range(chance.randint(1, 3))]
                with self._judged(case, f"{text}\n{records}"):
                    if self._sabotage is not None and case % GROUP_CASES == 0:
                        self._sabotage()
                    if self._run_case(text, records):
                        texts.append(text)
                        events += records
            chance = random.Random(f"{self._seed}/{start}-{end}")
            for event in [*chance.sample(events, min(1, len(events))), Made(chance.choice(USUAL))]:
                mixed = chance.sample([*texts, *WITNESSES], len(texts) + len(WITNESSES))
                with self._judged(end - 1, "together:\n" + "\n".join([*mixed, f"{event}"])):
                    self._run_together(mixed, event)
            with self._judged(end - 1, "canaries after:\n" + "\n".join([*texts, f"{events}"])):
                self._check_canaries()
            self._write("reached", end)
            start = end
        self._write("counts", self._counts)

    @contextlib.contextmanager
    def _judged(self, case: int, shown: str) -> Iterator[None]:
        """Write the journal; report violations, exceptions, slowness and growth; then go on."""
        self._steps += 1
        entry = json.dumps([self._steps, case, shown]).encode()
        os.pwrite(self._journal, entry, 0)
        os.ftruncate(self._journal, len(entry))
        shown = shown[:SHOWN_LENGTH_MAX]
        started = time.process_time()
        defects: list[tuple[str, str]] = []
        try:
            yield
        except ViolationError as violation:
            defects.append((violation.kind, str(violation)))
        except Exception as error:  # noqa: BLE001  # any is a defect, and the run goes on
            defects.append(("exception", f"{type(error).__name__}: {error}"))
        grown = _resident() - self._bytes
        self._bytes += max(grown, 0)
        if grown > GROWTH_BYTES_MAX:
            defects.append(("memory", f"the process grew by {grown} bytes"))
        if defects:
            self._engine = Engine(SMALL)
        for kind, detail in defects:
            self._write("defect", [kind, case, detail[:SHOWN_LENGTH_MAX], shown])
        seconds = time.process_time() - started
        if seconds > SLOW_SECONDS:
            self._write("slow", f"case {case} took {seconds:.1f} s of CPU:\n{shown}")

    def _run_case(self, text: str, records: Sequence[Made]) -> bool:
        """Compile, evaluate, evaluate again in both engines; False if compiling fails."""
        try:
            expression = compile_expression(text, engine=self._engine)
        except ExpressionError as error:
            self._counts["refused"] += 1
            _check_compile_error(str(error))
            return False
        outcomes = expression.evaluate(records, DESTINATION, SOURCE)
        for made, outcome in zip(records, outcomes, strict=True):
            self._count(outcome)
            check_outcome(outcome, made, text)

        def twice() -> _Pair:
            return _alone(text, records[0], Engine(ROOMY)), _alone(text, records[0], Engine(ROOMY))

        (again,) = expression.evaluate(records[:1], DESTINATION, SOURCE)
        self._compare("evaluated again", text, (outcomes[0], again), twice)
        if not _is_limit(outcomes[0]):
            roomy = _alone(text, records[0], self._roomy)
            self._compare("in a roomy engine", text, (outcomes[0], roomy), twice)
        self._compare_with_engine(text, records, outcomes)
        return True

    def _compare_with_engine(
        self, text: str, records: Sequence[Made], outcomes: Sequence[Outcome]
    ) -> None:
        """Raise ViolationError unless the engine alone gives the same over whole events."""
        expression = Expression(text, CompiledExpression(text), None, self._engine)
        expression.questions.reader = None
        found = expression.evaluate(records, DESTINATION, SOURCE)
        if MAY_HIDE_A_LIMIT.search(text):
            return
        for made, one, two in zip(records, outcomes, found, strict=True):
            if _is_limit(one) or _is_limit(two):
                continue
            self._counts["by the engine"] += 1
            # RecursionError: what is nested too deep for Python's parser.
            with contextlib.suppress(RecursionError):
                if not is_same(made.value, one, two):
                    raise ViolationError(
                        "difference", f"by the engine alone: {_difference(one, two)}"
                    )

    def _run_together(self, texts: Sequence[str], event: Made) -> None:
        together = _together(texts, event, self._engine)
        for index, text in enumerate(texts):

            def in_roomy(index: int = index, text: str = text) -> _Pair:
                both = _together(texts, event, Engine(ROOMY))
                return both[index], _alone(text, event, Engine(ROOMY))

            self._counts["together"] += 1
            outcomes = together[index], _alone(text, event, self._engine)
            self._compare(f"together with others: {text}:", text, outcomes, in_roomy)

    def _check_canaries(self) -> None:
        for text, expected in self._canaries:
            self._counts["canaries"] += 1
            found = _alone(text, CANARY_RECORD, self._engine)
            if found != expected and not _is_limit(found):
                raise ViolationError("leak", f"{text} gives {_difference(found, expected)}")

    def _compare(self, how: str, text: str, outcomes: _Pair, in_roomy: Callable[[], _Pair]) -> None:
        """Raise ViolationError for a difference that no limit explains, judged by ROOMY."""
        one, two = outcomes
        if one == two or _is_limit(one) or _is_limit(two):
            return
        if MAY_HIDE_A_LIMIT.search(text):
            one, two = in_roomy()
            if one == two or _is_limit(one) or _is_limit(two):
                self._counts["hid a limit"] += 1
                return
        raise ViolationError("difference", f"{how}: {_difference(one, two)}")

    def _count(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failure):
            limit = LIMIT_ERROR.match(outcome.error)
            self._counts[limit[0] if limit else "failed"] += 1
        else:
            self._counts["skipped" if outcome is SKIP else "delivered"] += 1

    def _write(self, kind: str, value: object) -> None:
        self._report.write(json.dumps([kind, value]) + "\n")


def known_texts() -> list[str]:
    """Return the expressions of tests and documents, from which mutants are made."""
    corpus = json.loads((ROOT / "tests" / "corpus" / "corpus.json").read_text("utf-8"))
    document = (ROOT / "docs" / "expressions.md").read_text("utf-8")
    return [
        *(text for text, _ in HOSTILE.values()),
        *(pair["expression"] for pair in corpus["pairs"]),
        *re.findall(r"```js\n(.*?)```", document, re.DOTALL),
        *SEEDS * 5,
    ]


# --- One outcome ---------------------------------------------------------------------------------


def check_outcome(outcome: object, made: Made, text: str) -> None:
    """Raise ViolationError unless `outcome` is one, within bounds."""
    if isinstance(outcome, bytes):
        _check_line(outcome)
    elif isinstance(outcome, Failure):
        _check_failure(outcome, made, text)
    elif outcome is not SKIP:
        raise ViolationError("outcome", f"{outcome!r} is none")


def _check_line(line: bytes) -> None:
    if len(line) > LINE_BYTES_MAX or set(line) & {0x0A, 0x0D}:
        raise ViolationError("outcome", f"the line has {len(line)} bytes: {line[:200]!r}")
    try:
        # RecursionError: what is nested too deep for Python's parser, the engine has parsed.
        with contextlib.suppress(RecursionError):
            json.loads(line.decode(), parse_int=float)  # Python limits an integer's digits.
    except ValueError as error:
        raise ViolationError("outcome", f"{line!r} is no JSON: {error}") from error


def _check_failure(failure: Failure, made: Made, text: str) -> None:
    error = failure.error
    if failure.record != f"{SOURCE.topic}/{SOURCE.partition}@{made.offset}":
        raise ViolationError("outcome", f"the failure names {failure.record}")
    if not 0 < len(error) <= ERROR_LENGTH_MAX or not _is_one_line(error):
        raise ViolationError("outcome", f"the error is {error!r}")
    if not _is_inside(failure.position, text):
        raise ViolationError("outcome", f"the position {failure.position} is not in the text")


def _check_compile_error(message: str) -> None:
    if not 0 < len(message) <= COMPILE_ERROR_LENGTH_MAX or not _is_one_line(message):
        raise ViolationError("outcome", f"the compile error is {message!r}")


def _is_one_line(text: str) -> bool:
    return len(text.splitlines()) == 1 and not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text)


def _is_inside(position: SourcePosition | None, text: str) -> bool:
    if position is None:
        return True
    lines = text.split("\n")
    line, column = position
    return 1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1


def _alone(text: str, made: Made, engine: Engine) -> Outcome:
    (outcome,) = compile_expression(text, engine=engine).evaluate([made], DESTINATION, SOURCE)
    return outcome


def _together(texts: Sequence[str], made: Made, engine: Engine) -> list[Outcome]:
    # Compiled anew: an expression remembers whether it can share an event.
    expressions = [compile_expression(text, engine=engine) for text in texts]
    outcomes = evaluate([Route(it, DESTINATION, [made]) for it in expressions], SOURCE)
    return [outcome for (outcome,) in outcomes]


def _is_limit(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and LIMIT_ERROR.match(outcome.error) is not None


def _difference(one: Outcome, two: Outcome) -> str:
    if isinstance(one, bytes) and isinstance(two, bytes):
        ends = enumerate(zip(one, two, strict=False))
        at = next((at for at, (left, right) in ends if left != right), min(len(one), len(two)))
        window = slice(max(0, at - 60), at + 140)
        return f"{one[window]!r} and not {two[window]!r}, at byte {at}"
    return f"{str(one)[:300]} and not {str(two)[:300]}"


def _resident() -> int:
    """Return the most bytes of memory that the process has had so far."""
    # Not getrusage: its maximum includes that of the parent process.
    status = Path("/proc/self/status").read_text("ascii")
    (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kib) * 1024


# --- Sabotages that the fuzzer must notice -------------------------------------------------------


def _crash() -> None:
    signal.raise_signal(signal.SIGSEGV)


def _hang() -> None:
    signal.pause()


def _raise() -> None:
    raise LookupError("not in the documented tree")


def _grow() -> None:
    size = GROWTH_BYTES_MAX + 64 * 1024 * 1024
    assert len(b"x" * size) == size


def _without(old: str) -> Callable[[], None]:
    def patch() -> None:
        assert old in PRELUDE, f"the prelude has no {old!r} any more"
        vars(engine_module)["PRELUDE"] = PRELUDE.replace(old, "")

    return patch


def _allow_long_errors() -> None:
    vars(expressions_module)["ERROR_LENGTH_MAX"] = 10 * ERROR_LENGTH_MAX


CASE_SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    "crash": _crash,
    "hang": _hang,
    "exception": _raise,
    "memory": _grow,
}
"""Action in the first case of each group, by the kind of defect that must be found."""
MODULE_SABOTAGES: Final[dict[str | None, Callable[[], None]]] = {
    "leak": _without("for (const o of seen) freeze(o);"),
    "difference": _without("mayDiffer = true;"),
    "outcome": _allow_long_errors,
}
"""Removal of a safeguard from the child, by the kind of defect that must be found."""
SABOTAGES: Final = (*CASE_SABOTAGES, *(it for it in MODULE_SABOTAGES if it))


def main() -> None:
    """Judge the cases that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.judge")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--last", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--sabotage", choices=SABOTAGES)
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES_MAX, ADDRESS_SPACE_BYTES_MAX))
    judge = Judge(arguments.seed, arguments.folder, arguments.sabotage)
    judge.run(arguments.first, arguments.last, deadline)


if __name__ == "__main__":
    main()
