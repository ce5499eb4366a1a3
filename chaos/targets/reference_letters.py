"""Dead letters from before the run. A queue keeps all of them until they are requeued or purged."""

from contextlib import suppress
from typing import Any

import redis
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.queue.task import encode

from ..target import WrongAnswer

COUNT, TOGETHER = 11_000, 1_000
"""Number of letters, above any limit that a queue is likely to have, and how many are written at a time."""


class OldLetters:
    """Writes old dead letters to the stream, and sees whether it was trimmed."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client, self._stream = client, keys.dead_letter
        self._first = b""
        self.later = "-"  # where the letters of the run begin, for XRANGE

    def write(self) -> None:
        """Write the letters, once."""
        if self._first:
            return
        body = encode(task_id="old", task_type="chaos", payload_json='{"id":"old"}')
        fields: Any = {
            "entry": b"d,4,3,0,0,0,;" + body,
            "reason": "failed",
            "error": "",
            "traceback": "",
            "consumer": "",
        }
        written: list[Any] = []
        for _ in range(0, COUNT, TOGETHER):
            with self._client.pipeline(transaction=False) as pipeline:
                for _ in range(TOGETHER):
                    pipeline.xadd(self._stream, fields)
                written += pipeline.execute()
        self._first, self.later = written[0], f"({written[-1].decode()}"

    def check(self) -> None:
        """Raise WrongAnswer if the oldest letter is gone from a stream that is still long. Redis may be down.

        A short stream may be that of a server that has lost its data.
        """
        if not self._first:
            return
        with suppress(redis.RedisError):
            left = self._client.xlen(self._stream)
            if left >= TOGETHER and not self._client.xrange(self._stream, self._first, self._first):
                raise WrongAnswer(f"The oldest of {COUNT:,} old dead letters is gone, and {left:,} letters are left.")
