"""One schedule of the queue's own code: possible turns, steps, faults, and the passing of time."""

import math
from collections.abc import Hashable

import pytest

from .cast import Cast, Process, Theatre
from .census import tell
from .client import Packet
from .scenario import LEASE_MS, SWEEP_MS, Scenario
from .scheduler import START_MS, Actor, Way, heard

WAYS = {
    "lost": Way.REPLY_LOST,
    "unsent": Way.NEVER_SENT,
    "late": Way.LATE,
    "twice": Way.TWICE,
    "half": Way.HALF,
    "apart": Way.APART,
}
"""Outcomes of one command. The last two concern the claim that is sent along with a wait."""
STRUCK_BY_NAME = ("clock ahead", "clock back", "bell lost", "bell doubled")
FAULTS = (*WAYS, "crash", "nap", "sleep", "die asleep", "stop", *STRUCK_BY_NAME)
SLEEPS_MS = {"nap": LEASE_MS + SWEEP_MS // 2, "sleep": 3 * LEASE_MS, "die asleep": 3 * LEASE_MS}
"""A nap ends while the expired lease is being noticed, a sleep after the recovery."""
CLOCK_STEPS_MS = {"clock ahead": 2 * LEASE_MS, "clock back": -LEASE_MS}
HORIZON_MS = 30 * LEASE_MS
STEPS_MAX = 3_000
TICK_MS = SWEEP_MS


class Stage(Cast):
    """One schedule."""

    def __init__(self, theatre: Theatre, scenario: Scenario, patch: pytest.MonkeyPatch) -> None:
        super().__init__(theatre, scenario, patch)
        self.steps = self.faults = 0
        self.broke: list[str] = []
        self.current: Actor | None = None

    def able(self) -> list[tuple[Process, Actor]]:
        """Return the threads that can have the next turn, beginning with the thread of the last turn."""
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
        """Return the threads of one process if none of them is about to send a command to Redis, else all threads.

        Other processes cannot see or change the next steps of such a process, because time stands still while a thread
        can act. So the others may act later. A process that is blocked in Redis does not qualify: a push wakes it.
        """
        blocked = self.network.blocked()
        for process in self.processes:
            own = [each for each in able if each[0] is process]
            if own and process.name not in blocked and all(actor.want.kind in ("rest", "local") for _, actor in own):
                return own
        return able

    def arrive(self, packet: Packet) -> None:
        """Deliver a delayed or repeated command to Redis."""
        self.steps += 1
        self.network.deliver(packet)
        self.story += [f"what {packet.sender} sent before arrives", *self._look(packet.sender)]
        self._serve()

    def _serve(self) -> None:
        while self.judge.last.rings and self.network.serve():
            self.story += self._look("Redis")

    def step(self, process: Process, actor: Actor, way: Way = Way.GOES) -> None:
        """Run one thread up to its next command."""
        kind, told = actor.want.kind, len(self.story)
        self.current, self.running = actor, process
        self.steps += 1
        if way is not Way.GOES and process.name.startswith("reaper"):
            self.judge.put_off_ms += SWEEP_MS  # the reaper retries in its next sweep
        if way in (Way.LATE, Way.TWICE):
            self.judge.put_off_ms += LEASE_MS  # the command may be a renewal
        self.judge.bell_taken = self.judge.bell_taken or way in (Way.HALF, Way.APART)
        actor.step(way)
        lives = process.claimer is None or any(each.lives for each in process.actors)
        process.history = hash((process.history, process.actors.index(actor), way, self.clock.now_ms, *heard))
        heard.clear()
        changes = self._look(process.name) if kind in ("write", "wait") and way is not Way.NEVER_SENT else []
        if way is not Way.GOES:
            changes.append(way.value.format(process.name))
            self.faults += 1
        self.story[told:told] = changes  # the outcome of the command precedes the thread's later actions
        if actor.broken is not None:
            self.broke.append(f"{process.name} breaks: {actor.broken!r}")
            self.crash(process, self.broke[-1])
        elif actor.lives and actor.want.kind == "die":
            self.crash(process, f"{process.name} is killed by its task")
        elif not lives and process in self.processes:
            self._replace(process)
        if kind in ("write", "wait"):
            self._serve()

    def _look(self, name: str) -> list[str]:
        before, now_ms = self.judge.last, self.clock.redis_ms
        census = self.observer.look()
        if census == before:
            return []
        self.judge.after(name, census, now_ms)
        return tell(name, before, census, now_ms)

    def _replace(self, process: Process) -> None:
        if process.again:
            self.processes[self.processes.index(process)] = process.again()

    def crash(self, process: Process, said: str) -> None:
        """End a process and start its replacement, as the supervisor does."""
        process.crash()
        self.story.append(said)
        self._replace(process)

    def fault(self, what: str, process: Process, actor: Actor) -> None:
        """Inject a fault now, in place of the turn of `actor`."""
        if what in WAYS:
            self.step(process, actor, WAYS[what])
            return
        self.faults += 1
        if what in ("bell lost", "bell doubled"):
            self._touch_the_bell(lost=what == "bell lost")
            return
        if what in CLOCK_STEPS_MS:
            self._set_redis_clock(CLOCK_STEPS_MS[what])
            return
        process.history = hash((process.history, what, self.clock.now_ms))
        if what == "crash":
            if process.claimer is None:
                self.judge.put_off_ms += SWEEP_MS
            self.crash(process, f"{process.name} is killed")
        elif what == "stop":
            assert process.claimer
            self.story.append(f"{process.name} is asked to end")
            process.claimer.stop()
        else:
            self.story.append(f"{process.name} sleeps past its lease")
            process.asleep_until_ms = self.clock.now_ms + SLEEPS_MS[what]
            process.dies_asleep = what == "die asleep"

    def _touch_the_bell(self, *, lost: bool) -> None:
        bell, client = self.keys.bell, self.theatre.client
        self.judge.bell_taken = self.judge.bell_taken or lost
        self.story.append("a foreign client removes the bell" if lost else "a foreign client rings the bell")
        client.delete(bell) if lost else client.lpush(bell, "1")
        self.judge.after("", self.observer.look(), self.clock.redis_ms)
        self._serve()

    def _set_redis_clock(self, by_ms: int) -> None:
        self.story.append(f"Redis's clock is set {'ahead' if by_ms > 0 else 'back'} by {abs(by_ms) // 1000} s")
        self.judge.put_off_ms += max(0, -by_ms)
        before_ms = self.clock.redis_ms
        self.clock.set_redis(by_ms)
        self._tell_of_leases(before_ms)

    def _tell_of_leases(self, before_ms: int) -> None:
        for name, end in self.judge.last.leases.items():
            if before_ms < end <= self.clock.redis_ms:
                self.story.append(f"{name}'s lease ends")

    def faults_of(self, process: Process, actor: Actor) -> list[str]:
        """Return the scenario's faults that are possible here: of commands, replies, workers, reapers or the clock."""
        strikes = {
            "lost": actor.want.kind in ("read", "write", "wait"),
            "unsent": actor.want.kind in ("read", "write", "wait"),
            "late": actor.want.kind == "write",
            "twice": actor.want.kind == "write",
            "half": actor.want.kind == "wait",
            "apart": actor.want.kind == "wait",
            "crash": process.again is not None,
            "nap": process.claimer is not None,
            "sleep": process.claimer is not None,
            "die asleep": process.claimer is not None,
            "stop": process.claimer is not None and not process.claimer._stopping,
            "clock ahead": True,
            "clock back": True,
            "bell lost": self.judge.last.rings > 0,
            "bell doubled": True,
        }
        return [what for what in self.scenario.faults if strikes[what]]

    def pass_by(self) -> bool:
        """Advance the time until a process can act. Return False if none ever can.

        Time passes in ticks, so that processes with nearly equal times can act in any order.
        """
        now_ms = self.clock.now_ms
        times = [process.asleep_until_ms for process in self.processes]
        times += self.network.times_ms()
        times += [actor.want.until_ms or 0 for p in self.processes for actor in p.actors if actor.lives]
        times = [time for time in times if time > now_ms]
        if not times:
            return False
        then_ms = START_MS + math.ceil((min(times) - START_MS) / TICK_MS) * TICK_MS
        if then_ms - START_MS > HORIZON_MS:
            return False
        before_ms = self.clock.redis_ms
        self.clock.pass_to(then_ms)
        self._tell_of_leases(before_ms)
        if before_ms - START_MS < self.scenario.refused_until_ms <= then_ms - START_MS:
            self.theatre.client.delete(self.keys.dead_letter)
            self.story.append("what lay in the place of the dead letters is gone")
        while self.network.serve_the_late():
            self.story += self._look("Redis")
        for process in list(self.processes):
            if process.dies_asleep and process.asleep_until_ms <= then_ms:
                self.crash(process, f"{process.name} is killed in its sleep")
        self.judge.time_passed({process.name for process in self.processes}, then_ms)
        return True

    @property
    def over(self) -> bool:
        lies = self.judge.last.waiting or self.network.packets
        return not lies and not any(producer.lives for producer in self.producers)

    def state(self) -> Hashable:
        """Return a value that is equal for schedules with the same possible continuations.

        The state of a process is determined by its threads' actions, their times and the replies, in order.
        The queue's counters are left out, because its code does not read them.
        """
        processes = [(p.name, p.history, p.asleep_until_ms, p.dies_asleep, p.lives) for p in self.processes]
        return (
            (self.clock.now_ms, self.clock.off_ms, self.faults, *processes),
            (self.judge.last.frozen(), self.network.state(), self.judge.state()),
        )

    def judge_the_end(self) -> None:
        """Check the laws once more: the last event may have been a promise."""
        self.judge.after("", self.observer.look(), self.clock.redis_ms)

    def close(self) -> None:
        """End all threads of the schedule."""
        for process in self.processes:
            process.crash()
