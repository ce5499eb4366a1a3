"""The target's optional producer: the process that takes submissions. It runs until the run stops it."""

import threading
from collections.abc import Callable

from .processes import Managed


class Producer:
    """One process at a time, started by `start_one`. Safe across threads."""

    def __init__(self, start_one: Callable[[], Managed]) -> None:
        self._start_one = start_one
        self._lock = threading.Lock()
        self._wanted_down = False
        self._process = start_one()

    @property
    def process(self) -> Managed:
        """The running process, or the last one that ran."""
        with self._lock:
            return self._process

    def kill(self) -> int:
        """SIGKILL its session and return its exit status. It stays down until `start`."""
        with self._lock:
            self._wanted_down = True
            return self._process.kill_session()

    def start(self) -> None:
        """Start it again, if it was killed. Raises CannotStart."""
        with self._lock:
            if self._wanted_down:
                self._process = self._start_one()
                self._wanted_down = False

    def ended_by_itself(self) -> int | None:
        """Return its exit status if it ended without being killed, else None."""
        with self._lock:
            return None if self._wanted_down else self._process.poll()

    def close(self) -> None:
        """End it for good."""
        with self._lock:
            self._wanted_down = True
            self._process.kill_session()
