"""Steps of a program that walks through something once, and ends at the first that fails."""

import contextlib
import time
from collections.abc import Iterator


class StepError(Exception):
    """A step that did not do what it should have done."""


@contextlib.contextmanager
def step(title: str) -> Iterator[list[str]]:
    """Print a step with its seconds; what is put into the list is printed below it."""
    print(f"{title} ...", flush=True)
    began = time.monotonic()
    found: list[str] = []
    yield found
    print(f"  {time.monotonic() - began:.1f} s", flush=True)
    for line in found:
        print(f"  {line}", flush=True)


def expect(truth: object, otherwise: str) -> None:
    """Fail, unless what is expected is true."""
    if not truth:
        raise StepError(otherwise)
