"""The pipeline that a key resembles is found whatever the number of pipelines."""

import time

import pytest

from stream_app.core.pipeline_names import KEY_LENGTH_MAX, SHOWN_LENGTH_MAX, PipelineNames, shown

NAMES = PipelineNames(["orders", "Sign-Ups", None, "größe", "orders"])


@pytest.mark.parametrize(
    ("key", "pipeline"),
    [
        (b"ordres", "orders"),  # exchanged
        (b"orderss", "orders"),  # too many
        (b"oders", "orders"),  # too few
        (b"order", "orders"),
        (b"rders", "orders"),
        (b"orderu", "orders"),  # another one
        (b"orderz", "orders"),  # whatever the wrong character is
        (b"ORDERS", "orders"),
        (b'"orders"', "orders"),
        (b" orders\n", "orders"),
        (b"sign_ups", "Sign-Ups"),
        (b"signups", "Sign-Ups"),
        ("grösse".encode(), "größe"),
        (b"payments", None),
        (b"orders-eu", None),
        (b"", None),
        (b'""', None),
        (None, None),
        (b"\xff\xfe", None),
    ],
)
def test_pipeline_is_found_at_one_edit(key: bytes | None, pipeline: str | None) -> None:
    assert NAMES.nearest(key) == pipeline


def test_pipeline_without_an_edit_comes_before_one_with_an_edit() -> None:
    names = PipelineNames(["order", "ORDERS", "orders"])
    assert names.nearest(b"Order") == "order"
    assert PipelineNames(["a-b", "ab"]).nearest(b'"ab"') == "ab"
    assert names.nearest(b"Orders") == "ORDERS", "the first of those that differ by case"


@pytest.mark.parametrize("key", [b"o" * (KEY_LENGTH_MAX + 1), b"o" * 1_000_000, b"ab" * 40])
def test_long_key_resembles_none(key: bytes) -> None:
    assert PipelineNames([key.decode()[:-1], "o"]).nearest(key) is None


def test_no_pipeline_resembles_a_key() -> None:
    assert PipelineNames([]).nearest(b"orders") is None
    assert PipelineNames([None]).nearest(b"orders") is None


def test_look_up_costs_the_same_with_many_pipelines() -> None:
    many = PipelineNames(f"customer-{number:05d}-orders" for number in range(10_000))
    assert many.nearest(b"customer-00012-ordres") == "customer-00012-orders"
    began = time.process_time()
    for _ in range(20):
        assert many.nearest(b"payments-of-a-customer-in-another-country") is None
    assert time.process_time() - began < 5.0  # to compare each with the key takes a minute


def test_advice_names_the_pipeline_or_says_that_there_is_none() -> None:
    assert NAMES.advice(b"ordres") == "nearest pipeline: 'orders'"
    assert NAMES.advice(b"payments") == "no pipeline is like it"
    assert NAMES.advice(None) == "only a destination without a pipeline takes records without a key"


def test_unmatched_key_is_named_with_the_advice() -> None:
    expected = "no destination takes the key 'ordres' (nearest pipeline: 'orders')"
    assert NAMES.unmatched(b"ordres") == expected


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, "none"),
        (b"ordres", "'ordres'"),
        ("ordres", "'ordres'"),
        (b"a\x1b[2J\nb", r"'a\x1b[2J\nb'"),
        (b"\xff", "'\N{REPLACEMENT CHARACTER}'"),
        (b"x" * SHOWN_LENGTH_MAX, "'" + "x" * SHOWN_LENGTH_MAX + "'"),
        (b"x" * 1_000, "'" + "x" * SHOWN_LENGTH_MAX + "…'"),
        (("é" * 1_000).encode(), "'" + "é" * SHOWN_LENGTH_MAX + "…'"),
    ],
)
def test_key_is_shown_escaped_quoted_and_cut(key: bytes | str | None, text: str) -> None:
    assert shown(key) == text
