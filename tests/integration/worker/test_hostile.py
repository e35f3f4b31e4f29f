"""Attacks on a real worker, by expressions and by events: each fails alone, and nobody else's.

One worker serves a destination for each attack, and innocent ones that lose nothing: two that take
every event, and two neighbours of each attack, which are asked about the same events after it. Each
attack has a pipeline and a partition of its own, and four events there:

    offset   0         1           2         3 (sent when all the rest has receipts)
             innocent  the attack  innocent  innocent

All but the last wait in Kafka when the worker starts, so that the first three are one batch: one
engine evaluates them, and hands itself on to the next partition's. What became of each event is
read from receipts and objects only.
"""

import asyncio
import gzip
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from aiokafka import AIOKafkaProducer

from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.expressions.engine import Limits
from tests.chaos.harness import LONG_SESSION_SECONDS, POLL_SECONDS, Lab, Worker
from tests.chaos.oracle import Published, Stored, Target
from tests.hostile import FROZEN, HOSTILE, MEMORY, STACK, TIME

LIMITS: Final = Limits()
SETTLED_SECONDS_MAX: Final = 400.0
"""For all attacks; those that use up their time take half a minute of an idle machine."""
CPU_OVERRUN_MAX: Final = 1.5
"""How many times its limit an attack may take: the last step may be a slow native one."""
CPU_SECONDS_ELSE: Final = 20.0
"""More than all else takes: the start, bombs that are soon over, fetches, uploads, receipts."""
GROWTH_BYTES_MAX: Final = 2 * LIMITS.memory_bytes_max + 128 * 1024 * 1024
"""The engine's memory, and again for the second asking. The rest is the worker's own: 8 MB of
events, fetched, decoded and as lines, and the compressors and uploads of 400 objects at once."""
LATE_MAX: Final = timedelta(seconds=30)
"""Between the end of the last events' windows and their receipts: the grace of an idle partition,
and some hundred uploads at once on a machine that may be busy. The attacks alone take as long on an
idle one."""
SHOWN_MAX: Final = 200

Recorded = tuple[str, str]
"""Outcome of an event at a destination: `delivered` and the line, or `failed` and the error;
for an expectation, how the error begins."""


def delivered(line: str) -> Recorded:
    return "delivered", line


def failed(beginning: str) -> Recorded:
    return "failed", beginning


# --- Attacks -------------------------------------------------------------------------------------

LOOK: Final = """[
  `${{}}`, JSON.stringify([...[1, 2].map(it => it * 2)]), typeof n,
  [{}, [], "", 1, true, () => 1, /x/, new Date(), Error, JSON, Math, Object].flatMap(own => {
    const names = [];
    for (const name in own) names.push(name);
    return names;
  }),
]"""
"""Looks at what the attacks try to change; may share the parsed event with other expressions."""
UNCHANGED: Final = '["[object Object]","[2,4]","undefined",[]]'
"""Its outcome when nothing is changed."""
WITNESS: Final = f"[$event, {LOOK}]"
LONER: Final = f"[$event, {LOOK}, Object.keys(globalThis)]"
"""Looks at the globals too; who does that is given an event of its own."""
TAKE_ALL: Final = ("everything", "witness")
INNOCENT: Final = (
    '{{"n":{},"text":"two words","count":2,"list":[2,1],"object":{{"a":1}},"at":"2026-11-24"}}'
)


def witnessed(event: str) -> Recorded:
    """Outcome of an event at WITNESS, spelled by JavaScript."""
    return delivered(f"[{event},{UNCHANGED}]")


def seen_alone(recorded: Recorded) -> Recorded:
    """Outcome of the same event at LONER."""
    outcome, text = recorded
    return recorded if outcome == "failed" else delivered(f"{text[:-1]},[]]")


@dataclass(frozen=True)
class Case:
    """One attack; its destination's payload is `[$event.n, PAYLOAD]`."""

    name: str
    payload: str
    innocent: str
    """Payload of an innocent event, as JSON."""
    event: bytes
    """The second, which attacks."""
    recorded: Recorded
    """Outcome of the hostile event at the attack's own destination."""
    everything: Recorded
    """At the destination whose payload is `$event`, without the engine."""
    witness: Recorded
    """At those whose payload is WITNESS."""

    @property
    def id(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower())

    def destination(self, role: str) -> str:
        """The id of a destination that takes the attack."""
        return role if role in TAKE_ALL else f"{self.id}-{role}"

    def targets(self) -> list[Target]:
        """The attack's own destination and its neighbours, in the order of asking."""
        payloads = {
            "attacked": f"[$event.n, {self.payload}]",
            "loner": LONER,
            "neighbour": WITNESS,
        }
        return [
            Target(id_, f"{id_}/", payload=payload, pipeline=self.name)
            for role, payload in payloads.items()
            for id_ in [self.destination(role)]
        ]

    def expected(self, role: str) -> dict[int, Recorded]:
        """Outcomes of the four events, by offset."""
        texts = {n: INNOCENT.format(n) for n in (0, 2, 3)}
        if role == "attacked":
            return {1: self.recorded} | {n: delivered(f"[{n},{self.innocent}]") for n in texts}
        if role == "everything":
            return {1: self.everything} | {n: delivered(text) for n, text in texts.items()}
        recorded = {1: self.witness} | {n: witnessed(text) for n, text in texts.items()}
        if role != "loner":
            return recorded
        # Only a frozen event keeps numbers apart that are one in JavaScript; this one has its own.
        clashes = {1: self.recorded} if DIGITS in self.event.decode(errors="replace") else {}
        return {n: seen_alone(it) for n, it in recorded.items()} | clashes


def by_expression(name: str, attack: str, recorded: Recorded) -> Case:
    """An expression that attacks in one event, and in others looks at what it has changed."""
    event = f'{{"attack":true,{INNOCENT.format(1)[1:]}'
    return Case(
        name=name,
        payload=f"$event.attack ? ({attack}) : {LOOK}",
        innocent=UNCHANGED,
        event=event.encode(),
        recorded=recorded,
        everything=delivered(event),
        witness=witnessed(event),
    )


def by_event(
    name: str,
    payload: str,
    innocent: str,
    event: str,
    recorded: Recorded,
    *,
    witness: Recorded | None = None,
    line: str | None = None,
) -> Case:
    """An event that attacks a harmless expression; `line`: what is written of it, if not itself."""
    return Case(
        name=name,
        payload=payload,
        innocent=innocent,
        event=event.encode(),
        recorded=recorded,
        everything=delivered(line or event),
        witness=witness or witnessed(line or event),
    )


def unreadable(name: str, event: bytes, error: str) -> Case:
    """An event that is none: no destination can be sent it."""
    recorded = failed(error)
    return Case(
        name, "$event.text", '"two words"', event, recorded, everything=recorded, witness=recorded
    )


FILL: Final = """(() => {
  const held = [];
  Promise.resolve(held).then(it => it);  // Never run; it holds them as long as the engine lives.
  let room = "x".repeat(2000) + held.length;
  try { for (;;) held.push("x".repeat(10000) + held.length); } catch {}
  let last = held[0] = {};
  try { for (;;) last = last.next = {}; } catch {}
  room = undefined;
  return "left";
})()"""
"""Leaves the next to be asked two kilobytes of memory."""
BY_EXPRESSION: Final = [
    *[by_expression(name, text, failed(message)) for name, (text, message) in HOSTILE.items()],
    # Answered, so that the engine is handed on with all that they may have left in it.
    by_expression(
        "global of sloppy code", "Function('n = 1')() ?? 'left'", delivered('[1,"left"]')
    ),
    by_expression(
        "global by eval of let", "(0, eval)('let n = 1') ?? 'left'", delivered('[1,"left"]')
    ),
    by_expression(
        "changed prototype of an own object",
        "(own => { Object.setPrototypeOf(own, { n: 1 }); return `${own.n} left`; })([])",
        delivered('[1,"1 left"]'),
    ),
    by_expression(
        "caught exhaustion of the stack",
        "(() => { try { (function f() { f(); })(); } catch (e) { return e.name; } })()",
        delivered('[1,"RangeError"]'),
    ),
    by_expression("memory left full", FILL, delivered('[1,"left"]')),
    # An event that several destinations share is still each one's own.
    by_expression(
        "changed event",
        "($event.n = 7, $event.list.push(3), delete $event.object.a, [$event.n, $event.list])",
        delivered("[1,[7,[2,1,3]]]"),
    ),
    by_expression("sorted event", "$event.list.sort()", delivered("[1,[1,2]]")),
    by_expression(
        "event changed without an exception",
        "[Reflect.set($event, 'n', 7), Reflect.deleteProperty($event, 'list'), $event.n]",
        delivered("[1,[true,true,7]]"),
    ),
    by_expression(
        "event changed and the exception caught",
        "(() => { try { $event.n = 7; return $event.n; } catch (e) { return e.name; } })()",
        delivered("[1,7]"),
    ),
    by_expression(
        "event changed where the exception is lost",
        "((async () => { $event.n = 7; })(), $event.n)",
        delivered("[1,7]"),
    ),
    by_expression(
        "event with a spelling of its own",
        "($event.object.toJSON = () => 'poison', $event.object)",
        delivered('[1,"poison"]'),
    ),
    by_expression(
        "event with a prototype of its own",
        "(Object.setPrototypeOf($event.object, { n: 7 }), $event.object.n)",
        delivered("[1,7]"),
    ),
    by_expression(
        "event behind a proxy",
        "(own => { own.n = 7; return $event.n; })(new Proxy($event, {}))",
        delivered("[1,7]"),
    ),
    by_expression(
        "event that is asked whether it is shared",
        "[Object.isFrozen($event), Object.getOwnPropertyDescriptor($event, 'n').writable]",
        delivered("[1,[false,true]]"),
    ),
    by_expression(
        "event that is changed and then endless",
        "($event.n = 7, (() => { for (;;); })())",
        failed(TIME),
    ),
]

NO_JSON: Final = "the record's value is not JSON: "
MERGE: Final = """(function merge(to, from) {
  for (const key in from)
    to[key] = typeof from[key] === "object" ? merge(to[key] ?? {}, from[key]) : from[key];
  return to;
})({}, $event.object)"""
POLLUTING: Final = (
    '{"n":1,"object":{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},'
    '"toJSON":1,"toString":1,"hasOwnProperty":1,"length":1,"then":1}}'
)
LONG: Final = "a" * 900_000
DIGITS: Final = "1" * 900_000

BY_EVENT: Final = [
    by_event(
        "text for a regular expression",
        r"/^(\w+\s?)*$/.test($event.text)",
        "true",
        f'{{"n":1,"text":"{"a" * 40}!"}}',
        failed(TIME),
    ),
    by_event(
        "text for a date",
        "new Date($event.at)",
        '"2026-11-24T00:00:00.000Z"',
        f'{{"n":1,"at":"Z{" " * 100_000}!"}}',
        failed(TIME),
    ),
    by_event(
        "length of a list",
        "Array($event.count).join('-')",
        '"-"',
        '{"n":1,"count":4294967295}',
        failed(TIME),
    ),
    by_event(
        "number of repetitions",
        "'-'.repeat($event.count)",
        '"--"',
        '{"n":1,"count":1000000000}',
        failed(MEMORY),
    ),
    by_event(
        "long text",
        "$event.text.length",
        "9",
        f'{{"n":1,"text":"{LONG}"}}',
        delivered("[1,900000]"),
    ),
    by_event(
        "long text that is doubled",
        "$event.text + $event.text",
        '"two wordstwo words"',
        f'{{"n":1,"text":"{LONG}"}}',
        failed("the payload has 1800006 bytes; at most 1048576 are delivered"),
    ),
    by_event(
        "long text in letters",
        "$event.text.split('').reverse().join('')",
        '"sdrow owt"',
        f'{{"n":1,"text":"{LONG}"}}',
        failed(MEMORY),
    ),
    by_event(
        "objects without number",
        "$event.list.length",
        "2",
        f'{{"n":1,"list":[{"{}," * 300_000}1]}}',
        failed(MEMORY),
        witness=failed(MEMORY),
    ),
    by_event("names of prototypes in a merge", MERGE, '{"a":1}', POLLUTING, failed(FROZEN)),
    by_event(
        "names of prototypes in a copy",
        "{ ...$event.object }",
        '{"a":1}',
        POLLUTING,
        delivered(f"[1,{POLLUTING[16:-1]}]"),
    ),
    by_event(
        "text that closes brackets",
        "$event.text",
        '"two words"',
        r'{"n":1,"text":"`}\"]); globalThis.n = 1; ([\"${n = 1}"}',
        delivered(r'[1,"`}\"]); globalThis.n = 1; ([\"${n = 1}"]'),
    ),
    by_event(
        "ends of lines in a text",
        "$event.text",
        '"two words"',
        '{"n":1,"text":"\\r\\n\u2028\u2029\x85\x7f"}',
        delivered('[1,"\\r\\n\u2028\u2029\x85\x7f"]'),
    ),
    by_event(
        "NUL in a text",
        "$event.text",
        '"two words"',
        r'{"n":1,"text":"a\u0000b"}',
        delivered(r'[1,"a\u0000b"]'),
    ),
    by_event(
        "half a surrogate pair",
        "$event.text",
        '"two words"',
        r'{"n":1,"text":"\ud800 \udfff"}',
        delivered('[1,"\ufffd \ufffd"]'),
        line='{"n":1,"text":"\ufffd \ufffd"}',
    ),
    by_event(
        "numbers beyond every double",
        "$event.list",
        "[2,1]",
        '{"n":1,"list":[1e999,-1e999,1e-999,-0]}',
        delivered("[1,[null,null,0,0]]"),
        witness=witnessed('{"n":1,"list":[null,null,0,0]}'),
    ),
    by_event(
        "number of 900,000 digits",
        "$event.count",
        "2",
        f'{{"n":1,"count":{DIGITS}}}',
        failed("RangeError: the event's 1111111111111111… (900000 digits) and infinity are one "),
        witness=witnessed(f'{{"n":1,"count":{DIGITS}}}'),
    ),
    unreadable("deep JSON", b'{"n":1,"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}", STACK),
    unreadable("deep JSON without an end", b"[" * 900_000, STACK),
    unreadable("NUL as it is", b'{"n":1,"text":"a\0b"}', NO_JSON),
    unreadable("NUL at the end", b'{"n":1,"text":"a"}\0', NO_JSON),
    unreadable(
        "half a surrogate pair as it is",
        b'{"n":1,"text":"\xed\xa0\x80"}',
        f"{NO_JSON}not UTF-8 at byte 15",
    ),
]

CASES: Final = [*BY_EXPRESSION, *BY_EVENT]
INNOCENTS: Final = (*TAKE_ALL, "loner", "neighbour")
TARGETS: Final = (
    Target("everything", "everything/", payload="$event"),
    Target("witness", "witness/", payload=WITNESS),
    *[target for case in CASES for target in case.targets()],
)


# --- The run -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """State after the attacks."""

    recorded: Mapping[tuple[str, int], Mapping[int, Recorded]]
    """By destination and partition: what became of each offset."""
    last: list[Published]
    """The receipts of the last events."""
    worker: Worker
    survived: bool
    """The process that was started is the one that published the last receipt."""
    cpu_seconds: float
    growth_bytes: int
    """How far resident memory was ever above what it was when the worker was ready."""


async def send(lab: Lab, sent: Iterable[tuple[int, str, bytes]]) -> None:
    """Send events, each with its partition and pipeline, and wait for the broker."""
    producer = AIOKafkaProducer(bootstrap_servers=lab.broker)
    await producer.start()
    try:
        for partition, pipeline, value in sent:
            key = pipeline.encode()
            await producer.send_and_wait(lab.events_topic, value, key=key, partition=partition)
    finally:
        await producer.stop()


def resident_bytes(worker: Worker, name: str) -> int:
    """VmRSS or VmHWM: resident memory now, or the most there ever was."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text("ascii")
    (kib,) = re.findall(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kib) * 1024


def cpu_seconds(worker: Worker) -> float:
    """CPU seconds of all threads of the worker."""
    text = Path(f"/proc/{worker.process.pid}/stat").read_text("ascii")
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def outcomes_of(
    receipts: Iterable[Published], objects: Iterable[Stored]
) -> dict[tuple[str, int], dict[int, Recorded]]:
    """Read the outcome of every event: each recorded once, each object named once."""
    bodies = {stored.key: stored.body for stored in objects}
    recorded: defaultdict[tuple[str, int], dict[int, Recorded]] = defaultdict(dict)
    for receipt in receipts:
        value, source = receipt.value, receipt.value["source"]
        lines: list[str] = []
        if value["object"] is not None:
            # Not `splitlines`: a text may hold what Python takes for the end of a line.
            *lines, rest = gzip.decompress(bodies.pop(value["object"]["key"])).decode().split("\n")
            assert rest == "", "the last line has no end"
        errors = {entry["offset"]: entry["error"] for entry in value["failed"]}
        assert value["skipped"] == []
        offsets = range(source["first_offset"], source["end_offset"])
        assert len(lines) == len(offsets) - len(errors), f"{value['destination']} {source}"
        outcomes = recorded[value["destination"], source["partition"]]
        for offset in offsets:
            assert offset not in outcomes, f"recorded twice: {value['destination']} {source}"
            outcomes[offset] = (
                failed(errors[offset]) if offset in errors else delivered(lines.pop(0))
            )
    assert bodies == {}, "objects without a receipt"
    return dict(recorded)


async def settled(lab: Lab, worker: Worker) -> None:
    """Wait until every event has receipts, or until the worker has ended."""
    waiting = asyncio.create_task(lab.settled(SETTLED_SECONDS_MAX))
    try:
        while worker.running and not waiting.done():
            await asyncio.wait([waiting], timeout=POLL_SECONDS)
        assert worker.running, "an attack has ended the worker"
        await waiting
    finally:
        waiting.cancel()


async def attack(lab: Lab) -> Run:
    await send(
        lab,
        [
            (index, case.name, value)
            for index, case in enumerate(CASES)
            for value in (INNOCENT.format(0).encode(), case.event, INNOCENT.format(2).encode())
        ],
    )
    worker = await lab.start_worker()
    at_start = resident_bytes(worker, "VmRSS")
    await settled(lab, worker)
    count = len(await lab.read_receipts())
    await send(
        lab,
        [(index, case.name, INNOCENT.format(3).encode()) for index, case in enumerate(CASES)],
    )
    await settled(lab, worker)
    receipts = await lab.read_receipts()
    return Run(
        recorded=outcomes_of(receipts, await asyncio.to_thread(lab.objects)),
        last=receipts[count:],
        worker=worker,
        survived=worker.running,
        cpu_seconds=cpu_seconds(worker),
        growth_bytes=resident_bytes(worker, "VmHWM") - at_start,
    )


@pytest.fixture(scope="module")
def run(kafka: KafkaServer, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Run:
    async def in_a_lab() -> Run:
        folder = tmp_path_factory.mktemp("hostile")
        async with Lab(
            kafka.address,
            s3,
            folder,
            partitions=len(CASES),
            targets=TARGETS,
            session_seconds=LONG_SESSION_SECONDS,
        ) as lab:
            return await attack(lab)

    return asyncio.run(in_a_lab())


def differences(run: Run, case: Case, role: str) -> list[str]:
    """Differences from the expected outcomes of a case at a destination, shortened."""
    recorded = run.recorded.get((case.destination(role), CASES.index(case)), {})
    expected = case.expected(role)
    found = []
    for offset in sorted(recorded.keys() | expected.keys()):
        outcome, text = recorded.get(offset, ("unrecorded", ""))
        wanted, beginning = expected.get(offset, ("unrecorded", ""))
        same = text.startswith(beginning) if wanted == "failed" else text == beginning
        if outcome != wanted or not same:
            found.append(
                f"{role}, offset {offset}: {outcome} {text[:SHOWN_MAX]}, "
                f"expected {wanted} {beginning[:SHOWN_MAX]}"
            )
    return found


by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.mark.timeout(1_200)
@by_name
def test_attack_ends_as_it_must_and_the_events_beside_it_are_delivered(
    run: Run, case: Case
) -> None:
    assert differences(run, case, "attacked") == []


@by_name
def test_innocent_destinations_lose_nothing(run: Run, case: Case) -> None:
    assert [it for role in INNOCENTS for it in differences(run, case, role)] == []


def test_no_destination_has_receipts_of_a_foreign_event(run: Run) -> None:
    assert run.recorded.keys() == {
        (case.destination(role), index)
        for index, case in enumerate(CASES)
        for role in ("attacked", *INNOCENTS)
    }


def test_worker_is_the_one_that_was_started(run: Run) -> None:
    assert run.survived
    assert "Traceback" not in run.worker.log
    # The worker was never taken for dead: each partition came to it once.
    assert run.worker.log.count(": taken over at offset 0") == len(CASES)
    assert run.worker.log.count(": kept at") == 0


def test_event_after_all_attacks_has_its_receipt_soon_after_its_window(run: Run) -> None:
    late = [
        datetime.fromisoformat(it.headers["ce_time"])
        - datetime.fromisoformat(it.value["window"]["end"])
        for it in run.last
    ]
    assert len(late) == (1 + len(INNOCENTS)) * len(CASES)  # each, once more
    assert max(late) <= LATE_MAX


def test_attacks_take_no_more_time_than_they_may(run: Run) -> None:
    endless = sum(case.recorded == failed(TIME) for case in CASES)
    allowed = endless * (LIMITS.seconds_max + LIMITS.retry_seconds_max) * CPU_OVERRUN_MAX
    assert run.cpu_seconds < allowed + CPU_SECONDS_ELSE


def test_attacks_take_no_more_memory_than_they_may(run: Run) -> None:
    assert run.growth_bytes < GROWTH_BYTES_MAX
