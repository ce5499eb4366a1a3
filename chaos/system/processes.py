"""Processes under the harness's hand: each in a session of its own, its output in a file, known to the warden.

Killing means the whole session, at once: see `sessions`. A process that exits by itself is only noticed when a caller
asks (`poll`, `wait`); the run's supervisor does so.
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
    """A command could not be started. `what`: the program or the directory that is not there or may not be used."""

    def __init__(self, role: str, what: str, reason: str) -> None:
        super().__init__(f"The {role} cannot be started: {what!r}: {reason}.")
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
    """Starts `command` in a new session and registers it with the warden.

    Args:
        role: worker, producer, agent or server: how the history and errors name it.
        log_path: its standard output and error are appended here; never a pipe, which fills up and blocks its writer.
        env: the whole environment; that of this process where None.
        recorder: gets `process` `start` now and `process` `exit` when the exit is noticed.

    Raises:
        CannotStart: no such program, no right to run it, no such directory.
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
        """The process that was started, the leader of its session."""
        return self._process.pid

    @property
    def sid(self) -> int:
        """The session's number: the leader's pid."""
        return self._process.pid

    def members(self) -> list[int]:
        """All live processes of the session, orphans too; the leader only while it lives."""
        return sessions.members(self.sid)

    def poll(self) -> int | None:
        """The leader's exit status, negative for a signal; None while it runs."""
        status = self._process.poll()
        if status is not None:
            self._note_exit(status)
        return status

    def wait(self, deadline_s: float = WAIT_DEADLINE_S) -> int:
        """Waits until the leader exits, and returns its status, negative for a signal.

        Raises:
            TimeoutError: it runs on past the deadline.
        """
        try:
            status = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"The {self.role} (process {self.pid}) still runs after {deadline_s:g} s.") from None
        self._note_exit(status)
        return status

    def kill_session(self) -> int:
        """SIGKILLs every process of the session at once, and returns the leader's exit status.

        That is -9 if the kill ended it, and the status of old if it had exited before.

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
        """SIGSTOPs the whole session; returns the processes that stand still."""
        return sessions.stop(self.sid)

    def continue_session_members(self) -> None:
        """SIGCONTs the whole session."""
        sessions.resume(self.sid)

    def terminate(self, signum: int = signal.SIGTERM, *, to_all: bool = False) -> None:
        """Sends `signum` to the leader, if it still runs, or to the whole session. Does not wait."""
        if self.poll() is not None:
            return
        self._want_exit()
        if to_all:
            sessions.tell(self.sid, signum)
        else:
            self._process.send_signal(signum)

    def log_tail(self) -> str:
        """The end of what it wrote, at most `LOG_TAIL_BYTES`."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()

    def _last_words(self) -> str | None:
        """The last line of its log, for a process that ended by itself."""
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
        # Orphans keep the session alive, and its number from being given away; the warden goes on watching them.
        if not self.members():
            warden().forget_session(self.pid)
