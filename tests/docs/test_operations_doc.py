"""Settings, commands and files in the documents for operators fit the program."""

import re
from dataclasses import fields

import pytest

from stream_app.config.settings import (
    OFFSET_METADATA_BYTES_MIN,
    TABLES,
    Destination,
)
from stream_app.core.commit_metadata import METADATA_BYTES_MAX
from stream_app.core.receipt import RECEIPT_BYTES_MAX
from stream_app.redelivery.run import RECEIPT_BYTES_MAX as REDELIVERED_BYTES_MAX
from stream_app.worker.faust_app import END_SECONDS_MAX
from tests.docs.blocks import ROOT, section

DOCS = ROOT / "docs"
OPERATIONS = (DOCS / "operations.md").read_text("utf-8")
MIGRATING = (DOCS / "migrating.md").read_text("utf-8")
STOP_SECONDS_MAX = 10
"""Bound in the documents for the end of a worker after SIGTERM."""
SETTINGS = {setting.name for kind in (*TABLES.values(), Destination) for setting in fields(kind)}


def rows(heading: str, text: str = OPERATIONS) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    lines = [line for line in section(text, heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_worker_ends_within_the_time_that_the_documents_promise() -> None:
    assert END_SECONDS_MAX < STOP_SECONDS_MAX
    assert f"SIGTERM or Ctrl-C ends a worker within {STOP_SECONDS_MAX} s" in OPERATIONS


def test_worker_is_granted_what_the_security_tests_give_it() -> None:
    assert {
        (resource, right) for who, resource, right in rows("Rights in Kafka") if who == "worker"
    } == {
        ("the events topic", "READ"),
        ("the group", "READ"),
        ("the receipts topic", "WRITE"),
    }


def test_sizes_that_kafka_must_take_are_those_of_the_code() -> None:
    topics = {row[0]: row for row in rows("Topics")}
    sizes = re.findall(r"(\d+) KiB", " ".join(topics["`max.message.bytes`"]))
    assert [int(number) * 1024 for number in sizes] == [RECEIPT_BYTES_MAX, REDELIVERED_BYTES_MAX]
    assert f"`offset.metadata.max.bytes` should be at least {METADATA_BYTES_MAX:,}" in OPERATIONS
    assert f"less than {OFFSET_METADATA_BYTES_MIN} ends it" in OPERATIONS


@pytest.mark.parametrize(
    "program", ["Kafka Connect's S3 sink", "Vector", "Firehose", "MSK Data Delivery"]
)
def test_settings_of_the_translations_exist(program: str) -> None:
    table = rows(f"From {program}", MIGRATING)
    assert len(table) > 10
    named = {name for *_, ours in table for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", ours)}
    assert named <= SETTINGS


def quoted() -> list[str]:
    """Return the messages that the tables of remedies quote, cut at what varies in them."""
    texts = [text for first, *_ in rows("Redelivering") for text in re.findall(r"`([^`]+)`", first)]
    texts += [
        text
        for _, remedy in rows("By log event")
        for text in re.findall(r"`([^`]+)`", remedy)
        if " " in text and not text.startswith(("stream-app ", "["))
    ]
    return [
        part.strip() for text in texts for part in re.split(r"…|\b[NM]\b", text) if len(part) > 4
    ]


THE_LIBRARYS = ("Heartbeat failed", "rebalancing", "Marking", "Group Coordinator Request failed")


def test_every_message_that_the_documents_quote_is_one_of_the_code() -> None:
    source = "\n".join(it.read_text("utf-8") for it in (ROOT / "stream_app").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    parts = quoted()
    assert len(parts) > 15
    own = [it for it in parts if not it.startswith(THE_LIBRARYS)]
    assert [it for it in own if it not in source] == []
