"""The README's commands and programs run unchanged, except for addresses and topic names."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.s3.bucket_policy import PRINCIPAL_FORM
from tests.docs.blocks import ROOT, block
from tests.docs.walk import SECONDS_MAX, Place, walked

INSTALLS = re.compile(
    r"(?:\b(?:(?:pip3?|pipx|uv)(?: tool| pip)* (?:install|add|run)|uvx)\b[^\n`]*[\s'\"]|uvx "
    r"|docker pull |helm \w+ \S+ \w+/)stream[-_]app\b(?!/|\S*\.whl)"
)
"""A command that takes this program from an index."""


@pytest.fixture
def place(kafka: KafkaServer, s3: S3Server, topic_prefix: str) -> Place:
    return Place(kafka, s3, topic_prefix)


@pytest.fixture
def folder(place: Place, tmp_path: Path) -> Path:
    (tmp_path / "stream_app.toml").write_text(
        place.here(block("README.md", "file stream_app.toml"))
    )
    return tmp_path


def test_produce_run_and_consume_as_in_the_readme(place: Place, folder: Path) -> None:
    place.create_bucket()
    with walked("README.md", folder, place.environment) as first:
        assert first["destination"] == "orders-archive"
        assert first["status"] == "delivered"
        assert first["object"]["key"].startswith("test/20")

        publish_others(place, first)
        program = folder / "consume.py"
        program.write_text(place.here(block("README.md", "python")))
        printed = subprocess.run(
            [sys.executable, str(program)],
            cwd=folder,
            env=place.environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        ).stdout.splitlines()
        statuses = [line.split()[1] for line in printed]
        assert statuses == ["delivered", "empty", "retrying", "failed", "redelivered", "delivered"]
        assert printed[1:4] == [f"orders-archive {it} -" for it in statuses[1:4]]
        assert printed[4] == f"orders-archive redelivered {first['object']['key']}"


def publish_others(place: Place, first: Mapping[str, Any]) -> None:
    """Publish a receipt of each other status after the first one, in the same partition."""
    none = {"uploaded_at": None, "stored_at": None}
    error = {"code": "NoSuchBucket", "message": "it is gone", "retryable": False}
    planned = {**first["object"], "size": None, "etag": None, "checksum": None}
    others = [
        {**first, "status": "empty", "object": None, **none},
        {**first, "status": "retrying", "object": planned, **none, "error": error},
        {**first, "status": "failed", "object": planned, **none, "error": error},
        {**first, "status": "redelivered"},
    ]

    async def publish() -> None:
        async with AIOKafkaProducer(bootstrap_servers=place.kafka.address) as producer:
            for receipt in others:
                await producer.send_and_wait(
                    f"{place.prefix}receipts", json.dumps(receipt).encode(), key=b"orders-archive"
                )

    asyncio.run(publish())


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "$ make test\n" in (ROOT / "README.md").read_text()
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


def test_bucket_policy_of_the_documents_is_what_the_command_prints(
    place: Place, folder: Path
) -> None:
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    shown = text.partition("```json\n")[2].partition("```")[0]
    assert f'"{PRINCIPAL_FORM}"' in shown
    principal = "arn:aws:iam::123456789012:role/writer"
    printed = subprocess.run(
        ["stream-app", "policy", "--principal", principal],  # noqa: S607
        cwd=folder,
        env=place.environment,
        check=True,
        capture_output=True,
        timeout=SECONDS_MAX,
    ).stdout
    assert json.loads(printed) == json.loads(shown.replace(PRINCIPAL_FORM, principal))


def test_no_document_has_a_policy_for_somebody() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {account}"
        for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
        for account in re.findall(r'"AWS": *"[^"]*\d{12}[^"]*"', path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "pip install stream-app",
        "pip3 install --upgrade 'stream-app[embedded]'",
        "uv add stream_app",
        "uv tool install stream-app",
        "pipx install stream-app==0.2.0",
        "uvx stream-app demo",
        "helm install it stable/stream-app",
        "docker pull stream-app:0.2.0",
    ],
)
def test_text_that_installs_from_an_index_is_recognized(text: str) -> None:
    assert INSTALLS.search(text)


def test_no_text_installs_this_program_from_an_index() -> None:
    # No index has the name: an account that registers it decides what the command runs.
    texts = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("docs/examples/**/*.txt"),
        *ROOT.glob("stream_app/**/*.py"),
        ROOT / "Dockerfile",
        ROOT / "Makefile",
        ROOT / "docker-compose.yml",
    ]
    found = [
        str(path.relative_to(ROOT)) for path in texts if INSTALLS.search(path.read_text("utf-8"))
    ]
    assert found == []


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []
