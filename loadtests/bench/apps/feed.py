"""Sends tasks through a queue's own client: `python feed.py APP COUNT RATE PAYLOAD_BYTES`; a rate of 0: at full speed.

APP is a module with `send(sent_ns, padding)`, or for an asyncio client with `session(drive)`, which connects and awaits
`drive(send)`. The schedule does not wait for the queue: a task that could not be sent at its time is sent at once
afterwards.
"""

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable, Iterator


def main() -> None:
    app = importlib.import_module(sys.argv[1])
    count, rate, payload_bytes = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    padding = "x" * payload_bytes

    async def drive(send: Callable[[int, str], Awaitable[object]]) -> None:
        for wait_s in _waits(count, rate):
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            await send(time.monotonic_ns(), padding)

    if hasattr(app, "session"):
        asyncio.run(app.session(drive))
        return
    for wait_s in _waits(count, rate):
        if wait_s > 0:
            time.sleep(wait_s)
        app.send(time.monotonic_ns(), padding)


def _waits(count: int, rate: float) -> Iterator[float]:
    """Yield for each task the seconds until it is due. The first is sent at once: the client connects with it."""
    yield 0.0
    start = time.monotonic()
    for number in range(1, count):
        yield start + number / rate - time.monotonic() if rate else 0.0


if __name__ == "__main__":
    main()
