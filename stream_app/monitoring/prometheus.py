"""Readings as Prometheus reads them, by a registry of our own, with the process's CPU and memory.

prometheus_client takes long to import, and so this module is imported by the first who asks.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from stream_app.metrics import DELAY_BOUNDS_SECONDS, METRICS, Delays, Kind, Metric, Samples

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
_FAMILIES: Final[Mapping[Kind, type[CounterMetricFamily | GaugeMetricFamily]]] = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
}


class Exposition(Collector):
    """A collector of what was read; one call of `encode` at a time."""

    def __init__(self) -> None:
        self._taken: Mapping[str, Samples | Delays] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def encode(
        self, taken: Mapping[str, Samples | Delays], accept: str | None
    ) -> tuple[bytes, str]:
        """Return readings in the format that `accept` prefers, and its content type."""
        self._taken = taken
        encoder, content_type = choose_encoder(accept or "")
        return encoder(self._registry), content_type

    def collect(self) -> Iterator[_Family]:
        """Yield each metric that is declared."""
        for metric in METRICS if self._taken else ():
            yield _family(metric, self._taken[metric.name])


def _family(metric: Metric, samples: Samples | Delays) -> _Family:
    if isinstance(samples, Delays):
        histogram = HistogramMetricFamily(metric.name, metric.help)
        bounds = [*map(str, DELAY_BOUNDS_SECONDS), "+Inf"]
        buckets = list(zip(bounds, accumulate(samples.counts), strict=True))
        histogram.add_metric((), buckets, samples.seconds)
        return histogram
    family = _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
