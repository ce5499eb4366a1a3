"""The target's producer: the process that takes submissions, where it has one. It runs until the run ends it."""

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
        """The one that runs, or ran last."""
        with self._lock:
            return self._process

    def kill(self) -> int:
        """SIGKILLs its session; returns its exit status. It stays away until `start`."""
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
        """Its exit status, if it ended without being killed."""
        with self._lock:
            return None if self._wanted_down else self._process.poll()

    def close(self) -> None:
        """End it for good."""
        with self._lock:
            self._wanted_down = True
            self._process.kill_session()
