"""The Redis client with the options that this queue needs, and the calls of Lua scripts.

redis-py by default repeats a command after a lost reply, ten times. Measured: with a server that stalls for a few
seconds one `lpush()` enqueued twice, and one `blmove()` moved two tasks while the caller saw one. So nothing is
repeated here: after an error the caller decides, because only the caller knows whether the step may be repeated.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, MasterDownError, MovedError, NoScriptError, ReadOnlyError
from redis.retry import Retry

from .config import Config
from .errors import ConfigError
from .servers.pool import CONNECT_TIMEOUT_S, Pool
from .servers.urls import CLUSTER_SCHEMES, SENTINEL_SCHEMES, refuse_url_options, shown_url

ASK_TIMEOUT_S = 1.0  # timeout of the checks at start-up
OLDEST_SERVER = (7, 0)  # the first version that supports flags of scripts

# Errors which show that a connection leads to the wrong server, or to none. After a planned failover an old session may
# stay open for hours: only a new connection reaches the present primary. (redis-py's LOADING is a `ConnectionError`.)
LEADS_ASTRAY = (
    *(redis.ConnectionError, redis.TimeoutError, ReadOnlyError, MasterDownError, MovedError),
    ClusterDownError,  # from a node that is cut off, while another node serves its slots
)


class NeverSent(redis.ConnectionError):
    """No connection was available, so the command certainly did not run."""


def connect(config: Config, *, connections: int = 64, timeout_s: float | None = None) -> redis.Redis:
    """Return a thread-safe client, which connects at the first command.

    Its `close()` closes its connections, those in use when they come back; the next command opens new ones.
    The socket timeout exceeds the longest blocking claim. Otherwise each idle claim would look like a lost reply.
    `timeout_s`: a shorter timeout, for clients that only check something.

    Raises:
        ConfigError: redis-py cannot parse the URL, or the URL has an option that would override a setting made here.
    """
    url = config.redis_url
    answer_s, connect_s = timeout_s or config.socket_timeout_ms / 1000, timeout_s or CONNECT_TIMEOUT_S
    if url.partition("://")[0] in (*SENTINEL_SCHEMES, *CLUSTER_SCHEMES):
        try:
            from ..failover.following import following_pool  # which extends `Pool`
        except ModuleNotFoundError:
            raise ConfigError("This copy was made without failover, which vendor --with adds.") from None
        return redis.Redis.from_pool(following_pool(config, connections, answer_s, connect_s))
    try:
        refuse_url_options(url)
        pool = Pool.from_url(url, max_connections=connections, **connection_options(url, answer_s, connect_s))
    except ValueError as error:
        # A password may stand before the last @ or among the options, and the error cites parts of the URL, too.
        shown, reason = config.redis_url, str(error)
        if "@" in shown or "?" in shown:
            shown = "..." if "?" in shown else f"...@{shown.rpartition('@')[2]}"
            reason = (
                "it must be redis://USER:PASSWORD@HOST:PORT/DB, with / ? # @ : and % in a password as percent codes"
            )
        raise ConfigError(f"redis_url {shown!r} is not a Redis URL: {reason}.") from None
    return redis.Redis.from_pool(pool)


def connection_options(url: str, answer_s: float, connect_s: float) -> dict[str, Any]:
    """Return the options of every connection. The timeouts are in seconds."""
    return {
        "retry": Retry(NoBackoff(), 0, LEADS_ASTRAY),  # zero retries, but these errors close the connection
        "socket_timeout": answer_s,
        "socket_connect_timeout": connect_s,
        "health_check_interval": 0,
        "protocol": 2,  # RESP3 would only add maintenance notifications
        "driver_info": redis.DriverInfo(),  # else each connection reads the version from a file
        # redis-py's Unix socket connection does not accept this option.
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
    }


def refuse_client(client: redis.Redis) -> None:
    """Raise ConfigError for a client that would repeat a command after a lost reply, or that decodes its replies."""
    pool: Any = client.connection_pool
    connection = pool.connection_class(**pool.connection_kwargs)  # not connected: only its options are checked
    wrong = None
    if pool.connection_kwargs.get("decode_responses"):
        wrong = "decodes its replies (decode_responses=True), and a task is bytes"
    elif connection.retry.get_retries():
        wrong = "repeats commands after a lost reply, as redis-py does by default, which would enqueue twice"
    if wrong:
        raise ConfigError(f"This Redis client {wrong}: make the queue with Queue.connect(url) instead.")


def refuse_client_of_shards(client: redis.Redis | None, config: Config) -> None:
    """Raise ConfigError for one client of several shards (no worker would find its tasks), or for no client of one."""
    if client is not None and config.shards > 1:
        raise ConfigError(
            f"One client cannot serve {config.shards} shards, as each has its own: make the queue with "
            "Queue.connect(url, shards=N), or an app with create_app(None, config)."
        )
    if client is None and config.shards == 1:
        raise ConfigError("An app without a client is for several shards, and shards is 1: give create_app a client.")


def refuse_old_server(config: Config) -> None:
    """Raise ConfigError if the server reports a version that is too old for the queue's scripts.

    A server that is unreachable, is loading, or denies the command is not refused.
    """
    client = connect(config, connections=1, timeout_s=ASK_TIMEOUT_S)
    try:
        version = str(client.info("server").get("redis_version", ""))
    except redis.RedisError:
        return
    finally:
        client.close()
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < OLDEST_SERVER:
        shown, oldest = shown_url(config.redis_url), ".".join(map(str, OLDEST_SERVER))
        raise ConfigError(f"The server at {shown} is Redis {version}, and the queue needs Redis {oldest} or later.")


class Script:
    """A Lua script, called by its digest; its source is sent only if the server lacks it (after a flush or restart)."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: redis.Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run the script once.

        Raises:
            NeverSent: there was no connection; nothing ran.
            redis.ConnectionError, redis.TimeoutError: the reply was lost; the script may have run.
            redis.ResponseError: the server refused.
        """
        with borrowed(client) as connection:
            return self.on(connection, keys, arguments)

    def command(self, keys: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Return the command that runs the script on a server that has it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)

    def on(self, connection: Any, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run the script on a connection that the caller holds, for steps that must share one connection."""
        try:
            return _ask(connection, *self.command(keys, arguments))
        except NoScriptError:  # nothing ran, so sending it again is safe
            return _ask(connection, "EVAL", self.source, len(keys), *keys, *arguments)


def packed(*command: Any) -> bytes:
    """Return a command as it is sent to Redis.

    redis-py's own takes four times as long for the many short arguments of a script, and returns a long command in
    pieces: after each piece the thread must acquire the interpreter lock again.
    https://redis.io/docs/latest/develop/reference/protocol-spec/#sending-commands-to-a-redis-server
    """
    words = [word if type(word) is bytes else str(word).encode() for word in command]
    return b"".join([b"*%d\r\n" % len(words), *[b"$%d\r\n%b\r\n" % (len(word), word) for word in words]])


def send(connection: Any, *command: Any) -> None:
    """Send a command; the caller reads the reply."""
    connection.send_packed_command([packed(*command)])


def _ask(connection: Any, *command: Any) -> Any:
    send(connection, *command)
    return connection.read_response()


def close_alone(connection: Any) -> None:
    """Close a borrowed connection without making the pool close its other connections."""
    connection.generation = None
    connection.disconnect()


def is_outdated(client: redis.Redis, connection: Any) -> bool:
    """Whether a borrowed connection may lead to the wrong server: others of its generation did."""
    pool: Any = client.connection_pool
    return bool(pool.is_outdated(connection))


@contextmanager
def borrowed(client: redis.Redis) -> Iterator[Any]:
    """Borrow one connection of the client's pool.

    Raises:
        NeverSent: no connection was available.
    """
    pool: Any = client.connection_pool
    try:
        connection = pool.get_connection()
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise NeverSent(str(error)) from error
    with giving_back(pool, connection):
        yield connection


@contextmanager
def giving_back(pool: Any, connection: Any) -> Iterator[None]:
    """Return a borrowed connection to the pool at the end, closed after an error that shows a wrong or lost server."""
    try:
        yield
    except LEADS_ASTRAY:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
