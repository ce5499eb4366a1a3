"""A pool of connections that closes all of them when one led astray, and that survives forks."""

import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis

CONNECT_TIMEOUT_S = 5.0


class Gate:
    """Keeps connections from being made while the process forks, and a fork from coming while one is being made.

    Else a forked process would get a socket that no connection has yet, so that no worker could close it there.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:  # in a forked child as well: a thread that is not there may have held the lock
        self.making = 0  # connections, now
        self.closed = 0  # by how many threads that fork
        self._changed = threading.Condition()

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Make a connection within."""
        with self._changed:
            self._changed.wait_for(lambda: not self.closed)
            self.making += 1
        try:
            yield
        finally:
            with self._changed:
                self.making -= 1
                self._changed.notify_all()

    def shut(self) -> None:
        """Let none be begun, and wait for those that are; not forever, as where a server does not answer."""
        with self._changed:
            self.closed += 1
            self._changed.wait_for(lambda: not self.making, CONNECT_TIMEOUT_S)

    def open(self) -> None:
        with self._changed:
            self.closed -= 1
            self._changed.notify_all()


def _through(gate: Gate, connection_class: type[Any], locate: Callable[[], tuple[str, int]] | None) -> type[Any]:
    """A class of connections that are made through the gate, and known as soon as they are."""

    class Connection(connection_class):  # type: ignore[misc]
        def _connect(self) -> Any:
            if locate:  # outside of the gate, as it may open connections through it
                self.host, self.port = locate()
            with gate.passing():
                self._sock = super()._connect()
                return self._sock

    return Connection


class Pool(redis.BlockingConnectionPool):
    """Closes all its connections after an error on one that they may share, and looks at each with one system call.

    A connection that comes back closed has met such an error: those that are idle are closed then, and those in use
    when they come back.

    redis-py's own look makes the socket non-blocking, reads, catches the error that this gives, and makes it blocking
    again. With threads that wait for the interpreter after each system call that took as long as a short command.
    """

    def __init__(
        self,
        *,
        connection_class: type[Any] = redis.Connection,
        gate: Gate | None = None,
        locate: Callable[[], tuple[str, int]] | None = None,
        **options: Any,
    ) -> None:
        """`gate`: another pool's, where both are closed in a fork. `locate`: host and port of each new connection."""
        self.gate = gate or Gate()
        options["connection_class"] = _through(self.gate, connection_class, locate)
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def sockets(self) -> list[socket.socket]:
        """Those of all its connections."""
        return [sock for connection in self._connections if (sock := connection._sock)]

    def reset(self) -> None:  # at the beginning, and in a forked child, which must open connections of its own
        self._used: deque[tuple[Any, Any]] = deque()  # with what polls each; the last one used is the next
        self._generation = 0  # how often all were closed
        super().reset()  # type: ignore[no-untyped-call]

    def get_connection(self, *_deprecated: Any, **_options: Any) -> Any:
        generation = self._generation  # read first: what is opened now may come back only to be closed
        connection = self.idle_connection() or super().get_connection()  # type: ignore[no-untyped-call]
        connection.generation = generation
        return connection

    def idle_connection(self) -> Any:
        """The idle connection used last, if the other end has not closed it, or None; it is to be released, as any."""
        self._checkpid()
        generation = self._generation
        with suppress(IndexError):
            connection, poll = self._used.pop()
            if not poll.poll(0):
                connection.generation = generation
                return connection
            super().release(connection)  # type: ignore[no-untyped-call]
        return None

    def is_outdated(self, connection: Any) -> bool:
        """Whether a connection in use must be closed, since others of its time led astray."""
        return bool(getattr(connection, "generation", self._generation) != self._generation)  # none: it never stood

    def _close_idle(self) -> None:
        self._generation += 1
        with suppress(IndexError):
            while True:
                connection, _ = self._used.pop()
                connection.disconnect()
                super().release(connection)  # type: ignore[no-untyped-call]
        self.disconnect(inuse_connections=False)

    def release(self, connection: Any) -> None:
        self._checkpid()
        if self.is_outdated(connection):
            connection.disconnect()
        elif not connection.is_connected:
            self._close_idle()
        # A thread that waits for a connection waits at redis-py's queue, and only while that is empty.
        if self.pool.queue and connection._sock and self.owns_connection(connection):
            poll = select.poll()
            poll.register(connection._sock, select.POLLIN)
            self._used.append((connection, poll))
        else:
            super().release(connection)  # type: ignore[no-untyped-call]
