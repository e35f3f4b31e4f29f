"""Renderer of the chart by Helm, for `make chart`: lints it, renders its cases, checks them.

Helm and the two custom resources' definitions come as Go modules, pinned by their hash, so Go is
needed. Helm is compiled once, in some minutes, into the virtual environment.

What `make test` cannot check without Helm is checked here: that Helm refuses wrong values, in words
that name them, and that the custom resources fit their definitions.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

from tests.docs.chart import (
    CASES,
    CHART,
    CUSTOM_KINDS,
    RELEASE,
    ROOT,
    VALUES,
    Case,
    documents,
    heading,
    kubernetes_oldest,
    values_text,
)

HELM: Final = "helm.sh/helm/v3"
MODULES: Final = {
    HELM: ("v3.22.0", "h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU="),
    "github.com/kedacore/keda/v2": (
        "v2.21.0",
        "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
    ),
    "github.com/prometheus-operator/prometheus-operator": (
        "v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
    ),
}
"""Version and hash of each Go module."""
HELM_VERSION: Final = MODULES[HELM][0]
PROGRAM: Final = ROOT / ".venv" / f"helm-{HELM_VERSION}"
KUBERNETES: Final = ("--kube-version", kubernetes_oldest())
"""Cluster to render for: Helm's own default is of the time when it was released."""
DEFINITIONS: Final = {
    "ScaledObject": ("github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    "PodMonitor": (
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    ),
}
"""Module and file of each custom resource's definition."""
EXAMPLE: Final = str(CASES[0].values)
WRONG: Final = (
    ((), "config is empty; add --set-file config=stream_app.toml"),
    (("-f", EXAMPLE, "--set", "existingConfigMap=other"), "are both set; keep one"),
    (("-f", EXAMPLE, "--set", "replicas=3"), "'replicas' not allowed"),
    (("-f", EXAMPLE, "--set", "worker.replicas=many"), "/worker/replicas"),
    (("-f", EXAMPLE, "--set", "image.digest=sha256:0"), "/image/digest"),
    (
        ("-f", EXAMPLE, "--set", "worker.serviceAccount.create=false"),
        "worker.serviceAccount.create is false and its name is empty",
    ),
    (("-f", EXAMPLE, "--set", "inspector.enabled=true"), "inspector.enabled needs a token"),
    (("-f", EXAMPLE, "--set", "inspector.token=short"), "/inspector/token"),
    (
        ("-f", EXAMPLE, "--set", "inspector.ingress.enabled=true"),
        "inspector.ingress.enabled needs inspector.enabled",
    ),
    (
        ("-f", EXAMPLE, "--set", "autoscaling.enabled=true"),
        "autoscaling.enabled needs autoscaling.bootstrapServers",
    ),
    (
        (
            *("-f", EXAMPLE, "--set", "autoscaling.enabled=true,autoscaling.minReplicas=13"),
            *("--set", "autoscaling.bootstrapServers=kafka:9092"),
        ),
        "autoscaling.minReplicas is 13, and partitions is 12",
    ),
    (
        ("-f", EXAMPLE, "--set-string", "autoscaling.metadata.excludePersistentLag=true"),
        "/autoscaling/metadata",
    ),
)
"""Options that Helm refuses, each with words of its message."""


def run(*command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def output(*command: str, cwd: Path | None = None) -> str:
    """Return what a program prints; end with its error if it fails."""
    done = run(*command, cwd=cwd)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def module(path: str) -> Path:
    """Return the folder of a Go module, downloaded and verified."""
    version, pinned = MODULES[path]
    # Away from any module, whose own requirements would count.
    with tempfile.TemporaryDirectory() as folder:
        found = json.loads(
            output("go", "mod", "download", "-json", f"{path}@{version}", cwd=Path(folder))
        )
    if found["Sum"] != pinned:
        sys.exit(f"{path}@{version} has the hash {found['Sum']}, and not {pinned}: do not use it")
    return Path(found["Dir"])


def helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Helm; compile it first, with the dependencies that its own hashes pin."""
    if not PROGRAM.exists():
        print(f"compiling Helm {HELM_VERSION} (once, some minutes)", flush=True)
        output("go", "build", "-trimpath", "-o", str(PROGRAM), "./cmd/helm", cwd=module(HELM))
    return run(str(PROGRAM), *arguments)


def rendered(case: Case) -> str:
    """Return the manifests of a case."""
    values = ("--values", str(case.values), *KUBERNETES)
    lint = helm("lint", "--strict", str(CHART), *values)
    if lint.returncode != 0:
        sys.exit(f"{case.values}: {lint.stdout}{lint.stderr}")
    template = helm("template", RELEASE, str(CHART), *values, *case.options)
    if template.returncode != 0:
        sys.exit(f"{case.values}: {template.stderr}")
    return template.stdout


def strict(schema: Any) -> Any:
    """Return a schema that refuses unknown fields, where the definition would drop them."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    keeps = schema.get("x-kubernetes-preserve-unknown-fields", False)
    closed = "properties" in schema and not keeps and "additionalProperties" not in schema
    return {
        **{name: strict(part) for name, part in schema.items()},
        **({"additionalProperties": False} if closed else {}),
    }


def definition(kind: str, api_version: str) -> Any:
    """Return the schema of a custom resource."""
    name, file = DEFINITIONS[kind]
    version = api_version.rpartition("/")[2]
    (found,) = [
        it["schema"]["openAPIV3Schema"]
        for document in yaml.safe_load_all((module(name) / file).read_text("utf-8"))
        if document
        for it in document["spec"]["versions"]
        if it["name"] == version
    ]
    return strict(found)


def mistakes(manifests: str) -> Iterator[str]:
    """Return what does not fit the definition of a custom resource."""
    for document in documents(manifests):
        if document["kind"] in CUSTOM_KINDS:
            schema = definition(document["kind"], document["apiVersion"])
            for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
                yield f"{document['kind']}: {error.json_path}: {error.message}"


def refusal(options: Sequence[str], words: str) -> str | None:
    """Return what is wrong if Helm takes options that it must refuse, or says something else."""
    done = helm("template", RELEASE, str(CHART), *KUBERNETES, *options)
    if done.returncode == 0:
        return f"Helm takes {options}"
    return None if words in done.stderr else f"Helm says of {options}: {done.stderr}"


def main() -> None:
    VALUES.write_text(values_text(), "utf-8")
    found = [it for options, words in WRONG if (it := refusal(options, words))]
    for case in CASES:
        manifests = rendered(case)
        found += mistakes(manifests)
        case.manifests.write_text(heading(manifests, HELM_VERSION) + manifests, "utf-8")
        print(f"{case.manifests.relative_to(ROOT)}: {len([*documents(manifests)])} objects")
    if found:
        sys.exit("\n".join(found))
    print(f"Helm refuses {len(WRONG)} wrong sets of values")


if __name__ == "__main__":
    main()
