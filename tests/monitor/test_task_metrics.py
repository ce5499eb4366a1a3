"""What a pool tells of each task type at its health port, for Prometheus."""

import re
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.processes.worker_process import Pool
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.reference.queue.enqueuer import Submission

APP = """
import os
from pathlib import Path
from zeroloss.reference import Reject, Task, handler

@handler("fine")
def fine(task: Task) -> None: ...

@handler("fails", max_retries=1, backoff=0.001)
def fails(task: Task) -> None:
    raise ValueError("no")

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
    queue.enqueuer.enqueue(Submission("1", task_type="kills"))  # alone: what else its process had in hand runs again
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
