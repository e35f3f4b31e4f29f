"""Program that prints the lines of an object as a library reads them, each as JSON.

python reading.py duckdb object.gz

It runs in the environment of the library, without stream-app and the tests.
"""

import gzip
import importlib
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final


def _pandas(library: Any, file: str) -> Iterable[Any]:
    return library.read_json(file, lines=True).to_dict("records")


def _duckdb(library: Any, file: str) -> Iterable[Any]:
    found = library.read_json(file)
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def _pyarrow(library: Any, file: str) -> Iterable[Any]:
    return library.read_json(file).to_pylist()


def _polars(library: Any, file: str) -> Iterable[Any]:
    return library.read_ndjson(file).to_dicts()


def _jq(library: Any, file: str) -> Iterable[Any]:
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
        return map(json.loads, library.compile(".").input_text(lines.read()).text().split("\n"))


READERS: Final[dict[str, tuple[str, Callable[[Any, str], Iterable[Any]]]]] = {
    "pandas": ("pandas", _pandas),
    "duckdb": ("duckdb", _duckdb),
    "pyarrow": ("pyarrow.json", _pyarrow),
    "polars": ("polars", _polars),
    "jq": ("jq", _jq),
}

if __name__ == "__main__":
    module, read = READERS[sys.argv[1]]
    # Not NumPy's numbers: its integers are none of Python's.
    for row in read(importlib.import_module(module), sys.argv[2]):
        print(json.dumps(row, default=lambda value: value.tolist()))
