"""`python -m reference up` and `dead-letter`: as a new user meets them."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from queue_fixtures import Queue
from support import wait_until

ROOT = Path(__file__).parent.parent


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "reference", "up", "--producer-port", "0", "--monitor-port", "0"]
        with (tmp_path / "up.log").open("wb") as log:
            started.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def test_up_runs_a_task_from_http_to_the_monitor_and_ends_cleanly_at_ctrl_c(
    up: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = up()
    said = lambda: (tmp_path / "up.log").read_text()  # noqa: E731
    address = r"(producer|monitor) listening on (http://[\d.]+:\d+)"
    addresses = wait_until(lambda: len(found := dict(re.findall(address, said()))) == 2 and found, 20)
    assert "Valkey" in said(), "the server in use is printed"
    request = urllib.request.Request(
        addresses["producer"] + "/task", data=b'{"payload": 1}', headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 202
        assert json.load(answer)["status"] == "queued"

    def completed() -> bool:
        with urllib.request.urlopen(addresses["monitor"] + "/stats") as answer:
            return json.load(answer)["counters"]["completed"] == 1

    wait_until(completed, 20)
    everyone = psutil.Process(process.pid).children(recursive=True)
    assert len(everyone) >= 5
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert not [child for child in everyone if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_up_at_a_server_that_does_not_answer_says_so_in_one_sentence(dead_port: int) -> None:
    command = [sys.executable, "-m", "reference", "monitor", "--redis", f"nonsense://{dead_port}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "redis_url" in ended.stderr
    assert "Traceback" not in ended.stderr


def run_dead_letter(queue: Queue, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reference", "dead-letter", *arguments, "--redis", queue.config.redis_url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_dead_letters_are_listed_requeued_and_purged_from_the_command_line(queue: Queue) -> None:
    first, second = queue.dead_lettered("a", "ValueError: a"), queue.dead_lettered("b", "ValueError: b")
    shown = [json.loads(line) for line in run_dead_letter(queue, "list").stdout.splitlines()]
    assert [(letter["id"], letter["error"]) for letter in shown] == [
        (second.id, "ValueError: b"),
        (first.id, "ValueError: a"),
    ]
    assert run_dead_letter(queue, "requeue", first.id).returncode == 0
    assert len(queue.pending()) == 1
    assert run_dead_letter(queue, "purge", "--all").stdout == "purge: 1\n"
    assert queue.dead() == []


def test_an_id_that_is_not_in_the_dead_letter_list_is_named(queue: Queue) -> None:
    ended = run_dead_letter(queue, "requeue", "no-such-id")
    assert ended.returncode == 1
    assert "'no-such-id'" in ended.stderr


def test_requeue_of_nothing_in_particular_is_refused(queue: Queue) -> None:
    ended = run_dead_letter(queue, "requeue")
    assert ended.returncode == 2
    assert "either task ids or --all" in ended.stderr
