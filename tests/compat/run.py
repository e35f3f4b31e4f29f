"""Runs programs of others through what stream-app needs of them, and records the results.

    python -m tests.compat.run server NAME...       (make compat SERVER=minio)
    python -m tests.compat.run kafka VERSION...     (make compat KAFKA=2.8.2)
    python -m tests.compat.run reader NAME...       (make compat READER="pandas jq")

A program is installed if it is missing, and started on 127.0.0.1: an S3 server beside the Kafka
and a Kafka beside the S3 server of all other tests, and a reader of objects beside both. The result
is a row of docs/compatibility.md.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stream_app.embedded.kafka_jars import KAFKA
from stream_app.embedded.servers import KafkaServer, S3Program, S3Server
from tests.chaos.harness import Lab
from tests.compat import readers
from tests.compat.broker_trial import commands, deliver_while_nodes_die
from tests.compat.brokers import (
    JAVA_VERSION,
    NODES,
    RELEASES,
    THREE_BROKERS,
    Brokers,
    new_broker,
)
from tests.compat.stores import PROGRAMS, SEAWEEDFS, described, new_store
from tests.compat.trial import Deliveries, Verdicts, check, deliver, new_lab

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
BEGIN: Final = "<!-- rows of make compat {kind} -->\n"
END: Final = "<!-- end of rows -->\n"


def server_row(name: str, verdicts: Verdicts, deliveries: Deliveries) -> list[str]:
    """Return the cells of an S3 server, without the date."""
    title, version, package = described(name)
    faults = [
        f"`{question}`: {verdict['found']}"
        for question, verdict in verdicts.plain.items()
        if verdict["result"] == "failed"
    ]
    by_outcome = [
        f"{what}: {', '.join(f'`{it}`' for it in names)}"
        for what, result in (("dropped", "failed"), ("refused", "refused"), ("kept", "passed"))
        if (names := [it for it, found in verdicts.options.items() if found == result])
    ]
    return [
        f"{title} {version}",
        package,
        "<br>".join(faults) or "none",
        "<br>".join(by_outcome),
        _delivered(deliveries),
    ]


def kafka_row(name: str, deliveries: Deliveries) -> list[str]:
    """Return the cells of a Kafka, without the date."""
    mode = "ZooKeeper" if name == RELEASES[0].version else "KRaft"
    faults = "the worker, at four moments"
    if name == THREE_BROKERS:
        faults = "the coordinator's node, then a leader's, under two workers"
        mode = f"{mode}, replication factor {NODES}, `min.insync.replicas` {NODES - 1}"
    return [kafka_title(name), mode, JAVA_VERSION, faults, _delivered(deliveries)]


def kafka_title(name: str) -> str:
    """Return what the row of a Kafka begins with."""
    return f"{KAFKA.version}, three brokers" if name == THREE_BROKERS else name


def _delivered(deliveries: Deliveries) -> str:
    again = deliveries.written_again
    return (
        f"{deliveries.sent} events, {deliveries.objects} objects: "
        f"{deliveries.lost} lost, {deliveries.repeated} repeated; "
        f"{deliveries.found_again} found again{f', {again} written twice' if again else ''}"
    )


def with_row(document: str, kind: str, title: str, cells: list[str]) -> str:
    """Return the document with a row, dated today; an older one of the title is replaced."""
    begin = BEGIN.format(kind=kind)
    before, _, rest = document.partition(begin)
    table, _, after = rest.partition(END)
    head, rule, *rows = table.splitlines(keepends=True)
    kept = [it for it in rows if not it.startswith(f"| {title} ")]
    new = f"| {' | '.join([cells[0], datetime.now(UTC).date().isoformat(), *cells[1:]])} |\n"
    return before + begin + head + rule + "".join(sorted([*kept, new])) + END + after


def _run(
    address: str,
    store: S3Program,
    folder: Path,
    how: Callable[[Lab], Awaitable[Deliveries]],
    copies: int = 1,
) -> Deliveries:
    async def delivered() -> Deliveries:
        async with new_lab(address, store, folder, copies=copies) as lab:
            found = await how(lab)
            await commands(lab)
            return found

    return asyncio.run(delivered())


def _server(name: str, folder: Path) -> list[str]:
    with new_store(name) as store:
        verdicts = check(store, folder)
        with KafkaServer() as kafka:
            return server_row(name, verdicts, _run(kafka.address, store, folder, deliver))


def _kafka(name: str, folder: Path) -> list[str]:
    with S3Server() as store:
        if name != THREE_BROKERS:
            with new_broker(name) as kafka:
                return kafka_row(name, _run(kafka.address, store, folder, deliver))
        with Brokers() as brokers:
            found = _run(
                brokers.address,
                store,
                folder,
                lambda lab: deliver_while_nodes_die(lab, brokers),
                NODES,
            )
            return kafka_row(name, found)


def _readers(names: list[str], folder: Path) -> Iterator[tuple[str, list[str]]]:
    files = readers.write_objects(folder)
    for name in names:
        package = readers.PROGRAMS[name]
        found = [readers.read(name, files[it], lines) for it, lines in readers.lines().items()]
        yield package.title, [f"{package.title} {package.version}", package.package, *found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    versions = [it.version for it in RELEASES]
    for kind, choices in (
        ("server", [SEAWEEDFS, *PROGRAMS]),
        ("kafka", [*versions, THREE_BROKERS]),
        ("reader", list(readers.PROGRAMS)),
    ):
        kinds.add_parser(kind).add_argument("names", nargs="+", choices=choices)
    kind, names = vars(parser.parse_args()).values()
    with tempfile.TemporaryDirectory() as scratch:
        rows: Iterable[tuple[str, list[str]]]
        if kind == "server":
            rows = ((described(it)[0], _server(it, Path(scratch))) for it in names)
        elif kind == "kafka":
            rows = ((kafka_title(it), _kafka(it, Path(scratch))) for it in names)
        else:
            rows = _readers(names, Path(scratch))
        for title, cells in rows:
            print(" | ".join(cells), flush=True)
            text = with_row(DOCUMENT.read_text("utf-8"), kind.upper(), title, cells)
            DOCUMENT.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
