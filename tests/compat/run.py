"""Runs one S3 server through what stream-app needs of it, and records the result.

    python -m tests.compat.run SERVER        (make compat SERVER=minio)

The server is installed if it is missing, and started on 127.0.0.1 beside a Kafka broker. The result
is a row of the table in docs/stores.md.
"""

import argparse
import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stream_app.embedded.servers import KafkaServer
from tests.compat.stores import PROGRAMS, SEAWEEDFS, described, new_store
from tests.compat.trial import Deliveries, Verdicts, check, deliver, new_lab

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "stores.md"
BEGIN: Final = "<!-- rows of make compat -->\n"
END: Final = "<!-- end of rows -->\n"


def row(name: str, verdicts: Verdicts, deliveries: Deliveries) -> str:
    """Return the server's row of the table."""
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
    again = deliveries.written_again
    delivered = (
        f"{deliveries.sent} events, {deliveries.objects} objects: "
        f"{deliveries.lost} lost, {deliveries.repeated} repeated; "
        f"{deliveries.found_again} found again{f', {again} written twice' if again else ''}"
    )
    date = datetime.now(UTC).date().isoformat()
    cells = (
        f"{title} {version}",
        package,
        date,
        "<br>".join(faults) or "none",
        "<br>".join(by_outcome),
        delivered,
    )
    return f"| {' | '.join(cells)} |\n"


def with_row(document: str, name: str, new: str) -> str:
    """Return the document with the row of a server; an older one of the server is replaced."""
    before, _, rest = document.partition(BEGIN)
    table, _, after = rest.partition(END)
    head, rule, *rows = table.splitlines(keepends=True)
    title = described(name)[0]
    kept = [it for it in rows if not it.startswith(f"| {title} ")]
    return before + BEGIN + head + rule + "".join(sorted([*kept, new])) + END + after


async def _delivered(broker: str, store: object, folder: Path) -> Deliveries:
    async with new_lab(broker, store, folder) as lab:  # type: ignore[arg-type]
        return await deliver(lab)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=(SEAWEEDFS, *PROGRAMS))
    name = parser.parse_args().server
    with tempfile.TemporaryDirectory() as scratch, new_store(name) as store:
        folder = Path(scratch)
        verdicts = check(store, folder)
        with KafkaServer() as kafka:
            deliveries = asyncio.run(_delivered(kafka.address, store, folder))
    new = row(name, verdicts, deliveries)
    print(new, end="")
    DOCUMENT.write_text(with_row(DOCUMENT.read_text("utf-8"), name, new), "utf-8")


if __name__ == "__main__":
    main()
