"""`Plan`: everything a run will do, made before it starts. The same seed and options give the same bytes."""

import dataclasses
import hashlib
import math
import random
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from chaos.behaviours import BEHAVIOURS, DOOMED
from chaos.faults import FAULTS, Fault
from chaos.servers import URL_SCHEMES
from chaos.situations import SITUATIONS, STATES

PLAN_NAME = "plan.json"
VERSION = 1

TASK_MS_MIN, TASK_MS_MAX = 5, 400
FILLER_BYTES_MAX = 2_000
BACKLOG_SHARE = 0.25
"""This part of the tasks is there at the start; the rest trickles in, so that both an idle and a busy queue are hit."""
FAULT_EVERY_S = 1.0
TASK_EVERY_S = 0.01
RUN_S_MIN = 2.0
FAULTS_FROM_S = 0.3
FAULTS_UNTIL_SHARE = 0.85
"""After that share of the run no fault is planned, so that one that comes late still finds tasks."""

BASELINES = ("none", "slow", "slow-idle")
"""Nothing is done in these, so that nothing else can be in the same run."""

Appendfsync = Literal["always", "everysec", "no", "off"]


class PlanError(Exception):
    """What was asked for makes no sense, or a plan can't be read; the text is one sentence for the user."""


class PlannedTask(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One submission, `at_s` after the start. An array in JSON, as there may be many."""

    id: str
    at_s: float
    work_ms: int
    filler_bytes: int
    behaviour: str = ""
    """How it misbehaves: one of `BEHAVIOURS`; empty: it does not."""

    def payload(self) -> dict[str, Any]:
        """What is submitted. `odd` holds what careless re-encoding changes."""
        filler = hashlib.sha256(self.id.encode()).hexdigest()
        return {
            "id": self.id,
            "work_ms": self.work_ms,
            **({"behaviour": self.behaviour} if self.behaviour else {}),
            "odd": {"whole": 9007199254740993, "fraction": 0.1, "empty": [], "text": '\u00e9\u2603\U0001f4a5 "\\/\n'},
            "filler": (filler * (self.filler_bytes // len(filler) + 1))[: self.filler_bytes],
        }


class PlannedFault(msgspec.Struct, frozen=True):
    """One injection, `at_s` after the start, or as soon as the one before it is done."""

    number: int
    fault: str
    options: dict[str, Any]
    at_s: float


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run."""

    version: int = VERSION
    seed: int
    target: str
    server: str
    """`embedded`, `container` or a Redis URL."""
    appendfsync: Appendfsync
    workers: int
    faults: list[PlannedFault]
    tasks: list[PlannedTask]
    require_durability: bool = False
    """Whether a loss that the server's durability allows is a violation all the same."""
    demand: list[str] = []
    """What the run has to meet to mean something: names of `situations`, or FAULT@STATE."""

    @property
    def misbehaving(self) -> int:
        """How many tasks misbehave in any way."""
        return sum(bool(task.behaviour) for task in self.tasks)

    @property
    def doomed(self) -> list[str]:
        """The tasks that have to be given up."""
        return [task.id for task in self.tasks if task.behaviour in DOOMED]

    def summary(self) -> dict[str, Any]:
        """What the history keeps of it: enough to judge the run."""
        return {
            "tasks": len(self.tasks),
            "workers": self.workers,
            "require_durability": self.require_durability,
            "demand": self.demand,
            "faults": [
                {"number": one.number, "fault": one.fault, "options": one.options, "at_s": one.at_s}
                for one in self.faults
            ],
            "doomed": self.doomed,
            "misbehaving": self.misbehaving,
        }

    def write(self, path: Path) -> None:
        """As JSON, one line per task and fault."""
        path.write_bytes(encode(self))


class FaultRequest(msgspec.Struct, frozen=True):
    """A fault as asked for: `name:count=3,option=x`."""

    fault: str
    count: int
    options: dict[str, Any]


def make_plan(
    *,
    seed: int,
    target: str,
    server: str,
    appendfsync: Appendfsync,
    workers: int,
    tasks: int,
    faults: list[FaultRequest],
    recover_within_s: float = 2.5,
    require_durability: bool = False,
    demand: Sequence[str] = (),
) -> Plan:
    """Draw tasks, times and faults from the seed. `recover_within_s`: what the target promises. Raises PlanError."""
    if tasks < 1:
        raise PlanError(f"--tasks has to be at least 1, not {tasks}.")
    if workers < 1:
        raise PlanError(f"--workers has to be at least 1, not {workers}.")
    if server.startswith(URL_SCHEMES) and any(request.fault.startswith("server-") for request in faults):
        raise PlanError("The server at that URL is not zeroloss's to kill: say --redis embedded or --redis container.")
    fault_count = sum(request.count for request in faults)
    run_s = max(RUN_S_MIN, fault_count * FAULT_EVERY_S, tasks * TASK_EVERY_S)
    planned = _plan_tasks(random.Random(f"tasks:{seed}"), seed, tasks, run_s)
    for request in faults:
        draw = random.Random(f"{request.fault}:{seed}")
        planned = build_fault(request.fault, request.options).arrange(planned, draw, recover_within_s)
    return Plan(
        seed=seed,
        target=target,
        server=server,
        appendfsync=appendfsync,
        workers=workers,
        faults=_plan_faults(random.Random(f"faults:{seed}"), faults, run_s),
        tasks=planned,
        require_durability=require_durability,
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
    wanted = [request for request in requests for _ in range(request.count)]
    draw.shuffle(wanted)
    wanted.sort(key=lambda request: FAULTS[request.fault].last)
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


def _plan_tasks(draw: random.Random, seed: int, count: int, run_s: float) -> list[PlannedTask]:
    backlog = math.ceil(count * BACKLOG_SHARE)
    times_s = [0.0] * backlog + sorted(round(draw.uniform(0.0, run_s), 3) for _ in range(count - backlog))
    return [
        PlannedTask(
            task_id(seed, number),
            at_s,
            round(math.exp(draw.uniform(math.log(TASK_MS_MIN), math.log(TASK_MS_MAX)))),
            int(FILLER_BYTES_MAX * draw.random() ** 3),  # mostly small, seldom large
        )
        for number, at_s in enumerate(times_s, start=1)
    ]


def task_id(seed: int, number: int) -> str:
    """Ids of one length, so that none is a part of another and a scan can look for them."""
    return f"zl-{seed:x}-{number:07d}"


def encode(plan: Plan) -> bytes:
    """The plan's JSON: readable, and a line for each task."""
    members = {name: msgspec.json.encode(getattr(plan, name)).decode() for name in plan.__struct_fields__}
    for name in ("faults", "tasks"):
        items = [msgspec.json.encode(item).decode() for item in getattr(plan, name)]
        members[name] = "[\n" + ",\n".join(items) + "\n]" if items else "[]"
    return ("{\n" + ",\n".join(f'"{name}": {text}' for name, text in members.items()) + "\n}\n").encode()


def load_plan(path: Path) -> Plan:
    """Read a plan, and check that its faults are known. Raises PlanError."""
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise PlanError(f"The plan {path} can't be read: {error.strerror}.") from None
    except msgspec.MsgspecError as error:
        raise PlanError(f"{path} is no plan: {error}.") from None
    if plan.version != VERSION:
        raise PlanError(f"{path} is a plan of version {plan.version}; this zeroloss reads version {VERSION}.")
    for planned in plan.faults:
        build_fault(planned.fault, planned.options)
    for task in plan.tasks:
        if task.behaviour and task.behaviour not in BEHAVIOURS:
            raise PlanError(f"{path}: task {task.id} has the unknown behaviour {task.behaviour!r}.")
    return plan


def parse_faults(text: str, kills: int | None) -> list[FaultRequest]:
    """Read `worker-sigkill:count=50,server-sigkill:down_s=2,count=3`.

    `kills` is the count of a worker fault that states none.

    Raises:
        PlanError: an unknown fault or option, or a value that is none.
    """
    if kills is not None and kills < 1:
        raise PlanError(f"--kills has to be at least 1, not {kills}; for none say --faults none.")
    requests: list[tuple[str, dict[str, str]]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, options = part.partition(":")
        if not options and "=" in part and requests:
            name, options = "", part  # it goes on with the options of the fault before it
        if name:
            requests.append((name, {}))
        for option in filter(None, options.split(":")):
            key, equals, value = option.partition("=")
            if not equals:
                raise PlanError(f"--faults: {option!r} is no option; write {requests[-1][0]}:name=value.")
            requests[-1][1][key.strip()] = value.strip()
    if not requests:
        raise PlanError("--faults is empty; for a run without faults say --faults none.")
    for name, _ in requests:
        if len(requests) > 1 and name in BASELINES:
            raise PlanError(f"--faults {name} stands alone: it is a baseline.")
    return [_request(name, options, kills) for name, options in requests]


def _request(name: str, texts: Mapping[str, str], kills: int | None) -> FaultRequest:
    fault = _known(name)
    options: dict[str, Any] = dict(texts)
    count = fault.count
    if "count" in options:
        text = options.pop("count")
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise PlanError(f"--faults {name}: count has to be a whole number of at least 1, not {text!r}.")
        count = int(text)
    elif kills is not None and name.startswith("worker-"):
        count = kills
    types = typing.get_type_hints(fault)
    for key, value in options.items():
        if key in {field.name for field in dataclasses.fields(fault)}:
            options[key] = _read(name, key, value, types[key])
    build_fault(name, options)
    return FaultRequest(name, count, options)


def _read(name: str, key: str, text: str, kind: Any) -> Any:
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        raise PlanError(f"--faults {name}: {key} can't be {text!r}, it has to be a {kind.__name__}.") from None


def build_fault(name: str, options: Mapping[str, Any]) -> Fault:
    """The fault itself. Raises PlanError: no such fault, or no such option."""
    fault = _known(name)
    fields = [field.name for field in dataclasses.fields(fault)]
    for key in options:
        if key not in fields:
            has = ", ".join(["count", *fields])
            raise PlanError(f"--faults {name}: it has no option {key!r}, but {has}.")
    return fault(**options)


def _known(name: str) -> type[Fault]:
    if name not in FAULTS:
        raise PlanError(f"There is no fault {name!r}; `zeroloss faults` lists them: {', '.join(FAULTS)}.")
    return FAULTS[name]
