"""Which process is at the other end of a connection on this machine. Linux only; elsewhere none is found."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

ESTABLISHED = "01"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def owner(port: int, candidates: Iterable[int]) -> int | None:
    """The one of `candidates` that holds a connected TCP socket whose local port is `port`."""
    inodes = _inodes(port)
    for pid in candidates:
        if inodes & _sockets(pid):
            return pid
    return None


def _inodes(port: int) -> set[str]:
    """Strangers' among them: one local port serves several connections, if they go to different places."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _sockets(pid: int) -> set[str]:
    """None of a process that is gone, or not ours to look into."""
    found = set()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed in the meantime
                if held := _SOCKET.fullmatch(str(Path(entry.path).readlink())):
                    found.add(held[1])
    return found


def living() -> list[int]:
    """All processes of this machine, the newest first: a connection is mostly of a process that has just begun."""
    return sorted((int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()), reverse=True)
