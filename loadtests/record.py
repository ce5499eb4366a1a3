"""Records the senders' actions for a harness that judges the tasks: the `submit` and `load` events of its history.

Events are written only if `--record` names the directory of the run's events, as `zeroloss run --load` does.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

ERROR_CHARACTERS_MAX = 500


class Record:
    """Writes `<directory>/load-<pid>.jsonl`, one `O_APPEND` write per event, as every process of a run does."""

    def __init__(self, directory: Path) -> None:
        self._pid = os.getpid()
        path = directory / f"load-{self._pid}.jsonl"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, kind: str, phase: str, **members: Any) -> None:
        """Write one event now, without members that are None. Raises OSError: the evidence would be incomplete."""
        event = {"t": time.monotonic_ns(), "pid": self._pid, "kind": kind, "phase": phase}
        event.update((name, member) for name, member in members.items() if member is not None)
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        if os.write(self._fd, line) != len(line):
            raise OSError("An event of the load could not be written in full.")
