"""The marks of the tasks' handlers, which `apps/mark.py` writes: for each task the time from sending to begin."""

import struct
from pathlib import Path


class Marks:
    """A file of eight bytes a task, in the order in which they began."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        path.touch()
        self._path = path
        self.env = {"BENCH_MARKS": str(path)}

    def count(self) -> int:
        return self._path.stat().st_size // 8

    def latencies_ms(self) -> list[float]:
        data = self._path.read_bytes()
        return [nanoseconds / 1e6 for (nanoseconds,) in struct.iter_unpack("<q", data[: len(data) // 8 * 8])]
