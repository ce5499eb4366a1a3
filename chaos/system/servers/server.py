"""The harness's interface to the Redis under test, wherever that runs."""

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
"""Time for several servers to agree. A Sentinel that got no processor time for 2 s does nothing for 30 s
(its TILT mode)."""


class ServerUnavailable(Exception):
    """The requested server is not available; the text gives the reason."""


class NotOurServer(Exception):
    """The server was not started by the harness, so the harness does not stop, kill or pause it."""


class NoNetwork(Exception):
    """The server has no network of its own to disconnect from: only one in a container has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """The server's persistence settings when it was asked; None: unknown (CONFIG is forbidden).

    See https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
    """

    appendonly: bool | None
    appendfsync: str | None
    save: str | None
    maxmemory_policy: str | None
    replicas: int = 0
    """Number of connected replicas."""

    @property
    def sentence(self) -> str:
        """The data that a killed server, a power cut and a failover may lose, in sentences."""
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
    """Folder of its files on this machine; None: the harness can't reach them."""
    log_path: Path | None = None
    """File of its log; None: the harness can't read the log as it grows."""

    @property
    @abstractmethod
    def url(self) -> str:
        """redis://HOST:PORT/DB, the same after each restart."""

    @property
    def client_url(self) -> str:
        """The URL for the target. It differs from `url` if clients find the server in another way than the harness."""
        return self.url

    @abstractmethod
    def start(self) -> None:
        """Start the server, or restart it on the same port with the same data; return when it answers.

        Raises:
            ServerUnavailable: it does not come up within `START_DEADLINE_S`; with the end of its log.
        """

    @abstractmethod
    def stop(self) -> int:
        """Stop it in order and return its exit status."""

    @abstractmethod
    def kill(self) -> int:
        """SIGKILL it, wait for its end, and return its exit status (-9)."""

    @abstractmethod
    def pause(self) -> None:
        """Freeze it: connections stay open, nothing is answered."""

    @abstractmethod
    def resume(self) -> None:
        """Let a paused server continue."""

    def disconnect(self) -> None:
        """Disconnect it from its networks; the process keeps running. Raises NoNetwork."""
        raise NoNetwork

    def reconnect(self) -> None:  # noqa: B027 - most have nothing to do
        """Reconnect it to its networks, under the same URL. Do nothing if it was not disconnected."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether its process exists, paused or not."""

    @abstractmethod
    def close(self) -> None:
        """End it and remove its data. A second call does nothing."""

    @abstractmethod
    def describe(self) -> str:
        """Return one line for people: kind, product and version, address, persistence."""

    def trouble(self) -> str | None:
        """Return a sentence about a failure of the server that no fault planned; None: there was none."""
        return None

    def restart(self) -> None:
        """Stop it in order if it runs, and start it again."""
        if self.running:
            self.stop()
        self.start()

    def run_id(self) -> str:
        """Return the server's run id, which changes with each restart."""
        return str(self._info()["run_id"])

    def version(self) -> str:
        """Return product and version: `Valkey 9.1.0`, `Redis 7.0.15`."""
        info = self._info()
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"

    def durability(self) -> Durability:
        """Ask the live server for its settings, since they may have changed after its start."""
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
        """Open a connection for one question. It never retries, so that an unreachable server is noticed at once."""
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
        """Wait until the server has loaded its data and answers.

        Args:
            is_ours: whether INFO server comes from the started process: another could have taken the port.
            gone: returns the reason why the server will not come up any more; None while it may.
        """
        give_up_s = time.monotonic() + START_DEADLINE_S
        while True:
            try:
                if is_ours(self._info(PROBE_TIMEOUT_S)):
                    with self._client(PROBE_TIMEOUT_S) as client:
                        client.ping()  # INFO is answered while the server loads its data, other commands are not
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
    """Several processes that must agree before they can be used."""

    not_yet: ClassVar[tuple[type[Exception], ...]] = (redis.RedisError,)
    """Exceptions that a check may raise while they do not agree."""
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
    """A TCP port of the loopback interface that stays reserved, also while the server on it is down.

    The OS chooses the number, so it lies in the range for outgoing connections. Without a reservation, a client that
    tries to reconnect could get it as its own port, and even connect to itself. A socket that is bound with
    SO_REUSEADDR and never listens reserves the port without hindering the server. Only Linux shares a port like this;
    elsewhere the port is released at once.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((LOOPBACK, 0))
        self.number: int = self._socket.getsockname()[1]
        if not sys.platform.startswith("linux"):
            self._socket.close()

    def close(self) -> None:
        """Release the port."""
        self._socket.close()
