"""Log lines for machines: one JSON object each, which names its task."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.places import ROOT
from support.processes.worker_process import Pool
from support.queue_fixtures import Queue, entry
from support.waiting import wait_until
from zeroloss.reference.__main__ import main
from zeroloss.reference.logs import JsonFormatter, running
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.task import Task

APP = """
import logging
from zeroloss.reference import Task, handler

@handler("speaks", max_retries=0)
async def speaks(task: Task) -> None:
    logging.getLogger("theirs").warning("two\\nlines of %s", task.payload)

@handler("fails", max_retries=0)
def fails(task: Task) -> None:
    raise ValueError("no")
"""


def record(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("a.logger", logging.WARNING, "file.py", 1, message, arguments, more.pop("exc_info", None))
    vars(made).update(more)
    return made


def test_a_line_is_one_object_with_the_task_that_it_speaks_of() -> None:
    task = Task(entry("t1", attempt=3, task_type="email"), 7)
    line = JsonFormatter("w1").format(record("two\nlines: %s", "é", task=task))
    assert "\n" not in line
    shown = json.loads(line)
    assert (shown["message"], shown["level"], shown["logger"]) == ("two\nlines: é", "WARNING", "a.logger")
    assert (shown["task_id"], shown["type"], shown["attempt"], shown["delivery"]) == ("t1", "email", 3, 7)
    assert shown["consumer"] == "w1"
    assert shown["time"].endswith("+00:00")


def test_a_line_of_no_task_names_none_and_an_exception_is_within_the_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        line = JsonFormatter().format(record("it failed", exc_info=sys.exc_info()))
    shown = json.loads(line)
    assert {"task_id", "consumer"}.isdisjoint(shown)
    assert shown["exception"].endswith("ValueError: no")


def test_a_line_that_is_logged_while_a_handler_runs_belongs_to_its_task() -> None:
    token = running.set(Task(entry("t2")))
    try:
        assert json.loads(JsonFormatter().format(record("x")))["task_id"] == "t2"
    finally:
        running.reset(token)


def test_every_line_of_a_pool_is_an_object_with_task_type_attempt_delivery_and_consumer(
    queue: Queue, tmp_path: Path
) -> None:
    (tmp_path / "speaking_app.py").write_text(APP)
    options = ("--app", "speaking_app", "--log-format", "json")
    pool = Pool(queue, tmp_path / "worker.log", *options, PYTHONPATH=str(tmp_path))
    try:
        queue.enqueuer.enqueue(Submission("1", task_type="speaks", task_id="a"))
        queue.enqueuer.enqueue(Submission("2", task_type="fails", task_id="b"))
        wait_until(lambda: pool.said("lines of 1") and pool.said("ValueError"), timeout_s=30)
        pool.signal(signal.SIGTERM)
        pool.wait(30)
    finally:
        pool.end()
    lines = [json.loads(line) for line in pool.log.read_text().splitlines()]
    told = {line["task_id"]: line for line in lines if "task_id" in line}
    assert told["a"]["logger"] == "theirs"
    assert (told["b"]["type"], told["b"]["attempt"]) == ("fails", 1)
    assert told["a"]["consumer"] == told["b"]["consumer"]
    assert {told["a"]["delivery"], told["b"]["delivery"]} == {1, 2}


@pytest.mark.parametrize("processes", [1, 2])
def test_every_line_of_an_asgi_producer_is_an_object_however_many_processes_it_has(
    queue: Queue, tmp_path: Path, processes: int
) -> None:
    errors = tmp_path / "errors"
    options = ("--server", "asgi", "--port", "0", "--processes", str(processes), "--log-format", "json")
    # Each process warns of the variable.
    environ = {**os.environ, "ZEROLOSS_QQQ": "1", "REDIS_URL": queue.config.redis_url, "PYTHONPATH": str(ROOT)}
    with errors.open("w") as written:
        producer = subprocess.Popen(
            [sys.executable, "-m", "zeroloss.reference", "producer", *options],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=written,
        )
    try:
        wait_until(lambda: errors.read_text().count("ZEROLOSS_QQQ") == processes + 1, timeout_s=30)
        producer.send_signal(signal.SIGTERM)
        assert producer.wait(30) == 0
    finally:
        producer.kill()
        producer.wait()
    lines = [json.loads(line) for line in errors.read_text().splitlines()]
    assert {(line["logger"], line["level"]) for line in lines} >= {("zeroloss.reference.http.producer", "WARNING")}
    assert not [line for line in lines if line["logger"].startswith("uvicorn") and line["level"] == "INFO"]


def test_an_invalid_log_format_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pause", "--log-format", "xml"])
    assert ended.value.code == 2
    assert "--log-format" in capsys.readouterr().err
