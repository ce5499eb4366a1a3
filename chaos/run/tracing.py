"""A traced run: every process of the target reaches the server by a way of its own, and what carried tasks is kept."""

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ..history.trace import TRACE_NAME, write_trails
from ..system.network import Network
from ..system.proxy import Tracer


class Tracing:
    """`tracer` is handed to the network; `keep` writes what it has seen."""

    def __init__(self, scripts: Mapping[str, str], completed: Callable[[], Collection[str]]) -> None:
        """`scripts`: as a target states them. `completed`: the tasks that are."""
        self._completed = completed
        self.tracer = Tracer(scripts, completed, time.monotonic_ns)

    def keep(self, network: Network, directory: Path, promised: Collection[str]) -> None:
        """Write the trails of what is unfinished, and of some other tasks."""
        unfinished = frozenset(promised) - frozenset(self._completed())
        # In the proxy's own thread: processes may still send.
        trails = network.proxy.call(lambda: list(self.tracer.trails(unfinished)))
        write_trails(directory / TRACE_NAME, trails)
