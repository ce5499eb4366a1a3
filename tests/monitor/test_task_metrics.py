"""A pool's metrics of its tasks: by type at its health port, and in Redis for the monitor."""

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.processes.programs import system_tool
from support.processes.worker_process import Pool
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.reference.monitor.series import Latency, Series
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.stats.gauges import Gauges, RunningTask
from zeroloss.reference.telemetry.metrics import exposition

APP = """
import os
import time
from zeroloss.reference import Reject, Task, handler

@handler("fine")
def fine(task: Task) -> None: ...

@handler("fails", max_retries=1, backoff=0.001)
def fails(task: Task) -> None:
    raise ValueError("no")

@handler("sleeps")
def sleeps(task: Task) -> None:
    time.sleep(1_000)

@handler("kills")
def kills(task: Task) -> None:
    if task.attempt == 1:
        os.kill(os.getpid(), 9)
"""


def url_of(pool: Pool) -> str:
    wait_until(lambda: "Health at" in pool.log.read_text(), timeout_s=30, message="it does not listen")
    found = re.search(r"Health at (http://\S+)/health", pool.log.read_text())
    assert found
    return found[1]


def shown(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        text = answer.read().decode()
    return {
        sample.name.removeprefix("zeroloss_task_") + f"[{sample.labels.get('type')}]": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


@pytest.fixture
def pool(queue: Queue, tmp_path: Any) -> Any:
    (tmp_path / "metric_app.py").write_text(APP)
    options = ("--app", "metric_app", "--threads", "1", "--processes", "2", "--health-port", "0")
    fast = {"ZEROLOSS_SWEEP_MS": "20", "ZEROLOSS_RENEW_MS": "100", "ZEROLOSS_LEASE_MS": "3000"}
    started = Pool(queue, tmp_path / "worker.log", *options, PYTHONPATH=str(tmp_path), **fast)
    yield started
    started.end()


def test_a_pool_counts_what_became_of_the_tasks_of_each_type_in_all_of_its_processes(queue: Queue, pool: Pool) -> None:
    url = url_of(pool)
    queue.enqueuer.enqueue(Submission("1", task_type="kills"))  # alone: other tasks in hand would run again
    wait_until(lambda: shown(url).get("succeeded_total[kills]") == 1, timeout_s=30, message="it was not redelivered")
    tasks = ["fine"] * 20 + ["fails"] * 3 + ["unheard of", "and of this"]
    queue.enqueuer.enqueue_many([Submission("1", task_type=each) for each in tasks])
    expected = {
        "succeeded_total[fine]": 20,
        "started_total[fine]": 20,
        "run_seconds_count[fine]": 20,
        "wait_seconds_count[fine]": 20,
        "started_total[fails]": 6,
        "failed_total[fails]": 6,
        "retried_total[fails]": 3,
        "dead_lettered_total[fails]": 3,
        "run_seconds_count[fails]": 6,
        "dead_lettered_total[other]": 2,
        "started_total[kills]": 2,
        "redelivered_total[kills]": 1,
        "succeeded_total[kills]": 1,
    }

    def differences() -> dict[str, tuple[float, float | None]]:
        counted = shown(url)
        return {name: (count, counted.get(name)) for name, count in expected.items() if counted.get(name) != count}

    check: Callable[[], bool] = lambda: not differences()  # noqa: E731
    try:
        wait_until(check, timeout_s=40)
    except AssertionError:
        pytest.fail(f"expected and shown: {differences()}\n{pool.log.read_text()[-3000:]}")
    assert not any("unheard" in name for name in shown(url))
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        assert system_tool("promtool", "prometheus", "check", "metrics", given=answer.read().decode()) == ""


def test_a_pool_notes_for_the_monitor_what_runs_and_how_long_tasks_wait_and_run(queue: Queue, pool: Pool) -> None:
    gauges, series = Gauges(queue.own_client, queue.config), Series(queue.own_client, queue.config)
    queue.enqueuer.enqueue(Submission("1", task_type="sleeps"))

    def running() -> list[RunningTask]:
        return [task for consumer in gauges.read().consumers or [] for task in consumer.running]

    (task,) = wait_until(running, timeout_s=30, message="no consumer says what it runs")
    assert task.type == "sleeps"
    wait_until(lambda: running()[0].running_ms > task.running_ms, message="its time does not grow")
    assert all(consumer.host and consumer.version for consumer in gauges.read().consumers or [])
    queue.enqueuer.enqueue_many([Submission("1", task_type="fine")] * 20)

    def latencies() -> list[Latency]:
        return [each for each in series.read(5).latencies if each.run_p95 is not None]

    (latency, *_) = wait_until(latencies, message="no run time was noted")
    assert 0 < (latency.run_p50 or 0) <= (latency.run_p95 or 0) < 10_000
    assert latency.wait_p95 is not None
    assert series.read(5).points[0].counters["enqueued"] is not None


def test_a_pool_without_prometheus_client_works_and_has_no_metrics(queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "metric_app.py").write_text(APP)
    (tmp_path / "prometheus_client.py").write_text("raise ModuleNotFoundError(__name__)")
    options = ("--app", "metric_app", "--health-port", "0")
    pool = Pool(queue, tmp_path / "worker.log", *options, PYTHONPATH=str(tmp_path))
    try:
        queue.enqueuer.enqueue(Submission("1", task_type="fine"))
        wait_until(lambda: queue.counters().get("completed") == 1, timeout_s=30, message="it was not run")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            shown(url_of(pool))
    finally:
        pool.end()


def test_a_file_that_a_process_is_just_making_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "counter_0.db").touch()
    timer = threading.Timer(0.05, lambda: (tmp_path / "counter_0.db").write_bytes(bytes(8)))
    timer.start()
    assert exposition(str(tmp_path)) == b""
    timer.join()
