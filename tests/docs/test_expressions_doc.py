"""Every example, limit and difference of docs/expressions.md is that of the code."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream_app.errors import ExpressionError
from stream_app.expressions import expression as expressions
from stream_app.expressions.engine import Limits
from stream_app.expressions.expression import SKIP, Failure, compile_expression
from stream_app.records import TopicPartition

DOCUMENT = (Path(__file__).parents[2] / "docs" / "expressions.md").read_text("utf-8")
EXAMPLES = re.findall(r"```js\n(.*?)```\n\n```text\n(.*?)\n```", DOCUMENT, re.DOTALL)
(EVENT,) = re.findall(r"```json\n(.*?)\n```", DOCUMENT)
DIFFERENCES = re.findall(r"^\| `(\{.*\})` \| `(.*)` \| `(.*)` \|$", DOCUMENT, re.MULTILINE)
_, _, _LARGE_INTEGERS = DOCUMENT.partition("\n## Large integers\n")
(LARGE_EVENT,) = re.findall(r"^For example, over `(.*)`:$", _LARGE_INTEGERS, re.MULTILINE)
LARGE = re.findall(r"^\| `(.*?)` \| `(.*)` \|$", _LARGE_INTEGERS, re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """The record that the page describes."""

    value: bytes | None
    offset: int = 4242
    timestamp: int = 1_795_537_867_250
    key: bytes | None = b"orders"
    headers: tuple[tuple[str, bytes], ...] = (("trace", b"7f"),)


def outcome(text: str, value: str) -> str:
    """Return the text below an expression on the page."""
    try:
        expression = compile_expression(text)
    except ExpressionError as error:
        return f"refused {error}"
    (only,) = expression.evaluate(
        [Example(value.encode())], "orders-archive", TopicPartition("events", 3)
    )
    if only is SKIP:
        return "skipped"
    if isinstance(only, Failure):
        return f"failed {only.error}"
    return f"delivered {only.decode()}"


@pytest.mark.parametrize(("text", "expected"), EXAMPLES)
def test_example_has_the_outcome_of_the_page(text: str, expected: str) -> None:
    assert outcome(text, EVENT) == expected


def test_every_expression_on_the_page_has_its_outcome() -> None:
    assert DOCUMENT.count("```js\n") == DOCUMENT.count("```text\n") == len(EXAMPLES)
    assert len(DIFFERENCES) == 9
    assert len(LARGE) == 4


@pytest.mark.parametrize(("event", "fast", "engine"), DIFFERENCES)
def test_fast_path_and_engine_differ_as_on_the_page(event: str, fast: str, engine: str) -> None:
    assert not compile_expression("$event").uses_engine
    assert compile_expression("($event)").uses_engine
    assert outcome("$event", event) == f"delivered {fast}"
    assert outcome("($event)", event) == f"delivered {engine}"


@pytest.mark.parametrize(("text", "expected"), LARGE)
def test_large_integers_have_the_digits_of_the_page(text: str, expected: str) -> None:
    assert outcome(text, LARGE_EVENT).split(" ", 1)[1] == expected


def untimed(text: str) -> str:
    return re.sub(r" +[0-9.]+ µs", " µs", text)


@pytest.mark.parametrize(
    ("command", "expected"), re.findall(r"```console\n\$ (.*?)\n(.*?)```", DOCUMENT, re.DOTALL)
)
def test_command_prints_what_the_page_shows(command: str, expected: str) -> None:
    done = subprocess.run(
        ["bash", "-c", command],  # noqa: S607
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert untimed(done.stdout + done.stderr) == untimed(expected)


def test_limits_are_those_of_the_code() -> None:
    limits = Limits()
    rows = re.findall(r"^\| (\w.*?) \| (\d.*) \|$", DOCUMENT, re.MULTILINE)
    assert dict(rows) == {
        "characters of an expression": f"{expressions.EXPRESSION_LENGTH_MAX}",
        "bytes of one line": f"{expressions.LINE_BYTES_MAX}",
        "memory of the engine": f"{limits.memory_bytes_max} bytes",
        "stack of the engine": f"{limits.stack_bytes_max} bytes",
        "time for one event": (
            f"{limits.seconds_max} s, then once more alone with {limits.retry_seconds_max} s"
        ),
        "characters of an error": f"{expressions.ERROR_LENGTH_MAX}",
    }
