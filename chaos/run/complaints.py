"""Errors of submissions: show the first at once, and end the run if the client raises for every task, or hangs."""

from collections.abc import Callable

from ..faults import Fault
from ..system.submitter import Submitter
from .nemesis import Nemesis

HANG_S = 30.0
"""Time, in seconds, within which `enqueue` returns, unless a fault affects clients."""


class Complaints:
    """Watches the errors that the agent's submissions have raised so far."""

    def __init__(self, submitter: Submitter, nemesis: Nemesis, say: Callable[[str], None]) -> None:
        self._submitter, self._nemesis, self._say = submitter, nemesis, say
        self._shown = False

    def are_hopeless(self) -> bool:
        """Return whether every submission raises the same error, or hangs, and no fault can be the cause.

        Show the first error, once.
        """
        if self._hang():
            return True
        error = self._submitter.first_error
        if error is None:
            return False
        if not self._shown:
            self._shown = True
            self._say(f"A submission raised {error}")
        if not self._submitter.hopeless or any(map(_reaches_clients, list(self._nemesis.begun.values()))):
            return False
        count = self._submitter.answered
        self._say(f"All of the first {count:,} submissions raised the same error, so the run ends here: {error}")
        return True

    def _hang(self) -> bool:
        """Return whether `enqueue` hangs although no fault that affects clients has begun."""
        hangs = self._submitter.hangs()
        if hangs is None or hangs[0] < HANG_S or any(map(_reaches_clients, list(self._nemesis.begun.values()))):
            return False
        self._say(
            f"enqueue has not returned for {hangs[0]:.0f} s (first for task {hangs[1]}), so the run ends here. "
            "Check whether it waits for the task's result, or for a server without a timeout. It must return once the "
            "queue has accepted the task."
        )
        return True


def _reaches_clients(fault: Fault) -> bool:
    return fault.everywhere or fault.aims_at == "producer"
