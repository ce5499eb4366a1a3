"""The queue's own producer, workers and reaper, and one schedule of them, told as a story.

Real: `Enqueuer`, and the `run` of `Claimer`, `Waiter`, `HandlerThread` and `Maintenance`, each in its own turn.
Substituted: see docs/architecture.md, "Schedules".
"""

import math
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import pytest
import redis

from reference.claimer import Claimer
from reference.config import Config
from reference.consumer import Consumer
from reference.enqueuer import Enqueuer, Submission
from reference.errors import NotAccepted, OutcomeUnknown, QueueFull
from reference.keys import Keys
from reference.reaper import Reaper
from reference.task import Task, encode, raw_members
from reference.worker import HandlerThread, Maintenance

from .census import UNREADABLE, Observer, tell
from .judge import HANDLER_ERROR, Judge
from .scenario import BOUNDS, LEASE_MS, PAYLOADS, SWEEP_MS, Scenario
from .scheduler import START_MS, Actor, Client, Clock, TurnEvent, Waiting, Want, Way, ask, heard, rule
from .scheduler import stepping_client as new_client

FAULTS = ("lost", "unsent", "crash", "sleep", "die asleep", "stop")
SLEEP_MS = 3 * LEASE_MS
HORIZON_MS = 30 * LEASE_MS
STEPS_MAX = 3_000
TICK_MS = SWEEP_MS
SLOW_S = 0.75 * LEASE_MS / 1000
GHOST = "ghost"


class Process:
    """One process with its threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.actors: list[Actor] = []
        self.claimer: Claimer | None = None
        self.asleep_until_ms = 0
        self.dies_asleep = False
        self.history = 0  # of what its threads did and were told: with the same history it is in the same state

    @property
    def lives(self) -> bool:
        return any(actor.lives for actor in self.actors)

    def crash(self) -> None:
        for actor in self.actors:
            actor.crash()


class Theatre:
    """What outlasts a schedule: a server and connections to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url)
        self.time_ns: Callable[[], int] = time.time_ns  # of the schedule that is on
        self._clients: dict[str, Client] = {}

    def client_of(self, name: str) -> Client:
        if name not in self._clients:
            self._clients[name] = new_client(self.url)
        return self._clients[name]

    def close(self) -> None:
        for client in (self.client, *self._clients.values()):
            client.close()


class Stage:
    """One schedule. `story` tells what was changed and what went wrong; `judge` knows whether a law was broken."""

    def __init__(self, theatre: Theatre, scenario: Scenario, patch: pytest.MonkeyPatch) -> None:
        theatre.client.flushdb()
        heard.clear()
        self.theatre, self.scenario = theatre, scenario
        self.clock = Clock(theatre.client)
        self.waiting = Waiting(self.clock)
        rule(self.clock, patch)
        self.config = Config(redis_url=theatre.url, **{**BOUNDS, **scenario.settings})
        self.keys = Keys(self.config.namespace)
        self.judge = Judge(self.config)
        self.observer = Observer(theatre.client, self.keys)
        self.story: list[str] = []
        self.steps = self.faults = 0
        self.broke: list[str] = []
        self._attempts: dict[str, int] = {}
        self._running: Process | None = None
        self._workers = 0
        self.clock.ahead_ms = self._ahead_ms
        theatre.time_ns = self.clock.time_ns
        self._set_out()
        self.processes = [self._process("producer", self._produce)]
        self.processes += [self.new_worker() for _ in range(scenario.workers)]
        self.processes.append(self._process("reaper", self._reap))
        self.current: Actor | None = None

    def _ahead_ms(self) -> int:
        return self.scenario.ahead_ms if self._running and self._running.name == "reaper" else 0

    # -- bodies: the queue's own code --------------------------------------------------------------------------------

    def _set_out(self) -> None:
        """What lies in Redis before anybody comes."""
        client, judge, scenario = self.theatre.client, self.judge, self.scenario
        enqueuer = Enqueuer(client, self.config)
        for number in range(scenario.went_before):
            enqueuer.enqueue(Submission(payload_json="0", task_id=f"earlier-{number}"))
        if scenario.went_before:
            client.delete(self.keys.pending)
            self.story.append(f"{scenario.went_before} tasks have come and gone")
        if scenario.undecodable:
            client.lpush(self.keys.pending, b"{no task")
            judge.accepted.append(UNREADABLE)
        for name in scenario.orphans:
            element = encode(task_id=name, task_type="default", payload_json=PAYLOADS[0], created_at=START_MS)
            client.rpush(self.keys.processing(GHOST), b"{no task" if name == "undecodable" else element)
            judge.accepted.append(UNREADABLE if name == "undecodable" else name)
            judge.submitted[name] = PAYLOADS[0]
        if scenario.orphans:
            named = "an ended lease" if scenario.orphans_named else "no lease"
            self.story.append(f"the list of {GHOST}, whom {named} names, holds {', '.join(scenario.orphans)}")
        if scenario.orphans_named:
            client.zadd(self.keys.consumers, {GHOST: START_MS - 1})
        judge.after("", self.observer.look(), START_MS)

    def _process(self, name: str, *bodies: Callable[[Any, Process], None]) -> Process:
        process = Process(name)
        client = self.theatre.client_of(name)
        client.clock, client.waiting, client.server, client.owner = self.clock, self.waiting, self.theatre.client, name
        before, self._running = self._running, process
        for body in bodies:
            process.actors.append(Actor(partial(body, client, process)))
        self._running = before
        return process

    def new_worker(self) -> Process:
        self._workers += 1
        return self._process(f"w{self._workers}", self._claim, self._handle, self._wait)

    def _produce(self, client: Any, _process: Process) -> None:
        enqueuer = Enqueuer(client, self.config)
        for number, wish in enumerate(self.scenario.wishes):
            name = f"t-{number}"
            if wish.at_ms:
                ask(Want("rest", until_ms=START_MS + wish.at_ms))
            submission = Submission(
                payload_json=PAYLOADS[number % len(PAYLOADS)],
                task_id=name,
                task_type="nobody's" if wish.behaviour == "unknown type" else "default",
                idempotency_key=name if self.scenario.keyed else None,
            )
            self.judge.submitted[name] = submission.payload_json
            while True:
                try:
                    accepted = enqueuer.enqueue(submission)
                except (NotAccepted, QueueFull):
                    self.judge.refused.add(name)
                except OutcomeUnknown:
                    if self.scenario.keyed:
                        continue
                else:
                    self.story.append(f"{accepted.task_id} is promised")
                    self.judge.answered(accepted.task_id, replayed=accepted.replayed)
                break

    def _reap(self, client: Any, _process: Process) -> None:
        maintenance = Maintenance(Reaper(client, self.config), self.config)
        maintenance._stopped = TurnEvent(self.clock)  # type: ignore[assignment]
        maintenance.run()

    def _claim(self, client: Any, process: Process) -> None:
        handlers = {"default": self._handler}
        claimer = Claimer(Consumer(client, self.config, process.name), self.config, handlers)
        process.claimer = claimer
        claimer._waiter.start = lambda: None  # type: ignore[method-assign]  # it is the third of the process's threads
        claimer.run()
        claimer.ready.put(None)

    def _handle(self, _client: Any, process: Process) -> None:
        assert process.claimer
        HandlerThread(1, process.claimer, {"default": self._handler}).run()

    def _wait(self, _client: Any, process: Process) -> None:
        assert process.claimer
        process.claimer._waiter.run()

    def _handler(self, task: Task) -> None:
        process = self._running
        assert process is not None
        number = task.id.rpartition("-")[2]
        behaviour = self.scenario.wishes[int(number)].behaviour if task.id.startswith("t-") else ""
        slow = behaviour == "slow"
        ask(Want("rest" if slow else "local", until_ms=self.clock.after_ms(SLOW_S) if slow else None))
        self.judge.executed.append((task.id, raw_members(task.element.decode())["payload"]))
        self._attempts[task.id] = self._attempts.get(task.id, 0) + 1
        if behaviour == "kills":
            ask(Want("die"))
        if behaviour == "raises" or (behaviour == "raises once" and self._attempts[task.id] == 1):
            self.story.append(f"{process.name}'s handler of {task.id} raises")
            raise ValueError(f"{HANDLER_ERROR}, wished")
        self.judge.completed.add(task.id)
        self.story.append(f"{process.name}'s handler of {task.id} completes")

    # -- steps ---------------------------------------------------------------------------------------------------------

    def able(self) -> list[tuple[Process, Actor]]:
        """Whose turn it can be, whoever had the last one first."""
        now_ms = self.clock.now_ms
        found = [
            (process, actor)
            for process in self.processes
            if process.asleep_until_ms <= now_ms
            for actor in process.actors
            if actor.lives and actor.want.possible(now_ms)
        ]
        at = next((number for number, (_, actor) in enumerate(found) if actor is self.current), 0)
        return found[at:] + found[:at]

    def alone(self, able: list[tuple[Process, Actor]]) -> list[tuple[Process, Actor]]:
        """Those of one process, where none of them is about to say anything to Redis, else all.

        What they do then, nobody else can see or change, as time stands still while somebody is able; so the others may
        as well come later. A process that is blocked in Redis is none of these: whoever pushes wakes it.
        """
        blocked = {owner for owner, _ in self.waiting.state()}
        for process in self.processes:
            own = [each for each in able if each[0] is process]
            if own and process.name not in blocked and all(actor.want.kind in ("rest", "local") for _, actor in own):
                return own
        return able

    def step(self, process: Process, actor: Actor, way: Way = Way.GOES) -> None:
        """One thread goes on to its next command."""
        kind, told = actor.want.kind, len(self.story)
        self.current, self._running = actor, process
        self.steps += 1
        actor.step(way)
        lives = process.claimer is None or any(each.lives for each in process.actors)
        process.history = hash((process.history, process.actors.index(actor), way, self.clock.now_ms, *heard))
        heard.clear()
        changes = self._look(process.name) if kind == "write" and way is not Way.NEVER_SENT else []
        if way is not Way.GOES:
            changes.append(way.value.format(process.name))
            self.faults += 1
        self.story[told:told] = changes  # what it goes on to do comes after what became of the command
        if actor.broken is not None:
            self.broke.append(f"{process.name} breaks: {actor.broken!r}")
            self.crash(process, self.broke[-1])
        elif actor.lives and actor.want.kind == "die":
            self.crash(process, f"{process.name} is killed by its task")
        elif not lives and process in self.processes and process.claimer:
            self._replace(process)
        while kind == "write" and self.judge.last.places["pending"] and self.waiting.serve():
            self.story += self._look("Redis")

    def _look(self, name: str) -> list[str]:
        before, now_ms = self.judge.last, self.clock.now_ms
        census = self.observer.look()
        if census == before:
            return []
        self.judge.after(name, census, now_ms)
        return tell(name, before, census, now_ms)

    def _replace(self, process: Process) -> None:
        self.processes[self.processes.index(process)] = (
            self.new_worker() if process.claimer else self._process("reaper", self._reap)
        )

    def crash(self, process: Process, said: str) -> None:
        """It is gone, and another one is started in its place, as the supervisor does."""
        process.crash()
        self.story.append(said)
        self._replace(process)

    def fault(self, what: str, process: Process, actor: Actor) -> None:
        """Something goes wrong now, where `actor` would have had its turn."""
        if what in ("lost", "unsent"):
            self.step(process, actor, Way.REPLY_LOST if what == "lost" else Way.NEVER_SENT)
            return
        self.faults += 1
        process.history = hash((process.history, what, self.clock.now_ms))
        if what == "crash":
            self.crash(process, f"{process.name} is killed")
        elif what == "stop":
            assert process.claimer
            self.story.append(f"{process.name} is asked to end")
            process.claimer.stop()
        else:
            self.story.append(f"{process.name} sleeps past its lease")
            process.asleep_until_ms = self.clock.now_ms + SLEEP_MS
            process.dies_asleep = what == "die asleep"

    def faults_of(self, process: Process, actor: Actor) -> list[str]:
        """Which of the scenario's faults can strike here. Only commands and replies of all, and workers."""
        sends = actor.want.kind in ("read", "write")
        return [
            what
            for what in self.scenario.faults
            if (sends if what in ("lost", "unsent") else process.claimer is not None)
            and (what != "stop" or not process.claimer._stopping)  # type: ignore[union-attr]
        ]

    def pass_by(self) -> bool:
        """Nobody can go on: time passes until somebody can. False: that will never be.

        It passes in ticks, so that those whose times are near each other have their turns in any order.
        """
        now_ms = self.clock.now_ms
        times = [process.asleep_until_ms for process in self.processes]
        times += [actor.want.until_ms or 0 for p in self.processes for actor in p.actors if actor.lives]
        times = [time for time in times if time > now_ms]
        if not times:
            return False
        then_ms = START_MS + math.ceil((min(times) - START_MS) / TICK_MS) * TICK_MS
        if then_ms - START_MS > HORIZON_MS:
            return False
        for name, end in self.judge.last.leases.items():
            if now_ms < end <= then_ms:
                self.story.append(f"{name}'s lease ends")
        self.clock.set(then_ms)
        for process in list(self.processes):
            if process.dies_asleep and process.asleep_until_ms <= then_ms:
                self.crash(process, f"{process.name} is killed in its sleep")
        self.judge.time_passed({process.name for process in self.processes}, then_ms)
        return True

    @property
    def over(self) -> bool:
        return not self.processes[0].lives and not self.judge.last.waiting

    def state(self) -> Hashable:
        """Two schedules in equal states have the same futures, and the same is said of them.

        A process is as it is by what its threads did, when, and what they were told, in this order.
        The queue's counters are left out, as no code of it reads them.
        """
        processes = [(p.name, p.history, p.asleep_until_ms, p.dies_asleep, p.lives) for p in self.processes]
        return (
            (self.clock.now_ms, self.faults, *processes),
            (self.judge.last.frozen(), self.waiting.state(), self.judge.state()),
        )

    def judge_the_end(self) -> None:
        """Once more, as a promise may have been the last that happened."""
        self.judge.after("", self.observer.look(), self.clock.now_ms)

    def close(self) -> None:
        """No thread outlives its schedule."""
        for process in self.processes:
            process.crash()
