"""Time limits of bodies, for ASGI servers that have none.

One timer serves all requests of an event loop: `asyncio.timeout` for each would take a third of a request's time.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any

LOOKS = 20  # per time limit: a body may be late by this part of the limit


class LateBodies:
    """Cancels waits for bodies that are late. Used in one event loop."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._until: dict[asyncio.Task[Any], float] = {}  # request that waits -> its deadline, time of the loop
        self._late: set[asyncio.Task[Any]] = set()
        self.watches = False  # whether the timer runs

    def deadline(self) -> float:
        """Return the time of the loop by which a request that begins now must have its body."""
        return asyncio.get_running_loop().time() + self._timeout_s

    async def received(self, event: Awaitable[Any], until: float) -> Any:
        """Return the result of `event`. Raises TimeoutError if it is not there by `until`."""
        request: Any = asyncio.current_task()
        self._until[request] = until
        if not self.watches:
            self._look()
        try:
            return await event
        except asyncio.CancelledError:
            if request not in self._late:
                raise
            request.uncancel()
            raise TimeoutError from None
        finally:
            del self._until[request]
            self._late.discard(request)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for request, until in self._until.items():
            if until <= now and request not in self._late:
                self._late.add(request)
                request.cancel()
        self.watches = bool(self._until)
        if self.watches:
            loop.call_later(self._timeout_s / LOOKS, self._look)
