"""A slow link between worker and Redis: every task is done, and its data crosses the link about once (I4)."""

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from hypothesis import settings
from support.processes.slow_link import SlowLink
from support.processes.worker_process import Pool, Watched
from support.queue_fixtures import Queue
from support.waiting import wait_until

MBIT = 125_000  # bytes in one megabit

# Number of tasks, bytes of each, and rate of the link in bytes/s.
CASES = [(24, 1_000_000, 24 * MBIT)]
if settings.get_current_profile_name() == "nightly":
    CASES += [(300, 1_000_000, 100 * MBIT), (400, 250_000, 32 * MBIT), (200, 1_000_000, 64 * MBIT)]


@pytest.mark.parametrize(("tasks", "task_bytes", "link_bytes_per_s"), CASES)
def test_large_tasks_over_a_slow_link_are_all_done_and_each_is_carried_once(
    start_pool: Callable[..., Pool],
    queue: Queue,
    watched: Watched,
    tasks: int,
    task_bytes: int,
    link_bytes_per_s: int,
) -> None:
    for number in range(tasks):
        watched.submit("note", f"t{number}", f'"{number:0{task_bytes - 100}}"')
    payload_bytes, link_s = tasks * task_bytes, tasks * task_bytes / link_bytes_per_s
    with SlowLink(urlsplit(queue.config.redis_url).port or 0, link_bytes_per_s) as link:
        pool = start_pool(ZEROLOSS_REDIS_URL=link.url, ZEROLOSS_LEASE_MS="3000", ZEROLOSS_RENEW_MS="1000")
        wait_until(watched.completed, timeout_s=30, message="nothing was done")
        began_s = time.monotonic()
        wait_until(
            lambda: watched.completed() == tasks,
            timeout_s=3 * link_s,
            message=f"after three times what the link needs {watched.completed()} of {tasks} were done",
        )
        print(f"{(time.monotonic() - began_s) / link_s:.2f} times what the link needs; {link.carried}")
        pool.end()
    assert link.carried["down"] < 1.1 * payload_bytes
    assert link.carried["up"] < 0.02 * payload_bytes
    assert len(watched.ran()) == tasks
