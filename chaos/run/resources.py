"""Samples the resources of the server and of each worker's session, once a second, for the whole run."""

from collections.abc import Callable, Sequence
from typing import Any

import psutil
import redis

from ..history import Recorder
from ..system.processes import Managed
from .beside import Beside

EVERY_S = 1.0
TIMEOUT_S = 1.0


class Sampler(Beside):
    """Samples inside a `with`, and once more at its end. `workers` returns the living workers."""

    def __init__(self, recorder: Recorder, server_url: str, workers: Callable[[], Sequence[Managed]]) -> None:
        super().__init__("sampler")
        self._recorder, self._workers = recorder, workers
        self._client = redis.Redis.from_url(
            server_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, client_name="zeroloss-sampler"
        )

    def run(self) -> None:
        with self._client:
            self._sample()
            while not self.stopping.wait(EVERY_S):
                self._sample()
            self._sample()

    def _sample(self) -> None:
        for worker in self._workers():
            pids = list(worker.members())
            held = _held_by(pids)
            if held:
                self._recorder.record("resources", "worker", sid=worker.sid, pids=pids, **held)
        try:
            clients: Any = self._client.info("clients")
            keyspace: Any = self._client.info("keyspace")
        except (redis.RedisError, OSError):
            return  # a fault has stopped or stalled the server
        databases = [one for one in keyspace.values() if isinstance(one, dict)]
        self._recorder.record(
            "resources",
            "server",
            clients=clients["connected_clients"],
            keys=sum(one["keys"] for one in databases),
            keys_expiring=sum(one["expires"] for one in databases),
        )


def _held_by(pids: Sequence[int]) -> dict[str, int]:
    """Return the resources of all these processes together; empty if one has ended: the sum would mislead."""
    held = {"memory_bytes": 0, "descriptors": 0, "threads": 0}
    try:
        for pid in pids:
            process = psutil.Process(pid)
            held["memory_bytes"] += process.memory_info().rss
            held["descriptors"] += process.num_fds()
            held["threads"] += process.num_threads()
    except (psutil.Error, OSError):
        return {}
    return held if pids else {}
