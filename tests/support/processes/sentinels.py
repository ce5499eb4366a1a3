"""Independent Sentinels, each configured with its own primary."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from zeroloss.system.processes import spawn
from zeroloss.system.servers.embedded import EmbeddedServer
from zeroloss.system.servers.server import HeldPort

from support.waiting import wait_until

GROUP = "main"
NEVER_DOWN_MS = 600_000


class LoneSentinel:
    """A Sentinel, without peers, that watches one server under the name `main`; `announce` sets another primary."""

    def __init__(self, directory: Path, primary_port: int) -> None:
        directory.mkdir()
        self._held = HeldPort()
        self.port = self._held.number
        settings = directory / "sentinel.conf"
        settings.write_text(f"bind 127.0.0.1\nport {self.port}\ndir {directory}\n")
        binary = EmbeddedServer(directory, None).binary
        command = [str(binary), str(settings), "--sentinel"]
        self._process = spawn(command, role="sentinel", log_path=directory / "log", cwd=directory, recorder=None)
        self.client: Any = redis.Redis(port=self.port, decode_responses=True)
        wait_until(self._answers, message="The Sentinel does not answer")
        self._monitor(primary_port)

    def announce(self, primary_port: int) -> None:
        self.client.sentinel_remove(GROUP)
        self._monitor(primary_port)

    def pause(self) -> None:
        self._process.stop_session_members()

    def end(self) -> None:
        self.client.close()
        self._process.kill_session()
        self._held.close()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def _monitor(self, primary_port: int) -> None:
        self.client.sentinel_monitor(GROUP, "127.0.0.1", primary_port, 1)
        self.client.sentinel_set(GROUP, "down-after-milliseconds", NEVER_DOWN_MS)


@contextmanager
def lone_sentinels(directory: Path, *primary_ports: int) -> Iterator[list[LoneSentinel]]:
    """Start one Sentinel for each port; the port is the primary that the Sentinel reports."""
    started: list[LoneSentinel] = []
    try:
        for port in primary_ports:
            started.append(LoneSentinel(directory / f"sentinel-{len(started)}", port))
        yield started
    finally:
        for sentinel in started:
            sentinel.end()


def url_of(*sentinels: LoneSentinel, credentials: str = "", options: str = "") -> str:
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    return f"redis+sentinel://{credentials}{hosts}/{GROUP}/0{options}"
