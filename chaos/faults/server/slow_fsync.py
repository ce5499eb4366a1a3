"""An fsync of the server that takes seconds."""

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any, ClassVar

from msgspec.structs import replace

from ...history import Traits
from ..base import POLL_S, Effect, InFlight, Missed, Stage, server_client
from ..registry import fault
from .base import ServerFault

FSYNC_THREAD = "bio_aof"
PUT_OFF_FOR_S = 2.0
"""Maximum delay of a write by the server, in seconds. Servers that count whole seconds may delay it half as long."""
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WAIT_ALL = 0x40000000
"""`__WALL` of waitpid(2), to wait for a thread of another process."""


@fault
@dataclass(frozen=True, kw_only=True)
class ServerSlowFsync(ServerFault):
    """Stops the server's fsync thread, as a slow disk does (I1, I2).

    Meanwhile the server delays its writes for up to 2 s, and still answers. With `kill` it is killed during such a
    delay, and its unwritten data is lost, which `everysec` allows. Needs Linux, the embedded server and `--appendfsync
    everysec`. Under `always` the server itself waits for the disk: `server-sigstop` tests that.
    https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency/
    """

    name: ClassVar[str] = "server-slow-fsync"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")
    ends_late: ClassVar[bool] = True

    for_s: float = 5.0
    """Duration of the fsync, in seconds; a minimum with `kill`."""
    kill: bool = False
    """Whether the server is killed during the fsync."""

    def traits(self) -> Traits:
        return replace(super().traits(), ends_server="killed" if self.kill else "no")

    def inject(self, stage: Stage) -> Effect:
        if stage.server.durability().appendfsync != "everysec":
            raise Missed("The server does not fsync every second: use --appendfsync everysec.")
        with server_client(stage) as client:
            pid = int(client.info("server")["process_id"])
            before = _delayed(client)
        in_flight, status = InFlight(stage), 0
        with standing_still(_fsync_thread(stage, pid)):
            stage.wait(self.for_s)
            with server_client(stage) as client:
                if self.kill:
                    _await_next_writes_put_off(stage, client)
                persistence = client.info("persistence")
            if self.kill:
                stage.server.pause()  # or it could write everything, as its fsync ends, before the kill
        if self.kill:
            status = stage.server.kill()
            stage.server.start()
        delayed = persistence.get("aof_delayed_fsync", 0) - before
        if self.kill and status != -SIGKILL:
            raise Missed(f"The server ended by itself, with status {status}, before it was killed.")
        if not delayed:
            raise Missed(f"The server put off no write within {self.for_s:g} s.")
        killed = f" It was killed then, with status {status}." if self.kill else ""
        return Effect(
            evidence=f"The server's aof_delayed_fsync, writes put off for 2 s, rose by {delayed}, and it held "
            f"{persistence.get('aof_buffer_length', 0)} bytes unwritten at the end.{killed}",
            tasks=in_flight.tasks(),
        )


@contextmanager
def standing_still(thread: int) -> Iterator[None]:
    """Stop one thread of another process, and no other. The kernel resumes it if this process dies.

    https://man7.org/linux/man-pages/man2/ptrace.2.html
    """
    _ptrace(PTRACE_SEIZE, thread)
    try:
        _ptrace(PTRACE_INTERRUPT, thread)
        os.waitpid(thread, WAIT_ALL)
        yield
    finally:
        with suppress(Missed):
            _ptrace(PTRACE_DETACH, thread)


def _await_next_writes_put_off(stage: Stage, client: Any) -> None:
    """Wait until the server delays writes again: just after a delayed write it has almost nothing to lose."""
    until_s, delayed = time.monotonic() + PUT_OFF_FOR_S + 1.0, _delayed(client)
    while _delayed(client) == delayed and time.monotonic() < until_s:
        stage.wait(POLL_S)
    stage.wait(PUT_OFF_FOR_S / 4)


def _delayed(client: Any) -> int:
    """Return how often the server has written, after a delay of 2 s, before the previous fsync ended."""
    return int(client.info("persistence").get("aof_delayed_fsync", 0))


def _fsync_thread(stage: Stage, pid: int) -> int:
    """Return the id of the server's fsync thread. Raises Missed if it can't be found."""
    if stage.server.data_dir is None or not sys.platform.startswith("linux"):
        raise Missed("This fault needs the embedded server on Linux: it stops one of the server's threads.")
    for thread in Path(f"/proc/{pid}/task").iterdir():
        if (thread / "comm").read_text().strip() == FSYNC_THREAD:
            return int(thread.name)
    raise Missed(f"The server has no thread {FSYNC_THREAD}.")


def _ptrace(request: int, thread: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.ptrace(ctypes.c_long(request), ctypes.c_long(thread), None, None) != 0:
        raise Missed(f"The server's thread {thread} could not be stopped: {os.strerror(ctypes.get_errno()).lower()}.")
