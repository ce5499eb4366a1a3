"""A full disk under the server."""

import sys
from dataclasses import dataclass
from typing import ClassVar

from ...history import ServerEnd
from ..base import Effect, InFlight, Missed, Stage, server_client, wait_for
from ..registry import fault
from .base import ServerFault
from .torn_aof import newest_aof


@fault
@dataclass(frozen=True, kw_only=True)
class ServerDiskFull(ServerFault):
    """Limits the size of the server's files, so that a write fails in its middle (I1, I2).

    RLIMIT_FSIZE cuts the write off, and the server exits, as it does on a full disk under `appendfsync always`. It is
    started again on the torn file, without the limit.
    """

    name: ClassVar[str] = "server-disk-full"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")
    ends_server: ClassVar[ServerEnd] = "killed"
    count: ClassVar[int] = 2

    room_bytes: int = 1_000
    """Bytes that the server can still write."""
    patience_s: float = 10.0
    """Maximum wait for the failing write, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        log_path, data_dir = stage.server.log_path, stage.server.data_dir
        if not sys.platform.startswith("linux"):
            raise Missed("This fault needs Linux: only there can one process set the resource limits of another.")
        if log_path is None or data_dir is None:
            raise Missed("The files of this server are not accessible.")
        aof = newest_aof(data_dir)
        if aof is None:
            raise Missed("The server keeps no append-only file.")
        pid, in_flight = _pid(stage), InFlight(stage)
        stage.server.pause()  # so that it writes nothing between the stat and the limit
        try:
            limit = max(aof.stat().st_size, log_path.stat().st_size) + self.room_bytes
            _limit_files(pid, limit)
        finally:
            stage.server.resume()
        not_full = f"The server had written less than {self.room_bytes} bytes after {self.patience_s:g} s."
        wait_for(stage, lambda: not stage.server.running, self.patience_s, not_full)
        reached = aof.stat().st_size
        stage.server.start()
        if reached != limit:
            raise Missed(f"The server ended when its append-only file had {reached} bytes, not {limit}.")
        return Effect(
            evidence=f"The server died of a write when its append-only file had reached the limit of {limit} bytes; "
            "it was started again on the torn file, without the limit.",
            tasks=in_flight.tasks(),
        )

    def heal(self, stage: Stage) -> None:
        if not stage.server.running:
            stage.server.start()
        elif stage.server.log_path is not None and sys.platform.startswith("linux"):
            _limit_files(_pid(stage), None)


def _pid(stage: Stage) -> int:
    with server_client(stage) as client:
        return int(client.info("server")["process_id"])


def _limit_files(pid: int, size: int | None) -> None:
    """Limit the size of the files that a process writes, in bytes; None: back to the hard limit."""
    from resource import RLIMIT_FSIZE, prlimit

    _, hard = prlimit(pid, RLIMIT_FSIZE)
    prlimit(pid, RLIMIT_FSIZE, (hard if size is None else size, hard))
