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
"""Entry point group by which installed packages add targets, as NAME = package.module:Class."""


class Refused(Exception):
    """Raised by `enqueue`: a definite no. The task is certainly not in the queue."""


class Conflict(Refused):
    """Raised by `enqueue`: a definite no, as the idempotency key belongs to another request."""


class WrongAnswer(Exception):
    """Raised by `enqueue`: an answer of the queue that no fault can explain, such as the id of another task."""


class TargetError(Exception):
    """A target can't be loaded or doesn't come up; the text is one sentence for the user."""


class Retries(NamedTuple):
    """Retry limits of some tasks, in place of `Target.max_attempts` and `Target.backoff`."""

    max_attempts: int
    backoff: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A task as passed to `enqueue`. `payload` is JSON; it holds `id` and `work_ms`, the length of the body in ms."""

    id: str
    payload: dict[str, Any]
    attempt: int = 1
    """2: the task was submitted before, and must stay one task: a queue with idempotency keys needs the same key."""
    text: str = ""
    """The payload as JSON text, in the spelling of the plan: some in UTF-8, some with escapes. Send this if the queue
    takes text."""
    type: str = ""
    """One of the target's `types`; empty: it states none."""
    priority: str = ""
    """One of the target's `priorities`; empty: it states none."""
    delay_ms: int = 0
    """Least time, in ms, from submission to the start of the task; 0 unless the target states `delays`."""

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
    """The stored payload: its JSON text as bytes, compared byte for byte, or its value; None: not compared."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The same queue with other settings or commands."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the target's own."""
    worker: Sequence[str] = ()
    """Words that are added to the command of a worker."""
    producer: Sequence[str] = ()
    """Words that are added to the command of the producer."""
    members: Mapping[str, Any] = field(default_factory=dict)
    """Other members of the target with new values, such as `recover_within`."""


class Target:
    """A queue under test. The harness starts its processes with `REDIS_URL` in their environment, and then `env`."""

    name: ClassVar[str] = ""
    """Name in reports; the class's name if empty."""
    worker: Sequence[str] = ()
    """The command that runs one worker; the harness starts, kills and restarts it."""
    workers: int = 3
    """Number of workers, each in a session of its own."""
    recover_within: float = 30.0
    """Seconds within which a dead worker's task can be claimed again, as this queue promises."""
    recover_sooner: Mapping[str, float] = {}
    """Fault, such as `worker-sigkill` -> seconds in place of `recover_within` for the workers that it killed: a queue
    may detect some deaths sooner than others."""
    in_order: bool = False
    """Whether a single worker runs one task at a time, first in first out; the baseline with one worker checks it."""
    fifo: bool = False
    """Whether tasks begin in the order in which they were accepted, within what several workers can keep: a task is
    late if it begins more than `recover_within` plus a second after a later one was completed. In a run with faults
    fewer than a quarter may be late; only a first execution that passes `attempt=1` to `effect` counts as late."""
    unexplained_duplicates: int | None = None
    """Limit on the tasks completed more often than faults explain. More make the verdict DUPLICATES; None: they are
    only reported."""
    idempotent: bool = False
    """Whether a task that a client submits twice is one task, as with an idempotency key. Then some tasks of the
    default mix have the `behaviour` `client-reuses-key`: they are submitted several times under a key made of their id,
    also with another payload, and the answers are checked."""
    max_attempts: int | None = None
    """Exact number of times that a task's body raises before the task is given up. None: not stated."""
    backoff: Sequence[tuple[float, float]] | None = None
    """Shortest and longest wait, in seconds, before the first retry, the second and so on; the last pair holds for all
    further ones. A retry may begin up to `recover_within` plus a second later. None: not stated."""
    retries_by_type: Mapping[str, Retries] = {}
    """One of `types` -> the retry limits of its tasks, if they differ from those of the rest."""
    asks_again_after: float | None = None
    """Delay, in seconds, that a body requests for its retry under the behaviour `raise-later`."""
    max_recoveries: int | None = None
    """Number of worker deaths that a task must survive: after more it may be given up. `effect` must get the `attempt`.
    None: not stated, and only tasks that the workload makes fail may be given up."""
    attempts_grow: bool = False
    """Whether each claim of a task has a higher `attempt` than the one before, and each execution an `attempt` of its
    own, as passed to `effect`. A queue with fencing tokens passes the token, which need not grow by one."""
    priorities: Sequence[str] = ()
    """Names of priorities, the highest first. Some tasks have the first, some the last, most one in between. Of many
    tasks accepted by one call, those of the first priority begin sooner than the others."""
    lower_within: int | None = None
    """Limit on the tasks of other priorities that begin in a row while 20 or more of one wait, so that no priority
    starves. Allow for several workers that take turns independently, and may die. None: not stated."""
    delays: bool = False
    """Whether a task can be scheduled by `delay_ms`, and then begins no sooner."""
    starts_when_idle: bool = False
    """Whether, while a worker is idle, a task begins within `recover_within` plus a second after it was accepted or,
    if scheduled, due."""
    accepts: bool = False
    """Whether every task is accepted while nothing disturbs the server, the producer or the way to them."""
    drains_when_full: bool = False
    """Whether, while the server's memory is full and it evicts nothing, no new task is accepted, and accepted tasks
    begin, are retried and are recovered as at any time."""
    keeps_through: float | None = None
    """Length of a connection loss, in seconds, below which a worker keeps its running tasks, and acks them when they
    are done. None: not stated."""
    grace: float | None = None
    """Seconds for which a worker that is asked to stop lets its running tasks go on. None: not stated."""
    time_limit: float | None = None
    """Seconds after which a task with a hanging body (behaviour `hang-once`) has failed. It is then retried, whether or
    not its process is ended. None: not stated, and such a body ends by itself."""
    workers_stay: bool = False
    """Whether a process that runs tasks ends only when it is asked to, is killed, or is ended by a task's body."""
    recovers_in_order: bool = False
    """Whether the tasks that an ended worker held come back in the order of their acceptance. `effect` must get the
    `attempt`. With a `batch_max` of at least 120 the default mix ends workers that hold dozens of tasks of one call."""
    pauses_within: float | None = None
    """Seconds after `pause()` within which workers begin no more tasks, until `resume()`. The default mix then pauses
    claiming, and lets tasks of all priorities come meanwhile. None: not stated."""
    keys_at_rest: int | None = None
    """Limit on the keys without an expiry in Redis when all tasks are done or given up. None: not stated."""
    server: str | None = None
    """Kind of server that the target needs, as `--redis` takes it, and the default for `--redis`; None: any."""
    appendfsync: APPENDFSYNC = "always"
    """Default fsync policy of the server's append-only file; --appendfsync overrides it."""
    durability: str | None = None
    """Default durability that a promised task must have; --durability and ZEROLOSS_DURABILITY override it."""
    mix: Sequence[str] = ()
    """Faults for this target, as `--faults` takes them; up to five of them are drawn into each default mix."""
    variants: Mapping[str, Variant] = {}
    """Name -> variant of this queue: some defects appear only under other settings. `--target NAME@VARIANT` selects
    one; `prove` takes turns: the target itself, then each variant."""
    payload_bytes_max: int = 131_072
    """The largest payload that the queue takes, in bytes of JSON text. The workload includes this very size."""
    types: Sequence[str] = ()
    """Names of task types; each task has one of them. Empty: the target has one kind of task only."""
    batch_max: int = 0
    """Largest number of tasks in one call of `enqueue_many`; 0: there is no `enqueue_many`."""
    behaviours: Collection[str] = ()
    """Ways to misbehave that the target supports, selected by the payload's member `behaviour`; `zeroloss behaviours`
    lists them. Those named here are part of each run with faults; the queue's retries must be on."""
    raw_payloads: bool = False
    """Whether `enqueue` sends `task.text` and the body passes the same bytes to `effect`: compared byte for byte."""
    numbers: NUMBERS = "exact"
    """`double`: its language reads each number as a double, as JavaScript does, so that no payload holds a whole number
    beyond 2^53."""
    env: Mapping[str, str] = {}
    """Added to the environment of the worker, the producer and the agent."""
    producer: Sequence[str] | None = None
    """A command that runs beside the workers from start to end, such as a server that `enqueue` talks to."""
    scripts: Mapping[str, str] = {}
    """Lua scripts, for reports: the first eight digits of the SHA-1 -> name."""
    python: str | None = None
    """Interpreter that calls `enqueue` and `census`; None: the one with the `requirements`, or the harness's own."""
    requirements: Sequence[str] = ()
    """Packages for pip. With any, the target's processes and the agent run in an environment of these alone."""
    npm: Sequence[str] = ()
    """Packages for npm to install, such as `bullmq@6.7.0`. Node finds them by `require`, also by `createRequire`."""
    debian: Sequence[str] = ()
    """Debian packages that the target needs. Missing ones are unpacked into a folder of their own."""
    build: Sequence[str] = ()
    """Command that builds a program before the run, such as a compiler. It runs in a folder of its own, and the other
    commands find its output there by name alone."""
    enqueue_command: Sequence[str] = ()
    """Command that submits tasks with the queue's own client, in any language: docs/ledger.md has its protocol.
    `enqueue` uses it unless the target overrides `enqueue`."""
    equipment: Mapping[str, str] = {}
    """Set by the harness: environment variables by which the commands find what was installed and built."""
    settings: ClassVar[str] = "as shipped"
    """Changed settings, with their defaults; for reports."""
    promise: ClassVar[str] = ""
    """One sentence: what its project documents about a task whose worker dies."""
    promise_url: ClassVar[str] = ""
    """Page with the `promise`."""

    def __init__(self, *, redis_url: str = "", namespace: str = "", directory: Path = Path()) -> None:
        self.redis_url = redis_url
        self.namespace = namespace
        self.directory = directory
        """The run's directory; the output of the processes is in `logs`."""

    def enqueue(self, task: Task) -> str | None:
        """Submit a task by the queue's real client. Called from several threads.

        A return is a promise. Return the id that the queue has promised, or None if it returns no id. A target that is
        `idempotent` raises Conflict if the key belongs to a task with another payload.

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
        """Submit several tasks in one call, at most `batch_max`. Return the ids of those that were certainly refused.

        A return is a promise for all others. An error, as in `enqueue`, is for all of them.
        """
        raise NotImplementedError

    def census(self) -> Mapping[str, str] | Iterable[Found] | None:
        """Return task id -> place in the broker for each unfinished task. None: the harness scans Redis for ids."""
        return None

    def requeue(self, tasks: Sequence[str]) -> None:
        """Give these dead letters all their attempts again, by the queue's own means; skip those that are gone.

        A return is a promise that each runs again. An error leaves the outcome unknown, and the letters that are still
        there are requeued again. If a target has this method and the behaviour `raise-always`, the default mix uses it.
        """
        raise NotImplementedError

    def pause(self) -> None:
        """Pause all claiming, by the queue's own means. A return is a promise for `pauses_within` seconds later."""
        raise NotImplementedError

    def resume(self) -> None:
        """Let claiming go on. Called again if it raises, and also if nothing is paused."""
        raise NotImplementedError

    def url(self) -> str | None:
        """Return the URL where the producer takes tasks over HTTP, as that of the reference does; None: no `--load`."""
        return None

    def ready(self) -> bool:
        """Return whether `enqueue` may be called. Polled after the start until it is True."""
        return True


def title(target: type[Target]) -> str:
    """Return the name under which a target is reported."""
    return target.name or target.__name__


def named_targets() -> dict[str, str]:
    """Return name -> location of the class for shipped and installed targets. The latter can't replace the former."""
    return {entry.name: entry.value for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)} | SHIPPED


def located(spec: str) -> str:
    """Return a target's name as `package.module:Class`, which other interpreters can load; anything else unchanged."""
    name, at, variant = _parted(spec)
    return (SHIPPED.get(name) or (name if ":" in name else named_targets().get(name, name))) + at + variant


def _parted(spec: str) -> tuple[str, str, str]:
    """Split into the target, "@" and the variant; without a variant the last two are empty. A path may contain an @."""
    name, at, variant = spec.rpartition("@")
    return (name, at, variant) if at and not set(variant) & {"/", ":"} else (spec, "", "")


def load_target(spec: str) -> type[Target]:
    """Load the class of a shipped or installed target, of `package.module:Class` or of `path/to/file.py:Class`.

    Each of these may be followed by @ and the name of a variant.

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
    """Return a variant of a target. Raises TargetError if the target has no variant of this name."""
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
    if (error.name or "").split(".")[0] == "chaos":  # the former name of this package
        return f"there is no {error.name} any more; write: from zeroloss import Target, Refused, Found, effect"
    return str(error)
