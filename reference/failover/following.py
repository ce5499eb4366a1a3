"""A connection pool for a server that may change at any time: a primary, or the owner of a slot."""

import re
import socket
import threading
import weakref
from contextlib import suppress
from typing import Any

import redis
from redis.connection import parse_url

from ..queue.config import Config
from ..queue.connection import connection_options
from ..queue.errors import ConfigError
from ..queue.keys import Keys
from ..queue.servers.pool import Gate, Pool
from ..queue.servers.urls import SENTINEL_SCHEMES
from .cluster import SlotOwner
from .locator import Address, Locator
from .sentinel import Primary
from .urls import read_cluster_url, read_sentinel_url

ANSWER_S = 0.3  # timeout for a Sentinel or a node that is asked for the address
LOOK_S = 0.5  # interval between questions while connections are open


class FollowingPool(Pool):
    """Connects to the address of `locator`; when the address changes, it closes the connections to the old server.

    Connections in use get one interval, LOOK_S, to finish, which most replies do not need; then they are shut down. A
    wait at a server that was cut off would otherwise end seconds later. The caller sees a lost reply.
    """

    def __init__(self, *, locator: Locator, gate: Gate, **options: Any) -> None:
        self._locator = locator
        super().__init__(gate=gate, locate=self._locate, **options)

    def sockets(self) -> list[socket.socket]:
        return [*super().sockets(), *self._locator.sockets()]

    def reset(self) -> None:
        self._locator.reset()
        self._leads_to: Address | None = None
        self._watching = threading.RLock()  # held to start or end the thread; a finalizer may call `close` meanwhile
        self._unwatched: threading.Event | None = None  # ends the thread; None: no thread runs
        super().reset()

    def close(self) -> None:
        super().close()
        with self._watching:
            if self._unwatched:
                self._unwatched.set()
            self._unwatched = None
        self.ask_no_more()

    def ask_no_more(self) -> None:
        self._locator.close()

    def follow(self) -> None:
        """Ask for the address if connections are open, and leave the old server if the address has changed."""
        if super().sockets():
            self._shut_others(self._leads_to)
            with suppress(redis.RedisError):  # without an answer the old address stays
                self._lead_to(self._locator.address())

    def _close_idle(self) -> None:
        self._locator.doubt()
        super()._close_idle()

    def _locate(self) -> Address:
        address = self._locator.address()
        self._lead_to(address)
        with self._watching:
            if self._unwatched is None:
                self._unwatched = threading.Event()
                watched = weakref.ref(self), self._unwatched
                threading.Thread(target=_watch, name="locator", args=watched, daemon=True).start()
        return address

    def _lead_to(self, address: Address) -> None:
        before, self._leads_to = self._leads_to, address
        if before in (None, address):
            return
        self._close_idle()

    def _shut_others(self, address: Address | None) -> None:
        for connection in list(self._connections):
            if (sock := connection._sock) and (connection.host, connection.port) != address:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS: another thread reads above it


def _watch(reference: "weakref.ref[FollowingPool]", unwatched: threading.Event) -> None:
    while not unwatched.wait(LOOK_S) and (pool := reference()):
        pool.follow()
        if unwatched.is_set():  # the pool was closed meanwhile, and the rest of the question has connected again
            pool.ask_no_more()
        del pool


def following_pool(config: Config, connections: int, answer_s: float, connect_s: float) -> FollowingPool:
    """Return a pool for a URL of Sentinels, or of a cluster.

    Raises:
        ConfigError: the URL is invalid, or the keys of the namespace would lie in several slots of a cluster.
    """
    url, gate = config.redis_url, Gate()

    def asking(login: str, host: str, port: int) -> redis.Redis:
        """Return a client that only asks for the address."""
        options = {**_read(login), **connection_options(url, ANSWER_S, ANSWER_S), "host": host, "port": port}
        return redis.Redis.from_pool(Pool(gate=gate, max_connections=1, **options))

    locator: Locator
    if url.partition("://")[0] in SENTINEL_SCHEMES:
        primary = read_sentinel_url(url)
        login = primary.server
        locator = Primary(primary.group, primary.sentinels, lambda *place: asking(primary.sentinel, *place))
    else:
        cluster = read_cluster_url(url)
        login = cluster.server
        if not re.search(r"\{[^}]+\}", config.namespace):
            raise ConfigError(
                f"namespace {config.namespace!r} has no hash tag, so a cluster would spread its keys: "
                f"name it {{{config.namespace}}}, with the braces."
            )
        locator = SlotOwner(Keys(config.namespace).pending, cluster.nodes, lambda *place: asking(login, *place))
    options = {**_read(login), **connection_options(url, answer_s, connect_s), "max_connections": connections}
    return FollowingPool(locator=locator, gate=gate, **options)


def _read(url: str) -> dict[str, Any]:
    """Convert a plain URL to connection options."""
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    return options
