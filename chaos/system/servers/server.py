"""What the harness asks of the Redis under test, wherever it runs."""

import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

AppendFsync = Literal["always", "everysec", "no"]

LOOPBACK = "127.0.0.1"
START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 15.0
ASK_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 0.5
READY_POLL_S = 0.005
SETTLE_DEADLINE_S = 60.0
"""Several servers may take that long to agree. A Sentinel that got no processor time for 2 s does nothing for 30 s
(its TILT mode)."""


class ServerUnavailable(Exception):
    """There is no such server to be had; the text is one sentence that says why."""


class NotOurServer(Exception):
    """The server was not started by the harness, so the harness does not stop, kill or pause it."""


class NoNetwork(Exception):
    """Only a server in a container has a network of its own, which it can be taken off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """What the server was keeping when it was asked; None: it does not tell (CONFIG is forbidden).

    See https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
    """

    appendonly: bool | None
    appendfsync: str | None
    save: str | None
    maxmemory_policy: str | None
    replicas: int = 0
    """How many are connected."""

    @property
    def sentence(self) -> str:
        """What a killed server, a power cut and a failover may take."""
        return self._kept() + self._evicted() + self._failed_over()

    def _kept(self) -> str:
        if self.appendonly is None:
            return "Durability unknown: the server does not show its configuration."
        if self.appendonly and self.appendfsync == "always":
            return "AOF, fsync always: an acknowledged write is on disk."
        if self.appendonly and self.appendfsync == "everysec":
            return (
                "AOF, fsync every second: a killed server loses nothing unless an fsync is slow, then up to about 2 s; "
                "a power cut takes about 1 s."
            )
        if self.appendonly:
            return "AOF, fsync left to the kernel: a killed server loses nothing; a power cut takes what it held back."
        if self.save:
            return f"No AOF, snapshots ({self.save}): a killed server loses everything since the last one."
        return "No AOF, no snapshots: a killed server loses everything."

    def _evicted(self) -> str:
        if self.maxmemory_policy in (None, "noeviction"):
            return ""
        return f" When memory is full, {self.maxmemory_policy} may evict the queue itself."

    def _failed_over(self) -> str:
        if not self.replicas:
            return ""
        return f" {self.replicas} replicas, asynchronous: a failover takes what none of them has confirmed."


class Server(ABC):
    """One Redis, at one URL that holds across restarts. Not safe across threads."""

    kind: ClassVar[str]
    data_dir: Path | None = None
    """Where its files lie on this machine; None where the harness can't reach them."""
    log_path: Path | None = None
    """Where it writes its log; None where the harness can't read it as it grows."""

    @property
    @abstractmethod
    def url(self) -> str:
        """redis://HOST:PORT/DB, the same after each restart."""

    @property
    def client_url(self) -> str:
        """What the target is given; another one where its clients find the server in another way than the harness."""
        return self.url

    @abstractmethod
    def start(self) -> None:
        """Starts it, or starts it again on the same port with the same data; returns when it answers.

        Raises:
            ServerUnavailable: it does not come up within `START_DEADLINE_S`; with the end of its log.
        """

    @abstractmethod
    def stop(self) -> int:
        """Lets it end in order; returns its exit status."""

    @abstractmethod
    def kill(self) -> int:
        """SIGKILLs it; returns its exit status when it is gone (-9)."""

    @abstractmethod
    def pause(self) -> None:
        """Freezes it: connections stay open, nothing is answered."""

    @abstractmethod
    def resume(self) -> None:
        """Lets a paused server go on."""

    def disconnect(self) -> None:
        """Disconnects it from its networks; the process runs on. Raises NoNetwork: it has none of its own."""
        raise NoNetwork

    def reconnect(self) -> None:  # noqa: B027 - most have nothing to do
        """Puts it back on the networks it was taken off, under the same URL; does nothing if it was not."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether its process is there, paused or not."""

    @abstractmethod
    def close(self) -> None:
        """Ends it and removes its data. A second call does nothing."""

    @abstractmethod
    def describe(self) -> str:
        """One line for people: kind, product and version, address, what it keeps."""

    def trouble(self) -> str | None:
        """A sentence: what the run's clients saw of it was nobody's plan. None: nothing of that kind."""
        return None

    def restart(self) -> None:
        """Ends it in order if it runs, and starts it again."""
        if self.running:
            self.stop()
        self.start()

    def run_id(self) -> str:
        """The server's own name for this start of it; another after each restart."""
        return str(self._info()["run_id"])

    def version(self) -> str:
        """Product and version: `Valkey 9.1.0`, `Redis 7.0.15`."""
        info = self._info()
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"

    def durability(self) -> Durability:
        """Asks the live server, since what it was started with may have been changed meanwhile."""
        with self._client() as client:
            try:
                config = client.config_get("appendonly", "appendfsync", "save", "maxmemory-policy")
                replicas = int(client.info("replication")["connected_slaves"])
            except redis.ResponseError:
                return Durability(appendonly=None, appendfsync=None, save=None, maxmemory_policy=None)
        return Durability(
            appendonly=config["appendonly"] == "yes",
            appendfsync=config["appendfsync"],
            save=config["save"],
            maxmemory_policy=config["maxmemory-policy"],
            replicas=replicas,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _info(self, timeout_s: float = ASK_TIMEOUT_S) -> dict[str, Any]:
        with self._client(timeout_s) as client:
            info: dict[str, Any] = client.info("server")
            return info

    @contextmanager
    def _client(self, timeout_s: float = ASK_TIMEOUT_S) -> Iterator[redis.Redis]:
        """A connection for one question; no repeats, so that an unreachable server is seen at once."""
        client = redis.Redis.from_url(
            self.url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            decode_responses=True,
            driver_info=redis.DriverInfo(),  # else each connection reads the version from a file
        )
        try:
            yield client
        finally:
            client.close()

    def _wait_until_ready(self, is_ours: Callable[[dict[str, Any]], bool], gone: Callable[[], str | None]) -> None:
        """Waits until the server has loaded its data and answers.

        Args:
            is_ours: given INFO server, whether it is the one that was started: another could have taken the port.
            gone: why it will not come any more; None while it may.
        """
        give_up_s = time.monotonic() + START_DEADLINE_S
        while True:
            try:
                if is_ours(self._info(PROBE_TIMEOUT_S)):
                    return
                last = "another server answers at that port"
            except redis.RedisError as error:  # not listening yet, or loading
                last = str(error)
            if reason := gone():
                raise ServerUnavailable(reason)
            if time.monotonic() > give_up_s:
                raise ServerUnavailable(f"The server did not answer within {START_DEADLINE_S:g} s: {last}.")
            time.sleep(READY_POLL_S)


class SeveralServers(Server):
    """Several processes that must agree before they are of use."""

    not_yet: ClassVar[tuple[type[Exception], ...]] = (redis.RedisError,)
    """What is raised while they do not."""
    _directory: Path

    def _await(self, settled: Callable[[], bool], otherwise: str) -> None:
        give_up_s = time.monotonic() + SETTLE_DEADLINE_S
        while True:
            try:
                if settled():
                    return
            except self.not_yet:
                pass
            if time.monotonic() > give_up_s:
                raise ServerUnavailable(
                    f"{otherwise} within {SETTLE_DEADLINE_S:g} s; see the logs in {self._directory}."
                )
            time.sleep(READY_POLL_S)


class HeldPort:
    """A TCP port of the loopback interface that no other server gets, also while the server on it is down.

    The number is the OS's choice, so it lies where the OS takes ports for outgoing connections from, too. Left alone, a
    client that tries to reconnect could be given it as its own port and even connect to itself. A socket that is bound
    with SO_REUSEADDR and never listens keeps it, and does not stand in the server's way. Only Linux shares a port so;
    elsewhere it is let go at once.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((LOOPBACK, 0))
        self.number: int = self._socket.getsockname()[1]
        if not sys.platform.startswith("linux"):
            self._socket.close()

    def close(self) -> None:
        """Gives the port back."""
        self._socket.close()
