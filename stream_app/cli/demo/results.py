"""What came of the demo: tables for people, or one JSON document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from stream_app.follow import Published
from stream_app.printable import printable_json
from stream_app.receipt_table import COUNTS, count_cells, status_cell
from stream_app.screen import Screen
from stream_app.tables import Cell, Column, shortened, size

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
class Stored:
    """An object as it was read back from S3."""

    bucket: str
    key: str
    size: int
    lines: Sequence[bytes]


def summary(
    objects: Sequence[Stored], published: Sequence[Published], *, events: int, seconds: float
) -> dict[str, Any]:
    """Return what it all comes to."""
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
    screen: Screen,
    objects: Sequence[Stored],
    published: Sequence[Published],
    told: Mapping[str, Any],
) -> None:
    """Print the objects, the first lines of one, the receipts and the summary."""
    screen.line()
    screen.line(Cell("objects" + "".join(f" in s3://{it.bucket}" for it in objects[:1]), "bold"))
    screen.table(
        OBJECTS,
        [[Cell(it.key), Cell(str(len(it.lines))), Cell(size(it.size), DIM)] for it in objects],
    )
    for it in objects[:1]:
        room = screen.width
        screen.line()
        heading = f"first lines of {it.key}"
        screen.line(Cell(heading if room is None else shortened(heading, room), "bold"))
        for line in it.lines[:LINES_SHOWN]:
            text = line.decode()
            if room is not None and len(text) > room - INDENT:
                text = text[: room - INDENT - 1] + "…"
            screen.line(Cell(" " * INDENT + text))
    screen.line()
    screen.line(Cell("receipts", "bold"), Cell(" (offsets: partition@first-last)", DIM))
    screen.table(RECEIPTS, [_row(screen, it) for it in published])
    screen.line()
    plural = "" if told["objects"] == 1 else "s"
    screen.line(
        Cell(screen.mark("✓", "+"), "green"),
        Cell(
            f"{told['events']} events in {told['seconds']} s: {told['delivered']} delivered in "
            f"{told['objects']} object{plural}, {told['skipped']} skipped, {told['failed']} failed"
        ),
    )


def document(
    objects: Sequence[Stored], published: Sequence[Published], told: Mapping[str, Any]
) -> str:
    """Return all of it as one JSON document on one line."""
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
                "summary": told,
            }
        ).decode()
    )


def _row(screen: Screen, published: Published) -> list[Cell]:
    _, status, destination, partition, offsets, *counts, _, _ = published.cells()
    return [
        Cell(destination),
        status_cell(screen, status),
        Cell(f"{partition}@{offsets}"),
        *count_cells(counts),
    ]
