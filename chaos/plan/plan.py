"""`Plan`: everything a run will do, made before it starts. The same seed and options give the same bytes."""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..checker.situations import SITUATIONS, STATES
from ..faults import FAULTS
from ..faults.behaviours import ABANDONED, BEHAVIOURS, DOOMED, ENDS_ITS_PROCESS, IN_BODY
from ..faults.planned import PlannedTask
from ..history.masking import without_password
from ..plugins import PluginError, load_named
from ..target import APPENDFSYNC, Target
from .beside import suited
from .fitting import check_durability, check_load, check_server, check_target
from .requests import FaultRequest, PlanError, build_fault
from .variety import Wishes, draw_tasks

PLAN_NAME = "plan.json"
VERSION = 2

FAULT_EVERY_S = 1.0
TASK_EVERY_S = 0.01
RUN_S_MIN = 2.0
FAULTS_FROM_S = 0.3
FAULTS_UNTIL_SHARE = 0.85
"""After that share of the run no fault is planned, so that one that comes late still finds tasks."""

_DURABILITY = re.compile(r"memory|fsync|replicas:[1-9][0-9]{0,2}", re.ASCII)


class PlannedFault(msgspec.Struct, frozen=True):
    """One injection, `at_s` after the start, or as soon as the one before it is done."""

    number: int
    fault: str
    options: dict[str, Any]
    at_s: float


class PlannedLoad(msgspec.Struct, frozen=True):
    """Traffic from Locust in place of the plan's tasks. What it sends is its own affair, and not the same each time."""

    profile: str
    """A file that `locust --config` reads."""
    run_s: float


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run."""

    version: int = VERSION
    seed: int
    target: str
    server: str
    """`embedded`, `sentinel`, `container` or a Redis URL, which is written without its password."""
    appendfsync: APPENDFSYNC
    workers: int
    faults: list[PlannedFault]
    tasks: list[PlannedTask]
    require_durability: bool = False
    """Whether a loss that the server's durability allows is a violation all the same."""
    durability: str | None = None
    """How safe a task must be before the target promises it, as `ZEROLOSS_DURABILITY` says; None: not stated."""
    load: PlannedLoad | None = None
    """What sends the tasks; None: they are the plan's."""
    plugins: list[str] = []
    """Where faults and targets come from that are not shipped: files, or NAME==VERSION of what is installed."""
    demand: list[str] = []
    """What the run must meet to mean something: names of `situations`, or FAULT@STATE."""

    @property
    def misbehaving(self) -> int:
        """How many tasks misbehave in any way."""
        return sum(bool(task.behaviour) for task in self.tasks)

    @property
    def behaving(self) -> dict[str, frozenset[str]]:
        """Way to misbehave -> the tasks that do so."""
        ways = {task.behaviour for task in self.tasks if task.behaviour}
        return {way: frozenset(task.id for task in self.tasks if task.behaviour == way) for way in ways}

    @property
    def doomed(self) -> list[str]:
        """The tasks that must be given up."""
        return [task.id for task in self.tasks if task.behaviour in DOOMED]

    def summary(self) -> dict[str, Any]:
        """What the history keeps of it: enough to judge the run."""
        return {
            "tasks": len(self.tasks),
            "workers": self.workers,
            "require_durability": self.require_durability,
            "demand": self.demand,
            "load": self.load.profile if self.load else None,
            "faults": [
                {
                    "number": one.number,
                    "fault": one.fault,
                    "options": one.options,
                    "at_s": one.at_s,
                    "traits": msgspec.to_builtins(build_fault(one.fault, one.options).traits()),
                }
                for one in self.faults
            ],
            "doomed": self.doomed,
            "abandoned": [task.id for task in self.tasks if task.behaviour in ABANDONED],
            "misbehaving": self.misbehaving,
            "ends_its_process": [task.id for task in self.tasks if task.behaviour in ENDS_ITS_PROCESS],
        }

    def write(self, path: Path) -> None:
        """As JSON, one line per task and fault."""
        path.write_bytes(encode(self))


def make_plan(
    *,
    seed: int,
    target: str,
    server: str,
    appendfsync: APPENDFSYNC,
    workers: int,
    tasks: int,
    faults: list[FaultRequest],
    stated: type[Target] = Target,
    recover_within_s: float = 2.5,
    work_ms: tuple[int, int] | None = None,
    require_durability: bool = False,
    durability: str | None = None,
    demand: Sequence[str] = (),
    load: PlannedLoad | None = None,
    plugins: Sequence[str] = (),
) -> Plan:
    """Draw tasks, times and faults from the seed. Raises PlanError.

    `stated`: what the target supports. `recover_within_s`: what it promises. `work_ms`: the shortest and the longest
    body; None: as drawn. With a load there are no tasks: it sends its own.
    """
    built = [build_fault(request.fault, request.options) for request in faults]
    if load:
        check_load(built)
    if tasks < 1:
        raise PlanError(f"--tasks must be at least 1, not {tasks}.")
    if workers < 1:
        raise PlanError(f"--workers must be at least 1, not {workers}.")
    check_server(server, built)
    check_target(stated, built)
    if durability is not None and not _DURABILITY.fullmatch(durability):
        raise PlanError(f"--durability must be memory, fsync or replicas:N, not {durability!r}.")
    check_durability(durability, server)
    fault_count = sum(request.count for request in faults)
    run_s = load.run_s if load else max(RUN_S_MIN, fault_count * FAULT_EVERY_S, tasks * TASK_EVERY_S)
    wishes = Wishes(
        count=tasks,
        run_s=run_s,
        work_ms=work_ms,
        misbehave=not any(fault.baseline for fault in built),
    )
    ids = [task_id(seed, number) for number in range(1, tasks + 1)]
    planned = [] if load else draw_tasks(random.Random(f"tasks:{seed}"), ids, wishes, stated)
    for fault in built:
        planned = fault.arrange(planned, random.Random(f"{fault.name}:{seed}"), recover_within_s)
    injections = _plan_faults(random.Random(f"faults:{seed}"), faults, run_s)
    if wishes.misbehave and planned:
        beside = [(one.number, one.at_s, build_fault(one.fault, one.options)) for one in injections]
        planned = suited(random.Random(f"beside:{seed}"), planned, beside, wishes, stated, recover_within_s)
    # What its client or the target does with it, and not its body, is done to a task that is alone.
    planned = [msgspec.structs.replace(task, batch=task.batch * (task.behaviour in IN_BODY)) for task in planned]
    return Plan(
        seed=seed,
        target=target,
        server=server,
        appendfsync=appendfsync,
        workers=workers,
        faults=injections,
        tasks=planned,
        require_durability=require_durability,
        durability=durability,
        load=load,
        plugins=sorted({*plugins, *(FAULTS.origins[fault.name] for fault in built if fault.name in FAULTS.origins)}),
        demand=_known_demands(demand),
    )


def _known_demands(demands: Sequence[str]) -> list[str]:
    for demand in demands:
        fault, at, state = demand.partition("@")
        if not (demand in SITUATIONS or (at and fault in FAULTS and state in STATES)):
            raise PlanError(
                f"--demand: there is no situation {demand!r}, but {', '.join(SITUATIONS)}, "
                f"and FAULT@STATE with a state of {', '.join(STATES)}."
            )
    return list(demands)


def _plan_faults(draw: random.Random, requests: list[FaultRequest], run_s: float) -> list[PlannedFault]:
    wanted = [request for request in requests if not request.at_end for _ in range(request.count)]
    draw.shuffle(wanted)
    # With a worker fewer all goes slower: one that stays dead is killed in the last third.
    for_good = [request for request in wanted if request.options.get("stays_dead")]
    wanted = [request for request in wanted if request not in for_good]
    for request in for_good:
        wanted.insert(draw.randint(2 * len(wanted) // 3, len(wanted)), request)
    wanted += [request for request in requests if request.at_end for _ in range(request.count)]
    # What waits for the end of the workload waits until no other one holds traffic back.
    wanted.sort(key=lambda request: FAULTS[request.fault].last * (2 - FAULTS[request.fault].holds_traffic))
    span_s = run_s * FAULTS_UNTIL_SHARE - FAULTS_FROM_S
    # One in each equal share of the time, anywhere in it: spread over the run, and not in step with anything.
    return [
        PlannedFault(
            number,
            request.fault,
            request.options,
            run_s
            if FAULTS[request.fault].last
            else round(FAULTS_FROM_S + span_s * (number - 1 + draw.random()) / len(wanted), 3),
        )
        for number, request in enumerate(wanted, start=1)
    ]


def task_id(seed: int, number: int) -> str:
    """Ids of one length, so that none is a part of another and a scan can look for them."""
    return f"zl-{seed:x}-{number:07d}"


def encode(plan: Plan) -> bytes:
    """The plan's JSON: readable, and a line for each task."""
    plan = msgspec.structs.replace(plan, server=without_password(plan.server))
    members = {name: msgspec.json.encode(getattr(plan, name)).decode() for name in plan.__struct_fields__}
    for name in ("faults", "tasks"):
        items = [msgspec.json.encode(item).decode() for item in getattr(plan, name)]
        members[name] = "[\n" + ",\n".join(items) + "\n]" if items else "[]"
    return ("{\n" + ",\n".join(f'"{name}": {text}' for name, text in members.items()) + "\n}\n").encode()


def repeat_command(directory: Path) -> list[str]:
    """What repeats the run in this directory."""
    return ["zeroloss", "replay", str(directory / PLAN_NAME)]


def load_plan(path: Path) -> Plan:
    """Read a plan, load the plug-ins that it names, and check that its faults are known. Raises PlanError."""
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise PlanError(f"The plan {path} can't be read: {error.strerror}.") from None
    except msgspec.MsgspecError as error:
        raise PlanError(f"{path} is not a plan: {error}.") from None
    if plan.version != VERSION:
        raise PlanError(f"{path} is a plan of version {plan.version}; this zeroloss reads version {VERSION}.")
    try:
        load_named(plan.plugins)
    except PluginError as error:
        raise PlanError(f"{path} names a plug-in. {error}") from None
    for planned in plan.faults:
        build_fault(planned.fault, planned.options)
    for task in plan.tasks:
        if task.behaviour and task.behaviour not in BEHAVIOURS:
            raise PlanError(f"{path}: task {task.id} has the unknown behaviour {task.behaviour!r}.")
    return plan
