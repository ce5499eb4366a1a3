"""The Redis client as this queue needs it, and how a Lua script is called.

redis-py by default repeats a command after a lost reply, ten times. Measured: with a server that stalls for a few
seconds one `lpush()` enqueued twice, and one `blmove()` moved two tasks while the caller saw one. So nothing is
repeated here: after an error the caller decides, because only the caller knows whether the step may be taken twice.
"""

import hashlib
import inspect
import re
import select
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, MovedError, NoScriptError, ReadOnlyError
from redis.retry import Retry

from .config import Config
from .errors import ConfigError

CONNECT_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 1.0  # for the version, at the start
OLDEST_SERVER = (7, 0)  # the first that runs scripts with flags

# Who logs in, how the connection is called, and TLS. Every other option would win over what `connect` sets: some repeat
# a command after a lost reply, change the type of an answer, or end a wait too early.
URL_OPTIONS = {"db", "username", "password", "client_name"}
TLS_OPTIONS = {name for name in inspect.signature(redis.SSLConnection.__init__).parameters if name.startswith("ssl_")}

# What tells that a connection leads to the wrong server, or to none. After a planned failover an old session may stay
# open for hours: only a new connection reaches who is primary now. (LOADING is a `ConnectionError` to redis-py.)
LEADS_ASTRAY = (redis.ConnectionError, redis.TimeoutError, ReadOnlyError, MasterDownError, MovedError)


class NeverSent(redis.ConnectionError):
    """No connection could be had, so the command certainly did not run."""


def connect(config: Config, *, connections: int = 64, timeout_s: float | None = None) -> redis.Redis:
    """A thread-safe client; it connects at the first command.

    The socket timeout is longer than the longest blocking claim, else every idle claim would look like a lost reply.
    `timeout_s`: for a client that only looks, and gives up sooner.

    Raises:
        ConfigError: the URL is not one that redis-py reads, or has an option that would undo what is set here.
    """
    url = config.redis_url
    try:
        _refuse_options(url)
        # redis-py's connection over a socket of the file system does not take it.
        keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
        pool = Pool.from_url(
            url,
            max_connections=connections,
            retry=Retry(NoBackoff(), 0, LEADS_ASTRAY),  # no retry: it closes the connection after these errors
            socket_timeout=timeout_s or config.socket_timeout_ms / 1000,
            socket_connect_timeout=timeout_s or CONNECT_TIMEOUT_S,
            health_check_interval=0,
            protocol=2,  # the maintenance pushes of RESP3 are of no use here
            driver_info=redis.DriverInfo(),  # else each connection reads the version from a file
            **keepalive,
        )
    except ValueError as error:
        # A password may stand before the last @ or among the options, and the error cites parts of the URL, too.
        shown, reason = config.redis_url, str(error)
        if "@" in shown or "?" in shown:
            shown = "..." if "?" in shown else f"...@{shown.rpartition('@')[2]}"
            reason = (
                "it has to be redis://USER:PASSWORD@HOST:PORT/DB, with / ? # @ : and % in a password as percent codes"
            )
        raise ConfigError(f"redis_url {shown!r} is not a Redis URL: {reason}.") from None
    return redis.Redis(connection_pool=pool)


def _refuse_options(url: str) -> None:
    parts = urlsplit(url)
    allowed = URL_OPTIONS | TLS_OPTIONS if parts.scheme == "rediss" else URL_OPTIONS
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed and parts.scheme in ("redis", "rediss", "unix"):
            # What is no name may be a part of a password that was not quoted.
            shown = f"The option {name!r}" if name.isidentifier() else "An option"
            raise ConfigError(
                f"{shown} of redis_url is refused, as the queue itself sets what its correctness needs: remove it; "
                f"{', '.join(sorted(URL_OPTIONS))} may stay, and with rediss:// redis-py's ssl_ options."
            )


def shown_url(url: str) -> str:
    """The URL without what may be a password, wherever it stands: before the host, among the options, unquoted."""
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        return "..."
    if parts.scheme == "unix":
        return f"unix://{parts.path.rpartition('@')[2]}"
    place = parts.netloc.rpartition("@")[2] + parts.path
    # A password with a slash or a question mark in it that was not quoted is taken apart in the wrong places.
    if parts.scheme and re.fullmatch(r"(\[[\da-fA-F:.]+\]|[^:/@]*)(:\d+)?(/\d*)?", place) and "@" not in parts.fragment:
        return f"{parts.scheme}://{place}"
    return f"{parts.scheme}://..." if parts.scheme else "..."


def refuse_client(client: redis.Redis) -> None:
    """Refuse a client that would repeat a command after a lost reply, or that decodes what it reads.

    Raises:
        ConfigError: naming what is wrong with it.
    """
    pool: Any = client.connection_pool
    connection = pool.connection_class(**pool.connection_kwargs)  # which is not connected
    wrong = None
    if pool.connection_kwargs.get("decode_responses"):
        wrong = "decodes its replies (decode_responses=True), and a task is bytes"
    elif connection.retry.get_retries():
        wrong = "repeats commands after a lost reply, as redis-py does by default, which would enqueue twice"
    if wrong:
        raise ConfigError(f"This Redis client {wrong}: make the queue with Queue.connect(url) instead.")


def refuse_old_server(config: Config) -> None:
    """Refuse a server that cannot run the queue's scripts, if it says so.

    One that is not there yet, is loading, or may not be asked is not refused.

    Raises:
        ConfigError: naming the server, its version and the one that is needed.
    """
    client = connect(config, connections=1, timeout_s=ASK_TIMEOUT_S)
    try:
        version = str(client.info("server").get("redis_version", ""))
    except redis.RedisError:
        return
    finally:
        client.connection_pool.disconnect()
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < OLDEST_SERVER:
        shown, oldest = shown_url(config.redis_url), ".".join(map(str, OLDEST_SERVER))
        raise ConfigError(f"The server at {shown} is Redis {version}, and the queue needs Redis {oldest} or later.")


class Gate:
    """Keeps connections from being made while the process forks, and a fork from coming while one is being made.

    Else a forked process would get a socket that no connection has yet, so that nobody could close it there.
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
        """Let none be begun, and wait for those that are; not for ever, as where a server does not answer."""
        with self._changed:
            self.closed += 1
            self._changed.wait_for(lambda: not self.making, CONNECT_TIMEOUT_S)

    def open(self) -> None:
        with self._changed:
            self.closed -= 1
            self._changed.notify_all()


def _through(gate: Gate, connection_class: type[Any]) -> type[Any]:
    """A class of connections that are made through the gate, and known as soon as they are."""

    class Connection(connection_class):  # type: ignore[misc]
        def _connect(self) -> Any:
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

    def __init__(self, *arguments: Any, connection_class: type[Any] = redis.Connection, **options: Any) -> None:
        self.gate = Gate()
        options["connection_class"] = _through(self.gate, connection_class)
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]

    def sockets(self) -> list[socket.socket]:
        """Those of all its connections, whoever uses them."""
        return [sock for connection in self._connections if (sock := connection._sock)]

    def reset(self) -> None:  # at the beginning, and in a forked child, which has to open connections of its own
        self._used: deque[tuple[Any, Any]] = deque()  # with what polls each; the last one used is the next
        self._generation = 0  # how often all were closed
        super().reset()  # type: ignore[no-untyped-call]

    def get_connection(self, *_deprecated: Any, **_options: Any) -> Any:
        self._checkpid()
        generation = self._generation  # read first: what is opened now may come back only to be closed
        connection = self._stands() or super().get_connection()  # type: ignore[no-untyped-call]
        connection.generation = generation
        return connection

    def idle_connection(self) -> Any:
        """An open connection that nobody uses, or None; it is to be released, as any."""
        self._checkpid()
        generation = self._generation
        connection = self._stands()
        if connection is not None:
            connection.generation = generation
        return connection

    def _stands(self) -> Any:
        """The idle connection used last, if the other end has not closed it."""
        with suppress(IndexError):
            connection, poll = self._used.pop()
            if not poll.poll(0):
                return connection
            super().release(connection)  # type: ignore[no-untyped-call]
        return None

    def is_outdated(self, connection: Any) -> bool:
        """Whether a connection in use has to be closed, since others of its time led astray."""
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
        # Whoever waits for a connection waits at redis-py's queue, and only while that is empty.
        if self.pool.queue and connection._sock and self.owns_connection(connection):
            poll = select.poll()
            poll.register(connection._sock, select.POLLIN)
            self._used.append((connection, poll))
        else:
            super().release(connection)  # type: ignore[no-untyped-call]


class Script:
    """A Lua script, called by its digest; sent whole only where the server does not know it (a flush, a restart)."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: redis.Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run it once.

        Raises:
            NeverSent: no connection; nothing ran.
            redis.ConnectionError, redis.TimeoutError: the reply was lost; it may have run.
            redis.ResponseError: the server's definite no.
        """
        with borrowed(client) as connection:
            return self.on(connection, keys, arguments)

    def command(self, keys: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The command that runs it where the server knows it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)

    def on(self, connection: Any, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """The same on a connection that the caller holds, as what comes next belongs to it."""
        try:
            return _ask(connection, *self.command(keys, arguments))
        except NoScriptError:  # a definite no, so sending it again is safe
            return _ask(connection, "EVAL", self.source, len(keys), *keys, *arguments)


def send(connection: Any, *command: Any) -> None:
    """Send a command; its reply is to be read."""
    # redis-py sends what is long in pieces, and at each the thread gives up the interpreter lock and waits to get it.
    connection.send_packed_command([b"".join(connection.pack_command(*command))])


def _ask(connection: Any, *command: Any) -> Any:
    send(connection, *command)
    return connection.read_response()


def close_alone(connection: Any) -> None:
    """Close a borrowed connection that nobody else can use, which says nothing about the others."""
    connection.generation = None
    connection.disconnect()


def is_outdated(client: redis.Redis, connection: Any) -> bool:
    """Whether a borrowed connection may lead to the wrong server by now: others of its time did."""
    pool: Any = client.connection_pool
    return bool(pool.is_outdated(connection))


@contextmanager
def borrowed(client: redis.Redis) -> Iterator[Any]:
    """One connection of the client's pool.

    Raises:
        NeverSent: none could be had.
    """
    pool: Any = client.connection_pool
    try:
        connection = pool.get_connection()
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise NeverSent(str(error)) from error
    try:
        yield connection
    except LEADS_ASTRAY:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
