"""A queue under measurement, this project's own or another's: its client, its worker, and its remaining tasks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroloss.system.environments import cache_directory

from .context import Context
from .errors import BenchError

APPS = Path(__file__).parent / "apps"
PLACES = (APPS, APPS / "peers")
FEED_DEADLINE_S = 120.0
NPM_DEADLINE_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A third-party queue, or our own: `worker` and `client` are commands of its own environment.

    `left(client)`: number of unacknowledged tasks on the server; the call costs the server next to nothing.
    `rate`: a guess in tasks/s, which determines its first backlog.
    """

    name: str
    requirements: tuple[str, ...]
    worker: tuple[str, ...]
    client: tuple[str, ...]
    left: Callable[[Any], int]
    rate: int
    settings: str
    at_least_once: bool = True
    node: bool = False


class Queue:
    """A peer with its environment installed."""

    def __init__(self, peer: Peer, context: Context) -> None:
        """Raises BenchError: its requirements can't be installed."""
        self.peer, self._context = peer, context
        if peer.node:
            self._folder = _node_modules(peer.requirements, context).parent
        elif peer.requirements:
            self._folder = context.environment(peer.requirements)
        else:
            self._folder = Path(sys.prefix)
        self._environment = {
            "REDIS_URL": context.server.url,
            "PYTHONPATH": os.pathsep.join(map(str, PLACES)),
            "NODE_PATH": str(self._folder / "node_modules"),
        }

    @property
    def name(self) -> str:
        return self.peer.name

    def worker(self, env: Mapping[str, str] | None = None) -> tuple[list[str], dict[str, str]]:
        """Return the command of its worker, and the environment variables that it needs."""
        return self._command(self.peer.worker), self._environment | dict(env or {})

    def feed(self, count: int, *, rate: float = 0, payload_bytes: int = 0) -> None:
        """Let its client send `count` tasks, `rate` a second (0: as fast as it can), and wait for its end.

        Raises:
            BenchError: the client failed.
        """
        command = [*self._command(self.peer.client), str(count), str(rate), str(payload_bytes)]
        with self._context.processes.running(command, self._environment) as process:
            try:
                process.wait(FEED_DEADLINE_S)
            except subprocess.TimeoutExpired:
                raise BenchError(f"its client needed more than {FEED_DEADLINE_S:g} s for {count} tasks") from None
            self._context.processes.check(process)

    def _command(self, words: tuple[str, ...]) -> list[str]:
        program, *arguments = words
        own = self._folder / "bin" / program
        command = [str(own) if own.exists() else program]
        for word in arguments:
            scripts = [str(place / word) for place in PLACES if (place / word).is_file()]
            command.append(scripts[0] if scripts else word.format(redis=self._context.server.url))
        return command


def equipped(peers: Iterable[Peer], context: Context) -> list[Queue]:
    """Return the queues whose environment exists or can be made; report the reason for the others."""
    queues = []
    for peer in peers:
        try:
            queues.append(Queue(peer, context))
        except BenchError as error:
            context.say(f"  {peer.name} is left out: {error}")
    return queues


def _node_modules(packages: tuple[str, ...], context: Context) -> Path:
    """Return the folder of these Node packages, which are installed once into the user's cache."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise BenchError("Node and npm are not found")
    modules = cache_directory().parent / "node" / "_".join(packages).replace("@", "-") / "node_modules"
    if not modules.is_dir():
        context.say(f"Environment: installing {', '.join(packages)} into {modules.parent} ...")
        making = modules.parent.with_suffix(".making")
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(making), *packages]
        making.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=NPM_DEADLINE_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise BenchError(f"npm could not install {', '.join(packages)}: {error}") from None
        making.rename(modules.parent)  # at the end, so that an interrupted installation is made again
    return modules
