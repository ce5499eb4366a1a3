"""A traced run: each process of the target has its own port of the proxy, which records commands that carry tasks."""

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ..history.trace import TRACE_NAME, write_trails
from ..system.network import Network
from ..system.proxy import Tracer


class Tracing:
    """`tracer` is passed to the network; `keep` writes the trails that it has recorded."""

    def __init__(self, scripts: Mapping[str, str], completed: Callable[[], Collection[str]]) -> None:
        """`scripts`: as a target states them. `completed` returns the completed tasks."""
        self._completed = completed
        self.tracer = Tracer(scripts, completed, time.monotonic_ns)

    def keep(self, network: Network, directory: Path, promised: Collection[str]) -> None:
        """Write the trails of the unfinished tasks, and of some others."""
        unfinished = frozenset(promised) - frozenset(self._completed())
        # In the proxy's own thread: processes may still send.
        trails = network.proxy.call(lambda: list(self.tracer.trails(unfinished)))
        write_trails(directory / TRACE_NAME, trails)
