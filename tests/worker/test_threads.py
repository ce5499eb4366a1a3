"""The worker's threads: names do not clash with `threading.Thread`, deaths are noticed, and reports are timely."""

import gc
import importlib
import math
import pkgutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest
import zeroloss
from support.places import ROOT
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.reference.queue.reaper import Reaper, Sweep
from zeroloss.reference.queue.task import Task
from zeroloss.reference.worker.claimer import Claimer
from zeroloss.reference.worker.delivery import Delivery, State
from zeroloss.reference.worker.handlers import Handler
from zeroloss.reference.worker.process import BUG_STATUS, HandlerThread, Maintenance


def thread_classes() -> list[type[threading.Thread]]:
    skipped = ("__main__", "sitecustomize", "_worker", "_app")
    for module in pkgutil.walk_packages(zeroloss.__path__, "zeroloss."):
        if not module.name.endswith(skipped) and not module.name.startswith("zeroloss.loadtests"):
            importlib.import_module(module.name)
    return [one for one in threading.Thread.__subclasses__() if one.__module__.split(".")[0] == "zeroloss"]


@pytest.mark.parametrize("one", thread_classes(), ids=lambda one: one.__name__)
def test_no_name_of_ours_is_one_of_the_library_s_own(one: type[threading.Thread]) -> None:
    own = {name for name in vars(one) if not name.startswith("__")} - {"run"}
    assert not own & {*dir(threading.Thread), *vars(threading.Thread())}


BROKEN = """
import os
import sys
from zeroloss.reference.worker import process as worker
from zeroloss.reference.queue.config import Config
from zeroloss.reference.worker.handlers import Handler
getattr(worker, sys.argv[1]).run = lambda self: None
worker.Worker(Config(redis_url=sys.argv[2]), "w1", {"default": Handler(print)}, os.getppid(), print).run()
"""


@pytest.mark.parametrize("broken", ["Claimer", "HandlerThread", "Maintenance", "Presence"])
def test_a_worker_one_of_whose_threads_broke_ends_and_says_so(broken: str, queue: Queue) -> None:
    command = [sys.executable, "-c", BROKEN, broken, queue.config.redis_url]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == BUG_STATUS
    assert "recovery will return its tasks" in ended.stderr


def test_maintenance_sweeps_again_as_soon_as_an_absence_is_long_enough(queue: Queue) -> None:
    swept: list[float] = []

    class Watching(Reaper):
        def sweep(self) -> Sweep:
            swept.append(time.monotonic())
            return Sweep(0, 0, again_ms=20)

    config = replace(queue.config, sweep_ms=1_000)
    maintenance = Maintenance(Watching(queue.own_client, config), config)
    maintenance.start()
    wait_until(lambda: len(swept) > 10)
    maintenance.stop()
    maintenance.join()
    least_between_sweeps_s = 0.8
    assert swept[10] - swept[0] < 10 * least_between_sweeps_s


def test_maintenance_looks_for_absent_consumers_more_often_than_it_sweeps(queue: Queue) -> None:
    calls: list[str] = []

    class Watching(Reaper):
        def look(self) -> None:
            calls.append("look")

        def sweep(self) -> Sweep:
            calls.append("sweep")
            return Sweep(0, 0)

    maintenance = Maintenance(Watching(queue.own_client, queue.config), replace(queue.config, sweep_ms=60))
    maintenance.start()
    wait_until(lambda: len(calls) >= 6)
    maintenance.stop()
    maintenance.join()
    assert calls[:6] == ["look", "look", "sweep"] * 2


def handled(
    queue: Queue, handler: Callable[[Task], object] | Handler, *, dropped: bool = False, lease_until: float = math.inf
) -> list[Delivery]:
    """Run all pending tasks in a handler thread, and return the deliveries it gives back."""
    claimer = Claimer(queue.consumer(), queue.config, {"default": handler})
    claimer.lease_until = lease_until
    made = handler if isinstance(handler, Handler) else Handler(handler)
    thread = HandlerThread(0, claimer, {"default": made})
    thread.start()
    for entry in queue.pending():
        delivery = Delivery(Task(entry))
        delivery.state = State.ADRIFT if dropped else State.OUT
        claimer.ready.put(delivery)
    claimer.ready.put(None)
    thread.join(timeout=30)
    events = [claimer.inbox.get_nowait() for _ in range(claimer.inbox.qsize())]
    return [event for event in events if isinstance(event, Delivery)]


def test_a_handler_thread_tells_how_long_a_task_took_and_why_it_failed(queue: Queue) -> None:
    """The claimer computes from these durations how many tasks to claim ahead."""

    def handler(task: Task) -> None:
        began.append(time.monotonic())
        if task.payload == "bad":
            raise ValueError("no")

    began: list[float] = []
    queue.enqueue("good", "bad")
    sent = time.monotonic()
    good, bad = handled(queue, handler)
    told = time.monotonic()
    assert (good.error, bad.error) == (None, "ValueError: no")
    for delivery, began_at in zip((good, bad), began, strict=True):
        assert delivery.started is not None
        assert delivery.seconds is not None
        assert sent <= delivery.started <= began_at
        assert began_at <= delivery.started + delivery.seconds <= told


def test_a_task_that_was_reported_as_hung_is_not_reported_again_when_its_handler_ends(queue: Queue) -> None:
    def handler(_task: Task) -> None:
        thread = threading.current_thread()
        assert isinstance(thread, HandlerThread)
        assert thread.current
        thread.current.end("It hangs.", 1.0)
        hung.append(thread.current)

    hung: list[Delivery] = []
    queue.enqueue("a")
    assert handled(queue, handler) == []
    assert (hung[0].error, hung[0].seconds) == ("It hangs.", 1.0)


def test_a_delivery_whose_type_has_no_settings_of_its_own_is_left_to_those_of_the_consumer(queue: Queue) -> None:
    queue.enqueue("a")
    (plain,) = handled(queue, Handler(print).under(queue.config))
    (other,) = handled(queue, Handler(print, settings={"max_retries": 1}).under(queue.config))
    assert (plain.config, other.config) == (None, queue.configured(max_retries=1).config)


class Speechless(Exception):
    def __init__(self, told: Callable[[], object]) -> None:
        self.told = told

    def __str__(self) -> str:
        return self.told()  # type: ignore[return-value]


@pytest.mark.parametrize("told", [lambda: 1 / 0, lambda: None, sys.exit], ids=["raises", "is not text", "exits"])
def test_an_exception_that_cannot_say_what_it_is_fails_its_task_by_its_name_and_the_thread_goes_on(
    queue: Queue, told: Callable[[], object]
) -> None:
    def handler(task: Task) -> None:
        if task.payload == "bad":
            raise Speechless(told)

    queue.enqueue("bad", "good")
    assert [delivery.error for delivery in handled(queue, handler)] == ["Speechless", None]


async def send(_task: Task) -> None: ...


async def send_all(_task: Task) -> AsyncIterator[int]:
    yield 1


class Promise:
    def __await__(self) -> Iterator[None]:
        yield


def test_a_handler_that_returns_what_nobody_runs_has_failed_and_python_has_nothing_to_warn_of(
    queue: Queue, recwarn: pytest.WarningsRecorder
) -> None:
    results = [send, send_all, lambda _task: Promise(), lambda _task: (n for n in ()), lambda _task: iter([1])]

    def handler(task: Task) -> object:
        return results[task.payload](task)

    queue.enqueue(*range(len(results)))
    errors = [delivery.error for delivery in handled(queue, handler)]
    gc.collect()
    kinds = [(error or "").partition(",")[0] for error in errors]
    names = ("coroutine", "async_generator", "Promise", "generator")
    assert kinds == [*(f"The handler returned an object of type {name}" for name in names), ""]
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


@pytest.mark.parametrize(("dropped", "lease_until"), [(True, math.inf), (False, 0.0)], ids=["recovered", "lease over"])
def test_a_handler_thread_gives_back_what_others_may_run_by_now_and_does_not_begin_it(
    queue: Queue, dropped: bool, lease_until: float
) -> None:
    begun: list[Task] = []
    queue.enqueue("a")
    (delivery,) = handled(queue, begun.append, dropped=dropped, lease_until=lease_until)
    assert (begun, delivery.started, delivery.seconds) == ([], None, None)
