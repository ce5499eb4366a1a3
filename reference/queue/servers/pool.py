"""A connection pool that closes all connections when one leads to the wrong server, and that survives forks."""

import os
import select
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis

CONNECT_TIMEOUT_S = 5.0


class Gate:
    """Prevents the process from opening a connection and forking at the same time.

    Otherwise a forked process could inherit a socket that no connection object has yet, and could not close it.
    """

    def __init__(self) -> None:
        self.reset()
        _gates.add(self)

    def reset(self) -> None:
        self.making = 0  # number of connections that are being opened
        self.closed = 0  # number of threads that are forking
        self._changed = threading.Condition()

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Wait until the gate is open; open one connection within this context."""
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
        """Prevent new connections, and wait for those being opened, for a limited time: a server may not answer."""
        with self._changed:
            self.closed += 1
            self._changed.wait_for(lambda: not self.making, CONNECT_TIMEOUT_S)

    def open(self) -> None:
        with self._changed:
            self.closed -= 1
            self._changed.notify_all()


_gates: "weakref.WeakSet[Gate]" = weakref.WeakSet()


def _reset_gates() -> None:
    """Reset all gates in a forked child, while it has one thread: a thread of the parent may have held a lock."""
    for gate in _gates:
        gate.reset()


os.register_at_fork(after_in_child=_reset_gates)


def _through(gate: Gate, connection_class: type[Any], locate: Callable[[], tuple[str, int]] | None) -> type[Any]:
    """Return a connection class that opens sockets inside the gate, and stores each socket before the gate is left."""

    class Connection(connection_class):  # type: ignore[misc]
        def _connect(self) -> Any:
            if locate:  # outside of the gate, as it may open connections through it
                self.host, self.port = locate()
            with gate.passing():
                self._sock = super()._connect()
                return self._sock

    return Connection


class Pool(redis.BlockingConnectionPool):
    """Closes all its connections after an error that may concern all, and checks each with one system call.

    A connection that is released in a closed state has met such an error. The pool closes idle connections then, and
    connections in use when they are released.

    redis-py's own check makes the socket non-blocking, reads, catches the resulting error, and makes the socket
    blocking again. With threads that wait for the interpreter lock after each system call, that took as long as a short
    command.
    """

    def __init__(
        self,
        *,
        connection_class: type[Any] = redis.Connection,
        gate: Gate | None = None,
        locate: Callable[[], tuple[str, int]] | None = None,
        **options: Any,
    ) -> None:
        """`gate`: shared by pools that a fork closes together. `locate`: returns host and port of a new connection."""
        self.gate = gate or Gate()
        options["connection_class"] = _through(self.gate, connection_class, locate)
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def sockets(self) -> list[socket.socket]:
        """Return the sockets of all connections."""
        return [sock for connection in self._connections if (sock := connection._sock)]

    def reset(self) -> None:  # at the beginning, and in a forked child, which must open connections of its own
        self._used: deque[tuple[Any, Any]] = deque()  # idle connection, poll object; last in, first out
        self._generation = 0  # how often all connections were closed
        super().reset()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close idle connections now, and those in use when they are released: another thread may be reading there."""
        self._checkpid()
        self._close_idle()

    def get_connection(self, *_deprecated: Any, **_options: Any) -> Any:
        generation = self._generation  # read first: a close of all meanwhile outdates this one
        connection = self.idle_connection() or super().get_connection()  # type: ignore[no-untyped-call]
        connection.generation = generation
        return connection

    def idle_connection(self) -> Any:
        """Return the idle connection used last, or None if the other end has closed it; the caller releases it."""
        self._checkpid()
        generation = self._generation
        with suppress(IndexError):
            connection, poll = self._used.pop()
            if not poll.poll(0):
                connection.generation = generation
                return connection
            connection.disconnect()  # first: once it is back in the queue, it is another thread's
            super().release(connection)  # type: ignore[no-untyped-call]
        return None

    def is_outdated(self, connection: Any) -> bool:
        """Whether a connection in use must be closed, since others of its generation led to the wrong server."""
        return bool(getattr(connection, "generation", self._generation) != self._generation)  # none: never open

    def _close_idle(self) -> None:
        self._generation += 1
        with self.pool.mutex:
            # Taken out before they are closed, as another thread may get any that is in the queue, and read there.
            idle = [connection for connection in self.pool.queue if connection]
            self.pool.queue[:] = [None] * (len(self.pool.queue) - len(idle))
        with suppress(IndexError):
            while True:
                idle.append(self._used.pop()[0])
        for connection in idle:
            connection.disconnect()
            super().release(connection)  # type: ignore[no-untyped-call]

    def release(self, connection: Any) -> None:
        self._checkpid()
        if self.is_outdated(connection):
            connection.disconnect()
        elif not connection.is_connected:
            self._close_idle()
        # Threads wait for a connection at redis-py's queue, and only while that queue is empty.
        if self.pool.queue and connection._sock and self.owns_connection(connection):
            poll = select.poll()
            poll.register(connection._sock, select.POLLIN)
            self._used.append((connection, poll))
        else:
            super().release(connection)  # type: ignore[no-untyped-call]
