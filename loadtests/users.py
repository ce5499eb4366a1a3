"""Locust's users: single tasks, with priorities or due times, batches, clients that retry, and invalid requests."""

import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, ClassVar

import gevent
from locust import FastHttpUser, constant_throughput, task
from zeroloss.ledger import digest

from .record import ERROR_CHARACTERS_MAX
from .session import REFUSED_SUFFIX

ACCEPTED, SOME_REFUSED, FULL = 202, 207, 429
JSON, NDJSON = "application/json", "application/x-ndjson"
PROBLEM = "application/problem+json"
RETRIES_MAX = 20
RETRY_AFTER_S = 0.25
REPEATED_SHARE = 0.3
PRIORITIES = {"high": 1, "default": 2, "low": 1}  # with the relative frequency of each
TOKEN_VARIABLE = "ZEROLOSS_TOKEN"  # the variable that the producer itself reads

_numbers = count(1)


@dataclass(frozen=True)
class Task:
    """One submission. The client chooses the id, so that a task whose answer was lost can still be followed."""

    id: str
    type: str
    payload: dict[str, Any]
    kind: str
    """The name in the statistics."""
    made_s: float = field(default_factory=time.time)
    """Start of the measured wait, in seconds since the epoch: when the task was made, or its due time."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the submission."""
    noted: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the submission's event in the history, beside the digests."""

    @property
    def body(self) -> str:
        members = json.dumps({"id": self.id, "type": self.type, **self.more})
        return f'{members[:-1]}, "payload": {self.text}}}'

    @property
    def text(self) -> str:
        """The payload as JSON text, as it is sent."""
        return json.dumps(self.payload)


class Producer(FastHttpUser):
    """The base of all users: sends at the user's rate, and reports which tasks were promised."""

    abstract = True
    connection_timeout = 5.0
    network_timeout = 15.0
    kind: ClassVar[str]
    """The name of the user's tasks in the statistics."""

    def on_start(self) -> None:
        self._session = self.environment.session
        self._options = self._session.options
        if self._options.user_rate:
            # Otherwise users that are spawned together would always send together, in bursts.
            gevent.sleep(random.random() / self._options.user_rate)

    def wait_time(self) -> float:
        rate = self._options.user_rate
        return constant_throughput(rate)(self) if rate else 0.0

    def new_task(self, **more: Any) -> Task:
        """Return a new task. `more`: fields of `Task` that replace the defaults."""
        name = f"load-{self._session.name}-{next(_numbers):08d}"  # of fixed length: no name is a part of another
        filler = "z" * self._options.payload_bytes
        payload = {"id": name, "work_ms": self._options.work_ms, "filler": filler}
        return Task(name, self._options.task_type, payload, **{"kind": self.kind, **more})

    @contextmanager
    def post(self, path: str, name: str, body: str, headers: dict[str, str]) -> Iterator[Any]:
        """Send one request. Locust counts it as a failure by its status, unless the caller decides otherwise."""
        headers = {"Content-Type": JSON, **headers}
        if token := os.environ.get(TOKEN_VARIABLE):
            headers["Authorization"] = f"Bearer {token}"
        with self.client.post(path, name=name, data=body, headers=headers, catch_response=True) as response:
            yield response
            if response.status_code == FULL and self._options.expect_429:
                response.request_meta["name"] += REFUSED_SUFFIX
                response.success()

    def submit(self, tasks: Sequence[Task], path: str, name: str, body: str, **headers: str) -> list[str]:
        """Send these tasks in one request. Return the outcome of each: ok, fail or info."""
        for one in tasks:
            raw = digest(one.text.encode())
            self._session.note("invoke", one.id, digest=digest(one.payload), raw_digest=raw, **one.noted)
        outcomes, said = ["info"] * len(tasks), "The user was stopped before the answer came."
        try:
            with self.post(
                path, name, body, {each.replace("_", "-"): text for each, text in headers.items()}
            ) as response:
                outcomes, said = _outcomes(response, len(tasks)), _said(response)
        finally:
            for one, outcome in zip(tasks, outcomes, strict=True):
                self._session.note(outcome, one.id, error=None if outcome == "ok" else said)
                if outcome == "ok":
                    self._session.promised(one.id, one.kind, one.made_s)
        return outcomes


class SingleTasks(Producer):
    """One task a request, without retries."""

    weight = 6
    kind = "single"

    @task
    def send(self) -> None:
        one = self.new_task()
        self.submit([one], "/task", "/task", one.body)


class PrioritizedTasks(Producer):
    """One task a request, of a random priority; each priority has its own row in the statistics."""

    weight = 1
    kind = "priority"

    @task
    def send(self) -> None:
        (priority,) = random.choices([*PRIORITIES], [*PRIORITIES.values()])
        more = {"priority": priority}
        one = self.new_task(kind=priority, more=more, noted=more)
        self.submit([one], "/task", f"/task {priority}", one.body)


class ScheduledTasks(Producer):
    """One task a request, due within `--delay-ms`. Its latency counts from the due time."""

    weight = 1
    kind = "scheduled"

    @task
    def send(self) -> None:
        delay_ms = random.randint(0, self._options.delay_ms)
        due_s = time.time() + delay_ms / 1000
        due: dict[str, Any] = {
            "delay_ms": delay_ms,
            "execute_at": datetime.fromtimestamp(due_s, UTC).isoformat(),
        }
        member = random.choice([*due])
        one = self.new_task(made_s=due_s, more={member: due[member]}, noted={"delay_ms": delay_ms})
        self.submit([one], "/task", f"/task {member}", one.body)


class Batches(Producer):
    """Several tasks in one request, as a JSON array or as NDJSON."""

    weight = 1
    kind = "batch"

    @task
    def send(self) -> None:
        tasks = [self.new_task() for _ in range(self._options.batch_size)]
        if random.random() < 0.5:
            self.submit(tasks, "/tasks", "/tasks", f"[{','.join(one.body for one in tasks)}]")
        else:
            self.submit(tasks, "/tasks", "/tasks lines", "\n".join(one.body for one in tasks), Content_Type=NDJSON)


class CarefulClients(Producer):
    """Sends a task with an idempotency key until it is promised, and sometimes once more, as after a lost answer."""

    weight = 2
    kind = "keyed"

    @task
    def send(self) -> None:
        one = self.new_task()
        for _ in range(RETRIES_MAX):
            (outcome,) = self.submit([one], "/task", "/task keyed", one.body, Idempotency_Key=one.id)
            if outcome != "info":
                break
            gevent.sleep(RETRY_AFTER_S)
        if outcome == "ok" and random.random() < REPEATED_SHARE:
            self._repeat(one)

    def _repeat(self, one: Task) -> None:
        with self.post("/task", "/task repeated", one.body, {"Idempotency-Key": one.id}) as response:
            if response.status_code != ACCEPTED:
                return  # Locust counts a failure by the status
            if response.json()["task_id"] != one.id:
                response.failure(f"Another task was promised for the same key: {response.text}")
            elif response.headers.get("Idempotency-Replayed") != "true":
                response.failure("The same key was taken for a new task.")


class WrongClients(Producer):
    """Invalid requests, each of which must be refused with the right status, and must enqueue nothing."""

    weight = 1
    kind = "wrong"

    @task
    def send(self) -> None:
        one = self.new_task()
        path, body, headers, status = random.choice(self._mistakes(one))
        if one.id in body:
            self._session.note("invoke", one.id)
        phase = "info"
        try:
            with self.post(path, f"{path} wrong", body, headers) as response:
                if response.status_code != status:
                    response.failure(f"{status} was to be expected, not {response.status_code}.")
                elif not (response.headers.get("Content-Type") or "").startswith(PROBLEM):
                    response.failure("The refusal is not a problem document.")
                else:
                    phase = "fail"
                    response.success()
        finally:
            if one.id in body:
                self._session.note(phase, one.id)

    def _mistakes(self, one: Task) -> list[tuple[str, str, dict[str, str], int]]:
        document = json.loads(one.body)
        without_payload = {name: member for name, member in document.items() if name != "payload"}
        return [
            ("/task", one.body[:-1], {}, 400),
            ("/task", json.dumps(without_payload), {}, 400),
            ("/task", json.dumps({**document, "priority": 1}), {}, 400),
            ("/task", json.dumps({**document, "type": ""}), {}, 400),
            ("/task", one.body, {"Content-Type": "text/plain"}, 415),
            ("/task", one.body, {"Content-Encoding": "br"}, 415),
            ("/task", one.body, {"Idempotency-Key": ""}, 400),
            ("/tasks", "[]", {}, 400),
            ("/tasks", one.body, {}, 400),
        ]


def _outcomes(response: Any, tasks: int) -> list[str]:
    """Return the outcomes. ok: promised; fail: a definite no; info: unknown, after a 503 or without an answer."""
    status = response.status_code
    if status == SOME_REFUSED:
        return ["ok" if result["status"] == "queued" else "fail" for result in response.json()["results"]]
    if status == ACCEPTED:
        return ["ok"] * tasks
    return ["fail" if 400 <= status < 500 else "info"] * tasks


def _said(response: Any) -> str:
    text = response.text if response.status_code else str(getattr(response, "error", "no answer"))
    return f"{response.status_code}: {text}"[:ERROR_CHARACTERS_MAX]
