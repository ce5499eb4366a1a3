"""A primary with two replicas under three Sentinels: all from the embedded binary, on the loopback interface.

    clients ──▶ the port in front ──▶ the primary that was announced last
                    Sentinels, replicas ──▶ each node's own door ──▶ the node

Clients have one URL. The port in front stands for a virtual IP, or for HAProxy in front of Sentinel. `follow` points
it to the primary that Sentinel announces, and resets the connections to the previous one. Nodes and Sentinels reach
each node through its own proxy port, the node's door, so that a primary can be isolated from them while clients still
reach it.
"""

from pathlib import Path
from typing import Any, ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ...history import Recorder
from ..processes import CannotStart, Managed, spawn
from ..proxy import Link, Listener, Proxy
from .embedded import EmbeddedServer
from .server import ASK_TIMEOUT_S, LOOPBACK, AppendFsync, HeldPort, SeveralServers
from .server import ServerUnavailable as Unavailable

NODES = 3
SENTINELS = 3
QUORUM = 2
GROUP = "zeroloss"
"""The Sentinels' name for the primary and its replicas."""
DOWN_AFTER_MS = 2_000
"""Silence after which a primary counts as down: long enough for a busy machine, short enough for a run."""
FAILOVER_TIMEOUT_MS = 5_000
HASTE = {"info-period": 1_000, "publish-period": 250}
"""Sentinel intervals, ms. By default it asks every 10 s, publishes every 2 s, and demotes an old primary after 8 s."""


class Node(EmbeddedServer):
    """One of the servers. The others reach it through its `door`."""

    def __init__(
        self, directory: Path, appendfsync: AppendFsync | None, recorder: Recorder | None, door: Listener
    ) -> None:
        super().__init__(directory, appendfsync, recorder)
        self.door = door
        self.replica_of: int | None = None
        """Port of the primary's door, which the node follows from its start; None: it starts as a primary."""

    @property
    def address(self) -> tuple[str, int]:
        return LOOPBACK, self._port.number

    def start(self) -> None:
        super().start()
        self.door.direct(self.address)

    def replication(self) -> dict[str, Any]:
        """INFO replication. Raises redis.RedisError."""
        with self._client() as client:
            found: dict[str, Any] = client.info("replication")
            return found

    def _options(self) -> list[str]:
        announced = ["--replica-announce-ip", LOOPBACK, "--replica-announce-port", str(self.door.port)]
        follows = ["--replicaof", LOOPBACK, str(self.replica_of)] if self.replica_of else []
        return [*super()._options(), "--repl-diskless-sync-delay", "0", *announced, *follows]


class SentinelServer(SeveralServers):
    """All nodes as one server: `stop`, `kill` and `pause` act on the node that clients reach; others follow it."""

    kind: ClassVar[str] = "sentinel"
    # A process is not up yet, or the Sentinels do not agree on a primary yet.
    not_yet: ClassVar[tuple[type[Exception], ...]] = (redis.RedisError, Unavailable)

    def __init__(self, directory: Path, appendfsync: AppendFsync | None, recorder: Recorder | None = None) -> None:
        self._directory = directory.resolve()
        self._recorder = recorder
        self._proxy = Proxy(f"redis://{LOOPBACK}:0/0").__enter__()
        self._front = self._proxy.listen(opaque=True)
        self.nodes = [
            Node(self._directory / f"node-{number}", appendfsync, recorder, self._proxy.listen(opaque=True))
            for number in range(1, NODES + 1)
        ]
        self._sentinels: list[tuple[Managed, HeldPort]] = []
        self.primary = self.nodes[0]
        """The node that clients reach."""
        self._unasked = False
        """Whether clients have followed a promotion that no fault was waiting for."""

    @property
    def url(self) -> str:
        return self._front.url

    @property
    def sentinel_url(self) -> str:
        """URL for clients that ask Sentinel themselves. They reach each node through its door."""
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{hosts}/{GROUP}/0"

    @property
    def running(self) -> bool:
        return self.primary.running

    @property
    def sentinel_ports(self) -> list[int]:
        return [port.number for _, port in self._sentinels]

    def start(self) -> None:
        """Start the stopped nodes; return when all nodes replicate and all Sentinels know each other."""
        if self._sentinels:
            self.revive()
            self.await_settled()
            return
        for node in self.nodes:
            node.replica_of = None if node is self.primary else self.primary.door.port
            node.start()
        self._front.direct(self.primary.address)
        self._await(self._replicating, "The replicas do not follow the primary")
        for number in range(1, SENTINELS + 1):
            self._start_sentinel(self._directory / f"sentinel-{number}")
        self.await_settled()
        self._unasked = False  # nothing has been promised yet

    def stop(self) -> int:
        return self.primary.stop()

    def kill(self) -> int:
        return self.primary.kill()

    def pause(self) -> None:
        self.primary.pause()

    def resume(self) -> None:
        self.primary.resume()

    def close(self) -> None:
        for process, port in self._sentinels:
            process.kill_session()
            port.close()
        self._sentinels = []
        for node in self.nodes:
            node.close()
        self._proxy.close()

    def describe(self) -> str:
        return (
            f"{self.primary.describe()}, {NODES - 1} asynchronous replicas, {SENTINELS} Sentinels (down after "
            f"{DOWN_AFTER_MS} ms), behind {LOOPBACK}:{self._front.port}"
        )

    def announced(self) -> tuple[Node, int]:
        """Return the primary that most Sentinels name, and its epoch, which grows with each failover.

        Raises ServerUnavailable: they disagree.
        """
        views = [_view(port) for port in self.sentinel_ports]
        said = max(views, key=views.count)
        node = next((node for node in self.nodes if said and node.door.port == said[0]), None)
        if said is None or node is None or views.count(said) < QUORUM:
            raise Unavailable("The Sentinels do not agree on a primary.")
        return node, said[1]

    def failed_over(self) -> bool:
        """Whether the Sentinels announce another node than the one that clients reach, and it accepts writes."""
        try:
            node, _ = self.announced()
            return node is not self.primary and node.replication()["role"] == "master"
        except (Unavailable, redis.RedisError):
            return False

    def trouble(self) -> str | None:
        if self._unasked or self.failed_over():
            return "Sentinel failed over by itself, or later than a fault waited for it: the machine is too busy."
        return None

    def follow(self) -> int:
        """Point clients to the announced primary; return the number of their connections reset for that."""
        self.primary, _ = self.announced()
        return self._front.direct(self.primary.address)

    def cut_off(self) -> None:
        """Isolate the primary from the other nodes and the Sentinels; clients still reach it."""
        self.primary.door.set_link(Link(to_server_lost=True, to_worker_lost=True))

    def revive(self) -> None:
        """Reconnect every node, and start stopped ones as replicas of the node that clients reach."""
        for node in self.nodes:
            if not node.door.link.clear:
                node.door.reset_all()
                node.door.set_link(Link())
            if not node.running:
                node.replica_of = None if node is self.primary else self.primary.door.port
                node.start()

    def await_settled(self) -> None:
        """Wait until two replicas follow the primary and every Sentinel knows all of them. Raises ServerUnavailable.

        Clients follow a promotion in the meantime (a vote may have been under way); `trouble` then reports it.
        """

        def settled() -> bool:
            if self.failed_over():
                self.follow()
                self._unasked = True
            return self._replicating() and self._known()

        self._await(settled, "The nodes and their Sentinels do not settle")

    def await_replicated(self) -> int:
        """Wait until every replica has confirmed everything written by now, and return that offset.

        Raises ServerUnavailable: they do not confirm it in time.
        """
        offset = int(self.primary.replication()["master_repl_offset"])

        def confirmed() -> bool:
            replicas = _replicas(self.primary)
            return len(replicas) == NODES - 1 and all(int(one["offset"]) >= offset for one in replicas)

        self._await(confirmed, "The replicas do not confirm what the primary has written")
        return offset

    def _replicating(self) -> bool:
        return [one["state"] for one in _replicas(self.primary)] == ["online"] * (NODES - 1)

    def _known(self) -> bool:
        return all(_knows_all(port, self.primary.door.port) for port in self.sentinel_ports)

    def _start_sentinel(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        port = HeldPort()
        settings = directory / "sentinel.conf"  # Sentinel also writes its state there
        settings.write_text(
            f"bind {LOOPBACK}\nport {port.number}\ndir {directory}\n"
            f"sentinel monitor {GROUP} {LOOPBACK} {self.primary.door.port} {QUORUM}\n"
            f"sentinel down-after-milliseconds {GROUP} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {GROUP} {FAILOVER_TIMEOUT_MS}\n"
            f"sentinel parallel-syncs {GROUP} {NODES}\n"
        )
        command = [str(self.primary.binary), str(settings), "--sentinel"]
        log_path = directory / "sentinel.log"
        try:
            process = spawn(command, role="sentinel", log_path=log_path, cwd=directory, recorder=self._recorder)
        except CannotStart as error:
            raise Unavailable(f"A Sentinel cannot be started here: {error.reason}.") from None
        self._sentinels.append((process, port))
        self._await(lambda: bool(_ask(port.number, "PING")), f"The Sentinel with the log {log_path} does not answer")
        _ask(port.number, "SENTINEL", "DEBUG", *(str(word) for pair in HASTE.items() for word in pair))


class SentinelUrlServer(SentinelServer):
    """The variant for targets whose clients ask Sentinel themselves: they lose an isolated primary, too."""

    kind: ClassVar[str] = "sentinel-url"

    @property
    def client_url(self) -> str:
        return self.sentinel_url


def _ask(port: int, *command: str) -> Any:
    """Send a command to a Sentinel and return the answer. Raises redis.RedisError."""
    client: Any = redis.Redis(
        LOOPBACK, port, retry=Retry(NoBackoff(), 0), socket_timeout=ASK_TIMEOUT_S, decode_responses=True
    )
    try:
        return client.execute_command(*command)
    finally:
        client.close()


def _replicas(primary: Node) -> list[dict[str, Any]]:
    """Return the connected replicas as the primary sees them. Raises redis.RedisError."""
    found = primary.replication()
    return [found[f"slave{number}"] for number in range(int(found["connected_slaves"]))]


def _view(sentinel_port: int) -> tuple[int, int] | None:
    """Return (port of the primary's door, epoch) as one Sentinel reports; None: it does not answer."""
    try:
        said = _ask(sentinel_port, "SENTINEL", "MASTER", GROUP)
    except redis.RedisError:
        return None
    return int(said["port"]), int(said["config-epoch"])


def _knows_all(sentinel_port: int, primary_door: int) -> bool:
    """Whether a Sentinel sees this primary and every replica, none of them down, and every other Sentinel."""
    primary = _ask(sentinel_port, "SENTINEL", "MASTER", GROUP)
    if (int(primary["port"]), int(primary["num-other-sentinels"])) != (primary_door, SENTINELS - 1):
        return False
    replicas = _ask(sentinel_port, "SENTINEL", "REPLICAS", GROUP)
    return (
        primary["flags"] == "master"
        and [one["flags"] for one in replicas] == ["slave"] * (NODES - 1)
        and all(one["master-link-status"] == "ok" and int(one["master-port"]) == primary_door for one in replicas)
    )
