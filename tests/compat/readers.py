"""Libraries of others that read objects, and what becomes of lines that are hard to read."""

import asyncio
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import Lab
from tests.chaos.oracle import Target
from tests.compat import reading
from tests.compat.packages import Package, by_pip, installed

LINES: Final = 100
READ_SECONDS_MAX: Final = 120
PLAIN: Final = "plain"
MIXED: Final = "mixed"
TARGETS: Final = tuple(Target(it, f"{it}/", pipeline=it) for it in (PLAIN, MIXED))
VALUES: Final[Mapping[str, Any]] = {
    "text": 'Zoë \u2028 \u2029 \x85 "quoted" \\ \x00 \t \U0001f600',
    "beyond_double": 2**53 + 1,
    "least": -(2**63),
    "tenth": 0.1,
    "large": 1e300,
    "true": True,
    "nested": {"a": {"b": [{"c": "d"}, {"c": "e"}]}, "list": [[1], [2, 3]]},
    "empty": [],
}
"""The same in each line, beside its number, and a value that every second line lacks as `null`."""
MIXED_VALUES: Final = [1, "two", None, {"three": 3}, [4.5], True]

PROGRAMS: Final[Mapping[str, Package]] = {
    name: Package(title, version, f"PyPI {name}", by_pip)
    for name, title, version in (
        ("pandas", "pandas", "3.1.1"),
        ("duckdb", "DuckDB", "2.0.1"),
        ("pyarrow", "pyarrow", "26.0.1"),
        ("polars", "polars", "2.1.0"),
        ("jq", "jq", "1.13.0"),
    )
}
"""Libraries by their names on the command line."""


Line = dict[str, Any]


def lines() -> dict[str, list[Line]]:
    """Return the lines of two objects, by name; `mixed` has an array of several types as well."""
    plain = [
        {"n": number, **VALUES, "sometimes": "set" if number % 2 else None}
        for number in range(LINES)
    ]
    return {PLAIN: plain, MIXED: [it | {MIXED: MIXED_VALUES} for it in plain]}


def write_objects(folder: Path) -> dict[str, Path]:
    """Let a worker deliver the lines, and return the two files."""

    async def write() -> None:
        with KafkaServer() as kafka, S3Server() as store:
            async with Lab(kafka.address, store, folder, partitions=1, targets=TARGETS) as lab:
                at_ms = int(time.time() * 1000)  # all in one window
                for pipeline, values in lines().items():
                    for value in values:
                        text = json.dumps(value, ensure_ascii=False)
                        await lab.load.send_raw(
                            text.encode(), pipeline=pipeline, timestamp_ms=at_ms
                        )
                await lab.start_worker()
                await lab.settled()
                for stored in await asyncio.to_thread(lab.objects):
                    name = stored.key.partition("/")[0]
                    (folder / f"{name}.gz").write_bytes(stored.body)

    asyncio.run(write())
    return {name: folder / f"{name}.gz" for name in lines()}


def read(name: str, file: Path, written: list[Line]) -> str:
    """Return what a library makes of an object."""
    done = subprocess.run(
        [installed(PROGRAMS[name]) / "bin" / "python", reading.__file__, name, file],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=READ_SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        return f"refused: `{done.stderr.splitlines()[-1]}`"
    return difference([json.loads(it) for it in done.stdout.splitlines()], written)


def difference(found: list[Line], written: list[Line]) -> str:
    """Return how the lines that were found differ from those written."""
    if len(found) != len(written):
        return f"{len(found)} of {len(written)} lines"
    others = {
        name: got.get(name)
        for got, line in zip(found, written, strict=True)
        for name in line
        if name not in got or got[name] != line[name]
    }
    named = [f"`{name}` is `{json.dumps(value)}`" for name, value in others.items()]
    return "; ".join(named) or f"{len(found)} lines, all values equal"
