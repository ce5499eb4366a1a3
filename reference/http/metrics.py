"""The producer's own metrics: requests by route and status, tasks by priority. All labels have few values."""

import os
from functools import cache
from typing import Any

import falcon
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of prometheus_client: the folder in which several processes of one port store their counts."""


class Metrics:
    """The counters of one app, and the middleware that counts its requests under WSGI and ASGI."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        requests = Counter(
            "zeroloss_http_requests",
            "Requests by the route that they were for, and the status of their answer",
            ["route", "status"],
            registry=self._registry,
        )
        enqueued = Counter(
            "zeroloss_producer_enqueued",
            "Tasks that this producer has promised, repetitions left out",
            ["priority"],
            registry=self._registry,
        )
        # To find the counter of some labels takes longer than to count.
        self._requests, self.enqueued = cache(requests.labels), cache(enqueued.labels)

    def process_response(self, req: falcon.Request, resp: falcon.Response, *_: Any) -> None:
        """Count a request. One without a route counts as `other`: clients may send any number of paths."""
        self._requests(req.uri_template or "other", resp.status_code).inc()

    async def process_response_async(self, req: falcon.Request, resp: falcon.Response, *_: Any) -> None:
        self.process_response(req, resp)

    def text(self) -> bytes:
        """Return the text for a scrape: the counts of all processes of this port if they share a folder."""
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
