"""The reference queue: submitted to over HTTP, as its users do, and run by its own worker command."""

import http.client
import json
import re
import sys
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import redis

from chaos.target import Found, Refused, Target, Task
from reference.config import Config
from reference.connection import connect
from reference.errors import Undecodable
from reference.keys import Keys
from reference.task import decode

LEASE_MS = 2_000
SWEEP_MS = 500
HTTP_TIMEOUT_S = 15.0
HTTP_ACCEPTED = 202
HTTP_SERVICE_UNAVAILABLE = 503


class Reference(Target):
    """Everything as shipped, save that the lease is short, so that a run need not wait for it."""

    name: ClassVar[str] = "reference"
    worker = (sys.executable, "-m", "reference", "worker", "--app", "chaos.targets.reference_app", "--processes", "1")
    producer = (sys.executable, "-m", "reference", "producer", "--host", "127.0.0.1", "--port", "0")
    recover_within = (LEASE_MS + SWEEP_MS) / 1000
    env: ClassVar[dict[str, str]] = {
        "ZEROLOSS_LEASE_MS": str(LEASE_MS),
        "ZEROLOSS_RENEW_MS": "500",
        "ZEROLOSS_SWEEP_MS": str(SWEEP_MS),
        "ZEROLOSS_BLOCK_MS": "500",
    }

    def ready(self) -> bool:
        return self._port() is not None

    def enqueue(self, task: Task) -> None:
        body = json.dumps({"id": task.id, "type": "chaos", "payload": task.payload})
        status, answer = self._post("/task", body)
        if status == HTTP_ACCEPTED:
            return
        # A 503 says in its text whether the task may be there; the harness takes it at its least word.
        if status == HTTP_SERVICE_UNAVAILABLE:
            raise RuntimeError(answer)
        raise Refused(answer)

    def census(self) -> Iterator[Found]:
        keys, client = Keys(self.namespace), self._redis
        yield from _found("pending", client.lrange(keys.pending, 0, -1))
        yield from _found("delayed", client.zrange(keys.delayed, 0, -1))
        yield from _found("dead_letter", client.lrange(keys.dead_letter, 0, -1))
        for key in client.scan_iter(match=f"{keys.processing('')}*", count=1000):
            yield from _found("processing", client.lrange(key, 0, -1))

    @cached_property
    def _redis(self) -> redis.Redis:
        return connect(Config(redis_url=self.redis_url, namespace=self.namespace))

    @cached_property
    def _connections(self) -> threading.local:
        return threading.local()

    def _post(self, path: str, body: str) -> tuple[int, str]:
        """One request on this thread's own connection, which is opened anew after any error."""
        connection = getattr(self._connections, "http", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=HTTP_TIMEOUT_S)
            self._connections.http = connection
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except Exception:
            connection.close()
            self._connections.http = None
            raise

    def _port(self) -> int | None:
        """The system chose it, and the producer says it when it listens; a restarted one says another."""
        log = self.directory / "logs" / "producer.log"
        said = re.findall(r"listening on http://[^\s:]+:(\d+)", log.read_text(errors="replace")) if log.exists() else []
        return int(said[-1]) if said else None


def _found(place: str, elements: Any) -> Iterator[Found]:
    for element in elements:
        try:
            task = decode(element)
        except Undecodable:  # nobody's task: nothing that this run submitted can be read from it
            continue
        yield Found(task.id, place, task.error)
