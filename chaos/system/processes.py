"""Managed processes: each has its own session, writes to a log file, and is registered with the warden.

A kill hits the whole session at once: see `sessions`. An exit is noticed only when a caller asks (`poll`, `wait`); the
run's supervisor does so.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..history import Recorder
from . import sessions
from .warden import TOKEN_VARIABLE, warden

WAIT_DEADLINE_S = 10.0
LOG_TAIL_BYTES = 4_000
LAST_WORDS_CHARACTERS_MAX = 300


class CannotStart(Exception):
    """A command could not be started. `what`: the program or directory that is missing or not permitted."""

    def __init__(self, role: str, what: str, reason: str) -> None:
        super().__init__(f"The {role} cannot be started with {what!r}: {reason}.")
        self.role = role
        self.what = what
        self.reason = reason


def spawn(
    command: Sequence[str],
    *,
    role: str,
    log_path: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    recorder: Recorder | None = None,
) -> "Managed":
    """Start `command` in a new session and register it with the warden.

    Args:
        role: worker, producer, agent or server: the name in the history and in errors.
        log_path: its standard output and error are appended here; never a pipe, which fills up and blocks its writer.
        env: the complete environment; None: that of this process.
        recorder: records `process` `start` now and `process` `exit` when the exit is noticed.

    Raises:
        CannotStart: the program or the directory is missing, or may not be used.
    """
    keeper = warden()
    environment = {**(os.environ if env is None else env), TOKEN_VARIABLE: keeper.token}
    with log_path.open("ab") as log:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            what = str(error.filename or command[0])
            raise CannotStart(role, what, (error.strerror or str(error)).lower()) from None
    keeper.watch_session(process.pid)
    return Managed(process, role=role, log_path=log_path, recorder=recorder)


class Managed:
    """A process started by `spawn`, and its session. Safe across threads."""

    def __init__(
        self, process: subprocess.Popen[bytes], *, role: str, log_path: Path, recorder: Recorder | None
    ) -> None:
        self.role = role
        self.log_path = log_path
        self._process = process
        self._recorder = recorder
        self._lock = threading.Lock()
        self._wanted = False
        self._exit_recorded = False
        if recorder:
            recorder.record("process", "start", pid=self.pid, role=role, sid=self.sid)

    @property
    def pid(self) -> int:
        """The pid of the started process, which leads its session."""
        return self._process.pid

    @property
    def sid(self) -> int:
        """The session's number: the leader's pid."""
        return self._process.pid

    def members(self) -> list[int]:
        """Return all live processes of the session, orphans included; the leader only while it lives."""
        return sessions.members(self.sid)

    def poll(self) -> int | None:
        """Return the leader's exit status, negative for a signal; None while it runs."""
        status = self._process.poll()
        if status is not None:
            self._note_exit(status)
        return status

    def wait(self, deadline_s: float = WAIT_DEADLINE_S) -> int:
        """Wait until the leader exits and return its status, negative for a signal.

        Raises:
            TimeoutError: it still runs at the deadline.
        """
        try:
            status = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"The {self.role} (process {self.pid}) still runs after {deadline_s:g} s.") from None
        self._note_exit(status)
        return status

    def kill_session(self) -> int:
        """SIGKILL every process of the session at once and return the leader's exit status.

        The status is -9 if this kill ended the leader, else that of its earlier exit.

        Raises:
            TimeoutError: a member outlived SIGKILL for ten seconds.
        """
        if self.poll() is None:
            self._want_exit()
        sessions.kill(self.sid)
        status = self.wait()
        warden().forget_session(self.pid)
        return status

    def stop_session_members(self) -> list[int]:
        """SIGSTOP the whole session and return the processes that stopped."""
        return sessions.stop(self.sid)

    def continue_session_members(self) -> None:
        """SIGCONT the whole session."""
        sessions.resume(self.sid)

    def terminate(self, signum: int = signal.SIGTERM, *, to_all: bool = False) -> None:
        """Send `signum` to the leader, or with `to_all` to the session, if the leader still runs. Does not wait."""
        if self.poll() is not None:
            return
        self._want_exit()
        if to_all:
            sessions.tell(self.sid, signum)
        else:
            self._process.send_signal(signum)

    def log_tail(self) -> str:
        """Return the end of its log, at most `LOG_TAIL_BYTES`."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()

    def _last_words(self) -> str | None:
        """Return the last line of its log if the process ended by itself."""
        if self._wanted:
            return None
        with suppress(OSError):
            return (self.log_tail().splitlines() or [""])[-1].strip()[:LAST_WORDS_CHARACTERS_MAX] or None
        return None

    def _want_exit(self) -> None:
        with self._lock:
            self._wanted = True

    def _note_exit(self, status: int) -> None:
        with self._lock:
            if self._exit_recorded:
                return
            self._exit_recorded = True
            if self._recorder:
                members = {"role": self.role, "sid": self.sid, "status": status, "wanted": self._wanted}
                self._recorder.record("process", "exit", pid=self.pid, **members, last_words=self._last_words())
        # Orphans keep the session alive and its number reserved, so the warden keeps watching them.
        if not self.members():
            warden().forget_session(self.pid)
