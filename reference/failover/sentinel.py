"""Finds the primary that Sentinel announces.

redis-py's own `SentinelConnectionPool` asks only when it connects, takes the first Sentinel that answers, and turns
READONLY, a definite no, into a lost connection, which leaves the outcome open. A primary that was cut off keeps its
clients' connections, and all threads may wait on these: so another thread asks meanwhile (`FollowingPool`). A Sentinel
that was cut off with the primary still names it, so the most frequent answer counts.
https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from collections import Counter
from collections.abc import Callable, Iterable

import redis

from .locator import Address, Locator


class Primary(Locator):
    """Finds the primary of one group: the address that most of the answering Sentinels name."""

    rest_s = 10.0

    def __init__(self, group: str, sentinels: Iterable[Address], client_of: Callable[[str, int], redis.Redis]) -> None:
        self._group = group
        self._address: Address | None = None
        super().__init__(sentinels, client_of)

    def address(self) -> Address:
        with self._lock:
            if self._address is None or not self._is_fresh():
                self._address = self._ask()
            return self._address

    def _ask(self) -> Address:
        answers = self._ask_each(
            lambda sentinel: sentinel.sentinel_get_master_addr_by_name(self._group, return_responses=True)
        )
        named = [(found[0].decode(), found[1]) for _, found in answers if found]
        if not named:
            reasons = [*self._reasons, *[f"one knows no {self._group!r}"] * len(answers)]
            raise redis.ConnectionError(f"No Sentinel names the primary of {self._group!r}: {'; '.join(reasons)}")
        return Counter(named).most_common(1)[0][0]
