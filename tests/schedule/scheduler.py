"""A scheduler that lets exactly one actor take exactly one Redis command at a time, on a real server.

Actors are greenlets that run the queue's own code. A client's connection gives the turn back before it sends anything,
and the scheduler decides when, and whether, the command goes out, and whether its reply arrives. Time is the
scheduler's: the scripts read a key of Redis where they would ask for TIME, and nothing else of them is changed.
"""

import importlib
import pkgutil
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any

import greenlet
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import reference
from reference.connection import Script

CLOCK_KEY = "the-clock"
SERVER_TIME = "redis.call('TIME')"
CLOCKED_MODULES = ("claimer", "pace", "worker")
WITHOUT_A_WORD = ("__main__",)
START_MS = 1_700_000_000_000


class Way(Enum):
    """What becomes of one command."""

    GOES = "goes"
    REPLY_LOST = "its reply is lost"
    NEVER_SENT = "it is lost on the way"


class Crash(greenlet.GreenletExit):
    """The actor's process ends here."""


class Clock:
    """Both clocks: Redis's, kept in a key, and the monotonic one of every process."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.now_ms = START_MS
        self.pass_by(0)

    def pass_by(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        seconds, rest_ms = divmod(self.now_ms, 1000)
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.delete(CLOCK_KEY)
            pipeline.rpush(CLOCK_KEY, seconds, rest_ms * 1000)
            pipeline.execute()

    def monotonic(self) -> float:
        return (self.now_ms - START_MS) / 1000

    def server_time(self) -> tuple[int, int]:
        seconds, rest_ms = divmod(self.now_ms, 1000)
        return seconds, rest_ms * 1000

    def rule(self, patch: pytest.MonkeyPatch) -> None:
        """Have the queue's modules and scripts read this clock."""
        for name in CLOCKED_MODULES:
            module = importlib.import_module(f"reference.{name}")
            patch.setattr(module, "time", SimpleNamespace(monotonic=self.monotonic))
        read = f"redis.call('LRANGE', '{CLOCK_KEY}', 0, -1)"
        for found in pkgutil.iter_modules(reference.__path__):
            if found.name in WITHOUT_A_WORD:
                continue
            module = importlib.import_module(f"reference.{found.name}")
            for name, value in list(vars(module).items()):
                if isinstance(value, Script) and SERVER_TIME in value.source:
                    patch.setattr(module, name, Script(value.source.replace(SERVER_TIME, read)))


class SteppingConnection(redis.Connection):
    """Asks the scheduler before it sends. What makes a connection usable (HELLO and the like) is no step."""

    _busy = False
    _reply_lost = False

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
        way = ask("command")
        if way is Way.NEVER_SENT:
            self.disconnect()
            raise redis.ConnectionError("the command was lost")
        self._busy = True
        try:
            super().send_packed_command(command, check_health)
        finally:
            self._busy = False
        self._reply_lost = way is Way.REPLY_LOST

    def read_response(self, *arguments: Any, **named: Any) -> Any:
        response = super().read_response(*arguments, **named)
        if self._reply_lost and not self._busy:
            self._reply_lost = False
            self.disconnect()
            raise redis.ConnectionError("the reply was lost")
        return response


def ask(what: str) -> Way:
    """Give the turn back; the answer comes with the next one."""
    scheduler = greenlet.getcurrent().parent
    assert scheduler is not None, "only an actor takes turns"
    way: Way = scheduler.switch(what)
    return way


class Client(redis.Redis):
    """A client of the queue's kind, without hidden repeats, that takes turns; TIME is the scheduler's.

    A wait in BLMOVE is LMOVE here: it finds something or nothing at the moment at which it has its turn.
    """

    clock: Clock

    def time(self, **_: Any) -> Any:
        return self.clock.server_time()

    def blmove(self, source: Any, target: Any, _timeout: Any, *ends: Any, **_: Any) -> Any:
        return self.lmove(source, target, *ends)


def stepping_client(url: str, clock: Clock) -> Client:
    pool = redis.ConnectionPool.from_url(
        url, connection_class=SteppingConnection, retry=Retry(NoBackoff(), 0), protocol=2, socket_timeout=10
    )
    client = Client(connection_pool=pool)
    client.clock = clock
    return client


class Actor:
    """One process: its body runs until it is through or crashes. `wants` is what it will do when it has its turn."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.name = name
        self._greenlet = greenlet.greenlet(body)
        self.wants: Any = self._greenlet.switch()

    @property
    def lives(self) -> bool:
        return not self._greenlet.dead

    def step(self, way: Way) -> None:
        self.wants = self._greenlet.switch(way)

    def crash(self) -> None:
        """Again until it is over: what catches everything, as a handler's thread does, gets no command out either."""
        while self.lives:
            self._greenlet.throw(Crash)
