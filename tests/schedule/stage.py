"""The queue's own producer, claimer, handler threads' loop and reaper as actors, and the laws after each step.

Substituted: the threads themselves. A worker's claimer, its waiter and its handler loop take turns in one greenlet, in
an order that is fixed, and its pause after an error is left out; so a claim and an ack of one process never overlap
here, and those of two processes do.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis

from chaos.invariants import INVARIANTS
from reference.claimer import Claimer
from reference.config import Config
from reference.consumer import Consumer
from reference.enqueuer import Enqueuer, Submission
from reference.errors import QueueError
from reference.keys import Keys
from reference.reaper import Reaper
from reference.task import Task, decode, raw_members
from reference.worker import HandlerThread

from .scheduler import Actor, Clock, Way, ask, stepping_client

LEASE_MS = 60_000
PAYLOADS = ("1.10", "[]", "12345678901234567890123")
DRAIN_STEPS_MAX = 3_000


class Stage:
    """One schedule. `story` tells what was done, one sentence a step; `violations` is empty while every law holds."""

    def __init__(self, client: redis.Redis, url: str, patch: pytest.MonkeyPatch, *, tasks: int) -> None:
        client.flushdb()
        random.seed(0)
        self._client, self._url = client, url
        self.clock = Clock(client)
        self.clock.rule(patch)
        self.config = Config(
            redis_url=url, lease_ms=LEASE_MS, renew_ms=20_000, block_ms=1, threads=1, max_retries=1, max_recoveries=2
        )
        self.keys = Keys(self.config.namespace)
        self.accepted: list[str] = []
        self.completed: set[str] = set()
        self.executed: list[tuple[str, str]] = []
        self.story: list[str] = []
        self.violations: list[str] = []
        self.submitted = {f"t{number + 1}": PAYLOADS[number % len(PAYLOADS)] for number in range(tasks)}
        self.workers = 0
        self.actors = [self._actor("producer", self._produce), self._actor("reaper", self._reap)]
        self.actors += [self.new_worker() for _ in range(2)]

    def _actor(self, name: str, body: Callable[[Any], None]) -> Actor:
        return Actor(name, partial(body, stepping_client(self._url, self.clock)))

    def new_worker(self) -> Actor:
        self.workers += 1
        name = f"w{self.workers}"
        return self._actor(name, partial(self._work, name))

    # -- bodies: the queue's own code --------------------------------------------------------------------------------

    def _produce(self, client: Any) -> None:
        enqueuer = Enqueuer(client, self.config)
        for task_id, payload in self.submitted.items():
            wish = Submission(payload_json=payload, task_id=task_id, idempotency_key=task_id)
            while task_id not in self.accepted:
                try:
                    enqueuer.enqueue(wish)
                    self.accepted.append(task_id)
                except QueueError:
                    continue

    def _reap(self, client: Any) -> None:
        reaper = Reaper(client, self.config)
        while True:
            try:
                reaper.adopt()
                reaper.sweep()
            except redis.RedisError:
                continue

    def _work(self, name: str, client: Any) -> None:
        def handle(task: Task) -> None:
            ask(f"handler of {task.id}")
            self.executed.append((task.id, self._payload(task)))
            if random.random() < 0.2:
                raise ValueError("no")
            self.completed.add(task.id)

        claimer = Claimer(Consumer(client, self.config, name), self.config, {"default": handle})
        handlers = HandlerThread(1, claimer, {"default": handle})
        while not claimer.left:
            claimer.inbox.put(None)  # so that it does not wait for anything
            claimer._receive()
            claimer._retry_at = 0.0  # a back-off is a pause, and pauses are the scheduler's
            try:
                claimer.turn()
                claimer._errors = 0
            except redis.RedisError as error:
                claimer._back_off(error)
            for requests, run in ((claimer.ready, handlers.run), (claimer._waiter.requests, claimer._waiter.run)):
                if not requests.empty():
                    requests.put(None)
                    try:
                        run()
                    except redis.RedisError:
                        return  # a thread of its own broke: such a process ends

    def _payload(self, task: Task) -> str:
        """By the element's own text, as I6 speaks of bytes."""
        return raw_members(task.element.decode())["payload"]

    # -- steps ---------------------------------------------------------------------------------------------------------

    def step(self, number: int, way: Way) -> None:
        living = [actor for actor in self.actors if actor.lives]
        actor = living[number % len(living)]
        before = self._held_by_the_living()
        self.story.append(f"{actor.name}: {actor.wants}" + ("" if way is Way.GOES else f", and {way.value}"))
        actor.step(way)
        self._judge(actor.name, before)

    def crash(self, number: int) -> None:
        workers = [actor for actor in self.actors if actor.name.startswith("w")]
        victim = workers[number % len(workers)]
        victim.crash()
        self.actors[self.actors.index(victim)] = self.new_worker()
        self.story.append(f"{victim.name} crashes; {self.actors[-1].name} is there")

    def pass_by(self, passed_ms: int) -> None:
        self.clock.pass_by(passed_ms)
        self.story.append(f"{passed_ms} ms pass")

    def drain(self) -> None:
        """Nothing fails any more: all is finished or given up within a bounded number of steps (I2)."""
        for number in range(DRAIN_STEPS_MAX):
            if len(self.accepted) == len(self.submitted) and not self._waiting():
                break
            if number % 20 == 0:
                self.clock.pass_by(LEASE_MS // 3)
            self.step(number, Way.GOES)
        else:
            self.violations.append("I2: it does not drain.")
        for actor in self.actors:
            actor.crash()

    # -- laws ----------------------------------------------------------------------------------------------------------

    def _judge(self, name: str, before: dict[str, list[bytes]]) -> None:
        places = self._places()
        ids = {place: [decode(element).id for element in there] for place, there in places.items()}
        dead = {decode(element).id: decode(element).error for element in places["dead_letter"]}
        lying = {task for there in ids.values() for task in there}
        given = (
            ("I1", (self.accepted, self.completed - lying, ids)),
            ("I2", (self.accepted, self.completed, dead, lying - dead.keys())),
            ("I6", (self.submitted, self.executed)),
        )
        self.violations += [f"{law}: {text}" for law, of in given for text in INVARIANTS[law].check(*of)]
        for owner, elements in before.items():
            taken = set(elements) - set(places.get(f"processing:{owner}", []))
            if taken and owner != name:
                self.violations.append(f"I3: {name} took from {owner}, whose lease lives.")

    def _places(self) -> dict[str, list[bytes]]:
        keys, names = self.keys, [f"w{number + 1}" for number in range(self.workers)]
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.lrange(keys.pending, 0, -1)
            pipeline.zrange(keys.delayed, 0, -1)
            pipeline.lrange(keys.dead_letter, 0, -1)
            for name in names:
                pipeline.lrange(keys.processing(name), 0, -1)
            pending, delayed, dead, *held = pipeline.execute()
        held_by = {f"processing:{name}": there for name, there in zip(names, held, strict=True)}
        return {"pending": pending, "delayed": delayed, "dead_letter": dead, **held_by}

    def _held_by_the_living(self) -> dict[str, list[bytes]]:
        living = self._client.zrangebyscore(self.keys.consumers, self.clock.now_ms + 1, "+inf")
        names = [name.decode() for name in living]
        return {name: self._client.lrange(self.keys.processing(name), 0, -1) for name in names}

    def _waiting(self) -> bool:
        return any(there for place, there in self._places().items() if place != "dead_letter")
