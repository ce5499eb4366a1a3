"""A Redis client that takes turns: its connection asks the scheduler before it sends a command.

The scheduler decides when and whether a command is sent, whether its reply arrives, and whether the command arrives
late or twice. A client that would block in Redis waits here, in Redis's order, so that serving it is a step, too.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .scheduler import Clock, Want, Way, ask, heard

SERVER_BUSY_S = 10
READS = (b"LRANGE", b"LLEN", b"ZRANGEBYSCORE", b"ZRANGE", b"XRANGE", b"XREVRANGE", b"HKEYS", b"SCAN", b"GET")
BLPOP = b"*3\r\n$5\r\nBLPOP\r\n"


def run(server: redis.Redis, command: bytes) -> Any:
    """Send a process's command to the server and return the reply; an error reply is returned, not raised."""
    pool: Any = server.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_packed_command([command])
        return connection.read_response()
    except redis.ResponseError as error:
        return error
    finally:
        pool.release(connection)


@dataclass(eq=False)
class Packet:
    """A command still on its way, although its sender has given it up or has the reply."""

    sender: str
    command: bytes


@dataclass(eq=False)
class Wait:
    """A client that is blocked in Redis: the first ring serves it, whatever its process does meanwhile.

    `claim`: the claim sent with the wait, which runs when the wait ends; None if it has not arrived.
    """

    bell: bytes
    claim: bytes | None
    until_ms: int
    owner: str
    ended: bool = False
    replies: tuple[Any, ...] = ()


class Network:
    """The server's side of the connections: blocked clients, in Redis's order, and late packets."""

    def __init__(self, clock: Clock, server: redis.Redis) -> None:
        self.packets: list[Packet] = []
        self._clock, self._server = clock, server
        self._waits: list[Wait] = []

    def serve(self) -> bool:
        """Serve a blocked client if the bell rings, as Redis does after each command. Return whether one was served."""
        if not self._waits:
            return False
        rung = self._server.lpop(self._waits[0].bell)
        return rung is not None and self._end(self._waits[0], rung)

    def serve_the_late(self) -> bool:
        """End one wait that has timed out and run the claim sent with it. Return whether there was one."""
        over = next((wait for wait in self._waits if wait.until_ms <= self._clock.now_ms), None)
        return over is not None and self._end(over, None)

    def _end(self, wait: Wait, rung: Any) -> bool:
        self._waits.remove(wait)
        wait.ended = True
        wait.replies = (rung and [wait.bell, rung],)
        if wait.claim is not None:
            wait.replies += (run(self._server, wait.claim),)
        return True

    def times_ms(self) -> list[int]:
        return [wait.until_ms for wait in self._waits]

    def state(self) -> tuple[Any, ...]:
        return (
            tuple((wait.owner, wait.until_ms, wait.claim) for wait in self._waits),
            tuple((packet.sender, packet.command) for packet in self.packets),
        )

    def blocked(self) -> set[str]:
        return {wait.owner for wait in self._waits}

    def deliver(self, packet: Packet) -> None:
        self.packets.remove(packet)
        run(self._server, packet.command)

    def block(self, bell: bytes, timeout_s: float, claim: bytes | None, owner: str) -> tuple[Any, ...]:
        """Block a thread of the schedule until the wait has ended and the thread has a turn to read the replies."""
        wait = Wait(bell, claim, self._clock.after_ms(timeout_s), owner)
        self._waits.append(wait)
        if len(self._waits) == 1:
            self.serve()
        try:
            if not wait.ended:
                ask(Want("rest", lambda: wait.ended))
        finally:
            if wait in self._waits:
                self._waits.remove(wait)
        return wait.replies


class SteppingConnection(redis.Connection):
    """Asks the scheduler before it sends a command. The handshake (HELLO and others) is not a step."""

    _busy = False
    _way = Way.GOES

    def __init__(self, *arguments: Any, whose: "Client", **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._whose = whose
        self._replies: deque[Any] = deque()  # of a wait

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
        packed = b"".join(command) if isinstance(command, list) else bytes(command)
        self._replies.clear()
        if packed.startswith(BLPOP):
            self._wait(packed)
        else:
            self._send(packed)

    def _lose(self, what: str) -> None:
        self.disconnect()
        raise redis.ConnectionError(f"{what} was lost")

    def _send(self, packed: bytes) -> None:
        self._way = ask(Want(_kind(packed)))
        if self._way in (Way.LATE, Way.TWICE):
            self._whose.network.packets.append(Packet(self._whose.owner, packed))
        if self._way in (Way.NEVER_SENT, Way.LATE):
            self._lose("the command")
        self._busy = True
        try:
            super().send_packed_command([packed])
        finally:
            self._busy = False

    def _wait(self, packed: bytes) -> None:
        """Send a wait together with its claim, and read the replies to both."""
        way = ask(Want("wait"))
        if way is Way.NEVER_SENT:
            self._lose("the wait")
        words = packed.split(b"\r\n", 7)
        bell, timeout_s, claim = words[4], float(words[6]), words[7]
        together = way in (Way.GOES, Way.REPLY_LOST)
        replies = self._whose.network.block(bell, timeout_s, claim if together else None, self._whose.owner)
        if way in (Way.REPLY_LOST, Way.HALF):
            self._lose("the claim" if way is Way.HALF else "the reply")
        heard.append(repr(replies))
        if not together:
            self._send(claim)
        self._replies.extend(replies)

    def read_response(self, *arguments: Any, **named: Any) -> Any:
        if self._replies and not self._busy:
            reply = self._replies.popleft()
            if isinstance(reply, Exception):
                raise reply
            return reply
        response = super().read_response(*arguments, **named)
        if self._way is Way.REPLY_LOST and not self._busy:
            self._way = Way.GOES
            self._lose("the reply")
        if not self._busy:
            heard.append(repr(response))
        return response


def _kind(packed: bytes) -> str:
    """Return `read` for a command that changes nothing, so no snapshot is needed after it; else `write`."""
    return "read" if packed.split(b"\r\n", 3)[2] in READS else "write"


class Client(redis.Redis):
    """A Redis client that takes turns. TIME returns the scheduler's time."""

    clock: Clock
    network: Network
    owner: str

    def time(self, **_: Any) -> Any:
        return self.clock.server_time()


def stepping_client(url: str, repeats: int = 0) -> Client:
    pool = redis.ConnectionPool.from_url(
        url,
        connection_class=SteppingConnection,
        retry=Retry(NoBackoff(), repeats),
        protocol=2,
        socket_timeout=SERVER_BUSY_S,
    )
    client = Client(connection_pool=pool)
    pool.connection_kwargs["whose"] = client
    return client
