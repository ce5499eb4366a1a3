"""A scheduler that lets exactly one thread of the queue take exactly one Redis command at a time, on a real server.

Its threads are greenlets that run the queue's own code. A client's connection gives the turn back before it sends
anything, and the scheduler decides when, and whether, the command goes out, and whether its reply arrives. Time is the
scheduler's: the scripts read a key of Redis where they would ask for TIME, and nothing else of them is changed.
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
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from reference.connection import Script

CLOCK_KEY = "the-clock"
SERVER_TIME = "redis.call('TIME')"
CLOCKED_MODULES = ("claimer", "enqueuer", "pace", "worker")
QUEUED_MODULES = ("claimer", "waiter")
START_MS = 1_700_000_000_000
SERVER_BUSY_S = 10
JITTERED_MODULES = ("claimer", "consumer", "worker")
READS = (b"LRANGE", b"LLEN", b"ZRANGEBYSCORE", b"ZRANGE", b"SCAN", b"GET")


heard: list[str] = []
"""The replies since the last step: all that a process learns of the others."""


class Way(Enum):
    """What becomes of one command. The values are how a story tells it."""

    GOES = "goes"
    REPLY_LOST = "the reply to {} is lost"
    NEVER_SENT = "a command of {} is lost on the way"


class Crash(greenlet.GreenletExit):
    """The thread's process ends here."""


class Want:
    """What a thread will do when it has its turn, and since when it can: at once, when `ready`, or from `until_ms`."""

    __slots__ = ("_ready", "kind", "until_ms")

    def __init__(self, kind: str, ready: Callable[[], bool] | None = None, until_ms: int | None = None) -> None:
        self.kind, self._ready, self.until_ms = kind, ready, until_ms

    def possible(self, now_ms: int) -> bool:
        if self.until_ms is not None and now_ms >= self.until_ms:
            return True
        return self._ready() if self._ready else self.until_ms is None


def ask(want: Want) -> Way:
    """Give the turn back; the answer comes with the next one."""
    scheduler = greenlet.getcurrent().parent
    assert scheduler is not None, "only a thread of the schedule takes turns"
    way: Way = scheduler.switch(want)
    return way


class Clock:
    """Both clocks: Redis's, kept in a key, and the monotonic one of every process."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.now_ms = START_MS
        self.ahead_ms: Callable[[], int] = lambda: 0  # of whoever asks: by how much its clock of the day is wrong
        self.set(START_MS)

    def set(self, now_ms: int) -> None:
        self.now_ms = now_ms
        seconds, rest_ms = divmod(now_ms, 1000)
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
        seconds, rest_ms = divmod(self.now_ms, 1000)
        return seconds, rest_ms * 1000


CLOCKED: dict[str, Script] = {}


def clocked(script: Script) -> Script:
    """The same script with the clock's key in the place of TIME."""
    if script.source not in CLOCKED:
        read = f"redis.call('LRANGE', '{CLOCK_KEY}', 0, -1)"
        CLOCKED[script.source] = Script(script.source.replace(SERVER_TIME, read))
    return CLOCKED[script.source]


def rule(clock: Clock, patch: pytest.MonkeyPatch) -> None:
    """Have the queue's modules and scripts read this clock, and its threads wait for each other in turns."""
    read = SimpleNamespace(monotonic=clock.monotonic, time_ns=clock.time_ns)
    for name in CLOCKED_MODULES:
        patch.setattr(importlib.import_module(f"reference.{name}"), "time", read)
    waiting = SimpleNamespace(SimpleQueue=lambda: TurnQueue(clock), Empty=queue.Empty)
    for name in QUEUED_MODULES:
        patch.setattr(importlib.import_module(f"reference.{name}"), "queue", waiting)
    for name in JITTERED_MODULES:  # else one process's draw would change another's
        even = SimpleNamespace(uniform=lambda _low, high: high, randint=lambda _low, high: high)
        patch.setattr(importlib.import_module(f"reference.{name}"), "random", even)
    untouched = Script.on

    def on(self: Script, connection: Any, keys: Any, arguments: Any) -> Any:
        return untouched(clocked(self), connection, keys, arguments)

    patch.setattr(Script, "on", on)


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
    """As much of `threading.Event` as a thread needs that looks at its clock from time to time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._set = False

    def set(self) -> None:
        self._set = True

    def wait(self, timeout: float) -> bool:
        ask(Want("rest", lambda: self._set, self._clock.after_ms(timeout)))
        return self._set


class SteppingConnection(redis.Connection):
    """Asks the scheduler before it sends. What makes a connection usable (HELLO and the like) is no step."""

    _busy = False
    _again = False  # the server did not know the script: what follows belongs to the same step
    _way = Way.GOES

    def connect(self, *arguments: Any, **named: Any) -> Any:
        before, self._busy = self._busy, True
        try:
            return super().connect(*arguments, **named)
        finally:
            self._busy = before

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self._busy:
            super().send_packed_command(command, check_health)
            return
        if not self._again:
            self._way = Way.GOES
            self._way = ask(Want(_kind(command)))
        self._again = False
        if self._way is Way.NEVER_SENT:
            self.disconnect()
            raise redis.ConnectionError("the command was lost")
        self._busy = True
        try:
            super().send_packed_command(command, check_health)
        finally:
            self._busy = False

    def read_response(self, *arguments: Any, **named: Any) -> Any:
        try:
            response = super().read_response(*arguments, **named)
        except NoScriptError:
            self._again = True
            raise
        if self._way is Way.REPLY_LOST and not self._busy:
            self._way = Way.GOES
            self.disconnect()
            raise redis.ConnectionError("the reply was lost")
        if not self._busy:
            heard.append(repr(response))
        return response


def _kind(command: Any) -> str:
    """`read`: it can change nothing, so nobody need look."""
    packed = b"".join(command[:2])[:80] if isinstance(command, list) else command[:80]
    word = bytes(packed).split(b"\r\n", 3)[2:3]
    return "read" if word and word[0] in READS else "write"


class Wait:
    """A client that is blocked in Redis: whoever pushes first serves it, whatever its process does meanwhile."""

    def __init__(self, take: Callable[[], Any], until_ms: int, owner: str) -> None:
        self.take, self.until_ms, self.owner = take, until_ms, owner
        self.reply: Any = None


class Waiting:
    """The blocked clients, in the order in which Redis serves them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waits: list[Wait] = []

    def serve(self) -> bool:
        """What Redis does after each command that pushed. Whether somebody was served."""
        self._waits = [wait for wait in self._waits if wait.until_ms > self._clock.now_ms]
        if not self._waits:
            return False
        self._waits[0].reply = self._waits[0].take()
        return self._waits[0].reply is not None and bool(self._waits.pop(0))

    def state(self) -> tuple[tuple[str, int], ...]:
        return tuple((wait.owner, wait.until_ms) for wait in self._waits)

    def block(self, take: Callable[[], Any], timeout_s: float, owner: str) -> Any:
        """In a thread of the schedule: send, be blocked, and read the reply when there is one and a turn to read it."""
        way = ask(Want("write"))
        if way is Way.NEVER_SENT:
            raise redis.ConnectionError("the command was lost")
        wait = Wait(take, self._clock.after_ms(timeout_s), owner)
        self._waits.append(wait)
        if len(self._waits) == 1:
            self.serve()
        try:
            if wait.reply is None:
                ask(Want("rest", lambda: wait.reply is not None, wait.until_ms))
        finally:
            if wait in self._waits:
                self._waits.remove(wait)
        if way is Way.REPLY_LOST:
            raise redis.ConnectionError("the reply was lost")
        heard.append(repr(wait.reply))
        return wait.reply


class Client(redis.Redis):
    """A client of the queue's kind that takes turns. TIME is the scheduler's, and so is the order of blocked clients.

    What a blocked client gets is moved by LMOVE, or RPOP, at the moment at which Redis would serve it.
    """

    clock: Clock
    waiting: Waiting
    server: Any
    owner: str

    def time(self, **_: Any) -> Any:
        return self.clock.server_time()

    def blmove(self, source: Any, target: Any, timeout: Any, *ends: Any, **_: Any) -> Any:
        return self.waiting.block(lambda: self.server.lmove(source, target, *ends), timeout, self.owner)

    def brpop(self, keys: Any, timeout: Any = 0) -> Any:
        element = self.waiting.block(lambda: self.server.rpop(keys[0]), timeout, self.owner)
        return element and (keys[0], element)


def stepping_client(url: str, repeats: int = 0) -> Client:
    return Client(
        connection_pool=redis.ConnectionPool.from_url(
            url,
            connection_class=SteppingConnection,
            retry=Retry(NoBackoff(), repeats),
            protocol=2,
            socket_timeout=SERVER_BUSY_S,
        )
    )


class Actor:
    """One thread: its body runs until it is through, breaks or crashes."""

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
        """Again until it is over: what catches everything, as a handler's thread does, gets no command out either."""
        while self.lives:
            self._greenlet.throw(Crash)
