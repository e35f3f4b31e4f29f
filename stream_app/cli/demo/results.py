"""Results of the demo: tables for people, or one JSON document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from stream_app.cli.receipt_table import COUNTS, count_cells, status_cell
from stream_app.cli.tables import Cell, Column, shortened, size
from stream_app.cli.terminal import Output
from stream_app.kafka.receipts_topic import PublishedReceipt
from stream_app.text import counted, printable_json

LINES_SHOWN: Final = 3
INDENT: Final = 2
DIM: Final = "dim"
OBJECTS: Final = (
    Column("KEY", is_cut=True),
    Column("LINES", is_number=True),
    Column("SIZE", is_number=True),
)
RECEIPTS: Final = (
    Column("DESTINATION"),
    Column("STATUS"),
    Column("OFFSETS", is_number=True),
    *(Column(name, is_number=True) for name in COUNTS),
)


@dataclass(frozen=True, slots=True)
class DemoObject:
    """Object that was read back from S3."""

    bucket: str
    key: str
    size: int
    lines: Sequence[bytes]


def summary(
    objects: Sequence[DemoObject],
    published: Sequence[PublishedReceipt],
    *,
    events: int,
    seconds: float,
) -> dict[str, Any]:
    """Return the totals of all receipts."""
    counts = {
        name: sum(it.receipt["counts"][name] for it in published)
        for name in ("matched", "delivered", "skipped", "failed")
    }
    return {
        "events": events,
        **counts,
        "objects": len(objects),
        "receipts": len(published),
        "seconds": round(seconds, 1),
    }


def show(
    output: Output,
    objects: Sequence[DemoObject],
    published: Sequence[PublishedReceipt],
    totals: Mapping[str, Any],
) -> None:
    """Print the objects, the first lines of one, the receipts and the summary."""
    output.line()
    output.line(Cell("objects" + "".join(f" in s3://{it.bucket}" for it in objects[:1]), "bold"))
    output.table(
        OBJECTS,
        [[Cell(it.key), Cell(str(len(it.lines))), Cell(size(it.size), DIM)] for it in objects],
    )
    for it in objects[:1]:
        room = output.width
        output.line()
        heading = f"first lines of {it.key}"
        output.line(Cell(heading if room is None else shortened(heading, room), "bold"))
        for line in it.lines[:LINES_SHOWN]:
            text = line.decode()
            if room is not None and len(text) > room - INDENT:
                text = text[: room - INDENT - 1] + "…"
            output.line(Cell(" " * INDENT + text))
    output.line()
    output.line(Cell("receipts", "bold"), Cell(" (offsets: partition@first-last)", DIM))
    output.table(RECEIPTS, [_row(output, it) for it in published])
    output.line()
    output.line(
        Cell(output.mark("✓", "+"), "green"),
        Cell(
            f"{totals['events']} events in {totals['seconds']} s: {totals['delivered']} delivered "
            f"in {counted(totals['objects'], 'object')}, {totals['skipped']} skipped, "
            f"{totals['failed']} failed"
        ),
    )


def document(
    objects: Sequence[DemoObject], published: Sequence[PublishedReceipt], totals: Mapping[str, Any]
) -> str:
    """Return objects, receipts and totals as one JSON document on one line."""
    return printable_json(
        orjson.dumps(
            {
                "objects": [
                    {
                        "bucket": it.bucket,
                        "key": it.key,
                        "size": it.size,
                        "lines": [line.decode() for line in it.lines],
                    }
                    for it in objects
                ],
                "receipts": [it.receipt for it in published],
                "summary": totals,
            }
        ).decode()
    )


def _row(output: Output, published: PublishedReceipt) -> list[Cell]:
    _, status, destination, partition, offsets, *counts, _, _ = published.cells()
    return [
        Cell(destination),
        status_cell(output, status),
        Cell(f"{partition}@{offsets}"),
        *count_cells(counts),
    ]
