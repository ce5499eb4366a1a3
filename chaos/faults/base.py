"""`Fault`, the base class of all faults; `Stage`, what a fault can act on; and helpers to choose and stop workers."""

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
"""Upper limit of `long_ms`, in ms: a body of this length outlasts most faults by seconds."""
LET_GO_S = 1.5
"""Seconds by which a long body outlasts a recovery; see `long_ms`."""
LONG_SHARE = 0.8
"""Share of its patience for which a fault insists on a worker that has just begun a long body."""
SETTLE_S = 2.0
"""Maximum time, in seconds, for which a fault insists on a worker that is well under way."""
LONG_INSIDE_S = 1.0
"""Seconds inside one task after which a worker is well under way, even if it has completed none."""
UNTOUCHED_SHARE = 0.7
"""Share of faults that prefer tasks no fault has hit before: otherwise retried tasks would be hit again and again."""
HELD_BACK_S = 1.0
"""Maximum time, in seconds, to hold workers back so that tasks wait; shorter than most leases."""
WAITING = 20
"""Number of waiting tasks at which workers are no longer held back."""
ACK_UNDER_WAY_NS = 100_000_000

InMix = Literal["no", "drawn", "once", "always"]
Brought = Literal["plain", "lasting", "long", "failing", "given-up", "hanging", "call"]
"""Kinds of tasks that come with a fault: unchanged; with a body of one to two seconds; with a long body (`long_ms`);
raising once, after one to two seconds; given up; hanging beyond the target's time limit; all in one call. The target
must support the behaviours."""


def how_many(default: int) -> int:
    """Return a field for a count of at least 1, as a count of 0 would be no fault. Other numbers may be 0."""
    option: int = field(default=default, metadata={"least": 1})
    return option


class Missed(Exception):
    """Raised when a fault did not take effect. The text is a sentence with the reason; `effect`: what it did anyway."""

    def __init__(self, reason: str, effect: "Effect | None" = None) -> None:
        super().__init__(reason)
        self.effect = effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The observed effect of a fault. `evidence` is a sentence; `tasks` were in flight when the fault hit `pids`."""

    evidence: str
    pids: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    lasted: tuple[int, int] | None = None
    """Begin and end of the time for which it certainly lasted, monotonic, ns; only where a promise depends on it."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Everything that a fault can act on or observe during a run."""

    server: Server
    workers: WorkerPool
    ledger: LedgerTail
    random: random.Random
    """Seeded from the run's seed and the fault's number."""
    wait: Callable[[float], None]
    """Sleeps for this number of seconds; raises immediately when the run is stopped."""
    recover_within_s: float = 0.0
    """Seconds within which the target promises to recover a dead worker's task."""
    producer: "Producer | None" = None
    """The target's own server that takes submissions; None if it has none."""
    under_way: Callable[[], int] = lambda: 0
    """Number of submissions without an answer yet."""
    batch_under_way: Callable[[], int] = lambda: 0
    """Number of tasks in the largest call that a client is waiting for."""
    promised: Callable[[], frozenset[str]] = frozenset
    """Tasks whose submission was acknowledged."""
    unknown: Callable[[], frozenset[str]] = frozenset
    """Tasks whose submission ended with an unknown outcome."""
    dead_letters: Callable[[], frozenset[str]] = frozenset
    """Tasks among the target's dead letters; empty if the target can't list them now."""
    requeue: Callable[[list[str]], bool] = lambda tasks: False
    """Asks the target to requeue these dead letters; False if the outcome is unknown."""
    pause: Callable[[], bool] = lambda: False
    """Asks the target to pause all claiming; False if the outcome is unknown."""
    resume: Callable[[], bool] = lambda: True
    """Asks the target to let claiming go on; False if the outcome is unknown."""
    pauses_within_s: float = 0.0
    """Seconds within which a pause reaches every worker, as the target states."""
    repeated: Callable[[], int] = lambda: 0
    """Number of submissions that were sent a second time and promised again."""
    directory: Path | None = None
    """The run's directory."""
    network: "Network | None" = None
    """The proxy in front of the server; None if workers and clients connect directly."""
    struck: Callable[[], frozenset[str]] = frozenset
    """Tasks in flight in a worker when an earlier fault of this run hit it, which explains how their bodies ended."""
    behaving: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Name of a behaviour -> the tasks of the plan that have it."""
    startup_s: Callable[[], float] = lambda: 0.0
    """Seconds from the start of the run until a worker had begun a task; 0 until then."""
    long: frozenset[str] = frozenset()
    """Well-behaved tasks of the plan whose bodies last for `long_ms` or more."""
    workload_over: Callable[[], bool] = lambda: True
    """Whether all tasks were submitted and all submissions answered."""
    let_on: Callable[[], None] = lambda: None
    """Releases the tasks that a fault with `holds_traffic` holds back."""
    nothing_left: Callable[[], bool] = lambda: False
    """Whether waiting for a task body is pointless: every task was submitted, and every promised one is completed or
    must be given up; or the target's bodies end at once."""


@dataclass(frozen=True, kw_only=True)
class Fault(ABC):
    """One fault. Its fields are its options on the command line: `name:field=value`.

    The class states all that planner, judge and reports need: none of them refers to a fault by name.
    """

    name: ClassVar[str]
    threatens: ClassVar[tuple[str, ...]]
    """Numbers of the invariants that a defective queue may break under this fault."""
    count: ClassVar[int] = 1
    """Number of injections in a plan, by default."""

    # What the fault does. The history records most of this for the judge, as `Traits`.
    aims_at: ClassVar[Aim]
    baseline: ClassVar[bool] = False
    """Whether it disturbs nothing. A baseline can't be combined with other faults."""
    everywhere: ClassVar[bool] = False
    """Whether it hits the server, or something else that all workers need, and so can affect every worker."""
    ends_server: ClassVar[ServerEnd] = "no"
    """Whether and how it ends the server, which can lose the data that the durability setting does not protect."""
    ends_late: ClassVar[bool] = False
    """Whether the server goes on accepting tasks for seconds after the fault began and before it is ended."""
    fails_over: ClassVar[bool] = False
    """Whether a replica takes the primary's place; requires replicas under Sentinel, or a cluster with `in_cluster`."""
    asks_to_end: ClassVar[bool] = False
    """Whether it asks workers to stop and gives them time to do so."""
    loses_replies: ClassVar[bool] = False
    """Whether it discards replies to commands that the server has executed."""
    cuts: ClassVar[bool] = False
    """Whether it closes connections that clients can reopen immediately."""
    requeues: ClassVar[bool] = False
    """Whether it requeues dead letters, which gives them all their attempts again."""
    pauses: ClassVar[bool] = False
    """Whether it pauses all claiming, as an operator does."""

    fills_memory: ClassVar[bool] = False
    """Whether it fills the server's memory, so that the server refuses commands that add data."""

    needs_batches: ClassVar[bool] = False
    """Whether the target must accept several tasks in one call: `batch_least` or more."""
    needs_keys: ClassVar[bool] = False
    """Whether the target must state that it is `idempotent`."""
    needs_attempts: ClassVar[bool] = False
    """Whether the mix includes it only for a target that states `attempts_grow`."""
    batch_least: ClassVar[int] = 2
    """Least `batch_max` of the target, for a fault that `needs_batches`."""
    needs_recovery_order: ClassVar[bool] = False
    """Whether the mix includes it only for a target that states `recovers_in_order`."""
    needs_full_memory: ClassVar[bool] = False
    """Whether the mix includes it only for a target that states `drains_when_full` or lists the fault in its `mix`."""
    needs_requeue: ClassVar[bool] = False
    """Whether the target must have `requeue` and know the behaviour `raise-always`."""
    needs_pause: ClassVar[bool] = False
    """Whether the target must state `pauses_within`."""

    # When the fault may be planned, and what it needs.
    in_mix: ClassVar[InMix] = "no"
    """How often `--faults mix` includes it: never; once if the seed draws it; once; or `--kills` times."""
    in_turn: ClassVar[str] = ""
    """Name of a group of faults of which the mix includes one only, by the seed: together they would need too many
    tasks."""
    drawn_options: ClassVar[tuple[str, ...]] = ()
    """Names of options, True or False, that the mix draws from its seed."""
    ends_mix: ClassVar[int] = 0
    """Number of extra injections after the other faults of the mix, where no later kill hides a leak."""
    ends_mix_options: ClassVar[Mapping[str, Any]] = {}
    """Options of these extra injections."""
    brings: ClassVar[Mapping[Brought, int]] = {}
    """Number of tasks of each kind that are submitted when the fault begins, not at their own times."""
    last: ClassVar[bool] = False
    """Whether it is planned for the end of the workload, after all submissions."""
    holds_traffic: ClassVar[bool] = False
    """Whether tasks planned for a later time wait until the fault calls `Stage.let_on` or ends."""
    needs_own_server: ClassVar[bool] = False
    """Whether the harness must have started the server; the fault is refused for a server given by URL."""
    needs_one_server: ClassVar[bool] = False
    """Whether it needs a single server; under Sentinel the fault would cause an unplanned failover."""
    in_cluster: ClassVar[bool] = False
    """Whether the server must be a cluster."""
    in_container: ClassVar[bool] = False
    """Whether the server must run in a container."""
    through_proxy: ClassVar[bool] = False
    """Whether the workers must connect to the server through the proxy; see `of_clients`."""
    of_clients: ClassVar[bool] = False
    """Whether the producer and the client connect through the proxy, in place of the workers."""
    moves_producer: ClassVar[bool] = False
    """Whether the producer has a different address afterwards."""
    shim: ClassVar[Path | None] = None
    """Folder that must be on the workers' Python path."""

    def arrange(self, tasks: "list[PlannedTask]", draw: random.Random, recover_within_s: float) -> "list[PlannedTask]":
        """Return the plan's tasks, adapted to this fault and ordered by time. Most faults change nothing."""
        return tasks

    def prepare(self, directory: Path) -> None:  # noqa: B027 - few need anything
        """Create the fault's files in the run's directory. Called once per fault name, before the workers start."""

    @abstractmethod
    def inject(self, stage: Stage) -> Effect:
        """Inject the fault and confirm its effect. Raises Missed if it had none."""

    def heal(self, stage: Stage) -> None:  # noqa: B027 - many faults leave nothing to heal
        """Undo the fault. Called after `inject`, whatever its outcome."""

    def traits(self) -> Traits:
        """Return the traits that the history records."""
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
            pauses=self.pauses,
        )

    @classmethod
    def arranges(cls) -> bool:
        """Return whether the fault adapts tasks of the plan."""
        return cls.arrange is not Fault.arrange

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the class docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0]


@dataclass(frozen=True, kw_only=True)
class Caught:
    """A stopped worker. `tasks`: each task whose body it is inside -> pid of the process that runs it."""

    worker: Managed
    pids: tuple[int, ...]
    tasks: dict[str, int]

    @property
    def children(self) -> list[int]:
        """The pids of its session, without that of its first process."""
        return [pid for pid in self.pids if pid != self.worker.pid]


def catch_worker(stage: Stage, patience_s: float, *, untouched: bool = False) -> Caught:
    """SIGSTOP a worker that is inside a task's body, as the ledger confirms while the worker is stopped.

    `untouched`: only a worker that is in no task that an earlier fault has hit. Raises Missed if none is found in time.
    """
    give_up_s = time.monotonic() + _patience_s(stage, patience_s)
    while time.monotonic() < give_up_s:
        caught = stop_and_look(stage, busy_worker(stage, patience_s, untouched=untouched))
        if caught.tasks and not (untouched and caught.tasks.keys() & stage.struck()):
            return caught
        caught.worker.continue_session_members()
        stage.wait(POLL_S)
    raise Missed(f"No worker was seen inside a task within {_patience_s(stage, patience_s):.3g} s.")


def stop_and_look(stage: Stage, worker: Managed) -> Caught:
    """SIGSTOP a worker and read its open tasks: the ledger lists those of live processes only."""
    worker.stop_session_members()
    stage.ledger.poll()
    tasks = stage.ledger.open_in_session(worker.sid)
    return Caught(worker=worker, pids=tuple(worker.members()), tasks=tasks)


def kill_caught(caught: Caught) -> None:
    """SIGKILL the worker's session. Raises Missed if the worker had ended before."""
    status = caught.worker.kill_session()
    if status != -SIGKILL:
        raise Missed(f"Worker {caught.worker.sid} had ended by itself, with status {status}, before it was killed.")


def wait_for(stage: Stage, condition: Callable[[], int], patience_s: float, missed: str) -> int:
    """Wait until `condition()` is truthy, and return its value. Raises Missed, with the text `missed`, on time-out."""
    if given := waited_for(stage, condition, patience_s):
        return given
    raise Missed(missed)


def waited_for(stage: Stage, condition: Callable[[], int], patience_s: float) -> int:
    """Wait until `condition()` is truthy or the time is up, and return its last value."""
    give_up_s = time.monotonic() + patience_s
    while not (given := condition()) and time.monotonic() <= give_up_s:
        stage.wait(POLL_S)
    return given


def waiting(stage: Stage) -> frozenset[str]:
    """Return the promised tasks that have not begun, without those that misbehave: some of these never begin."""
    return stage.promised().difference(stage.ledger.begun, *stage.behaving.values())


def await_begun(stage: Stage, patience_s: float) -> None:
    """Wait until no promised task waits, or the time is up."""

    def all_begun() -> bool:
        stage.ledger.poll()
        return not waiting(stage)

    waited_for(stage, all_begun, patience_s)


def _patience_s(stage: Stage, patience_s: float) -> float:
    """Extend the patience by twice the workers' start-up time, which can exceed it on a busy machine."""
    return patience_s + 2 * stage.startup_s()


def _just_started(stage: Stage, worker: Managed) -> bool:
    """Return whether a worker has completed no task yet and has not been inside one for `LONG_INSIDE_S`."""
    return not stage.ledger.completed_since(worker.sid) and stage.ledger.longest_open_s(worker.sid) < LONG_INSIDE_S


def long_ms(recover_within_s: float) -> int:
    """Return the least length of a long body, in ms: longer than a recovery takes, by `LET_GO_S`; at most `LONG_MS`."""
    return round(min(LONG_MS, 1_000 * (recover_within_s + LET_GO_S)))


def many(count: int) -> str:
    """Return `no task`, `a task`, or `3 tasks`."""
    return f"{count} tasks" if count > 1 else "a task" if count else "no task"


def busy_worker(stage: Stage, patience_s: float, *, untouched: bool = False, long: bool = False) -> Managed:
    """Wait for a worker that is inside a task's body, as the ledger shows, and return it; a random one of several.

    For `SETTLE_S` only workers that are well under way qualify (they have completed a task, or been inside one for
    `LONG_INSIDE_S`): a worker killed at its start keeps the queue from coming back. Most calls also prefer, for that
    time, workers whose tasks no fault has hit; `untouched` requires it for good. `long`: for `LONG_SHARE` of the
    patience only workers that have just begun a long body qualify. No fault may have hit that task before, as a queue
    may set such tasks aside.

    Raises Missed if no worker is found in time, or nothing is left to do.
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
    raise Missed(f"No worker was seen inside a task within {_patience_s(stage, patience_s):.3g} s.")


class InFlight:
    """The tasks that a fault of the server can hit: all whose body runs at any time from now until `tasks()`.

    Includes bodies that ended up to `ACK_UNDER_WAY_NS` before: their acks may still be on the way.
    """

    def __init__(self, stage: Stage) -> None:
        self._ledger = stage.ledger
        self._since_t = time.monotonic_ns() - ACK_UNDER_WAY_NS

    def tasks(self) -> tuple[str, ...]:
        self._ledger.poll()
        return tuple(sorted(self._ledger.open_since(self._since_t)))


def restart_server(stage: Stage, end: Callable[[], int], status_wanted: int, down_s: float) -> Effect:
    """End the server by calling `end`, and start it again on the same data after `down_s`.

    Raises Missed if it exited with a status other than `status_wanted`, or if its run_id did not change.
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
    """Stop all workers until promised tasks wait, so that the server has something to lose. Yields the number waiting.

    The `with` body begins at `WAITING` tasks, or at latest after `HELD_BACK_S`. The workers resume when it ends.
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
    """Return how many errors of this kind, for example OOM, the server has answered so far."""
    return int(client.info("errorstats").get(f"errorstat_{kind}", {}).get("count", 0))


@contextmanager
def server_client(stage: Stage, timeout_s: float = SERVER_TIMEOUT_S) -> Iterator[Any]:
    """Open a connection for the fault's own commands. Raises Missed if the server refuses one or is unreachable."""
    client = redis.Redis.from_url(stage.server.url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s)
    try:
        yield client
    except redis.RedisError as error:
        raise Missed(f"The server refused or was away: {error}.") from None
    finally:
        client.close()
