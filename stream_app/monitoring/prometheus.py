"""Prometheus format of the metrics, with the process's CPU and memory, from a registry of its own.

prometheus_client takes long to import, and so this module is imported at the first scrape.
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

from stream_app.monitoring.accumulators import DELAY_BOUNDS_SECONDS, Delays
from stream_app.monitoring.metrics import (
    METRICS,
    Kind,
    Metric,
    Samples,
)

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
_FAMILIES: Final[Mapping[Kind, type[CounterMetricFamily | GaugeMetricFamily]]] = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
}


class Exposition(Collector):
    """Collector of readings; not for concurrent calls of `encode`."""

    def __init__(self) -> None:
        self._readings: Mapping[str, Samples | Delays] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def encode(
        self, readings: Mapping[str, Samples | Delays], accept: str | None
    ) -> tuple[bytes, str]:
        """Return readings in the format that `accept` prefers, and its content type."""
        self._readings = readings
        encoder, content_type = choose_encoder(accept or "")
        return encoder(self._registry), content_type

    def collect(self) -> Iterator[_Family]:
        """Yield each declared metric."""
        for metric in METRICS if self._readings else ():
            yield _family(metric, self._readings[metric.name])


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
