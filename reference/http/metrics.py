"""The producer's own metrics: requests by route and status, tasks by priority. The names of both are few."""

import os
from typing import Any

import falcon
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several processes of one port leave their counts, as prometheus_client has it."""


class Metrics:
    """The counters of one app, and the middleware that counts its requests under WSGI and ASGI."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "zeroloss_http_requests",
            "Requests by the route that they were for, and the status of their answer",
            ["route", "status"],
            registry=self._registry,
        )
        self.enqueued = Counter(
            "zeroloss_producer_enqueued",
            "Tasks that this producer has promised, repetitions left out",
            ["priority"],
            registry=self._registry,
        )

    def process_response(self, req: falcon.Request, resp: falcon.Response, *_: Any) -> None:
        """Count a request. What is at no route counts as `other`: a path is as its client likes."""
        self._requests.labels(req.uri_template or "other", resp.status_code).inc()

    async def process_response_async(self, req: falcon.Request, resp: falcon.Response, *_: Any) -> None:
        self.process_response(req, resp)

    def text(self) -> bytes:
        """What a scrape reads: of all processes of this port, where they share a folder."""
        if not os.environ.get(MULTIPROCESS_VARIABLE):
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


class MetricsResource:
    """`/metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = CONTENT_TYPE_LATEST
        resp.set_header("Cache-Control", "no-store")
        resp.data = self._metrics.text()

    on_head = on_get
