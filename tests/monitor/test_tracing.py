"""Traces: producer, wait and handler are spans of one trace, with the SDK's own exporter."""

import re
from collections.abc import Iterator
from typing import Any

import falcon.testing
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from support.places import ROOT
from support.queue_fixtures import Queue
from zeroloss.reference.http import producer, producer_asgi
from zeroloss.reference.queue.client import Queue as Client
from zeroloss.reference.queue.errors import InvalidTask
from zeroloss.reference.queue.task import Task
from zeroloss.reference.telemetry import tracing
from zeroloss.reference.worker import handlers

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traces:
    """A tracer provider, and the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def traces() -> Iterator[Traces]:
    made = Traces()
    yield made
    made.provider.shutdown()


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def claimed(queue: Queue) -> Task:
    return queue.claim(queue.consumer())


def test_the_spans_of_producer_wait_and_handler_are_one_trace(queue: Queue, traces: Traces) -> None:
    accepted = tracing.enqueue(
        Client(queue.own_client, queue.config), "email", {"to": "a"}, provider=traces.provider, priority="default"
    )
    tracing.traced(claimed(queue), lambda: None, traces.provider)
    spans = traces.spans()
    send, wait, process = (spans[f"{name} email"] for name in ("send", "wait", "process"))
    assert len({span.context.trace_id for span in (send, wait, process) if span.context}) == 1
    assert parent_of(wait) == parent_of(process) == send.context.span_id
    assert (send.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert wait.end_time == process.start_time
    assert (process.attributes or {})["messaging.message.id"] == accepted.task_id


def test_a_handler_s_error_is_noted_in_its_span_and_raised(queue: Queue, traces: Traces) -> None:
    def fail() -> None:
        raise ValueError("no such mailbox")

    queue.enqueue(1)
    with pytest.raises(ValueError, match="mailbox"):
        tracing.traced(claimed(queue), fail, traces.provider)
    spans = traces.spans()
    assert spans["process default"].status.status_code is StatusCode.ERROR
    assert spans["process default"].events[0].name == "exception"
    assert parent_of(spans["wait default"]) == spans["process default"].context.span_id


def test_a_retry_is_a_span_of_the_same_trace_without_a_wait(queue: Queue, traces: Traces) -> None:
    Client(queue.own_client, queue.config).enqueue("email", 1, trace_context=PARENT)
    consumer = queue.consumer()
    consumer.fail(queue.claim(consumer), "ValueError: no")
    queue.make_due()
    queue.reaper.promote()
    tracing.traced(claimed(queue), lambda: None, traces.provider)
    (name,) = traces.spans()
    span = traces.spans()[name]
    assert (name, f"{span.context.trace_id:x}") == ("process email", "af7651916cd43dd8448eb211c80319c")


@pytest.mark.parametrize("module", [producer, producer_asgi], ids=["wsgi", "asgi"])
def test_a_span_of_the_producer_s_app_is_between_the_client_s_and_the_handler_s(
    queue: Queue, traces: Traces, module: Any
) -> None:
    app = tracing.trace_producer(module.create_app(queue.own_client, queue.config), traces.provider)
    http = falcon.testing.TestClient(app)
    assert http.simulate_post("/task", json={"payload": 1}, headers={"traceparent": PARENT}).status_code == 202
    http.simulate_get("/healthz")
    tracing.traced(claimed(queue), lambda: None, traces.provider)
    spans = traces.spans()
    assert set(spans) == {"POST /task", "wait default", "process default"}
    assert f"{parent_of(spans['POST /task']):x}" == "b7ad6b7169203331"
    assert parent_of(spans["process default"]) == spans["POST /task"].context.span_id
    assert (spans["POST /task"].attributes or {})["http.response.status_code"] == 202


def test_handlers_are_traced_by_the_middleware(monkeypatch: pytest.MonkeyPatch, queue: Queue, traces: Traces) -> None:
    monkeypatch.setattr(handlers, "_around", None)
    tracing.trace_handlers(traces.provider)
    queue.enqueue(1)
    handlers.Handler(lambda task: None).under(queue.config).run(claimed(queue))
    assert "process default" in traces.spans()


def test_the_example_of_the_page_runs(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    monkeypatch.setattr(handlers, "_around", None)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "reference-api.md").read_text(), re.DOTALL)
    (example,) = (block for block in blocks if "telemetry.tracing" in block)
    app = producer.create_app(queue.own_client, queue.config)
    exec(example, {"queue": Client(queue.own_client, queue.config), "app": app})
    assert len(queue.pending("high")) == 1
    assert handlers._around is not None


def test_an_invalid_trace_context_is_refused(queue: Queue) -> None:
    for wrong in ("x", "00-0-0-0", f"{PARENT};", 1):
        with pytest.raises(InvalidTask, match="trace_context must be a traceparent"):
            Client(queue.own_client, queue.config).enqueue("email", 1, trace_context=wrong)  # type: ignore[arg-type]
