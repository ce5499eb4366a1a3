"""A small process that ends what the harness started when the harness is gone, however it went.

The warden holds the reading end of a pipe whose writing end only the harness has. The harness writes down each session
of processes and each container that it starts; when it dies, by whatever signal, the kernel closes the pipe, and the
warden ends all that is written down and then itself. A clean end takes the same path.

`PR_SET_PDEATHSIG` would not do: it fires when the *thread* dies that started the process, and knows no containers.

Three things could slip through, and are looked after:
- The harness dies between starting a process and writing it down. So every process that it starts has
  `ZEROLOSS_WARDEN=<token>`, and the warden ends each process that has its token: daemons in sessions of their own, too.
- A session's number passes to a stranger. So it is written down with the leader's start.
- The warden itself is killed. So at its next registration the harness starts another, and tells it everything again.
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
# How long to look for a container that is not there: the engine may still be making it when the harness dies.
CONTAINER_MISSING_S = 3.0
CONTAINER_DEADLINE_S = 20.0

_Entry = tuple[str, str | int, str]


class Warden:
    """The harness's side. One per process, by `warden()`; safe across threads."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._watched: dict[tuple[str, str | int], _Entry] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The warden's process; None until something was registered."""
        return self._process.pid if self._process else None

    def watch_session(self, pid: int) -> None:
        """Ends the session that `pid` leads when this process is gone.

        Raises:
            ProcessLookupError: there is no such process.
        """
        mark = sessions.start_mark(pid)
        if mark is None:
            raise ProcessLookupError(f"no process {pid}")
        self._watch(("session", pid, mark))

    def forget_session(self, pid: int) -> None:
        """The session is over."""
        self._forget("session", pid)

    def watch_container(self, name: str) -> None:
        """Removes the container of that name (or id) when this process is gone. To be called before it is created."""
        self._watch(("container", name, ""))

    def forget_container(self, name: str) -> None:
        """The container was removed."""
        self._forget("container", name)

    def close(self) -> None:
        """Ends whatever is still registered, and the warden.

        Raises:
            subprocess.TimeoutExpired: that took longer than `CLOSE_DEADLINE_S`.
        """
        with self._lock:
            self._watched.clear()
            process, self._process = self._process, None
        if process:
            _pipe(process).close()
            process.wait(CLOSE_DEADLINE_S)

    def abandon(self) -> None:
        """In a forked child: lets go of the pipe, so that it can't keep it open past the harness's death."""
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
    # It must not have a token, nor an outer harness's: that one's warden would end it before it has done its work.
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
    # One write, shorter than PIPE_BUF: whole or not at all, even when the harness is killed in the middle of it.
    _pipe(process).write(json.dumps([verb, *entry]).encode() + b"\n")


_the_warden: Warden | None = None
_the_warden_lock = threading.Lock()


def warden() -> Warden:
    """The one warden of this process."""
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
    """Reads until the harness is gone; returns what is registered then."""
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
        # A leader with another start is a stranger's. A leader that is gone leaves only its own children behind.
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
    # Imported only here: where a container was registered these are installed, and find the same engine.
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
        except APIError:  # another removal under way, or an engine with a moment's trouble
            pass
        time.sleep(0.1)


def main() -> None:
    """`python -m zeroloss.system.warden TOKEN`, its standard input the pipe."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    watched = _follow(sys.stdin.buffer)
    _end_sessions(watched, sys.argv[1])
    for kind, name, _ in watched:
        if kind == "container":
            _remove_container(str(name))


if __name__ == "__main__":
    main()
