"""The processes of one schedule, with the queue's own code: producers, workers and reapers.

The code is real: the producer's app, called over WSGI, and `run` of `Claimer`, `Waiter`, `HandlerThread` and
`Maintenance`, each in turn. CONTRIBUTING.md, "Schedules", lists the stand-ins.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import falcon.testing
import pytest
import redis
from zeroloss.reference.http.producer import create_app
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.dead_letters import DeadLetters
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Submission, due_in
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.queue.reaper import Reaper
from zeroloss.reference.queue.task import Task, encode
from zeroloss.reference.worker.claimer import Claimer
from zeroloss.reference.worker.handlers import Handler
from zeroloss.reference.worker.process import HandlerThread, Maintenance

from .census import UNREADABLE, Observer
from .client import Client, Network, stepping_client
from .judge import HANDLER_ERROR, Judge
from .scenario import BOUNDS, LEASE_MS, PAYLOADS, Scenario
from .scheduler import START_MS, Actor, Clock, Scripts, TurnEvent, Want, ask, heard, rule

SLOW_S = 0.75 * LEASE_MS / 1000
GHOST = "ghost"


class Process:
    """One process and its threads."""

    def __init__(self, name: str, again: "Callable[[], Process] | None") -> None:
        self.name = name
        self.again = again  # starts a replacement after its end, as a supervisor does
        self.actors: list[Actor] = []
        self.claimer: Claimer | None = None
        self.asleep_until_ms = 0
        self.dies_asleep = False
        self.history = 0  # hash of its threads' actions and replies: equal histories mean equal states

    @property
    def lives(self) -> bool:
        return any(actor.lives for actor in self.actors)

    def crash(self) -> None:
        for actor in self.actors:
            actor.crash()


class Theatre:
    """A server and connections to it, shared by all schedules."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url)
        self.scripts = Scripts(self.client)
        self.time_ns: Callable[[], int] = time.time_ns  # of the current schedule
        self._clients: dict[str, Client] = {}
        self._apps: dict[tuple[str, Config], falcon.testing.TestClient] = {}

    def client_of(self, name: str) -> Client:
        if name not in self._clients:
            self._clients[name] = stepping_client(self.url)
        return self._clients[name]

    def app_of(self, name: str, config: Config) -> falcon.testing.TestClient:
        """Return a cached app: making one takes longer than many schedules, and it keeps no state of a schedule."""
        if (name, config) not in self._apps:
            self._apps[name, config] = falcon.testing.TestClient(create_app(self.client_of(name), config))
        return self._apps[name, config]

    def close(self) -> None:
        for client in (self.client, *self._clients.values()):
            client.close()


class Cast:
    """All processes of a schedule. `story` lists changes and faults; `judge` records broken laws."""

    def __init__(self, theatre: Theatre, scenario: Scenario, patch: pytest.MonkeyPatch) -> None:
        theatre.client.flushdb()
        heard.clear()
        self.theatre, self.scenario = theatre, scenario
        self.clock = Clock(theatre.client)
        self.network = Network(self.clock, theatre.client)
        rule(self.clock, theatre.scripts, patch)
        self.config = Config(redis_url=theatre.url, **{**BOUNDS, **scenario.settings})
        self.keys = Keys(self.config.namespace)
        self.judge = Judge(self.config)
        self.observer = Observer(theatre.client, self.keys)
        self.story: list[str] = []
        self._attempts: dict[str, int] = {}
        self.running: Process | None = None
        self._workers = 0
        self.clock.ahead_ms = self._ahead_ms
        theatre.time_ns = self.clock.time_ns
        self._set_out()
        self.producers = [
            self._process(name, None, self._produce) for name in _numbered("producer", scenario.producers)
        ]
        if scenario.requeued_at_ms:
            self.producers.append(self._process("operator", None, self._requeue))
        self.processes = list(self.producers)
        self.processes += [self.new_worker() for _ in range(scenario.workers)]
        self.processes += [self._new_reaper(name) for name in _numbered("reaper", scenario.reapers)]

    def _ahead_ms(self) -> int:
        return self.scenario.ahead_ms if self.running and self.running.name.startswith("reaper") else 0

    def _set_out(self) -> None:
        """Prepare the contents of Redis before the first process starts."""
        client, judge, scenario = self.theatre.client, self.judge, self.scenario
        enqueuer = Enqueuer(client, self.config)
        for number in range(scenario.went_before):
            enqueuer.enqueue(Submission(payload_json="0", task_id=f"earlier-{number}"))
        if scenario.went_before:
            client.delete(self.keys.pending, self.keys.bell)
            self.story.append(f"{scenario.went_before} tasks have come and gone")
        if scenario.undecodable:
            client.lpush(self.keys.pending, b"{no task")
            judge.accepted.append(UNREADABLE)
        for number, name in enumerate(scenario.orphans, 1):
            task = encode(task_id=name, task_type="default", payload_json=PAYLOADS[0])
            held = b"{no task" if name == "undecodable" else b"d,1,0,0,%d,0,;%b" % (START_MS, task)
            client.hset(self.keys.processing(GHOST), str(number), held)
            judge.accepted.append(UNREADABLE if name == "undecodable" else name)
            judge.submitted[name] = PAYLOADS[0]
        if scenario.orphans:
            self.story.append(f"{GHOST}, whose lease has ended, holds {', '.join(scenario.orphans)}")
            client.zadd(self.keys.consumers, {GHOST: START_MS - 1})
        if scenario.refused_until_ms:
            self.story.append("another key lies in the place of the dead letters")
            client.set(self.keys.dead_letter, "in the way")
        if scenario.twins:
            twin = Submission(payload_json="0", task_id="twin", due=due_in(LEASE_MS))
            enqueuer.enqueue_many([twin, twin])
            self.story.append("two equal tasks are scheduled")
            if client.zcard(self.keys.delayed) != 2:
                judge.violations.append("I1: two equal tasks are promised, and one is scheduled.")
            client.delete(self.keys.delayed)
        judge.after("", self.observer.look(), START_MS)

    def _process(
        self, name: str, again: Callable[[], Process] | None, *bodies: Callable[[Any, Process], None]
    ) -> Process:
        process = Process(name, again)
        client = self.theatre.client_of(name)
        client.clock, client.network, client.owner = self.clock, self.network, name
        before, self.running = self.running, process
        for body in bodies:
            process.actors.append(Actor(partial(body, client, process)))
        self.running = before
        return process

    def new_worker(self) -> Process:
        self._workers += 1
        return self._process(f"w{self._workers}", self.new_worker, self._claim, self._handle, self._wait)

    def _new_reaper(self, name: str) -> Process:
        return self._process(name, partial(self._new_reaper, name), self._reap)

    def _produce(self, _client: Any, process: Process) -> None:
        for number, wish in enumerate(self.scenario.wishes):
            name = f"t-{number}"
            if wish.at_ms:
                ask(Want("rest", until_ms=START_MS + wish.at_ms))
            payload, kind = (
                PAYLOADS[number % len(PAYLOADS)],
                "nobody's" if wish.behaviour == "unknown type" else "default",
            )
            self.judge.submitted[name] = payload
            self.judge.priorities[name] = wish.priority or "default"
            if wish.delay_ms:
                self.judge.due.setdefault(name, self.clock.now_ms + wish.delay_ms)
            asked = {"priority": f'"{wish.priority}"' * bool(wish.priority), "delay_ms": str(wish.delay_ms or "")}
            rest = "".join(f',"{member}":{value}' for member, value in asked.items() if value)
            body = f'{{"id":"{name}","type":"{kind}","payload":{payload}{rest}}}'
            while not self._submit(process, name, body) and self.scenario.keyed:
                continue

    def _submit(self, process: Process, name: str, body: str) -> bool:
        """Submit a task. Return whether the answer states its outcome."""
        headers = {"Content-Type": "application/json", **({"Idempotency-Key": name} if self.scenario.keyed else {})}
        answer = self.theatre.app_of(process.name, self.config).simulate_post("/task", body=body, headers=headers)
        if answer.status_code == 202:
            accepted = answer.json["task_id"]
            self.story.append(f"{accepted} is promised")
            self.judge.answered(accepted, replayed="Idempotency-Replayed" in answer.headers)
            return True
        kind = answer.json["type"].rpartition(":")[2]
        assert kind in ("not-accepted", "queue-full", "outcome-unknown"), answer.text
        if kind != "outcome-unknown":
            self.judge.was_refused(name)
        return kind != "outcome-unknown"

    def _requeue(self, client: Any, _process: Process) -> None:
        ask(Want("rest", until_ms=START_MS + self.scenario.requeued_at_ms))
        DeadLetters(client, self.config).requeue_all()

    def _reap(self, client: Any, _process: Process) -> None:
        maintenance = Maintenance(Reaper(client, self.config), self.config)
        maintenance._stopped = TurnEvent(self.clock)  # type: ignore[assignment]
        maintenance.looks = 1  # the clock ticks by whole sweeps
        maintenance.run()

    def _claim(self, client: Any, process: Process) -> None:
        handlers = {"default": self._handler}
        claimer = Claimer(Consumer(client, self.config, process.name), self.config, handlers)
        process.claimer = claimer
        claimer._waiter.start = lambda: None  # type: ignore[method-assign]  # the third thread of the process runs it
        claimer._waiter.is_alive = lambda: True  # type: ignore[method-assign]
        claimer.run()
        claimer.ready.put(None)

    def _handle(self, _client: Any, process: Process) -> None:
        assert process.claimer
        HandlerThread(1, process.claimer, {"default": Handler(self._handler)}).run()

    def _wait(self, _client: Any, process: Process) -> None:
        assert process.claimer
        process.claimer._waiter.run()

    def _handler(self, task: Task) -> None:
        process = self.running
        assert process is not None
        number = task.id.rpartition("-")[2]
        behaviour = self.scenario.wishes[int(number)].behaviour if task.id.startswith("t-") else ""
        slow = behaviour == "slow"
        ask(Want("rest" if slow else "local", until_ms=self.clock.after_ms(SLOW_S) if slow else None))
        self.judge.begun(task.id, process.name, task.number, self.clock.redis_ms)
        self.judge.executed.append((task.id, bytes(task.raw_payload).decode()))
        self._attempts[task.id] = self._attempts.get(task.id, 0) + 1
        if behaviour == "kills":
            ask(Want("die"))
        if behaviour == "raises" or (behaviour == "raises once" and self._attempts[task.id] == 1):
            self.story.append(f"{process.name}'s handler of {task.id} raises")
            raise ValueError(f"{HANDLER_ERROR}, wished")
        self.judge.completed.add(task.id)
        self.story.append(f"{process.name}'s handler of {task.id} completes")


def _numbered(name: str, count: int) -> list[str]:
    return [name, *(f"{name} {number}" for number in range(2, count + 1))][:count]
