"""A small process that ends everything the harness started once the harness is gone, for whatever reason.

The warden holds the reading end of a pipe whose writing end only the harness has. Through it, the harness registers
each session of processes and each container that it starts. When the harness dies, by whatever signal, the kernel
closes the pipe; the warden then ends everything that is registered, and exits. A clean end takes the same path.

`PR_SET_PDEATHSIG` would not do: it fires when the *thread* that started the process dies, and ignores containers.

Three gaps are closed:
- The harness dies between starting a process and registering it. So every process that it starts has
  `ZEROLOSS_WARDEN=<token>`, and the warden ends each process with its token, also daemons in their own sessions.
- A session's number is reused by another process. So it is registered with the start time of its leader.
- The warden itself is killed. So the harness starts another at the next registration, and registers everything again.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from typing import IO

from . import sessions

TOKEN_VARIABLE = "ZEROLOSS_WARDEN"
CONTAINER_LABEL = "zeroloss"
CLOSE_DEADLINE_S = 30.0
# How long to look for a missing container: the engine may still be creating it when the harness dies.
CONTAINER_MISSING_S = 3.0
CONTAINER_DEADLINE_S = 20.0

_Entry = tuple[str, str | int, str]


class Warden:
    """The harness's side. Each process has one, from `warden()`. Safe across threads."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._watched: dict[tuple[str, str | int], _Entry] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The warden's pid; None until something was registered."""
        return self._process.pid if self._process else None

    def watch_session(self, pid: int) -> None:
        """Have the warden end the session that `pid` leads once this process is gone.

        Raises:
            ProcessLookupError: there is no such process.
        """
        mark = sessions.start_mark(pid)
        if mark is None:
            raise ProcessLookupError(f"no process {pid}")
        self._watch(("session", pid, mark))

    def forget_session(self, pid: int) -> None:
        """Unregister a session that has ended."""
        self._forget("session", pid)

    def watch_container(self, name: str) -> None:
        """Have the warden remove a container, by name or id, once this process is gone. Call it before creation."""
        self._watch(("container", name, ""))

    def forget_container(self, name: str) -> None:
        """Unregister a container that was removed."""
        self._forget("container", name)

    def close(self) -> None:
        """End everything that is still registered, and the warden.

        Raises:
            subprocess.TimeoutExpired: the warden takes longer than `CLOSE_DEADLINE_S`.
        """
        with self._lock:
            self._watched.clear()
            process, self._process = self._process, None
        if process:
            _pipe(process).close()
            process.wait(CLOSE_DEADLINE_S)

    def abandon(self) -> None:
        """Close the pipe in a forked child, which would otherwise keep it open after the harness's death."""
        if self._process:
            _pipe(self._process).close()

    def _watch(self, entry: _Entry) -> None:
        with self._lock:
            self._watched[entry[:2]] = entry
            self._tell("watch", entry)

    def _forget(self, kind: str, name: str | int) -> None:
        with self._lock:
            entry = self._watched.pop((kind, name), None)
            if entry:
                self._tell("forget", entry)

    def _tell(self, verb: str, entry: _Entry) -> None:
        if self._process:
            try:
                _write(self._process, verb, entry)
                return
            except BrokenPipeError:
                _pipe(self._process).close()
                self._process.wait(CLOSE_DEADLINE_S)
        self._process = _start(self.token)
        for watched in self._watched.values():
            _write(self._process, "watch", watched)


def _start(token: str) -> subprocess.Popen[bytes]:
    # The warden must not have a token, not even an outer harness's, whose warden would end it before its work is done.
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    return subprocess.Popen(
        [sys.executable, "-m", "zeroloss.system.warden", token],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env=environment,
        start_new_session=True,
    )


def _pipe(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _write(process: subprocess.Popen[bytes], verb: str, entry: _Entry) -> None:
    # One write, shorter than PIPE_BUF: it is atomic, even if the harness is killed in the middle of it.
    _pipe(process).write(json.dumps([verb, *entry]).encode() + b"\n")


_the_warden: Warden | None = None
_the_warden_lock = threading.Lock()


def warden() -> Warden:
    """Return the warden of this process."""
    global _the_warden
    with _the_warden_lock:
        if _the_warden is None:
            _the_warden = Warden()
        return _the_warden


def _after_fork_in_child() -> None:
    global _the_warden, _the_warden_lock
    if _the_warden:
        _the_warden.abandon()
    _the_warden, _the_warden_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


# The warden's own side.


def _follow(lines: Iterable[bytes]) -> list[_Entry]:
    """Read registrations until the harness is gone; return those that are left."""
    watched: dict[tuple[str, str | int], _Entry] = {}
    for line in lines:
        try:
            verb, kind, name, mark = json.loads(line)
        except ValueError:  # a torn last line
            continue
        if verb == "watch":
            watched[kind, name] = (kind, name, mark)
        else:
            watched.pop((kind, name), None)
    return list(watched.values())


def _end_sessions(watched: list[_Entry], token: str) -> None:
    for kind, sid, mark in watched:
        # A leader with another start time is an unrelated process. If the leader is gone, only its children are left.
        if kind == "session" and sessions.start_mark(int(sid)) in (mark, None):
            with contextlib.suppress(TimeoutError):
                sessions.kill(int(sid))
    give_up_s = time.monotonic() + sessions.KILL_DEADLINE_S
    while (left := sessions.bearing(f"{TOKEN_VARIABLE}={token}")) and time.monotonic() < give_up_s:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                sessions.send(pid, os.getsid(pid), signal.SIGKILL)
        time.sleep(sessions.POLL_S)


def _remove_container(name: str) -> None:
    # Imported only here: if a container was registered, these packages are installed and find the same engine.
    from docker.errors import APIError, NotFound
    from testcontainers.core.docker_client import DockerClient

    begun_s = time.monotonic()
    engine = DockerClient().client.api
    while time.monotonic() - begun_s < CONTAINER_DEADLINE_S:
        try:
            engine.remove_container(name, force=True, v=True)
            return
        except NotFound:
            if time.monotonic() - begun_s > CONTAINER_MISSING_S:
                return
        except APIError:  # another removal is under way, or the engine has a temporary problem
            pass
        time.sleep(0.1)


def main() -> None:
    """Run the warden: `python -m zeroloss.system.warden TOKEN`, with the pipe as standard input."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    watched = _follow(sys.stdin.buffer)
    _end_sessions(watched, sys.argv[1])
    for kind, name, _ in watched:
        if kind == "container":
            _remove_container(str(name))


if __name__ == "__main__":
    main()
