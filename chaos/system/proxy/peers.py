"""Find the process at the other end of a local connection. Linux only; elsewhere the search finds none."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

ESTABLISHED = "01"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def owner(port: int, candidates: Iterable[int]) -> int | None:
    """Return the first of `candidates` with a connected TCP socket on local port `port`; None: none has one."""
    inodes = _inodes(port)
    for pid in candidates:
        if inodes & _sockets(pid):
            return pid
    return None


def _inodes(port: int) -> set[str]:
    """Return the inodes of the sockets connected from a local port.

    Connections to different addresses may share the port, so some inodes may belong to unrelated processes.
    """
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _sockets(pid: int) -> set[str]:
    """Return the inodes of a process's sockets; empty if the process is gone, or may not be inspected."""
    found = set()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed in the meantime
                if held := _SOCKET.fullmatch(str(Path(entry.path).readlink())):
                    found.add(held[1])
    return found


def living() -> list[int]:
    """Return all processes of this machine, newest first: most connections belong to a process that just started."""
    return sorted((int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()), reverse=True)
