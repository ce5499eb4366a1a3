"""Find the process at the other end of a local connection. Linux only; elsewhere the search finds none."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

ESTABLISHED = "01"

Ends = tuple[int, int]
"""Ports of a connection: of the process that opened it, and of the process that accepted it."""

_SOCKET = re.compile(r"socket:\[(\d+)\]")


def owner(ends: Ends, candidates: Iterable[int]) -> int | None:
    """Return the first of `candidates` that holds the opening end of this TCP connection; None: none does."""
    inodes = _inodes(ends)
    for pid in candidates:
        if inodes & _sockets(pid):
            return pid
    return None


def _inodes(ends: Ends) -> set[str]:
    """Return the inodes of the sockets connected from the first port to the second.

    Both ports are compared: the system gives one local port to several connections if their destinations differ.
    """
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == ESTABLISHED and (_port(fields[1]), _port(fields[2])) == ends:
                    found.add(fields[9])
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


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
