"""Traces by OpenTelemetry: spans for the producer, the wait in the queue and the handler, in one trace.

    trace_handlers()                             # once, in the module of --app
    enqueue(queue, "email", {"to": "a"})         # `Queue.enqueue` in a span of its own
    app = trace_producer(create_app(client, config))

The `traceparent` that travels with the task joins them. Sampling and export of spans are set up as in any other
program. https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

import time
from collections.abc import Callable
from typing import Any

import falcon
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import __version__
from ..queue.client import Queue
from ..queue.enqueuing.submission import Accepted
from ..queue.task import Task
from ..worker.handlers import around

SYSTEM = "zeroloss"
SUBMITS = ("/task", "/tasks")

_propagator = TraceContextTextMapPropagator()


def enqueue(
    queue: Queue, task_type: str, payload: Any, *, provider: TracerProvider | None = None, **options: Any
) -> Accepted:
    """Enqueue as `Queue.enqueue` does, with its options and errors, in a producer span that the task continues."""
    with _tracer(provider).start_as_current_span(f"send {task_type}", kind=SpanKind.PRODUCER) as span:
        span.set_attributes(_attributes("send", task_type))
        accepted = queue.enqueue(task_type, payload, trace_context=_traceparent(), **options)
        span.set_attribute("messaging.message.id", accepted.task_id)
        return accepted


def trace_handlers(provider: TracerProvider | None = None) -> None:
    """Run each handler in a span, by `@around`. An application's own `@around` function calls `traced` instead.

    Raises:
        ConfigError: a function is registered with `@around` already.
    """

    def run(task: Task, call: Callable[[], None]) -> None:
        traced(task, call, provider)

    around(run)


def traced(task: Task, call: Callable[[], None], provider: TracerProvider | None = None) -> None:
    """Call a handler in a span that continues the trace of its task, after a span of the task's wait.

    The wait is that of the first attempt, by Redis's clock. The span records an error of the handler, which is raised.
    """
    tracer, began_ns = _tracer(provider), time.time_ns()
    parent = _propagator.extract({"traceparent": task.trace_context}, context=Context())
    with tracer.start_as_current_span(
        f"process {task.shown_type}", context=parent, kind=SpanKind.CONSUMER, start_time=began_ns
    ) as span:
        span.set_attributes(_attributes("process", task.shown_type, task.shown_id))
        span.set_attribute("zeroloss.task.attempt", task.attempt)
        since_ns = task.enqueued_at * 1_000_000
        if task.attempt == 1 and since_ns <= began_ns:
            within = parent if task.trace_context else trace.set_span_in_context(span)
            wait = tracer.start_span(f"wait {task.shown_type}", context=within, start_time=since_ns)
            wait.set_attributes(_attributes("receive", task.shown_type, task.shown_id))
            wait.end(began_ns)
        call()


def trace_producer(app: "falcon.App[Any, Any]", provider: TracerProvider | None = None) -> "falcon.App[Any, Any]":
    """Make the producer's app, WSGI or ASGI, answer each submission in a span, which its tasks continue. Return it."""
    app.add_middleware(_Middleware(_tracer(provider)))
    return app


class _Middleware:
    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        if req.method != "POST" or req.path not in SUBMITS:
            return
        parent = _propagator.extract({"traceparent": req.get_header("traceparent", default="")}, context=Context())
        span = self._tracer.start_span(f"POST {req.path}", context=parent, kind=SpanKind.PRODUCER)
        span.set_attributes({"messaging.system": SYSTEM, "messaging.operation.name": "send", "url.path": req.path})
        req.context.zeroloss_span = span
        req.context.traceparent = _traceparent(trace.set_span_in_context(span))

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: object, _succeeded: bool) -> None:
        span: Span | None = getattr(req.context, "zeroloss_span", None)
        if span is None:
            return
        span.set_attribute("http.response.status_code", resp.status_code)
        if resp.status_code >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    async def process_request_async(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.process_request(req, resp)

    async def process_response_async(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        self.process_response(req, resp, resource, succeeded)


def _tracer(provider: TracerProvider | None) -> trace.Tracer:
    return trace.get_tracer("zeroloss", __version__, provider)


def _traceparent(context: Context | None = None) -> str:
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context)
    return carrier.get("traceparent", "")


def _attributes(operation: str, task_type: str, task_id: str = "") -> dict[str, str]:
    """Return the attributes of messaging spans. The destination is the task's type, which selects the handler."""
    found = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": task_type,
    }
    return found | ({"messaging.message.id": task_id} if task_id else {})
