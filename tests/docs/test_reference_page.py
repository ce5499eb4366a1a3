"""The page on the queue's Python API matches the code: its examples run, and its tables are complete."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields

import pytest
from prometheus_client import CollectorRegistry
from support.places import ROOT
from support.queue_fixtures import Queue as Seen
from zeroloss import reference
from zeroloss.reference.queue import errors
from zeroloss.reference.telemetry.metrics import TaskMetrics
from zeroloss.reference.worker import handlers

PAGE = (ROOT / "docs" / "reference-api.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def table(header: str) -> list[list[str]]:
    """Return the rows of the table with this header."""
    lines = PAGE[PAGE.index(f"| {header} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.fixture
def _registered() -> Iterator[None]:
    before, handlers._around = dict(handlers.registry), None
    handlers.registry.clear()
    yield
    handlers.registry.clear()
    handlers.registry.update(before)
    handlers._around = None


def test_the_page_lists_each_setting_with_its_default() -> None:
    told = {name.strip("`"): default.strip("`") for name, default, _meaning in table("setting | default | meaning")}
    assert all(field.default is not MISSING for field in fields(reference.Config))
    assert told == {field.name: str(field.default) for field in fields(reference.Config)}


def test_the_page_lists_each_public_error_and_every_public_name_is_on_it() -> None:
    told = {name for names, _when in table("error | when") for name in re.findall(r"`(\w+)`", names)}
    public = {name for name in reference.__all__ if inspect.isclass(getattr(reference, name))}
    assert told == {name for name in public if issubclass(getattr(reference, name), Exception)}
    assert all(re.search(rf"\b{name}\b", PAGE) for name in set(reference.__all__) - {"DeadLetter", "Reading"})


def test_every_error_that_a_producer_meets_is_public() -> None:
    raised = re.findall(r"\b[A-Z]\w+\b", str(reference.Queue.enqueue.__doc__).partition("Raises:")[2])
    assert set(raised) & set(vars(errors)) <= set(reference.__all__)


def test_the_page_gives_each_call_of_the_queue_with_its_arguments() -> None:
    told = " ".join(call for call, _does in table("call | does"))
    for name, method in inspect.getmembers(reference.Queue, callable):
        if not name.startswith("_"):
            assert f"{name}(" in told
            for argument in set(inspect.signature(method).parameters) - {"self"}:
                assert re.search(rf"{name}\([^)]*\b{argument}\b", told), f"{name}: {argument}"


def test_the_producer_s_example_runs(queue: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    exec(BLOCKS[0].replace("redis://127.0.0.1:6379/0", queue.config.redis_url), {})
    assert capsys.readouterr().out.splitlines()[1] == "3 []"


@pytest.mark.usefixtures("_registered")
def test_the_handlers_examples_register_what_they_show() -> None:
    for block in BLOCKS[1:]:
        if "telemetry.tracing" not in block:  # that one has a test in tests/monitor/test_tracing.py
            exec(block, {"__name__": "example"})
    assert set(handlers.registry) == {"email", "report"}
    assert handlers.registry["report"].is_async
    assert handlers.registry["email"].settings == {"max_retries": 5, "task_timeout_ms": 60_000, "backoff_ms": 2_000}


def test_the_page_lists_each_metric_of_a_task_type() -> None:
    registry = CollectorRegistry()
    TaskMetrics({"email"}, registry)
    told = {name for names, _counts in table("metric | counts") for name in re.findall(r"`(\w+)", names)}
    shown = {f"{each.name}_total" if each.type == "counter" else each.name for each in registry.collect()}
    assert told == shown
