"""`AsynchronousTarget`: a target whose client is asyncio's. All submissions share one event loop, in its own thread.

    class MyQueue(AsynchronousTarget):
        worker = [sys.executable, "-m", "myapp.worker"]

        async def connect(self):
            self.pool = await create_pool(self.redis_url)

        async def send(self, task):
            await self.pool.enqueue_job("work", task.payload)

Standard library only: this file is imported inside the environment of the queue under test.
"""

import asyncio
import threading
from typing import Any

from .target import Target, Task


class AsynchronousTarget(Target):
    """A target that defines `connect` and `send` as coroutines. Everything else is as in Target."""

    _loop: asyncio.AbstractEventLoop | None = None

    async def connect(self) -> None:
        """Open the connections that `send` uses. Called before the first submission, and again if it raised."""

    async def send(self, task: Task) -> str | None:
        """Submit a task, as `Target.enqueue` does: a return is a promise, Refused is a definite no."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Connect, and return True. An error of `connect` is raised here, and the harness asks again."""
        self._wait_for(self.connect())
        return True

    def enqueue(self, task: Task) -> str | None:
        """Run `send` in the event loop, and wait for it."""
        promised: str | None = self._wait_for(self.send(task))
        return promised

    def _wait_for(self, coroutine: Any) -> Any:
        if self._loop is None:  # in `ready`, which one thread calls before any submission
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
