"""The reference queue: tasks are submitted over HTTP, as by its users, and run by its own worker command."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import ClassVar

import redis
from zeroloss.reference.queue import consumer, enqueuer, protocol, reaper
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import Script, borrowed, connect
from zeroloss.reference.queue.durability import Durability
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.queue.task import encode
from zeroloss.reference.queue.texts import NAME_CHARS_MAX
from zeroloss.reference.worker import presence

from ..system.environment import DURABILITY_VARIABLE
from ..target import Conflict, Found, Refused, Retries, Target, Task, Variant, WrongAnswer
from .reference_census import census_of
from .reference_http import (
    ACCEPTED,
    CONFLICT,
    LARGE_CHARS,
    MULTI_STATUS,
    RETRY_S,
    SERVICE_UNAVAILABLE,
    UNPROCESSABLE,
    Requests,
    drawn,
    one_in,
    refuses,
    submission,
)
from .reference_letters import OldLetters
from .reference_python import PythonClient

LEASE_MS = 3_600
RENEW_MS, BLOCK_MS = 1_200, 100
"""Intervals of a worker, in ms. As with the defaults, a worker that waits only for its next renewal is silent for
longer than its stop waits for Redis, and longer than it may be absent."""
SWEEP_MS = 500
PAUSE_MARGIN_S = 0.5
REQUEUE_TIMEOUT_S = 15.0
LARGE_BATCH, PATIENCE_S = 100, 12.0
MAX_SCHEDULED = 535
"""Limit on scheduled tasks. It is low enough for a default run to exceed it, so some are refused and resubmitted."""
MAX_PENDING = 1_200
LARGEST_BYTES = 3 * 2**19
"""Largest task, more than all that one claim takes: a claim takes such a task alone."""
PUSHED_ONE_IN = 20
"""One in this many tasks is pushed to the list itself as a bare JSON object, as by a client of another system."""
BY_PYTHON_ONE_IN, BATCH_BY_PYTHON_ONE_IN, BY_PYTHON_MAX = 8, 3, 20
"""One in this many tasks, or batches of at most `BY_PYTHON_MAX`, is enqueued by the Python API, not the producer."""
WITH_KEY = 2
"""Number of requests that a client with an idempotency key sends before it gives up."""
TYPE = "chaos"
ASYNCHRONOUS = f"{TYPE}.3"
"""Task type whose handler is a coroutine, and has a backoff of its own, but the worker's limit of retries."""
ASYNCHRONOUS_BACKOFF_S = 2.0
TYPED = f"{TYPE}.typed"
"""Task type whose handler takes the payload as a `msgspec.Struct`, and has retry limits of its own."""
TYPED_RETRIES, TYPED_BACKOFF_S = 1, 3.0
UNRETRIED = f"{TYPE}.unretried"
"""Task type whose handler has no retries."""
LIMITED, LIMITED_ASYNCHRONOUS = f"{TYPE}.limited", f"{TYPE}.limited.3"
"""Types of the tasks whose bodies hang: their handlers, a function and a coroutine, have a time limit."""
ASKING = f"{TYPE}-é"
"""Task type whose handler states the delay of its retry when it fails."""
ENVELOPE_BYTES_MAX = 77
"""Most bytes of an entry beside its payload and header: an id with the longest seed, and the longest type. No more,
so that the largest entry exceeds `max_task_bytes` with its header, which does not count."""
KEYED = ("client-retries", "client-reuses-key")
"""Prefixes of the behaviours whose tasks are submitted with an idempotency key."""

QUEUE = (sys.executable, "-m", "zeroloss.reference")
ASGI = ("--server", "asgi") if find_spec("uvicorn") else ()
"""Options of the producer in some variants. Without uvicorn it keeps its default server."""


class Reference(Target):
    """The queue of `reference/`, submitted to over HTTP; as shipped, except that its lease is short."""

    name: ClassVar[str] = "reference"
    command: ClassVar[Sequence[str]] = QUEUE
    worker = (*QUEUE, "worker", "--app", "zeroloss.targets.reference_app", "--processes", "1")
    producer = (*QUEUE, "producer", "--host", "127.0.0.1", "--port", "0")
    recover_within = (LEASE_MS + SWEEP_MS) / 1000
    fifo = True
    unexplained_duplicates = 0
    idempotent = True
    max_attempts = 4
    max_recoveries = Config.max_recoveries
    asks_again_after = 6.0  # later than the longest backoff that is set
    backoff = ((0.5, 1.0), (1.0, 2.0), (2.0, 4.0))
    retries_by_type: Mapping[str, Retries] = {
        TYPED: Retries(1 + TYPED_RETRIES, ((TYPED_BACKOFF_S / 2, TYPED_BACKOFF_S),)),
        ASYNCHRONOUS: Retries(max_attempts, ((1.0, 2.0), (2.0, 4.0), (2.5, 5.0))),
    }
    attempts_grow = True
    priorities: Sequence[str] = ("high", "default", "low")
    lower_within: int | None = 128  # eight times the sixteen of one worker
    delays = True
    starts_when_idle = True
    accepts = True
    drains_when_full = True
    keeps_through = 0.5
    grace = 25.0
    time_limit = 6.0
    workers_stay = True
    recovers_in_order = True
    pauses_within: float | None = (RENEW_MS + BLOCK_MS) / 1000 + PAUSE_MARGIN_S
    keys_at_rest = 9
    mix: Sequence[str] = (
        *("server-sigkill:down_s=6", "server-sigterm", "script-flush", "net-silence", "net-reply-loss"),
        *("worker-sigkill-child", "worker-sigkill-parent", "worker-sigterm-then-sigkill", "worker-sigint"),
        *("server-denies:command=xadd", "worker-sigterm:twice=true"),
    )
    variants: Mapping[str, Variant] = {
        # The producer's other server is tried too, as `prove --quick` has no third run.
        "recycled": Variant(
            worker=("--processes", "2", "--max-tasks", "100"),
            producer=ASGI,
            members={
                "workers_stay": False,
                "mix": ("producer-sigkill", "producer-sigkill-batch", "client-gives-up", "server-denies:command=hset"),
            },
        ),
        # With the times and the largest task as shipped.
        "as-shipped": Variant(
            producer=ASGI,
            env={
                name: str(getattr(Config, name.removeprefix("ZEROLOSS_").lower()))
                for name in (
                    *("ZEROLOSS_LEASE_MS", "ZEROLOSS_RENEW_MS", "ZEROLOSS_SWEEP_MS", "ZEROLOSS_BLOCK_MS"),
                    "ZEROLOSS_MAX_TASK_BYTES",
                )
            },
            members={
                "recover_within": (Config.lease_ms + Config.sweep_ms) / 1000,
                "recover_sooner": {"worker-sigkill": (Config.absence_ms + 2 * Config.sweep_ms) / 1000},
                "payload_bytes_max": Config.max_task_bytes - ENVELOPE_BYTES_MAX,
                "pauses_within": (Config.renew_ms + Config.block_ms) / 1000 + PAUSE_MARGIN_S,
                "mix": (
                    "server-denies:command=xadd",
                    "worker-sigint",
                    "net-reset",
                    "worker-sigkill-parent",
                    "clock-jump",
                ),
            },
        ),
        # Tasks are on disk before they are promised, and with a low limit on waiting tasks some may be refused.
        "confirmed": Variant(
            env={"ZEROLOSS_MAX_PENDING": str(MAX_PENDING)},
            members={
                "durability": "fsync",
                "accepts": False,
                "appendfsync": "everysec",
                "mix": ("server-slow-fsync", "server-sigstop"),
            },
        ),
        "replicated": Variant(
            members={
                "server": "sentinel",
                "durability": "replicas:1",
                "mix": ("primary-sigkill", "worker-sigkill-child", "worker-sigterm-then-sigkill"),
            },
        ),
    }
    payload_bytes_max = LARGEST_BYTES - ENVELOPE_BYTES_MAX
    types = (TYPE, ASKING, ASYNCHRONOUS, TYPED)
    batch_max = Config.max_batch
    behaviours = frozenset(
        {"raise-once", "raise-always", "raise-system-exit", "raise-keyboard-interrupt", "raise-memory-error"}
        | {"raise-later", "hang-once", "exit-once", "exit-twice", "reject", "unretried", "misfit", "lazy"}
        | {"unknown-type", "undecodable"}
    )
    raw_payloads = True
    scripts: Mapping[str, str] = {
        script.digest[:8]: name.strip("_").lower()
        for module in (consumer, reaper, enqueuer, presence, protocol)
        for name, script in vars(module).items()
        if isinstance(script, Script)
    }
    env: Mapping[str, str] = {
        "ZEROLOSS_LEASE_MS": str(LEASE_MS),
        "ZEROLOSS_RENEW_MS": str(RENEW_MS),
        "ZEROLOSS_SWEEP_MS": str(SWEEP_MS),
        "ZEROLOSS_BLOCK_MS": str(BLOCK_MS),
        "ZEROLOSS_BACKOFF_MAX_MS": "5000",
        # Short: if a wrong unit makes it a thousandth of this, a key expires before it is used again.
        "ZEROLOSS_IDEMPOTENCY_TTL_MS": "60000",
        "ZEROLOSS_MAX_SCHEDULED": str(MAX_SCHEDULED),
        "ZEROLOSS_MAX_TASK_BYTES": str(LARGEST_BYTES),
    }
    settings: ClassVar[str] = (
        "lease 3.6 s (default 10), sweep 0.5 s (default 1), renewal 1.2 s (default 2.5), block 0.1 s (default 1), "
        f"longest backoff 5 s (default 60), idempotency keys 60 s (default a day), at most {MAX_SCHEDULED} "
        "scheduled tasks (default a million), tasks of up to 1.5 MiB (default 1)"
    )
    promise: ClassVar[str] = (
        "An accepted task is executed to completion at least once, or is in the dead-letter list with a reason."
    )
    promise_url: ClassVar[str] = "docs/guarantees.md"
    takes_bare: ClassVar[bool] = True
    """Whether some tasks are pushed to the pending list as bare JSON."""
    attempts: ClassVar[int] = 1
    """Number of requests that a client sends before it gives up; above 1, all with one idempotency key."""
    has_old_letters: ClassVar[bool] = True
    """Whether thousands of dead letters are there before the run begins."""

    def ready(self) -> bool:
        if self._port() is None:
            return False
        if self.has_old_letters:
            self._old_letters.write()
        return True

    def url(self) -> str | None:
        port = self._port()
        return None if port is None else f"http://127.0.0.1:{port}"

    def enqueue(self, task: Task) -> str | None:
        behaviour = task.payload.get("behaviour", "")
        own = key_of(task.id)
        key = own if self.attempts > 1 or behaviour.startswith(KEYED) or one_in(4, own.lower()) else None
        if behaviour == "raise-always":
            self._old_letters.check()
        if "undecodable" in behaviour or "orphan" in behaviour:
            self._plant(task, behaviour)
            return None
        if self.takes_bare and not key and self._is_bare(task):
            self._push(encode(task_id=task.id, task_type=task.type or TYPE, payload_json=task.text))
            return task.id
        in_http = self.attempts > 1 or behaviour.startswith("client-")
        if not in_http and one_in(BY_PYTHON_ONE_IN, task.id, "python"):
            return self._python.enqueue(task, _type_of(task), key, PATIENCE_S)
        # A task that may be requeued is submitted under its own id.
        named = not key or behaviour == "raise-always" or one_in(2, key, "named")
        body = submission(task, _type_of(task), named=named, timed=not key)
        if behaviour == "client-gives-up":
            self._requests.hang_up(body, None)
        if behaviour == "client-retries-unanswered" and task.attempt == 1:
            self._requests.hang_up(body, key)
        refused, give_up_s = True, time.monotonic() + PATIENCE_S
        # With a key a client can send its request again if its outcome is unknown.
        for left in reversed(range(max(self.attempts, WITH_KEY if key else 1))):
            try:
                status, answer = self._requests.post_when_there_is_room("/task", body, key, give_up_s)
            except (http.client.HTTPException, OSError):
                refused = False
                if left:
                    continue
                raise
            if status == ACCEPTED:
                promised: str = json.loads(answer)["task_id"]
                if named and promised != task.id and not behaviour.startswith("client-reuses-key"):
                    raise WrongAnswer(f"Another task was promised: {answer}")
                if key and one_in(2, key, "again"):
                    self._requests.repeat("/task", body, key, answer)
                return promised
            if status == UNPROCESSABLE and refused and json.loads(answer)["type"] == CONFLICT:
                raise Conflict(answer)
            refused = refused and refuses(status, answer)
            if status != SERVICE_UNAVAILABLE:
                break
            time.sleep(RETRY_S)
        # If the outcome of any request is unknown, the task may be in the queue, even if the last one was refused.
        raise Refused(answer) if refused else RuntimeError(answer)

    def enqueue_many(self, tasks: Sequence[Task]) -> list[str]:
        """Submit a batch. Half of all batches have a key, and are sent again after the answer.

        Large batches always have a key: one may hold half of a run, so it is sent until it is accepted.
        """
        large = len(tasks) >= LARGE_BATCH
        key = key_of(f"batch-{tasks[0].id}") if large or one_in(2, tasks[0].id) else None
        if len(tasks) <= BY_PYTHON_MAX and one_in(BATCH_BY_PYTHON_ONE_IN, tasks[0].id, "python"):
            return self._python.enqueue_many(tasks, _type_of, key, PATIENCE_S)
        # A small batch also has an item that must be refused.
        place = None if large else drawn(len(tasks) + 1, tasks[-1].id)
        items = [submission(task, _type_of(task), named=True, timed=True) for task in tasks]
        if place is not None:
            items.insert(place, self._refused[place % len(self._refused)])
        # Half of all batches are an array, and half a line for each task.
        body = "\n".join(items) if one_in(2, tasks[0].id, "lines") else f"[{','.join(items)}]"
        refused, give_up_s = True, time.monotonic() + PATIENCE_S
        while True:
            left = time.monotonic() < give_up_s
            try:
                status, answer = self._requests.post_when_there_is_room("/tasks", body, key, give_up_s)
            except (http.client.HTTPException, OSError):
                refused = False
                if not (large and left):
                    raise
            else:
                if status in (ACCEPTED, MULTI_STATUS):
                    break
                refused = refused and refuses(status, answer)
                if not (large and left and status == SERVICE_UNAVAILABLE):
                    raise Refused(answer) if refused else RuntimeError(answer)
            time.sleep(RETRY_S)
        if key:
            self._requests.repeat("/tasks", body, key, answer)
        results = json.loads(answer)["results"]
        if len(results) != len(items):
            raise WrongAnswer(f"{len(items)} tasks were sent, and {len(results)} answered: {answer[:200]}")
        if place is not None and (status == ACCEPTED or results.pop(place)["status"] != "refused"):
            raise WrongAnswer(
                f"Of a batch one was to be refused, and the answer, {status}, promises all: {answer[:200]}"
            )
        if status == ACCEPTED:  # a promise for all tasks
            return []
        for task, result in zip(tasks, results, strict=True):
            if result["status"] != "refused" and result["task_id"] != task.id:
                raise WrongAnswer(f"Another task was promised: {result}")
        return [task.id for task, result in zip(tasks, results, strict=True) if result["status"] == "refused"]

    @cached_property
    def _refused(self) -> tuple[str, str]:
        """Two items that must be refused: one without a type, and one that is a little too large."""
        return '{"id":"no task"}', f'{{"id":"large","type":"chaos","payload":"{"x" * self._too_large}"}}'

    @property
    def _too_large(self) -> int:
        """Size in bytes from which a payload alone makes its task too large."""
        return int(self.env.get("ZEROLOSS_MAX_TASK_BYTES", Config.max_task_bytes))

    def _is_bare(self, task: Task) -> bool:
        """Return whether the task is pushed as bare JSON: one in `PUSHED_ONE_IN` of those that need no producer."""
        plain = not task.delay_ms and task.priority in ("", "default") and not task.payload.get("behaviour")
        return plain and len(task.text) < LARGE_CHARS and one_in(PUSHED_ONE_IN, task.id, "bare")

    def _plant(self, task: Task, behaviour: str) -> None:
        """Write to Redis what no client of the queue can: bytes that are not a task, or entries of a dead worker."""
        keys, client = Keys(self.namespace), self._redis
        text = encode(task_id=task.id, task_type=TYPE, payload_json=task.text)
        entry = text[:-1] if "undecodable" in behaviour else b"d,1,0,0,0,0,;" + text
        if behaviour == "undecodable":
            self._push(entry)
            return
        departed = f"departed-{task.id}"
        with client.pipeline(transaction=True) as pipeline:
            pipeline.hset(keys.processing(departed), "1", entry)
            pipeline.zadd(keys.consumers, {departed: int(time.time() * 1000) - 1})
            pipeline.execute()

    def _push(self, entry: bytes) -> None:
        """Push the entry to the list itself, and wait until it is as durable as a promised task must be."""
        safe = Durability(os.environ.get(DURABILITY_VARIABLE) or Config.durability, Config.durability_timeout_ms)
        with borrowed(self._redis) as connection:
            connection.send_command("LPUSH", Keys(self.namespace).pending, entry)
            connection.read_response()
            safe.confirm(connection)

    def census(self) -> Iterator[Found]:
        yield from census_of(self._redis, Keys(self.namespace), self._old_letters.later)

    def requeue(self, tasks: Sequence[str]) -> None:
        """Requeue by the operator's command, in the environment of the workers."""
        subprocess.run([*self.command, "dead-letter", "requeue", *tasks], check=True, timeout=REQUEUE_TIMEOUT_S)

    def pause(self) -> None:
        self._python.queue.pause()

    def resume(self) -> None:
        self._python.queue.resume()

    @cached_property
    def _redis(self) -> redis.Redis:
        return connect(Config(redis_url=self.redis_url, namespace=self.namespace))

    @cached_property
    def _old_letters(self) -> OldLetters:
        return OldLetters(self._redis, Keys(self.namespace))

    @cached_property
    def _python(self) -> PythonClient:
        return PythonClient(self.redis_url, self.namespace, self._too_large)

    @cached_property
    def _requests(self) -> Requests:
        return Requests(self._port)

    def _port(self) -> int | None:
        """Return the port that the producer logged last, as the system chooses one at each start; None: not yet."""
        log = self.directory / "logs" / "producer.log"
        said = re.findall(r"listening on http://[^\s:]+:(\d+)", log.read_text(errors="replace")) if log.exists() else []
        return int(said[-1]) if said else None


class ReferenceInOrder(Reference):
    """The reference with one worker of one thread, which runs tasks in the order they were accepted."""

    name: ClassVar[str] = "reference-in-order"
    workers = 1
    in_order = True
    takes_bare = False
    has_old_letters = False
    priorities = ()
    lower_within = None
    delays = False
    env: Mapping[str, str] = {**Reference.env, "ZEROLOSS_THREADS": "1"}


def _type_of(task: Task) -> str:
    limited = LIMITED_ASYNCHRONOUS if one_in(3, task.id, "limited") else LIMITED
    other = {"unknown-type": "nobody's", "misfit": TYPED, "lazy": TYPE, "unretried": UNRETRIED, "hang-once": limited}
    return other.get(task.payload.get("behaviour", ""), task.type or TYPE)


def key_of(name: str) -> str:
    """Return an idempotency key. The keys of two neighbouring tasks differ in case alone; half are of full length."""
    head, _, number = name.rpartition("-")
    if number.isdigit():
        name = f"{'zZ'[int(number) % 2]}-{head}-{int(number) // 2}"
    return name.ljust(NAME_CHARS_MAX, "+") if one_in(2, name.lower(), "long") else name
