"""What a fault is: it threatens, it is injected, it is seen to have taken effect, it is healed."""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..history import Aim, ServerEnd, Traits
from ..history.tail import LedgerTail
from ..system.processes import Managed
from ..system.servers import Server
from ..system.workers import WorkerPool

if TYPE_CHECKING:
    from ..system.network import Network
    from ..system.producer import Producer
    from .planned import PlannedTask

POLL_S = 0.02
SERVER_TIMEOUT_S = 5.0
LONG_MS = 6_500
"""A body that lasts that long goes on for seconds after most faults."""
LET_GO_S = 1.5
"""So much longer than a recovery takes is a body long, if not as long as `LONG_MS`."""
LONG_SHARE = 0.8
"""For this part of its patience a fault waits for one that begins."""
SETTLE_S = 2.0
"""For that long a fault waits for a worker that is well under way, and no longer."""
LONG_INSIDE_S = 1.0
"""A worker that has been inside a task for that long is well under way, too."""
UNTOUCHED_SHARE = 0.7
"""This part of the kills prefers tasks that no fault has met: else those that are run again are met again and again."""
HELD_BACK_S = 1.0
"""For that long are workers held back at most, so that tasks wait: less than most leases."""
WAITING = 20
"""That many waiting tasks are enough."""
ACK_UNDER_WAY_NS = 100_000_000

InMix = Literal["no", "drawn", "once", "always"]
Brought = Literal["plain", "lasting", "long", "failing", "given-up", "call"]
"""Tasks as they are; with bodies of one to two seconds; with long ones; that raise at the end of such a body, or are
given up, where the target can be told to; in one call."""


def how_many(default: int) -> int:
    """An option that says how many: none at all is not a fault. All other numbers may be 0."""
    option: int = field(default=default, metadata={"least": 1})
    return option


class Missed(Exception):
    """The fault did not take effect; the text says why, in a sentence. `effect`: what it did all the same."""

    def __init__(self, reason: str, effect: "Effect | None" = None) -> None:
        super().__init__(reason)
        self.effect = effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How the fault was seen to take effect. `evidence` is a sentence; `tasks` were in flight when it hit `pids`."""

    evidence: str
    pids: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    lasted: tuple[int, int] | None = None
    """From when until when it surely lasted, monotonic, ns, where a promise speaks of that time."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a fault can lay its hands on."""

    server: Server
    workers: WorkerPool
    ledger: LedgerTail
    random: random.Random
    """Seeded from the run's seed and the fault's number."""
    wait: Callable[[float], None]
    """Sleeps that many seconds; raises at once when the run is being stopped."""
    recover_within_s: float = 0.0
    """After how long the target promises a dead worker's task again."""
    producer: "Producer | None" = None
    """The target's own server that takes submissions; None: it has none."""
    under_way: Callable[[], int] = lambda: 0
    """How many submissions are not answered yet."""
    batch_under_way: Callable[[], int] = lambda: 0
    """How many tasks the largest call has that a client waits for."""
    promised: Callable[[], frozenset[str]] = frozenset
    """Tasks whose submission was acknowledged."""
    unknown: Callable[[], frozenset[str]] = frozenset
    """Tasks whose submission ended with an unknown outcome."""
    dead_letters: Callable[[], frozenset[str]] = frozenset
    """Tasks that the target has given up; none where it can't say so just now."""
    requeue: Callable[[list[str]], bool] = lambda tasks: False
    """Has the target requeue these; False: it is unknown whether it did."""
    repeated: Callable[[], int] = lambda: 0
    """How many submissions were sent a second time, and promised then."""
    directory: Path | None = None
    """The run's directory."""
    network: "Network | None" = None
    """The way from the workers to the server; None: they go there directly."""
    struck: Callable[[], frozenset[str]] = frozenset
    """Tasks that earlier faults of this run found in flight in a worker: what became of those bodies is their doing."""
    behaving: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Way to misbehave -> the tasks of the plan that do so."""
    startup_s: Callable[[], float] = lambda: 0.0
    """How long it took at the start of the run until a worker had begun a task."""
    long: frozenset[str] = frozenset()
    """Tasks of the plan whose bodies do nothing but last, longer than the target takes to recover one."""
    workload_over: Callable[[], bool] = lambda: True
    """Whether everything was submitted and answered."""
    let_on: Callable[[], None] = lambda: None
    """Lets come what is planned for later, where the fault `holds_traffic`."""
    nothing_left: Callable[[], bool] = lambda: False
    """Whether everything was submitted, and all that was promised is done or must be given up; or whether bodies end
    at once, so that there is nothing to wait for."""


@dataclass(frozen=True, kw_only=True)
class Fault(ABC):
    """One fault. Its fields are its options on the command line: `name:field=value`.

    What others need to know of it is stated here, in its class: no planner, judge or report knows its name.
    """

    name: ClassVar[str]
    threatens: ClassVar[tuple[str, ...]]
    """The numbers of the invariants that a queue may break under it."""
    count: ClassVar[int] = 1
    """How often it is planned by default."""

    # What it does, which the history keeps for the judge; `Traits` says more.
    aims_at: ClassVar[Aim]
    baseline: ClassVar[bool] = False
    """Whether nothing is done: it is planned alone."""
    everywhere: ClassVar[bool] = False
    """Whether it meets the server, or what all workers need, so that none of them is out of its reach."""
    ends_server: ClassVar[ServerEnd] = "no"
    """Whether it ends the server, and how: that may cost what the durability does not keep."""
    ends_late: ClassVar[bool] = False
    """Whether the server goes on for seconds, and promises, before it is ended."""
    fails_over: ClassVar[bool] = False
    """Whether a replica takes the primary's place; it needs a primary with replicas under Sentinel."""
    asks_to_end: ClassVar[bool] = False
    """Whether it asks workers to end, and leaves them the time that they take."""
    loses_replies: ClassVar[bool] = False
    """Whether the server executes commands whose replies it takes."""
    cuts: ClassVar[bool] = False
    """Whether it closes connections, which can be opened again at once."""
    requeues: ClassVar[bool] = False
    """Whether it gives its tasks, which were given up, all their attempts again."""

    fills_memory: ClassVar[bool] = False
    """Whether it has the server refuse whatever adds, since its memory is full."""

    needs_batches: ClassVar[bool] = False
    """Whether the target must take several tasks in one call for it."""
    needs_keys: ClassVar[bool] = False
    """Whether the target must state that it is `idempotent` for it."""
    needs_attempts: ClassVar[bool] = False
    """Whether the target must state that `attempts_grow` for it to be in the mix."""
    batch_least: ClassVar[int] = 2
    """How many the target must take in one call, where it `needs_batches`."""
    needs_recovery_order: ClassVar[bool] = False
    """Whether the target must state that it `recovers_in_order` for it to be in the mix."""
    needs_full_memory: ClassVar[bool] = False
    """Whether the target must state that it `drains_when_full` for it to be in the mix, unless it lists it there."""
    needs_requeue: ClassVar[bool] = False
    """Whether the target must have `requeue`, and a body that raises whenever the plan says so."""

    # When it may be planned, and what it needs.
    in_mix: ClassVar[InMix] = "no"
    """Whether `--faults mix` has it: never, once if it is drawn by the seed, once, or as often as `--kills` says."""
    ends_mix: ClassVar[int] = 0
    """So often the mix has it, too, when all others are over: what a killed process would take with it shows then."""
    ends_mix_options: ClassVar[Mapping[str, Any]] = {}
    """With these options."""
    brings: ClassVar[Mapping[Brought, int]] = {}
    """How many tasks of each kind come when it begins, and not when they are due."""
    last: ClassVar[bool] = False
    """Whether it is planned for the very end, when everything has been submitted."""
    holds_traffic: ClassVar[bool] = False
    """Whether tasks that are planned for later than it come only when it says so, by `Stage.let_on`, or is over."""
    needs_own_server: ClassVar[bool] = False
    """Whether the harness must have started the server for it: one that is named by its URL is not to be disturbed."""
    needs_one_server: ClassVar[bool] = False
    """Whether the server must stand alone: under Sentinel it would cause an unplanned failover."""
    in_cluster: ClassVar[bool] = False
    """Whether the server must be a cluster for it."""
    in_container: ClassVar[bool] = False
    """Whether the server must be in a container for it."""
    through_proxy: ClassVar[bool] = False
    """Whether the workers must reach the server through the proxy for it."""
    of_clients: ClassVar[bool] = False
    """Whether it is the producer and the client, not the workers, that must reach the server through the proxy."""
    moves_producer: ClassVar[bool] = False
    """Whether the producer has another address after it."""
    shim: ClassVar[Path | None] = None
    """A folder that must be on the workers' Python path for it."""

    def arrange(self, tasks: "list[PlannedTask]", draw: random.Random, recover_within_s: float) -> "list[PlannedTask]":
        """The tasks that the plan needs for this fault, in the order of their times; most need nothing."""
        return tasks

    def prepare(self, directory: Path) -> None:  # noqa: B027 - few need anything
        """Make what it needs in the run's directory. Called before the workers start; once for all of its name."""

    @abstractmethod
    def inject(self, stage: Stage) -> Effect:
        """Do it, and see that it took effect. Raises Missed if it did not."""

    def heal(self, stage: Stage) -> None:  # noqa: B027 - many faults leave nothing to heal
        """Bring back what it took. Called after `inject`, whatever came of it."""

    def traits(self) -> Traits:
        """What the history says of it."""
        return Traits(
            aims_at=self.aims_at,
            baseline=self.baseline,
            arranges=self.arranges(),
            everywhere=self.everywhere,
            ends_server=self.ends_server,
            ends_late=self.ends_late,
            fails_over=self.fails_over,
            asks_to_end=self.asks_to_end,
            loses_replies=self.loses_replies,
            cuts=self.cuts,
            fills_memory=self.fills_memory,
            requeues=self.requeues,
        )

    @classmethod
    def arranges(cls) -> bool:
        """Whether the plan holds tasks that are made for it."""
        return cls.arrange is not Fault.arrange

    @classmethod
    def summary(cls) -> str:
        """The first line of its docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0]


@dataclass(frozen=True, kw_only=True)
class Caught:
    """A worker that stands still inside tasks. `tasks`: each with the process that is in it."""

    worker: Managed
    pids: tuple[int, ...]
    tasks: dict[str, int]


def catch_worker(stage: Stage, patience_s: float, *, untouched: bool = False) -> Caught:
    """SIGSTOPs a worker that is inside a task's body, seen by a look at the ledger while it stands still.

    `untouched`: only one that is in no task that a fault has met before. Raises Missed: none within the time.
    """
    give_up_s = time.monotonic() + _patience_s(stage, patience_s)
    while time.monotonic() < give_up_s:
        caught = stop_and_look(stage, busy_worker(stage, patience_s, untouched=untouched))
        if caught.tasks and not (untouched and caught.tasks.keys() & stage.struck()):
            return caught
        caught.worker.continue_session_members()
        stage.wait(POLL_S)
    raise Missed(f"No worker was seen inside a task within {patience_s:g} s.")


def stop_and_look(stage: Stage, worker: Managed) -> Caught:
    """SIGSTOPs a worker, and reads what it is inside of while it stands still: a dead one can't be asked."""
    worker.stop_session_members()
    stage.ledger.poll()
    tasks = stage.ledger.open_in_session(worker.sid)
    return Caught(worker=worker, pids=tuple(worker.members()), tasks=tasks)


def kill_caught(caught: Caught) -> None:
    """SIGKILLs its session. Raises Missed: it had ended before."""
    status = caught.worker.kill_session()
    if status != -SIGKILL:
        raise Missed(f"Worker {caught.worker.sid} had ended by itself, with status {status}, before it was killed.")


def wait_for(stage: Stage, condition: Callable[[], int], patience_s: float, missed: str) -> int:
    """Waits until `condition()` is true or not 0, and returns that. Raises Missed, with this text: not in time."""
    if given := waited_for(stage, condition, patience_s):
        return given
    raise Missed(missed)


def waited_for(stage: Stage, condition: Callable[[], int], patience_s: float) -> int:
    """Waits until `condition()` is true or not 0, or the time is over, and returns what it was last."""
    give_up_s = time.monotonic() + patience_s
    while not (given := condition()) and time.monotonic() <= give_up_s:
        stage.wait(POLL_S)
    return given


def _patience_s(stage: Stage, patience_s: float) -> float:
    """With the time that workers take to start: on a busy machine, it is longer than any fault would wait for them."""
    return patience_s + 2 * stage.startup_s()


def _just_started(stage: Stage, worker: Managed) -> bool:
    """It has completed nothing yet, and has not been inside a task for long."""
    return not stage.ledger.completed_since(worker.sid) and stage.ledger.longest_open_s(worker.sid) < LONG_INSIDE_S


def long_ms(recover_within_s: float) -> int:
    """From how many ms on a body is long: others have its task before it ends, where its worker lets it go."""
    return round(min(LONG_MS, 1_000 * (recover_within_s + LET_GO_S)))


def many(count: int) -> str:
    """`a task`, `3 tasks`."""
    return f"{count} tasks" if count > 1 else "a task"


def busy_worker(stage: Stage, patience_s: float, *, untouched: bool = False, long: bool = False) -> Managed:
    """A worker that is inside a task's body, as the ledger shows; any of them that has completed one since its start.

    Or has been inside one for long; one that has just started would be killed before the queue had come back. Mostly
    one whose tasks no fault has met before. After `SETTLE_S` any will do, except that `untouched` is heeded as in
    `catch_worker`. `long`: one that has just begun a long body, if one does so within most of the time; of a task that
    no fault has met, as a queue may set others aside.

    Raises Missed: none within the time, or nothing is left to do.
    """
    begun_s = time.monotonic()
    give_up_s = begun_s + _patience_s(stage, patience_s)
    before = frozenset(stage.ledger.open_tasks()) if long else frozenset()
    fresh = untouched or stage.random.random() < UNTOUCHED_SHARE
    while time.monotonic() < give_up_s:
        stage.ledger.poll()
        inside = {worker: stage.ledger.open_in_session(worker.sid).keys() for worker in stage.workers.living()}
        patient = time.monotonic() < begun_s + SETTLE_S
        busy = [
            worker
            for worker, tasks in inside.items()
            if tasks
            and not ((untouched or (fresh and patient)) and tasks & stage.struck())
            and not (patient and _just_started(stage, worker))
            and not (
                long
                and stage.long
                and time.monotonic() < begun_s + LONG_SHARE * patience_s
                and not (tasks & stage.long) - before - stage.struck()
            )
        ]
        if busy:
            return stage.random.choice(busy)
        if not any(inside.values()) and stage.nothing_left():
            raise Missed("No worker was inside a task, and nothing was left to wait for.")
        stage.wait(POLL_S)
    raise Missed(f"No worker was seen inside a task within {patience_s:g} s.")


class InFlight:
    """Notes the tasks that a fault of the server can hit: all whose body runs at any moment from now to `tasks()`.

    And those whose body ended a moment before: the news of it may still be on its way.
    """

    def __init__(self, stage: Stage) -> None:
        self._ledger = stage.ledger
        self._since_t = time.monotonic_ns() - ACK_UNDER_WAY_NS

    def tasks(self) -> tuple[str, ...]:
        self._ledger.poll()
        return tuple(sorted(self._ledger.open_since(self._since_t)))


def restart_server(stage: Stage, end: Callable[[], int], status_wanted: int, down_s: float) -> Effect:
    """Has `end` end the server, and starts it again on the same data after `down_s`.

    Raises Missed: it exited with another status, or is the same as before.
    """
    before, in_flight = stage.server.run_id(), InFlight(stage)
    with held_back(stage) as waiting:
        status = end()
    stage.wait(down_s)
    stage.server.start()
    after = stage.server.run_id()
    if status != status_wanted or after == before:
        raise Missed(f"The server exited with status {status}, and its run_id was {before} and then {after}.")
    return Effect(
        evidence=f"The server exited with status {status} while {waiting} promised tasks waited, was away for "
        f"{down_s:g} s, and its run_id changed from {before[:8]} to {after[:8]}.",
        tasks=in_flight.tasks(),
    )


@contextmanager
def held_back(stage: Stage) -> Iterator[int]:
    """Stops all workers until promised tasks wait, so that a server has something to lose; how many do.

    They go on at the end of the `with`, and after `HELD_BACK_S` it begins with as many as there are.
    """
    stopped = stage.workers.living()
    try:
        for worker in stopped:
            worker.stop_session_members()
        give_up_s = time.monotonic() + min(HELD_BACK_S, stage.recover_within_s / 3)
        while (waiting := _waiting(stage)) < WAITING and time.monotonic() < give_up_s and not stage.nothing_left():
            stage.wait(POLL_S)
        yield waiting
    finally:
        for worker in stopped:
            worker.continue_session_members()


def _waiting(stage: Stage) -> int:
    stage.ledger.poll()
    return len(stage.promised() - stage.ledger.begun)


def errors_answered(client: Any, kind: str) -> int:
    """How often the server has answered an error of this kind so far, such as OOM."""
    return int(client.info("errorstats").get(f"errorstat_{kind}", {}).get("count", 0))


@contextmanager
def server_client(stage: Stage, timeout_s: float = SERVER_TIMEOUT_S) -> Iterator[Any]:
    """A connection for the fault's own commands. Raises Missed: the server refused one, or was away."""
    client = redis.Redis.from_url(stage.server.url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s)
    try:
        yield client
    except redis.RedisError as error:
        raise Missed(f"The server refused or was away: {error}.") from None
    finally:
        client.close()
