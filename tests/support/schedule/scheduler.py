"""A scheduler that lets one thread of the queue send one Redis command at a time, to a real server.

The threads are greenlets that run the queue's own code. A client's connection gives the turn back before it sends a
command. The scheduler decides when and whether the command is sent, and whether its reply arrives. The scheduler also
owns the time: the scripts read a key of Redis in place of TIME, and are otherwise unchanged.
"""

import importlib
import math
import queue
from collections import deque
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any

import greenlet
import pytest
import redis
from zeroloss.reference.queue.connection import Script

CLOCK_KEY = "the-clock"
SERVER_TIME = "redis.call('TIME')"
CLOCKED_MODULES = ("worker.claimer", "worker.pace", "worker.process")
QUEUED_MODULES = ("worker.claimer", "worker.hand", "worker.waiter")
START_MS = 1_700_000_000_000
MOVE_BATCH = 2
JITTERED_MODULES = ("worker.claimer", "queue.consumer", "worker.process")


heard: list[str] = []
"""The replies since the last step: all that a process can learn about other processes."""


class Way(Enum):
    """The outcome of one command. The values are the sentences of a story."""

    GOES = "goes"
    REPLY_LOST = "the reply to {} is lost"
    NEVER_SENT = "a command of {} is lost on the way"
    LATE = "a command of {} is held up, and given up by its sender"
    TWICE = "a command of {} is repeated on the way"
    HALF = "the claim that {} sends along with its wait is lost on the way"
    APART = "the claim that {} sends along with its wait comes later"


class Crash(greenlet.GreenletExit):
    """Ends a thread whose process crashes."""


class Want:
    """The next action of a thread, and when it is possible: at once, when `ready`, or from `until_ms` on."""

    __slots__ = ("_ready", "kind", "until_ms")

    def __init__(self, kind: str, ready: Callable[[], bool] | None = None, until_ms: int | None = None) -> None:
        self.kind, self._ready, self.until_ms = kind, ready, until_ms

    def possible(self, now_ms: int) -> bool:
        if self.until_ms is not None and now_ms >= self.until_ms:
            return True
        return self._ready() if self._ready else self.until_ms is None


def ask(want: Want) -> Way:
    """Give the turn back, and return the outcome chosen for the command when the next turn comes."""
    scheduler = greenlet.getcurrent().parent
    assert scheduler is not None, "only a thread of the schedule takes turns"
    way: Way = scheduler.switch(want)
    return way


class Clock:
    """Two clocks: Redis's, which is kept in a key and may be set, and the monotonic clock of all processes."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.now_ms = START_MS
        self.off_ms = 0  # offset to which Redis's clock was set
        self.ahead_ms: Callable[[], int] = lambda: 0  # error of the asking process's wall clock
        self._write()

    @property
    def redis_ms(self) -> int:
        """Redis's time, by which leases end."""
        return self.now_ms + self.off_ms

    def pass_to(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self._write()

    def set_redis(self, by_ms: int) -> None:
        """Set the server's clock, as an operator or NTP may."""
        self.off_ms += by_ms
        self._write()

    def _write(self) -> None:
        seconds, rest_ms = divmod(self.redis_ms, 1000)
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.delete(CLOCK_KEY)
            pipeline.rpush(CLOCK_KEY, seconds, rest_ms * 1000)
            pipeline.execute()

    def after_ms(self, seconds: float) -> int:
        return self.now_ms + math.ceil(seconds * 1000)

    def monotonic(self) -> float:
        return (self.now_ms - START_MS) / 1000

    def time_ns(self) -> int:
        return (self.now_ms + self.ahead_ms()) * 1_000_000

    def server_time(self) -> tuple[int, int]:
        seconds, rest_ms = divmod(self.redis_ms, 1000)
        return seconds, rest_ms * 1000


class Scripts:
    """The scripts with the clock's key in place of TIME. They are loaded in advance, so each call is one command."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._clocked: dict[str, Script] = {}

    def clocked(self, script: Script) -> Script:
        if script.source not in self._clocked:
            read = f"redis.call('LRANGE', '{CLOCK_KEY}', 0, -1)"
            made = Script(script.source.replace(SERVER_TIME, read))
            self._client.script_load(made.source)
            self._clocked[script.source] = made
        return self._clocked[script.source]


def rule(clock: Clock, scripts: Scripts, patch: pytest.MonkeyPatch) -> None:
    """Make the queue's modules and scripts read this clock, and its threads wait for each other in turns.

    A script of a recovery moves at most `MOVE_BATCH` tasks. A producer's check of the protocol version is left out: it
    happens once, and an app serves several schedules.
    """
    read = SimpleNamespace(monotonic=clock.monotonic, time_ns=clock.time_ns)
    for name in CLOCKED_MODULES:
        patch.setattr(importlib.import_module(f"zeroloss.reference.{name}"), "time", read)
    waiting = SimpleNamespace(SimpleQueue=lambda: TurnQueue(clock), Empty=queue.Empty)
    for name in QUEUED_MODULES:
        patch.setattr(importlib.import_module(f"zeroloss.reference.{name}"), "queue", waiting)
    for name in JITTERED_MODULES:  # otherwise one process's random draw would change another's
        even = SimpleNamespace(uniform=lambda _low, high: high, randint=lambda _low, high: high, randrange=lambda _: 0)
        patch.setattr(importlib.import_module(f"zeroloss.reference.{name}"), "random", even)
    patch.setattr("zeroloss.reference.queue.enqueuer.refuse_other_protocol", lambda *_: None)
    patch.setattr("zeroloss.reference.queue.reaper.MOVE_BATCH", MOVE_BATCH)
    untouched = Script.command

    def command(self: Script, keys: Any, arguments: Any) -> Any:
        return untouched(scripts.clocked(self), keys, arguments)

    patch.setattr(Script, "command", command)


class TurnQueue:
    """`queue.SimpleQueue` for threads that take turns."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)

    def empty(self) -> bool:
        return not self._items

    def get_nowait(self) -> Any:
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def get(self, timeout: float | None = None) -> Any:
        if not self._items and (timeout is None or timeout > 0):
            until_ms = None if timeout is None else self._clock.after_ms(timeout)
            ask(Want("rest", lambda: bool(self._items), until_ms))
        return self.get_nowait()


class TurnEvent:
    """The part of `threading.Event` that a periodic thread needs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._set = False

    def set(self) -> None:
        self._set = True

    def wait(self, timeout: float) -> bool:
        ask(Want("rest", lambda: self._set, self._clock.after_ms(timeout)))
        return self._set


class Actor:
    """One thread: its body runs until it returns, raises or crashes."""

    def __init__(self, body: Callable[[], None]) -> None:
        self.broken: Exception | None = None
        self._body = body
        self._greenlet = greenlet.greenlet(self._run)
        self.want: Any = self._greenlet.switch()

    def _run(self) -> None:
        try:
            self._body()
        except Exception as error:  # noqa: BLE001  whatever it is, the process ends by it
            self.broken = error

    @property
    def lives(self) -> bool:
        return not self._greenlet.dead

    def step(self, way: Way) -> None:
        self.want = self._greenlet.switch(way)

    def crash(self) -> None:
        """Throw until the thread ends: a handler's thread catches everything, but cannot send a command either."""
        while self.lives:
            self._greenlet.throw(Crash)
