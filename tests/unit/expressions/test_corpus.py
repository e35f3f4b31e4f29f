"""The engine is JavaScript: its lines are those of Node.js for a corpus of pairs.

A pair is an expression and an event. `tests/corpus/make.mjs` has the pairs, evaluates them in
Node.js, and describes how to generate `tests/corpus/corpus.json` again.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stream_app.expressions.expression import SKIP, Failure, compile_expression
from stream_app.records import TopicPartition
from tests.unit.core.builders import Sample

CORPUS = json.loads((Path(__file__).parents[2] / "corpus" / "corpus.json").read_text("ascii"))
RECORD: dict[str, Any] = CORPUS["record"]
SOURCE = TopicPartition(RECORD["topic"], RECORD["partition"])
PAIRS: list[dict[str, Any]] = CORPUS["pairs"]
PAIRS_LINE = 5
"""Line of the file with the first pair, one pair a line: a test's name has the line of its pair."""

GROUPS = {
    *(
        f"operators/{family}"
        for family in (
            "arithmetic",
            "assignment",
            "bitwise",
            "comparison",
            "equality",
            "logical",
            "spread and destructuring",
            "unary",
        )
    ),
    *("coercion", "exceptions", "unicode", "big numbers", "dates", "key order", "getters"),
    *("symbols", "proxies", "templates", "functions", "classes", "iterators and generators"),
    *("promises and async", "BigInt", "regular expressions", "arrays", "typed arrays", "strings"),
    *("numbers", "JSON", "collections", "control flow", "text of the expression", "context"),
    *("conditions", "outcomes"),
}


@pytest.mark.parametrize(
    "pair",
    PAIRS,
    ids=[f"line {line}: {pair['group']}" for line, pair in enumerate(PAIRS, PAIRS_LINE)],
)
def test_expression_gives_what_node_gave(pair: dict[str, Any]) -> None:
    record = Sample(
        RECORD["offset"],
        RECORD["timestamp"],
        RECORD["key"].encode(),
        pair["event"].encode(),
        [(name, value.encode()) for name, value in RECORD["headers"]],
    )
    expression = compile_expression(pair["expression"])
    (outcome,) = expression.evaluate([record], RECORD["destination"], SOURCE)
    if "delivered" in pair:
        assert outcome == pair["delivered"].encode()
    elif "skipped" in pair:
        assert outcome is SKIP
    else:
        # An error's name, or the whole of a thrown value; the engine's own words follow.
        assert isinstance(outcome, Failure)
        assert re.match(rf"{re.escape(pair['failed'])}(?=[:,]|\Z)", outcome.error), outcome


def test_corpus_has_every_family_of_the_language() -> None:
    assert len(PAIRS) >= 150
    counts = dict.fromkeys(GROUPS, 0)
    for pair in PAIRS:
        counts[pair["group"]] += 1
    assert min(counts.values()) >= 5, counts


def test_corpus_has_every_outcome_and_one_for_each_pair() -> None:
    kinds = [pair.keys() & {"delivered", "skipped", "failed"} for pair in PAIRS]
    assert all(len(kind) == 1 for kind in kinds)
    assert set().union(*kinds) == {"delivered", "skipped", "failed"}


def test_corpus_has_no_pair_twice() -> None:
    assert len({(pair["event"], pair["expression"]) for pair in PAIRS}) == len(PAIRS)


@pytest.mark.parametrize("text", ["\ufffd", r"\u0000", "\u2028", "\U0001f600"])
def test_corpus_delivers(text: str) -> None:
    assert any(text in pair.get("delivered", "") for pair in PAIRS)


def test_corpus_names_the_node_that_made_it() -> None:
    assert re.fullmatch(r"v(?:2\d|[3-9]\d)\.\d+\.\d+", CORPUS["node"])
