"""Prometheus server with the alert rules of the documents, as Debian's package installs it."""

import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from stream_app.embedded.process import HOST, PROBE_SECONDS_MAX, Server, free_ports
from tests.docs.blocks import ROOT

PROGRAM: Final = shutil.which("prometheus")
RULES: Final = ROOT / "docs" / "alerts.yml"
needs_prometheus = pytest.mark.skipif(
    PROGRAM is None, reason="Prometheus is not installed (Debian: prometheus)"
)


class PrometheusServer(Server):
    """Prometheus that scrapes workers each second and evaluates `docs/alerts.yml` as it is.

    Args:
        targets: Addresses of the workers' metrics: `HOST:PORT`.
        folder: Folder for configuration, data and log.
    """

    _name = "prometheus"

    def __init__(self, targets: Sequence[str], folder: Path) -> None:
        super().__init__(folder)
        self._targets = targets
        (self._port,) = free_ports(1)

    def alerts(self) -> dict[str, str]:
        """Return the state of each active alert, by name: pending or firing."""
        active = self._get("alerts")["alerts"]
        return {it["labels"]["alertname"]: it["state"] for it in active}

    def rules(self) -> dict[str, str]:
        """Return the health of each rule, by name: ok, err or unknown."""
        groups = self._get("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    def values(self, query: str) -> list[float]:
        """Return the present values of an expression."""
        found = self._get(f"query?{urllib.parse.urlencode({'query': query})}")["result"]
        return [float(it["value"][1]) for it in found]

    @property
    def _ports(self) -> Sequence[int]:
        return (self._port,)

    def _prepare(self) -> None:
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {"job_name": "stream-app", "static_configs": [{"targets": list(self._targets)}]}
            ],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(configuration), "utf-8")

    def _command(self) -> list[str]:
        return [
            str(PROGRAM),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self._port}",
        ]

    def _is_ready(self) -> bool:
        try:
            return bool(self.rules())
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        url = f"http://{HOST}:{self._port}/api/v1/{path}"
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS_MAX) as answer:
            return json.loads(answer.read())["data"]
