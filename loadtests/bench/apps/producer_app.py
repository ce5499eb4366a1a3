"""The queue's producer without Redis, for the cost of HTTP alone; and the whole producer under plain waitress."""

import sys
from collections.abc import Sequence
from typing import Any

import waitress
from zeroloss.reference.http import producer
from zeroloss.reference.queue.config import load_config
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission
from zeroloss.reference.queue.task import new_task_ids

STOCK_THREADS = 8  # with these waitress reached 2,300 requests/s, and granian 5,600


def without_redis() -> Any:
    """Return the producer's app with a stub in place of Redis, which promises every task."""
    Enqueuer.enqueue_many = _promise  # type: ignore[method-assign]
    return producer.from_environment()


def _promise(_self: Enqueuer, submissions: Sequence[Submission]) -> list[Any]:
    return [Accepted(each, replayed=False) for each in new_task_ids(len(submissions))]


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "stock":
        waitress.serve(producer.from_environment(), host="127.0.0.1", port=port, threads=STOCK_THREADS)
    else:
        without_redis()
        producer.serve(load_config(), "127.0.0.1", port)
