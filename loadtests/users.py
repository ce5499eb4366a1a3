"""Locust's users: single tasks with priorities or due times, batches, careful clients, and wrong ones."""

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
PRIORITIES = {"high": 1, "default": 2, "low": 1}  # and how often each is sent
TOKEN_VARIABLE = "ZEROLOSS_TOKEN"  # the producer's own

_numbers = count(1)


@dataclass(frozen=True)
class Task:
    """One submission. The id is ours, so that a task whose answer was lost is known all the same."""

    id: str
    type: str
    payload: dict[str, Any]
    kind: str
    """How it is called in the statistics."""
    made_s: float = field(default_factory=time.time)
    """When it was first to be sent, or is due, in seconds since the epoch: from then on its user waits."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the submission."""
    noted: Mapping[str, Any] = field(default_factory=dict)
    """What the history says of the submission beside its digests."""

    @property
    def body(self) -> str:
        members = json.dumps({"id": self.id, "type": self.type, **self.more})
        return f'{members[:-1]}, "payload": {self.text}}}'

    @property
    def text(self) -> str:
        """The payload, as it is sent."""
        return json.dumps(self.payload)


class Producer(FastHttpUser):
    """What all of them do: send at their rate, and hand on what was promised and what was not."""

    abstract = True
    connection_timeout = 5.0
    network_timeout = 15.0
    kind: ClassVar[str]
    """How their tasks are called in the statistics."""

    def on_start(self) -> None:
        self._session = self.environment.session
        self._options = self._session.options
        if self._options.user_rate:
            # Users that are spawned together would else send together, forever: a burst each time.
            gevent.sleep(random.random() / self._options.user_rate)

    def wait_time(self) -> float:
        rate = self._options.user_rate
        return constant_throughput(rate)(self) if rate else 0.0

    def new_task(self, **more: Any) -> Task:
        """A task that nobody has sent yet. `more`: members of `Task` that are not as usual."""
        name = f"load-{self._session.name}-{next(_numbers):08d}"  # of one length: none is a part of another
        filler = "z" * self._options.payload_bytes
        payload = {"id": name, "work_ms": self._options.work_ms, "filler": filler}
        return Task(name, self._options.task_type, payload, **{"kind": self.kind, **more})

    @contextmanager
    def post(self, path: str, name: str, body: str, headers: dict[str, str]) -> Iterator[Any]:
        """One request. The answer is a failure unless the caller, or its status, says otherwise."""
        headers = {"Content-Type": JSON, **headers}
        if token := os.environ.get(TOKEN_VARIABLE):
            headers["Authorization"] = f"Bearer {token}"
        with self.client.post(path, name=name, data=body, headers=headers, catch_response=True) as response:
            yield response
            if response.status_code == FULL and self._options.expect_429:
                response.request_meta["name"] += REFUSED_SUFFIX
                response.success()

    def submit(self, tasks: Sequence[Task], path: str, name: str, body: str, **headers: str) -> list[str]:
        """Send these tasks in one request; returns the outcome of each: ok, fail or info."""
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
    """One task a request, and no second thought."""

    weight = 6
    kind = "single"

    @task
    def send(self) -> None:
        one = self.new_task()
        self.submit([one], "/task", "/task", one.body)


class PrioritizedTasks(Producer):
    """One task a request, of any priority; each priority has a row of its own in the statistics."""

    weight = 1
    kind = "priority"

    @task
    def send(self) -> None:
        (priority,) = random.choices([*PRIORITIES], [*PRIORITIES.values()])
        more = {"priority": priority}
        one = self.new_task(kind=priority, more=more, noted=more)
        self.submit([one], "/task", f"/task {priority}", one.body)


class ScheduledTasks(Producer):
    """One task a request, due within `--delay-ms`: from then on its execution is waited for, and not before."""

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
    """Many tasks in one request, as a JSON array or as lines."""

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
    """With an idempotency key: again until it is promised, and now and then once more, as after a lost answer."""

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
                return  # its status says that it failed
            if response.json()["task_id"] != one.id:
                response.failure(f"Another task was promised for the same key: {response.text}")
            elif response.headers.get("Idempotency-Replayed") != "true":
                response.failure("The same key was taken for a new task.")


class WrongClients(Producer):
    """Requests that must be refused, each with the status that says why, and with nothing enqueued."""

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
    """ok: promised. fail: a definite no. info: nobody knows, as of a 503 or of no answer at all."""
    status = response.status_code
    if status == SOME_REFUSED:
        return ["ok" if result["status"] == "queued" else "fail" for result in response.json()["results"]]
    if status == ACCEPTED:
        return ["ok"] * tasks
    return ["fail" if 400 <= status < 500 else "info"] * tasks


def _said(response: Any) -> str:
    text = response.text if response.status_code else str(getattr(response, "error", "no answer"))
    return f"{response.status_code}: {text}"[:ERROR_CHARACTERS_MAX]
