"""The memory of a worker: one number in all documents and examples, more than was measured."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.memory import BESIDE_MIB
from stream_app.config.settings import Delivery

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "docker-compose.yml",
    "docs/deploy.md",
    "docs/guarantees.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/examples/kubernetes.yaml",
    "docs/examples/stream-app@.service",
)
DEFAULT_MIB = Delivery().memory_max_mib
WHOLE_MIB = DEFAULT_MIB + BESIDE_MIB


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_gives_a_worker_the_one_number(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    beside = re.findall(r"memory_max_mib`?(?: \((\d+)\))? plus ([\d,]+) MiB", text)
    assert beside, "it says what a worker takes"
    assert {number for _, number in beside} == {str(BESIDE_MIB)}
    assert {default for default, _ in beside} <= {"", str(DEFAULT_MIB)}
    assert set(re.findall(r"(\d+) MiB by default", text)) <= {str(WHOLE_MIB)}


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_no_document_has_another_number(path: Path) -> None:
    text = " ".join(path.read_text("utf-8").split())
    found = re.findall(r"memory_max_mib`? (?:plus|and) (?:at most )?([\d,]+) MiB", text)
    assert set(found) <= {str(BESIDE_MIB)}


def test_examples_are_limited_to_the_one_number() -> None:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    assert compose["services"]["worker"]["mem_limit"] == f"{WHOLE_MIB}m"
    unit = (ROOT / "docs/examples/stream-app@.service").read_text("utf-8")
    assert re.findall(r"^MemoryMax=(.*)$", unit, re.MULTILINE) == [f"{WHOLE_MIB}M"]
    documents = yaml.safe_load_all((ROOT / "docs/examples/kubernetes.yaml").read_text("utf-8"))
    (deployment,) = [it for it in documents if it["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    limits = container["resources"]
    assert limits["requests"]["memory"] == limits["limits"]["memory"] == f"{WHOLE_MIB}Mi"


def test_number_is_more_than_every_worker_took_that_was_measured() -> None:
    text = (ROOT / "docs" / "performance.md").read_text("utf-8")
    table = text.partition("<!-- generated: memory -->")[2].partition("<!-- end -->")[0]
    rows = re.findall(r"\| (\d+) MiB \| (\d+) MiB \|", table)
    assert len(rows) >= 9
    assert max(int(idle) + int(added) for idle, added in rows) < WHOLE_MIB
    again = [int(it) for it in re.findall(r"([\d]+) MiB beyond", text)]
    assert again
    assert max(again) < BESIDE_MIB
