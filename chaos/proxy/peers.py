"""Which process is at the other end of a connection on this machine. Linux only; elsewhere nobody is found."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

ESTABLISHED = "01"
LOOKS = 5
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def owner(port: int, candidates: Iterable[int]) -> int | None:
    """The one of `candidates` that holds the TCP socket whose local port is `port`."""
    inode = _inode(port)
    if inode is None:
        return None
    for pid in candidates:
        with suppress(OSError):  # it is gone, or not ours to look into
            for entry in os.scandir(f"/proc/{pid}/fd"):
                found = _SOCKET.fullmatch(str(Path(entry.path).readlink()))
                if found and found[1] == inode:
                    return pid
    return None


def _inode(port: int) -> str | None:
    # The kernel gives a table in pieces, and can leave a line out where others come and go between two of them.
    for table in LOOKS * ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port:
                    return fields[9]
    return None
