"""`Plan`: everything a run will do, made before it starts. The same seed and options give the same bytes."""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..checker.situations import SITUATIONS, STATES
from ..faults import FAULTS, Fault
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
"""Share of the run after which no fault is planned, so that a late fault still finds tasks."""
KILLS_BEFORE = 4

_DURABILITY = re.compile(r"memory|fsync|replicas:[1-9][0-9]{0,2}", re.ASCII)


class PlannedFault(msgspec.Struct, frozen=True):
    """One injection, `at_s` after the start, or as soon as the previous fault is done."""

    number: int
    fault: str
    options: dict[str, Any]
    at_s: float


class PlannedLoad(msgspec.Struct, frozen=True):
    """Traffic from Locust in place of the plan's tasks. Locust chooses the tasks, which differ from run to run."""

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
    """Durability that a promised task must have, in the form of `ZEROLOSS_DURABILITY`; None: not stated."""
    load: PlannedLoad | None = None
    """The load that sends the tasks; None: the tasks are those of the plan."""
    plugins: list[str] = []
    """Sources of the faults and targets that are not shipped: files, or NAME==VERSION of installed packages."""
    demand: list[str] = []
    """Situations without which the run is inconclusive: names of `situations`, or FAULT@STATE."""

    @property
    def misbehaving(self) -> int:
        """Number of tasks that misbehave in any way."""
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
        """Return what the history keeps of the plan: enough to judge the run."""
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
        """Write the plan as JSON, one line per task and fault."""
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

    `stated`: the target, with what it supports. `recover_within_s`: its promised recovery time. `work_ms`: the shortest
    and the longest body; None: chosen here. A plan with a load has no tasks: Locust sends its own.
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
    held_from_s: dict[str, float] = {}  # fault that holds traffic -> time of the last task before its own
    for fault in sorted(built, key=_holding_order):
        if fault.holds_traffic and planned:
            held_from_s[fault.name] = planned[-1].at_s
        planned = fault.arrange(planned, random.Random(f"{fault.name}:{seed}"), recover_within_s)
    injections = _plan_faults(random.Random(f"faults:{seed}"), faults, run_s, held_from_s)
    if wishes.misbehave and planned:
        beside = [(one.number, one.at_s, build_fault(one.fault, one.options)) for one in injections]
        planned = suited(random.Random(f"beside:{seed}"), planned, beside, wishes, stated, recover_within_s)
    # A task on which its client or the target misbehaves, and not its body, is submitted alone.
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


def _holding_order(fault: Fault | type[Fault]) -> tuple[bool, int, str]:
    """Return a key that puts faults that hold traffic behind the others, in one order for their tasks and for them.

    Each takes the tasks of its call from those that are left: the one that needs the larger call comes first.
    """
    return (True, -fault.batch_least, fault.name) if fault.holds_traffic else (False, 0, "")


def _plan_faults(
    draw: random.Random, requests: list[FaultRequest], run_s: float, held_from_s: Mapping[str, float]
) -> list[PlannedFault]:
    wanted = [request for request in requests if not request.at_end for _ in range(request.count)]
    draw.shuffle(wanted)
    # A run with one worker fewer is slower, so a worker that stays dead is killed in the last third.
    for_good = [request for request in wanted if request.options.get("stays_dead")]
    wanted = [request for request in wanted if request not in for_good]
    for request in for_good:
        wanted.insert(draw.randint(2 * len(wanted) // 3, len(wanted)), request)
    _put_stops_behind_kills(wanted)
    wanted += [request for request in requests if request.at_end for _ in range(request.count)]
    # Faults that wait for the end of the workload come after those that hold traffic back.
    wanted.sort(key=lambda request: _order_at_the_end(FAULTS[request.fault]))
    span_s = run_s * FAULTS_UNTIL_SHARE - FAULTS_FROM_S
    # One fault at a random moment of each equal part of the time: spread over the run, and in step with nothing.
    return [
        PlannedFault(
            number,
            request.fault,
            request.options,
            held_from_s.get(request.fault, run_s)
            if FAULTS[request.fault].last
            else round(FAULTS_FROM_S + span_s * (number - 1 + draw.random()) / len(wanted), 3),
        )
        for number, request in enumerate(wanted, start=1)
    ]


def _order_at_the_end(fault: type[Fault]) -> tuple[int, tuple[bool, int, str]]:
    return fault.last * (2 - fault.holds_traffic), _holding_order(fault)


def _put_stops_behind_kills(wanted: list[FaultRequest]) -> None:
    """Move each fault that asks a worker to end behind the next `KILLS_BEFORE` kills in a row, if there are any.

    Kills are what the mix always has. Such a fault waits for the effects of others to end, except of kills, and kills
    may go on meanwhile.
    """
    for at in reversed(range(len(wanted))):
        if not FAULTS[wanted[at].fault].asks_to_end:
            continue
        rest = [*wanted[:at], *wanted[at + 1 :]]
        for place in range(at, len(rest) + 1):
            if all(FAULTS[one.fault].in_mix == "always" for one in rest[max(0, place - KILLS_BEFORE) : place]):
                wanted[:] = [*rest[:place], wanted[at], *rest[place:]]
                break


def task_id(seed: int, number: int) -> str:
    """Return a task id. All ids have one length, so that no id is part of another and a scan can search for them."""
    return f"zl-{seed:x}-{number:07d}"


def encode(plan: Plan) -> bytes:
    """Return the plan as readable JSON, with a line for each task and fault."""
    plan = msgspec.structs.replace(plan, server=without_password(plan.server))
    members = {name: msgspec.json.encode(getattr(plan, name)).decode() for name in plan.__struct_fields__}
    for name in ("faults", "tasks"):
        items = [msgspec.json.encode(item).decode() for item in getattr(plan, name)]
        members[name] = "[\n" + ",\n".join(items) + "\n]" if items else "[]"
    return ("{\n" + ",\n".join(f'"{name}": {text}' for name, text in members.items()) + "\n}\n").encode()


def repeat_command(directory: Path) -> list[str]:
    """Return the command that repeats the run in this directory."""
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
