"""Handlers for the tests of the worker. They record calls in Redis, where the test reads them."""

import os
import sys
import time

import redis
from zeroloss.reference import Task, handler

server = redis.Redis.from_url(os.environ["REDIS_URL"])


def note(task: Task) -> None:
    server.rpush("ran", f"{task.id}:{task.attempt}:{os.getpid()}")


@handler("note")
def just_note(task: Task) -> None:
    note(task)


@handler("print")
def print_without_a_flush(task: Task) -> None:
    print(f"printed by {task.id}")


@handler("gate")
def wait_at_gate(task: Task) -> None:
    """Record the call, wait until the test opens the gate, and record the end."""
    note(task)
    while not server.exists("gate"):
        time.sleep(0.005)
    server.rpush("passed", task.id)


@handler("raise")
def always_raise(task: Task) -> None:
    note(task)
    raise ValueError(f"no good: {task.payload}")


class Flooding(Exception):
    def __str__(self) -> str:
        return "\n2026-01-01 INFO forged" * 2_000_000


@handler("flood")
def raise_what_tells_fifty_megabytes(task: Task) -> None:
    note(task)
    raise Flooding


@handler("leave")
def leave_the_thread(task: Task) -> None:
    note(task)
    sys.exit(3)


@handler("poison")
def kill_the_process(task: Task) -> None:
    note(task)
    os._exit(9)


@handler("hang")
def hang_once(task: Task) -> None:
    """Hang in the first attempt only."""
    note(task)
    while task.attempt == 1:
        time.sleep(0.01)
