"""The thread whose event loop runs the async handlers of a worker process."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from .. import signals
from ..queue.errors import RanTooLong


class EventLoop(threading.Thread):
    """The event loop of a process. A handler thread waits for each coroutine, so there is at most one per thread."""

    def __init__(self) -> None:
        super().__init__(name="event-loop", daemon=True)
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        while True:  # SystemExit in an asyncio task of the application's own leaves `run_forever`
            with suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()

    def run_coroutine(self, coroutine: Coroutine[Any, Any, Any], limit_ms: int) -> Any:
        """Run a coroutine in the context of the calling thread and return its result; cancel it at its time limit.

        Raises:
            RanTooLong: the coroutine was cancelled.
            BaseException: any error that the coroutine raised.
        """
        result, error = asyncio.run_coroutine_threadsafe(_outcome(coroutine, limit_ms), self._loop).result()
        if error is not None:
            raise error
        return result


async def _outcome(coroutine: Coroutine[Any, Any, Any], limit_ms: int) -> tuple[Any, BaseException | None]:
    """Return the coroutine's result and its error. The error is not raised: here SystemExit would end the loop."""
    error: BaseException | None = None
    result = None
    try:
        async with asyncio.timeout(limit_ms / 1000) as limit:
            result = await coroutine
    except BaseException as raised:  # noqa: BLE001
        error = raised
        if isinstance(raised, TimeoutError) and limit.expired():
            error = RanTooLong(limit_ms)
            error.__cause__ = raised
    if signals.forked:
        signals.end_fork(failed=error is not None)
    return result, error
