"""A client of the queue's kind that takes turns: its connection asks the scheduler before it sends anything.

The scheduler decides when, and whether, a command goes out, and whether its reply arrives. Who is blocked in Redis
waits here, in Redis's order, so that being served is a step like any other.
"""

from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from .scheduler import Clock, Want, Way, ask, heard

SERVER_BUSY_S = 10
READS = (b"LRANGE", b"LLEN", b"ZRANGEBYSCORE", b"ZRANGE", b"SCAN", b"GET")


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
