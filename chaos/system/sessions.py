"""Sessions of processes: list the members of a session, and stop, continue or kill all of them at once.

Everything that the harness starts runs in its own session and is found through it: a child that changes its process
group (as RQ's work horse does) stays in the session, and would survive `killpg`. Standard library only: the warden
runs this.

Not covered: a process that starts its own session is no longer a member; on Linux, `bearing` finds it if it kept its
environment. Also not covered: a chain of processes that each change their group, start the next one and exit.
"""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

POLL_S = 0.0005
# A process in an uninterruptible wait stops late. It must not hold up a kill for longer than this.
STOP_BEFORE_KILL_S = 0.2
KILL_DEADLINE_S = 10.0

_HAS_PROC = Path("/proc/self/stat").exists()


def members(sid: int) -> list[int]:
    """Return the live processes of session `sid`, leader included. Zombies do not count."""
    return list(_states(sid))


def start_mark(pid: int) -> str | None:
    """Return a process's start time, which tells it from a later one with the same pid; None: no such process."""
    if not _HAS_PROC:
        return _ps("-o", "lstart=", "-p", str(pid)).strip() or None
    fields = _stat_fields(pid)
    return fields[19] if fields else None


def stop(sid: int, deadline_s: float = 1.0) -> list[int]:
    """SIGSTOP every member, including those that start meanwhile, and return the members that stopped.

    All members stop within the deadline, except one that waits in the kernel for a disk.
    """
    give_up_s = time.monotonic() + deadline_s
    _signal_groups(sid, [], signal.SIGSTOP)  # before the first scan, which is reliable only from then on
    while True:
        states = _states(sid)
        running = [pid for pid, state in states.items() if state not in "Tt"]
        if not running or time.monotonic() > give_up_s:
            return [pid for pid in states if pid not in running]
        _signal_groups(sid, running, signal.SIGSTOP)
        time.sleep(POLL_S)


def resume(sid: int) -> None:
    """SIGCONT every member."""
    for pid in members(sid):
        send(pid, sid, signal.SIGCONT)


def tell(sid: int, signum: int) -> None:
    """Send `signum` to every member once: to the leader's group in one call, as a terminal does, then to the rest."""
    others = []
    for pid in members(sid):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) != sid:
                others.append(pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(sid, signum)
    for pid in others:
        send(pid, sid, signum)


def kill(sid: int, deadline_s: float = KILL_DEADLINE_S) -> list[int]:
    """SIGKILL every member, wait until none is left, and return the killed processes.

    All are stopped first: a parent that sees its child die could clean up, which it could not do in a power cut.

    Raises:
        TimeoutError: a member outlived SIGKILL for `deadline_s`.
    """
    stop(sid, STOP_BEFORE_KILL_S)
    give_up_s = time.monotonic() + deadline_s
    killed: list[int] = []
    while left := members(sid):
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"processes {left} of session {sid} outlived SIGKILL for {deadline_s:g} s")
        _signal_groups(sid, left, signal.SIGKILL)
        killed.extend(pid for pid in left if pid not in killed)
        time.sleep(POLL_S)
    return killed


def bearing(assignment: str) -> list[int]:
    """Return the live processes started with `NAME=value` in their environment. Linux only; elsewhere empty."""
    if not _HAS_PROC:
        return []
    wanted = assignment.encode()
    found = []
    for pid in _pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # gone, or another user's
            continue
        if wanted in environment.split(b"\0"):
            found.append(pid)
    return found


def send(pid: int, sid: int, signum: int) -> None:
    """Signal `pid` if it is still a member of `sid`: the number may have been reused in between."""
    try:
        handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except ProcessLookupError:
        return
    except OSError:  # a kernel or a sandbox without pidfd
        handle = None
    try:
        if os.getsid(pid) != sid:
            return
        if handle is None:
            os.kill(pid, signum)
        else:
            signal.pidfd_send_signal(handle, signum)
    except ProcessLookupError:
        pass
    finally:
        if handle is not None:
            os.close(handle)


def _signal_groups(sid: int, pids: list[int], signum: int) -> None:
    """Signal the leader's group and the groups of these members, each as a whole, so that no fork escapes.

    Signalling a list of pids is not enough: the list is read one by one. In a chain where each process lives only to
    start the next one, each may start after the list was made and exit before its turn. One chain escaped for hours.
    """
    groups = {sid}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            groups.add(os.getpgid(pid))
    for group in groups:
        # A group lies within one session, and keeps its number when its leader is gone. If the leader is in another
        # session, the number was reused. PermissionError: a group of zombies, on macOS.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if _session(group) in (sid, None):
                os.killpg(group, signum)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # gone
        return None


def _states(sid: int) -> dict[int, str]:
    """Return member -> letter of its state. Costs one getsid(2) per process of the machine, about 0.1 ms in all."""
    states = {}
    for pid in _pids():
        if _session(pid) != sid:
            continue
        state = _state(pid)
        if state and state not in "ZX":
            states[pid] = state
    return states


def _pids() -> list[int]:
    if not _HAS_PROC:
        return [int(pid) for pid in _ps("-axo", "pid=").split()]
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _state(pid: int) -> str:
    if not _HAS_PROC:
        return _ps("-o", "stat=", "-p", str(pid)).strip()[:1]
    fields = _stat_fields(pid)
    return fields[0] if fields else ""


def _stat_fields(pid: int) -> list[str]:
    """Return /proc/PID/stat from its third field on: the second, the name, may hold blanks and parentheses."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout
