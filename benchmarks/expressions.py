# ruff: noqa: INP001, ANN401 - a program, no package; a decoded event is any JSON
"""Cost of payload expressions beside functions written by hand, in the same run.

By hand means what one would write without this project: `orjson.loads`, select or compute,
`orjson.dumps`. The results of both are compared as JSON before anything is timed.

A figure is the CPU time of one event in one thread, so on one core: unlike the wall time, it hardly
grows while other processes use the machine. The sides take turns, so a change affects both.
"""

import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, Final, NamedTuple

import click
import orjson
from aiokafka.structs import ConsumerRecord

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rig
from stream_app.expressions.expression import SKIP, Route, compile_expression, evaluate
from stream_app.records import Record, TopicPartition

SOURCE: Final = TopicPartition("events", 0)
TURNS: Final = 20

Payload = tuple[str, Callable[[Any], bytes | None]]
"""An expression, and the same by hand: a decoded event to a line, or None to skip it."""
Side = Callable[[list[Record]], Any]
"""Evaluation of a batch."""
Turn = tuple[float, float]
"""The CPU and the wall time of one event, in µs."""


class Size(NamedTuple):
    """Events of about one size, and their number in one fetch: 0.5 or 1 MB."""

    name: str
    items: int
    records: int


SIZES: Final = (Size("1 KB", 10, 500), Size("100 KB", 2_055, 10))
EVENT: Final = """{"inferred_body_type":"JSON","headers":{"host":"en1a2b3c4d5e.example.com",\
"accept-encoding":"gzip, deflate, br, zstd","content-type":"application/json; charset=utf-8",\
"user-agent":"Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",\
"x-request-id":"7f3c1a52-9d0e-4b7a-8c6d-%(number)012d"},"method":"POST","client_ip":"203.0.113.7",\
"body":{"id":%(number)d,"user":{"id":7017,"email":"Ada.%(number)04d@example.com","plan":"pro"},\
"items":[%(items)s]},"url":"https://en1a2b3c4d5e.example.com/orders?campaign=autumn-2026-north"}"""
ITEM: Final = '{"sku":"cup-%05d","quantity":%d,"price":%.2f}'


def batch(size: Size) -> list[Record]:
    """Return records of HTTP events, no two alike."""
    records = []
    for number in range(size.records):
        items = [ITEM % (item, (item + number) % 4, 4.75 + item) for item in range(size.items)]
        value = (EVENT % {"number": number, "items": ",".join(items)}).encode()
        record = ("events", 0, number, 0, 0, b"orders", value, None, 6, len(value), ())
        records.append(ConsumerRecord(*record))
    return records


def _fields(event: Any, last: object) -> bytes:
    body, agent = event["body"], event["headers"]["user-agent"]
    email, ip = body["user"]["email"], event["client_ip"]
    return orjson.dumps({"id": body["id"], "email": email, "agent": agent, "ip": ip, "last": last})


def _sum(event: Any) -> Any:
    return sum(it["quantity"] * it["price"] for it in event["body"]["items"])


def _filter_and_map(event: Any) -> bytes:
    items = [it for it in event["body"]["items"] if it["quantity"] > 1]
    return orjson.dumps([{"sku": it["sku"], "cost": it["quantity"] * it["price"]} for it in items])


def _if_method(method: str) -> Payload:
    return (
        f'$event.method === "{method}" ? $event : undefined',
        lambda it: orjson.dumps(it) if it["method"] == method else None,
    )


def _choices(event: Any) -> bytes:
    user = event["body"]["user"]
    plan, email = user.get("plan"), user["email"].lower()
    return orjson.dumps(
        {
            "kind": "new" if event["method"] == "POST" else "other",
            "plan": "none" if plan is None else plan,
            "email": email,
            "from": f"{event['client_ip']} {event['body']['id']}",
            "url": len(event["url"]),
        }
    )


def _if_some(event: Any) -> bytes | None:
    if any(it["quantity"] == MANY for it in event["body"]["items"]):
        return orjson.dumps(event)
    return None


FIELDS: Final = """{ id: $event.body.id, email: $event.body.user.email,
  agent: $event.headers["user-agent"], ip: $event.client_ip, last: %s }"""
SUM: Final = "$event.body.items.reduce((sum, it) => sum + it.quantity * it.price, 0)"
EMAIL, LOWER = "$event.body.user.email", "$event.body.user.email.toLowerCase()"
ITEMS: Final = """$event.body.items.filter(it => it.quantity > 1)
  .map(it => ({ sku: it.sku, cost: it.quantity * it.price }))"""
CHOICES: Final = """{ kind: $event.method === "POST" ? "new" : "other",
  plan: $event.body.user.plan ?? "none", email: $event.body.user.email.toLowerCase(),
  from: `${$event.client_ip} ${$event.body.id}`, url: $event.url.length }"""
MANY: Final = 3
SOME: Final = "$event.body.items.some(it => it.quantity === 3) ? $event : undefined"
FAST: Final[dict[str, Payload]] = {
    "`$event`": ("$event", orjson.dumps),
    "`$event.body`": ("$event.body", lambda it: orjson.dumps(it["body"])),
    f"`{EMAIL}`": (EMAIL, lambda it: orjson.dumps(it["body"]["user"]["email"])),
    "five fields": (FIELDS % "$event.url", lambda it: _fields(it, it["url"])),
    "`$event` if a POST (all are)": _if_method("POST"),
    "`$event` if a PUT (none is)": _if_method("PUT"),
    f"`{LOWER}`": (LOWER, lambda it: orjson.dumps(it["body"]["user"]["email"].lower())),
    "five fields: choice, `??`, lower case, template, length": (CHOICES, _choices),
}
ENGINE: Final[dict[str, Payload]] = {
    "`$event` if `.some` item is (most have one)": (SOME, _if_some),
    "five fields, one a sum over items": (FIELDS % SUM, lambda it: _fields(it, _sum(it))),
    "filter and map, with arithmetic": (ITEMS, _filter_and_map),
}
ALL_ENGINE: Final = "three of the engine, a destination each"
ALL_FAST: Final = "eight fast paths, a destination each"
CASES: Final = {
    **{name: (payload,) for name, payload in (FAST | ENGINE).items()},
    ALL_ENGINE: tuple(ENGINE.values()),
    ALL_FAST: tuple(FAST.values()),
}


def sides(payloads: Sequence[Payload]) -> tuple[Side, Side]:
    """Return ours, to the outcomes of each destination, and by hand, to those of each record."""
    expressions = [compile_expression(text) for text, _ in payloads]
    functions = [function for _, function in payloads]

    def each(event: Any) -> list[bytes | None]:
        return [one(event) for one in functions]

    function: Callable[[Any], Any] = each if functions[1:] else functions[0]
    return (
        lambda records: evaluate([Route(it, "archive", records) for it in expressions], SOURCE),
        lambda records: [function(orjson.loads(record.value)) for record in records],
    )


def verify(payloads: Sequence[Payload], records: list[Record]) -> None:
    """Raise ClickException unless both sides give the same JSON."""
    ours, by_hand = (side(records) for side in sides(payloads))
    for record, mine, other in zip(records, zip(*ours, strict=True), by_hand, strict=True):
        for pair in zip(mine, other if isinstance(other, list) else [other], strict=True):
            left, right = (orjson.loads(it) if isinstance(it, bytes) else it for it in pair)
            if left != (SKIP if right is None else right):
                raise click.ClickException(f"event {record.offset}: ours, by hand {pair}"[:500])


def take_turn(side: Side, records: list[Record], batches: int) -> Turn:
    """Evaluate the records `batches` times."""
    cpu, wall, events = process_time(), perf_counter(), batches * len(records)
    for _ in range(batches):
        side(records)
    return (process_time() - cpu) * 1e6 / events, (perf_counter() - wall) * 1e6 / events


def measure(payloads: Sequence[Payload], size: Size, seconds: float) -> list[tuple[Turn, ...]]:
    """Return the turns of ours, and those of the function written by hand."""
    records = batch(size)
    verify(payloads, records)
    share = seconds * 1e6 / TURNS / len(records)
    counted = [(side, 1 + int(share / take_turn(side, records, 1)[0])) for side in sides(payloads)]
    rounds = [[take_turn(side, records, count) for side, count in counted] for _ in range(TURNS)]
    return list(zip(*rounds, strict=True))


def cell(turns: Sequence[Turn]) -> str:
    """Format the median and the range of the CPU time."""
    times = [cpu for cpu, _ in turns]
    digits = max(0, 3 - len(str(int(min(times)))))
    middle, low, high = (f"{f(times):,.{digits}f}" for f in (median, min, max))
    return f"{middle} ({low}..{high})"


def circumstances() -> str:
    """Return what the figures depend on, and today's date."""
    info = Path("/proc/cpuinfo")
    model = re.search("model name\t: (.+)", info.read_text() if info.exists() else "")
    packages = [f"{it} {version(it)}" for it in ("quickjs-ng", "msgspec", "orjson")]
    machine = [model[1] if model else platform.machine(), f"Python {platform.python_version()}"]
    return ", ".join([*machine, *packages, f"{datetime.now(UTC):%Y-%m-%d}"])


def _needs_engine(payloads: Sequence[Payload]) -> bool:
    return any(compile_expression(text).uses_engine for text, _ in payloads)


def rows(measured: Mapping[str, Sequence[Sequence[Turn]]]) -> list[list[str]]:
    """Return the table, the heading first, of the turns of each side by the case's name."""
    head = ["payload", "path", *(it for size in SIZES for it in (size.name, "by hand"))]
    paths = {name: "engine" if _needs_engine(CASES[name]) else "fast path" for name in measured}
    return [head, *([name, paths[name], *map(cell, it)] for name, it in measured.items())]


@click.command()
@click.option("--seconds", type=click.FloatRange(0), default=0.5, help="For one figure, or 0.5.")
def main(seconds: float) -> None:
    """Measure the cost of payload expressions beside the same written by hand."""
    bytearray(1 << 24)  # As after a worker's first fetches: glibc keeps freed memory from then on.
    measured = {
        name: [side for size in SIZES for side in measure(payloads, size, seconds)]
        for name, payloads in CASES.items()
    }
    turns = (turn for sides in measured.values() for side in sides for turn in side)
    ratio = median(wall / cpu for cpu, wall in turns)
    note = f"µs of CPU an event: median (range) of {TURNS} turns; wall time {ratio:.2f} x that"
    click.echo(f"{rig.as_markdown(rows(measured), 2)}\n\n{note}.\n{circumstances()}.")


if __name__ == "__main__":
    main()
