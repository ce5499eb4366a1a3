"""What zeroloss has to know of this queue: how a worker is started, and how a task is submitted."""

import sys

from zeroloss import Target, Task


class MyQueue(Target):
    worker = (sys.executable, "-m", "mailqueue.worker")  # finds its server in REDIS_URL
    workers = 3
    recover_within = 2  # seconds after which the queue promises a dead worker's task again

    def enqueue(self, task: Task) -> None:
        """To return is a promise; raise zeroloss.target.Refused for a definite no."""
        from mailqueue.client import enqueue

        enqueue(task.payload)
