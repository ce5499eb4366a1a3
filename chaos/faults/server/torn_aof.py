"""An append-only file that ends in the middle of a command."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...history import ServerEnd
from ..base import Effect, InFlight, Missed, Stage, held_back
from ..registry import fault
from .base import ServerFault

TAIL = b"*3\r\n$5\r\nLPUSH\r\n$4\r\ntorn\r\n$1000\r\nhalf of"
"""Start of a command that was never acknowledged. Truncating the file itself would remove promised tasks."""


@fault
@dataclass(frozen=True, kw_only=True)
class ServerTornAof(ServerFault):
    """SIGKILLs the server, and starts it again on an append-only file with a torn end (I1, I2).

    It must load everything before the torn command, which includes all that was acknowledged.
    https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
    """

    name: ClassVar[str] = "server-torn-aof"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")
    ends_server: ClassVar[ServerEnd] = "killed"
    count: ClassVar[int] = 2

    down_s: float = 0.5
    """Seconds until it is started again."""

    def inject(self, stage: Stage) -> Effect:
        log_path = stage.server.log_path
        if log_path is None or stage.server.data_dir is None:
            raise Missed("The files of this server are not accessible.")
        in_flight = InFlight(stage)
        with held_back(stage) as waiting:
            status = stage.server.kill()
        stage.wait(self.down_s)
        aof = newest_aof(stage.server.data_dir)
        if aof is None:
            raise Missed("The server keeps no append-only file.")
        whole = aof.stat().st_size
        with aof.open("ab") as file:
            file.write(TAIL)
        said = log_path.stat().st_size
        stage.server.start()
        with log_path.open(errors="replace") as log:
            log.seek(said)
            line = next((line for line in log if "Truncating the AOF" in line), None)
        if line is None:
            raise Missed("The server did not report that it truncated the torn end of its append-only file.")
        return Effect(
            evidence=f"The server exited with status {status} while {waiting} promised tasks waited; {len(TAIL)} "
            f"bytes of a torn command were put after the {whole} of its append-only file, and its log says: "
            f"{_without_stamp(line)}",
            tasks=in_flight.tasks(),
        )


def newest_aof(data_dir: Path) -> Path | None:
    """Return the file to which the server appends; None if it has none."""
    found = data_dir.rglob("*.incr.aof")
    return max(found, key=lambda path: int(path.name.split(".")[-3]), default=None)


def _without_stamp(line: str) -> str:
    return line.partition(" # ")[2].strip() or line.strip()
