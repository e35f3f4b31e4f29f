"""Chart of `docs/examples/helm`: its values from their schema, and what Helm rendered from it.

`values.schema.json` declares each value once, with its default and meaning. From it come
`values.yaml` and the table in `docs/deploy.md` (`python -m tests.docs.generate`).

Helm is a program of its own, so `make test` does not run it. `make chart` does, and writes the
manifests of each case into the repository; their first line has a fingerprint of the chart and of
themselves, so a test notices that either was changed without the other.
"""

import hashlib
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT = Path(__file__).parents[2]
CHART: Final = ROOT / "docs" / "examples" / "helm"
SCHEMA: Final = CHART / "values.schema.json"
VALUES: Final = CHART / "values.yaml"
RELEASE: Final = "stream-app"
COLUMNS: Final = 100


@dataclass(frozen=True)
class Case:
    """Values, and the file with the manifests that Helm renders from them."""

    values: Path
    manifests: Path
    options: tuple[str, ...] = ()


CASES: Final = (
    # For people without Helm; what `helm test` runs is nothing to apply.
    Case(
        CHART / "ci/example-values.yaml", ROOT / "docs/examples/kubernetes.yaml", ("--skip-tests",)
    ),
    Case(CHART / "ci/everything-values.yaml", ROOT / "tests/docs/chart/everything.yaml"),
    Case(CHART / "ci/existing-values.yaml", ROOT / "tests/docs/chart/existing.yaml"),
)
CUSTOM_KINDS: Final = {"PodMonitor", "ScaledObject"}
"""Kinds that Kubernetes has by a definition of another program."""
Declaration = tuple[tuple[str, ...], dict[str, Any]]
"""Path and schema of a value."""


def kubernetes_oldest() -> str:
    """Return the oldest version of Kubernetes that the chart takes, such as 1.27."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    found = re.fullmatch(r">=(\d+\.\d+)\.0-0", chart["kubeVersion"])
    assert found, chart["kubeVersion"]
    return found[1]


def documents(manifests: str) -> Iterator[dict[str, Any]]:
    """Return the objects in manifests."""
    return (it for it in yaml.safe_load_all(manifests) if it is not None)


def schema() -> dict[str, Any]:
    """Return the schema of the values."""
    found: dict[str, Any] = json.loads(SCHEMA.read_text("utf-8"))
    return found


def declared() -> Iterator[Declaration]:
    """Return each value's path and declaration; a group of values comes before its members."""
    whole = schema()

    def walk(path: tuple[str, ...], part: dict[str, Any]) -> Iterator[Declaration]:
        named = whole["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else {}
        merged = {**named, **part}
        if path and path != ("global",):
            yield path, merged
        for name, inner in merged.get("properties", {}).items():
            yield from walk((*path, name), inner)

    return walk((), whole)


def values_text() -> str:
    """Return the content of `values.yaml`."""
    lines = [
        "# Written by `python -m tests.docs.generate` from values.schema.json, which declares each",
        "# value with its default and meaning.",
    ]
    for path, declaration in declared():
        indent = "  " * (len(path) - 1)
        if len(path) == 1:
            lines.append("")
        if "default" in declaration:
            lines += textwrap.wrap(
                declaration["description"],
                COLUMNS,
                initial_indent=f"{indent}# ",
                subsequent_indent=f"{indent}# ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            lines.append(f"{indent}{path[-1]}: {json.dumps(declaration['default'])}")
        else:
            lines.append(f"{indent}{path[-1]}:")
    return "\n".join(lines) + "\n"


def values_rows() -> Iterator[tuple[str, str, str]]:
    """Return the name, default and meaning of each value."""
    for path, declaration in declared():
        if "default" in declaration:
            yield (
                f"`{'.'.join(path)}`",
                f"`{json.dumps(declaration['default'])}`",
                declaration["description"].replace("|", "\\|"),
            )


def fingerprint(manifests: str) -> str:
    """Return a digest of the chart together with manifests that Helm rendered from it."""
    digest = hashlib.sha256()
    for file in sorted(it for it in CHART.rglob("*") if it.is_file()):
        for part in (file.relative_to(CHART).as_posix().encode(), file.read_bytes()):
            digest.update(len(part).to_bytes(8, "big") + part)
    digest.update(manifests.encode())
    return digest.hexdigest()


def heading(manifests: str, helm: str) -> str:
    """Return the first line of a file with rendered manifests."""
    return (
        f"# Rendered by Helm {helm} from docs/examples/helm, by `make chart`: "
        f"{fingerprint(manifests)}\n"
    )
