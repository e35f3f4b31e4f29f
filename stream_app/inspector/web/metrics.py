"""Metrics of the Inspector's process, in the format of Prometheus.

Requests are counted by a middleware; everything else is read at a scrape. prometheus_client takes
long to import, and so it is imported at the first scrape.
"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from aiohttp import web

from stream_app.inspector.service.inspector import InspectorService
from stream_app.inspector.web.middleware import Handler

METRICS: Final = (
    ("receipts", "Receipts in memory."),
    ("receipts_bytes", "Memory of the receipts."),
    ("messages_ignored", "Messages of the receipts topic that were not receipts."),
    ("pages", "Pages that follow the events."),
    ("kafka_readable", "Whether both topics can be read: 0 or 1."),
    ("configuration_taken", "Whether the configuration file as it is now was taken: 0 or 1."),
)
"""Gauges: name after `stream_app_inspector_`, and description."""
REQUESTS: Final = "stream_app_inspector_requests"
SECONDS: Final = "stream_app_inspector_request_seconds"


class ProcessMetrics:
    """Metrics of the process.

    Args:
        service: Service that they are read from.
    """

    def __init__(self, service: InspectorService) -> None:
        self._service = service
        self._requests: Counter[str] = Counter()
        self._seconds = 0.0
        self._registry: Any = None

    def register(self, application: web.Application) -> None:
        """Add the route and the middleware."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.perf_counter()
            response = await handler(request)
            # A stream lasts as long as its page.
            if response.content_type != "text/event-stream":
                self._seconds += time.perf_counter() - began
            self._requests[str(response.status)] += 1
            return response

        application.middlewares.append(count)
        application.router.add_get("/metrics", self._scrape)

    async def _scrape(self, request: web.Request) -> web.StreamResponse:
        from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        if self._registry is None:
            self._registry = CollectorRegistry()
            self._registry.register(self)
            ProcessCollector(registry=self._registry)
        encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encoder(self._registry), headers={"Content-Type": content_type})

    def collect(self) -> Iterator[Any]:
        """Yield each metric."""
        from prometheus_client.core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        service = self._service
        values = (
            service.index.receipt_count,
            service.index.memory_bytes,
            service.index.not_receipts,
            service.broadcaster.subscriber_count,
            service.kafka_error is None,
            not service.config.mistakes,
        )
        for (name, description), value in zip(METRICS, values, strict=True):
            yield GaugeMetricFamily(f"stream_app_inspector_{name}", description, float(value))
        requests = CounterMetricFamily(REQUESTS, "Requests, by status.", labels=["status"])
        for status, count in sorted(self._requests.items()):
            requests.add_metric([status], count)
        yield requests
        yield CounterMetricFamily(SECONDS, "Time of the requests, without streams.", self._seconds)
