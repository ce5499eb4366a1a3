"""A slow link between worker and Redis: every task is done, and is carried about once (I4)."""

from collections.abc import Callable
from urllib.parse import urlsplit

from support.processes.slow_link import SlowLink
from support.processes.worker_process import Pool, Watched
from support.queue_fixtures import Queue
from support.waiting import wait_until

TASKS, TASK_BYTES, LINK_BYTES_PER_S = 24, 1_000_000, 3_000_000
LINK_S = TASKS * TASK_BYTES / LINK_BYTES_PER_S


def test_large_tasks_over_a_slow_link_are_all_done_and_each_is_carried_once(
    start_pool: Callable[..., Pool], queue: Queue, watched: Watched
) -> None:
    for number in range(TASKS):
        watched.submit("note", f"t{number}", f'"{number:0{TASK_BYTES}}"')
    with SlowLink(urlsplit(queue.config.redis_url).port or 0, LINK_BYTES_PER_S) as link:
        pool = start_pool(ZEROLOSS_REDIS_URL=link.url, ZEROLOSS_LEASE_MS="3000", ZEROLOSS_RENEW_MS="1000")
        wait_until(watched.completed, timeout_s=30, message="nothing was done")
        wait_until(
            lambda: watched.completed() == TASKS,
            timeout_s=3 * LINK_S,
            message=f"after three times what the link needs {watched.completed()} of {TASKS} were done",
        )
        pool.end()
    assert link.carried["down"] < 1.2 * TASKS * TASK_BYTES
    assert len(watched.ran()) == TASKS
