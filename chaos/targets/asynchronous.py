"""What a target whose client is asyncio's needs: one loop, in a thread of its own, that all submissions share."""

import asyncio
import threading

from ..target import Target, Task


class AsynchronousTarget(Target):
    """Write `connect` and `send`; `ready` is asked once before the first submission, and connects."""

    _loop: asyncio.AbstractEventLoop | None = None

    async def connect(self) -> None:
        """Open what `send` uses. Called again if it raised."""

    async def send(self, task: Task) -> None:
        """As `enqueue`."""
        raise NotImplementedError

    def ready(self) -> bool:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self.connect(), self._loop).result()
        return True

    def enqueue(self, task: Task) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.send(task), self._loop).result()
