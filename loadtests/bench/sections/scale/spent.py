"""The processor time that servers have used."""

from collections.abc import Iterable

import redis


def server_seconds(clients: Iterable[redis.Redis]) -> float:
    """Return the processor time so far, in seconds, of the servers' threads that run commands."""
    total = 0.0
    for client in clients:
        cpu = client.info("cpu")
        total += cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"]
    return total
