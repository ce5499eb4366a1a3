"""Handlers with their own settings, handlers with typed payloads, and async handlers. They record calls in Redis."""

import asyncio
import contextvars
import os
import sys
import time
from collections.abc import Callable

import msgspec
import redis
from zeroloss.reference import Reject, Retry, Task, around, handler

server = redis.Redis.from_url(os.environ["REDIS_URL"])
surrounded_by = contextvars.ContextVar("surrounded_by", default="nothing")


def note(task: Task, text: object = "") -> None:
    server.rpush("ran", f"{task.id}:{task.attempt}:{text or os.getpid()}")


@around
def surround(task: Task, call: Callable[[], None]) -> None:
    if task.type == "not called":
        return
    surrounded_by.set(task.id)
    try:
        call()
    except BaseException as error:
        server.rpush("around", f"{task.id} {type(error).__name__}")
        raise
    server.rpush("around", f"{task.id} done")


@handler("not called")
@handler("plain")
def run(task: Task) -> None:
    note(task)


@handler("once", max_retries=0)
@handler("thrice", max_retries=2, backoff=0.001)
@handler("later", backoff=3600)
def fail(task: Task) -> None:
    note(task)
    raise ValueError("no")


@handler("busy")
def ask_for_a_retry(task: Task) -> None:
    note(task)
    if task.payload is not None:
        raise Retry("rate limited", after=task.payload)


@handler("reject")
def reject(task: Task) -> None:
    note(task)
    raise Reject("no such user")


@handler("slow", timeout=0.3)
def hang(task: Task) -> None:
    note(task)
    while task.attempt == 1:
        time.sleep(0.01)


class Attachment(msgspec.Struct):
    size: int


class Email(msgspec.Struct):
    to: str
    attachments: list[Attachment] = []


@handler("email")
def send(task: Task, email: Email) -> None:
    note(task, f"to {email.to}, {sum(one.size for one in email.attachments)} bytes")


@handler("async email")
async def send_async(task: Task, email: Email) -> None:
    await asyncio.sleep(0)
    note(task, f"to {email.to}, on {type(asyncio.get_running_loop()).__name__}, within {surrounded_by.get()}")


met: dict[str, asyncio.Event] = {}


@handler("meet")
async def meet_the_other(task: Task) -> None:
    """End when both tasks run: they share an event loop, and each takes the slot of a thread."""
    note(task)
    met.setdefault(task.id, asyncio.Event()).set()
    await met.setdefault(task.payload, asyncio.Event()).wait()


@handler("async slow", timeout=0.3)
async def sleep_long(task: Task) -> None:
    note(task)
    try:
        await asyncio.sleep(3600 if task.attempt == 1 else 0)
    except asyncio.CancelledError:
        server.rpush("cancelled", task.id)
        raise


@handler("async stuck", timeout=0.3)
async def block_the_loop(task: Task) -> None:
    note(task)
    while task.attempt == 1:
        time.sleep(0.01)


@handler("async leave")
async def leave(task: Task) -> None:
    note(task)
    sys.exit(3)


@handler("async fork")
async def fork(task: Task) -> None:
    """Return in both processes."""
    os.fork()
    note(task)
