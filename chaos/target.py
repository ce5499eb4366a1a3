"""`Target`: what a user writes to have their own queue tested; twenty lines are enough.

    class MyQueue(Target):
        worker = [sys.executable, "-m", "myapp.worker"]
        recover_within = 30

        def enqueue(self, task):
            myapp.send("work", task.payload)

The worker's task body calls `zeroloss.ledger.effect(task_id, payload=payload)` around its work. Standard library only:
this file is imported inside the environment of the queue under test.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from .client import CommandClient

SHIPPED = {
    "reference": "zeroloss.targets.reference:Reference",
    "reference-in-order": "zeroloss.targets.reference:ReferenceInOrder",
    "brpop": "zeroloss.targets.brpop:Brpop",
    "shared-list": "zeroloss.targets.shared_list:SharedList",
    "huey": "zeroloss.targets.huey:Huey",
    "rq": "zeroloss.targets.rq:Rq",
    "rq-retry": "zeroloss.targets.rq_retry:RqRetry",
    "celery": "zeroloss.targets.celery:Celery",
    "celery-late": "zeroloss.targets.celery_late:CeleryLate",
    "dramatiq": "zeroloss.targets.dramatiq:Dramatiq",
    "taskiq-list": "zeroloss.targets.taskiq_list:TaskiqList",
    "taskiq-stream": "zeroloss.targets.taskiq_stream:TaskiqStream",
    "arq": "zeroloss.targets.arq:Arq",
    "bullmq": "zeroloss.targets.bullmq:BullMQ",
    "sidekiq": "zeroloss.targets.sidekiq:Sidekiq",
    "sidekiq-reliable": "zeroloss.targets.sidekiq:SidekiqReliable",
    "shared-list-go": "zeroloss.targets.shared_list_go:SharedListGo",
}
"""Name on the command line -> where its class is."""
NUMBERS = Literal["exact", "double"]
APPENDFSYNC = Literal["always", "everysec", "no", "off"]
"""The fsync policies of a server's append-only file; off: it has none."""
ENTRY_POINTS = "zeroloss.targets"
"""The group by which what is installed adds to these, as NAME = package.module:Class."""


class Refused(Exception):
    """Raised by `enqueue`: a definite no, the task is certainly not in the queue."""


class Conflict(Refused):
    """Raised by `enqueue`: a definite no, as the idempotency key belongs to another request."""


class WrongAnswer(Exception):
    """Raised by `enqueue`: what the queue answered can't be true, whatever happened to it, as an id of another task."""


class TargetError(Exception):
    """A target can't be loaded or doesn't come up; the text is one sentence for the user."""


class Retries(NamedTuple):
    """How tasks that raise are tried again, as `Target.max_attempts` and `Target.backoff` say it of all."""

    max_attempts: int
    backoff: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """What is handed to `enqueue`. `payload` is JSON; it holds `id` and `work_ms`, how long the body must take."""

    id: str
    payload: dict[str, Any]
    attempt: int = 1
    """2: it was submitted before, and must be the same task: a queue that knows idempotency keys needs the same."""
    text: str = ""
    """The payload as JSON text, spelt as the plan wants it: some in UTF-8, some with escapes. What is to be sent where
    the queue takes text."""
    type: str = ""
    """One of the target's `types`; empty: it states none."""
    priority: str = ""
    """One of the target's `priorities`; empty: it states none."""
    delay_ms: int = 0
    """The task must not begin sooner than that many ms after it was submitted; 0 unless the target states `delays`."""

    def __post_init__(self) -> None:
        if not self.text:
            object.__setattr__(self, "text", json.dumps(self.payload))


class Found(NamedTuple):
    """One task in the broker. `reason`: why it was given up, in dead_letter."""

    task: str
    place: str
    """pending, delayed, processing, dead_letter, failed, or unknown."""
    reason: str | None = None
    payload: object = None
    """As it lies there: its JSON text as bytes, which is compared byte for byte, or its value; None: not compared."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The same queue, set or served otherwise."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the target's own."""
    worker: Sequence[str] = ()
    """Words that are added to the command of a worker."""
    producer: Sequence[str] = ()
    """Likewise of the producer."""
    members: Mapping[str, Any] = field(default_factory=dict)
    """Other members of the target that are different, such as `recover_within`."""


class Target:
    """A queue under test. The harness starts its processes with `REDIS_URL` in their environment, and then `env`."""

    name: ClassVar[str] = ""
    """How reports call it; the class's name if empty."""
    worker: Sequence[str] = ()
    """The command that runs one worker; the harness starts, kills and restarts it."""
    workers: int = 3
    """How many of them, each in a session of its own."""
    recover_within: float = 30.0
    """Seconds after which this queue promises a dead worker's task again."""
    recover_sooner: Mapping[str, float] = {}
    """Fault, such as `worker-sigkill` -> seconds after which this queue promises the tasks again of a worker that it
    killed: of some deaths a queue hears sooner than of others."""
    in_order: bool = False
    """Whether a single worker runs one task at a time, first in first out; the baseline with one worker checks it."""
    fifo: bool = False
    """Whether tasks begin in the order in which they were accepted, as far as several workers can keep it: none begins
    later than `recover_within` and a second after a later one was completed. In a run with faults, fewer than a quarter
    of all are, of those whose first execution tells `effect` that it is `attempt=1`."""
    unexplained_duplicates: int | None = None
    """At most that many tasks of a run are completed more often than faults explain. More are the verdict DUPLICATES;
    None: they are only reported."""
    idempotent: bool = False
    """Whether a task that a client submits twice is one task, as with an idempotency key. Then some tasks of the
    default mix say `client-reuses-key` as their `behaviour`: they are submitted several times under a key made of their
    id, also with another payload, and the answers are checked."""
    max_attempts: int | None = None
    """How often a task's body may raise before the task is given up: neither more often nor fewer. None: not stated."""
    backoff: Sequence[tuple[float, float]] | None = None
    """Seconds, from and to, that the queue waits after a task has raised for the first time, the second and so on; the
    last holds for all further ones. A retry may come `recover_within` and a second later. None: not stated."""
    retries_by_type: Mapping[str, Retries] = {}
    """One of `types` -> how its tasks are tried again, where other limits hold for them than for the rest."""
    asks_again_after: float | None = None
    """Seconds after which a task is tried again whose body asks for it, as `raise-later` tells it to."""
    max_recoveries: int | None = None
    """A task may be given up once its worker has died more often than that, where `effect` gets its `attempt`. None:
    not stated, and only the workload's own tasks may be given up."""
    attempts_grow: bool = False
    """Whether no two executions of a task have the same `attempt`, as `effect` gets it, and a later claim has a higher
    one. A queue with fencing tokens tells `effect` the token as `attempt`: it need not go up by one."""
    priorities: Sequence[str] = ()
    """Names of priorities, the highest first. Some tasks have the first, some the last, most one in between. Of many
    that are accepted by one call those of the first priority begin sooner than the others."""
    lower_within: int | None = None
    """At most that many tasks of higher priorities begin one after the other while 20 or more of a lower one wait, so
    that none starves. Several workers, some of which die, take their turns each by itself. None: not stated."""
    delays: bool = False
    """Whether a task can be scheduled by `delay_ms`: it begins no sooner."""
    starts_when_idle: bool = False
    """Whether a task begins within `recover_within` and a second of its being accepted, or due, while a worker is
    idle."""
    accepts: bool = False
    """Whether every task is accepted while nothing disturbs the server, the producer or the way to them."""
    drains_when_full: bool = False
    """Whether, while the server's memory is full and it evicts nothing, no new task is accepted, and those that were
    accepted begin, are tried again and are recovered as at any time."""
    keeps_through: float | None = None
    """Seconds: where connections are cut for a shorter time, a worker keeps what it runs. None: not stated."""
    grace: float | None = None
    """Seconds for which a worker that is asked to end lets what it runs go on. None: not stated."""
    time_limit: float | None = None
    """Seconds after which a task has failed whose body hangs, as `hang-once` tells it to. It is tried again, whether
    its process ends for that or not. None: not stated, and such a body comes to its end by itself."""
    workers_stay: bool = False
    """Whether a process that runs tasks ends only when it is asked to, is killed, or is ended by a task's body."""
    recovers_in_order: bool = False
    """Whether what a dead worker held comes back in the order in which it was accepted. `effect` must get the
    `attempt`, and the default mix kills a worker that holds dozens of tasks of one call, where `batch_max` is 120."""
    keys_at_rest: int | None = None
    """At most that many keys without an expiry are in Redis when all tasks are done or given up. None: not stated."""
    server: str | None = None
    """The kind of server that it needs, as `--redis` takes it, and gets where none is named; None: any."""
    appendfsync: APPENDFSYNC = "always"
    """The fsync policy of the server's append-only file, where --appendfsync does not say it."""
    durability: str | None = None
    """How safe a task must be before it is promised, where neither --durability nor ZEROLOSS_DURABILITY says it."""
    mix: Sequence[str] = ()
    """Faults that it can meet, as `--faults` takes them; five of them are drawn into each default mix."""
    variants: Mapping[str, Variant] = {}
    """Name -> the same queue, set or served otherwise: a defect may show under other settings only. `--target
    NAME@VARIANT` is one, and `prove` takes turns: the target itself, then each of them."""
    payload_bytes_max: int = 131_072
    """The largest payload that the queue takes, in bytes of JSON text. The workload has some of just this size."""
    types: Sequence[str] = ()
    """Names of types of tasks; each task is of one of these. None: the target knows one kind of task only."""
    batch_max: int = 0
    """How many tasks `enqueue_many` takes in one call; 0: there is no `enqueue_many`."""
    behaviours: Collection[str] = ()
    """How its task body can be told to misbehave, by the payload's member `behaviour`; `zeroloss behaviours` lists
    them. What is named here is in every run with faults; its retries must be on."""
    raw_payloads: bool = False
    """Whether `enqueue` sends `task.text` and the body hands these very bytes to `effect`: compared byte for byte."""
    numbers: NUMBERS = "exact"
    """`double`: its language reads each number as a double, as JavaScript does, so that no payload holds a whole number
    beyond 2^53."""
    env: Mapping[str, str] = {}
    """Added to the environment of the worker, the producer and the agent."""
    producer: Sequence[str] | None = None
    """A command that runs beside the workers from start to end, such as a server that `enqueue` talks to."""
    scripts: Mapping[str, str] = {}
    """Its Lua scripts, for reports: the first eight digits of the SHA-1 of each -> what it is called."""
    python: str | None = None
    """The interpreter in which `enqueue` and `census` are called; None: of `requirements`, or the harness's own."""
    requirements: Sequence[str] = ()
    """What pip must install for it. With any, its processes and the agent run in an environment of these alone."""
    npm: Sequence[str] = ()
    """What npm must install for it, as `bullmq@6.7.0`. Node finds it by `require`, also in `createRequire`."""
    debian: Sequence[str] = ()
    """Debian's packages that it needs. What is not installed is unpacked into a folder of its own."""
    build: Sequence[str] = ()
    """A command that makes a program before the run, such as a compiler; it is run in a folder of its own, and what it
    leaves there is found by the other commands by its name alone."""
    enqueue_command: Sequence[str] = ()
    """A command that submits tasks with the queue's own client, in any language: docs/ledger.md has its protocol.
    `enqueue` uses it unless it is written again."""
    equipment: Mapping[str, str] = {}
    """Set by the harness: the environment variables by which its commands find what was installed and built."""
    settings: ClassVar[str] = "as shipped"
    """What was set, and to what it was by default; for reports."""
    promise: ClassVar[str] = ""
    """One sentence: what its project documents about a task whose worker dies."""
    promise_url: ClassVar[str] = ""
    """Where it says so."""

    def __init__(self, *, redis_url: str = "", namespace: str = "", directory: Path = Path()) -> None:
        self.redis_url = redis_url
        self.namespace = namespace
        self.directory = directory
        """The run's directory; the output of the processes is in `logs`."""

    def enqueue(self, task: Task) -> str | None:
        """Submit a task by the queue's real client. Called from several threads.

        To return is a promise; what is returned is the id that the queue has promised, or None if it has none. A target
        that is `idempotent` raises Conflict where the key belongs to a task with another payload.

        Raises Refused for a definite no, and WrongAnswer for an answer that can't be true, which is a VIOLATION; any
        other error leaves the outcome unknown. The console shows the first error at once; if the first 20 tasks all
        raise the same, the run ends.
        """
        if not self.enqueue_command:
            raise NotImplementedError("The target has neither `enqueue` nor `enqueue_command`.")
        request = {"task": task.id, "payload": task.text, "type": task.type, "attempt": task.attempt}
        asked = {"priority": task.priority, "delay_ms": task.delay_ms}
        request |= {name: wish for name, wish in asked.items() if wish}
        answer = self._command_client.ask(request)
        if answer.outcome == "ok":
            return answer.promised
        if answer.outcome == "refused":
            raise (Conflict if answer.conflict else Refused)(answer.error)
        raise ConnectionError(answer.error or "`enqueue_command` does not know its outcome")

    @cached_property
    def _command_client(self) -> CommandClient:
        return CommandClient(self.enqueue_command)

    def enqueue_many(self, tasks: Sequence[Task]) -> Collection[str] | None:
        """Submit several tasks in one call, at most `batch_max`. Returns the ids of those that were certainly refused.

        That is a promise for all others. Raises as `enqueue` does, for all of them.
        """
        raise NotImplementedError

    def census(self) -> Mapping[str, str] | Iterable[Found] | None:
        """Where each unfinished task lies in the broker: task id -> place. None: have Redis scanned for the ids."""
        return None

    def requeue(self, tasks: Sequence[str]) -> None:
        """Give these dead letters all their attempts again, by the queue's own means; one that is gone is passed over.

        To return is a promise that each runs again. With it, the default mix has dead letters requeued, if the body can
        be told to `raise-always`. An error leaves the outcome unknown, and those that are still there are tried again.
        """
        raise NotImplementedError

    def url(self) -> str | None:
        """Where its producer takes tasks over HTTP, as the reference's does; None: nowhere, and `--load` can't be."""
        return None

    def ready(self) -> bool:
        """Whether `enqueue` may begin. Asked again and again after the start."""
        return True


def title(target: type[Target]) -> str:
    """The name under which a target is reported."""
    return target.name or target.__name__


def named_targets() -> dict[str, str]:
    """Name -> where its class is: those that are shipped, and those of what is installed, which replace none."""
    return {entry.name: entry.value for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)} | SHIPPED


def located(spec: str) -> str:
    """A name as `package.module:Class`, which other interpreters know as well; anything else as it is."""
    name, at, variant = _parted(spec)
    return (SHIPPED.get(name) or (name if ":" in name else named_targets().get(name, name))) + at + variant


def _parted(spec: str) -> tuple[str, str, str]:
    """The target, "@", and its variant; the last two are empty where none is named. A path may have an @ as well."""
    name, at, variant = spec.rpartition("@")
    return (name, at, variant) if at and not set(variant) & {"/", ":"} else (spec, "", "")


def load_target(spec: str) -> type[Target]:
    """The class that `spec` names: a shipped or installed target, `package.module:Class` or `path/to/file.py:Class`.

    Behind any of them may stand @ and a variant of it.

    Raises:
        TargetError: there is no such module, file, class or variant, or it is not a Target.
    """
    spec, at, variant = _parted(spec)
    where, _, class_name = located(spec).rpartition(":")
    if not where or not class_name:
        known = ", ".join(named_targets())
        raise TargetError(
            f"{spec!r} is not a target: say one of {known}, package.module:Class or path/to/file.py:Class."
        )
    module = _load_file(spec, Path(where)) if where.endswith(".py") else _import(spec, where)
    found = getattr(module, class_name, None)
    if found is None:
        raise TargetError(f"Target {spec}: {where} has no class {class_name}.")
    if not (isinstance(found, type) and issubclass(found, Target)):
        raise TargetError(f"Target {spec}: {class_name} is not a subclass of zeroloss.target.Target.")
    for name in ("worker", "enqueue_command", "build"):
        command = getattr(found, name)
        if isinstance(command, str) or (name == "worker" and not command):
            raise TargetError(f"Target {spec}: its `{name}` must be a command, a list of words.")
    if found.numbers not in get_args(NUMBERS):
        raise TargetError(f'Target {spec}: its `numbers` must be "exact" or "double", not {found.numbers!r}.')
    found = _varied(found, spec, variant) if at else found
    if found.appendfsync not in get_args(APPENDFSYNC):
        policies = ", ".join(get_args(APPENDFSYNC))
        raise TargetError(f"Target {spec}: its `appendfsync` must be one of {policies}, not {found.appendfsync!r}.")
    return found


def _varied(found: type[Target], spec: str, name: str) -> type[Target]:
    """A variant of a target. Raises TargetError: it has none of this name."""
    if name not in found.variants:
        known = ", ".join(found.variants)
        raise TargetError(f"Target {spec} has no variant {name!r}{f', but {known}' if known else ''}.")
    variant = found.variants[name]
    members: dict[str, Any] = {
        **variant.members,
        "__module__": found.__module__,
        "name": f"{title(found)}@{name}",
        "worker": (*found.worker, *variant.worker),
        "env": {**found.env, **variant.env},
    }
    if found.producer is not None:
        members["producer"] = (*found.producer, *variant.producer)
    return type(found.__name__, (found,), members)


def _load_file(spec: str, path: Path) -> Any:
    if not path.is_file():
        raise TargetError(f"Target {spec}: there is no file {path}.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    description = importlib.util.spec_from_file_location(path.stem, path)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    sys.modules[path.stem] = module
    try:
        description.loader.exec_module(module)
    except Exception as error:
        raise TargetError(f"Target {spec} can't be imported: {_cause(error)}.") from error
    return module


def _import(spec: str, name: str) -> Any:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TargetError(f"Target {spec}: no module is named {error.name} here or on the Python path.") from None
        raise TargetError(f"Target {spec} can't be imported: {_cause(error)}.") from error
    except Exception as error:
        raise TargetError(f"Target {spec} can't be imported: {_cause(error)}.") from error


def _cause(error: Exception) -> str:
    if not isinstance(error, ModuleNotFoundError):
        return f"{type(error).__name__}: {error}"
    if (error.name or "").split(".")[0] == "chaos":  # as this package was called
        return f"there is no {error.name} any more; write: from zeroloss import Target, Refused, Found, effect"
    return str(error)
