"""The README's commands and programs run as they stand, but for the addresses of the servers."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from stream_app.embedded import KafkaServer, S3Server
from tests.docs.blocks import ROOT, block
from tests.docs.walk import SECONDS_MAX, walked


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[KafkaServer, S3Server]]:
    # Servers of its own: the README uses the default names of topics and group.
    with KafkaServer() as kafka, S3Server() as s3:
        s3.create_bucket("my-bucket")
        yield kafka, s3


@pytest.fixture(scope="module")
def place(servers: tuple[KafkaServer, S3Server], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "stream_app.toml").write_text(
        here(block("README.md", "file stream_app.toml"), servers)
    )
    return folder


@pytest.fixture(scope="module")
def environment(servers: tuple[KafkaServer, S3Server]) -> dict[str, str]:
    return {
        **os.environ,
        **servers[1].environment,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "STREAM_APP_DELIVERY_WINDOW_SECONDS": "2",
    }


def here(text: str, servers: tuple[KafkaServer, S3Server]) -> str:
    kafka, s3 = servers
    return text.replace("127.0.0.1:9092", kafka.address).replace(
        "http://127.0.0.1:8333", s3.endpoint_url
    )


def test_produce_run_and_consume_as_the_readme_says(
    servers: tuple[KafkaServer, S3Server], place: Path, environment: Mapping[str, str]
) -> None:
    with walked("README.md", place, environment) as first:
        assert first["destination"] == "orders-archive"
        assert first["status"] == "delivered"
        assert first["object"]["key"].startswith("test/20")

        program = place / "consume.py"
        program.write_text(here(block("README.md", "python"), servers))
        printed = subprocess.run(
            [sys.executable, str(program)],
            cwd=place,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        ).stdout.splitlines()
        assert [line.split()[:2] for line in printed] == [["orders-archive", "delivered"]] * 2


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "$ make test\n" in (ROOT / "README.md").read_text()
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


def test_bucket_policy_of_the_readme_is_what_the_command_prints(
    place: Path, environment: Mapping[str, str]
) -> None:
    text = (ROOT / "README.md").read_text().partition("## The bucket policy")[2]
    shown = json.loads(text.partition("```json\n")[2].partition("```")[0])
    printed = subprocess.run(
        ["stream-app", "policy", "--principal", shown["Statement"][0]["Principal"]["AWS"]],  # noqa: S607
        cwd=place,
        env=environment,
        check=True,
        capture_output=True,
        timeout=SECONDS_MAX,
    ).stdout
    assert json.loads(printed) == shown


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []
