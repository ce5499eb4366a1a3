"""The first event of a history: a summary of the plan, and the versions, server and machine of the run."""

import dataclasses
import importlib.metadata
import inspect
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..faults.behaviours import ATTEMPTS
from ..history import Recorder
from ..history.events import FORMAT
from ..history.masking import masked
from ..plan.fitting import can_requeue
from ..plan.plan import Plan
from ..system.machine import commit_of, machine, now
from ..system.servers import Server
from ..target import Retries, Target, title


def record_begin(
    recorder: Recorder,
    plan: Plan,
    target: type[Target],
    *,
    command: Sequence[str],
    repeat: Sequence[str],
    server: Server,
    agent_versions: Mapping[str, str],
    asked: str | None,
    network: Mapping[str, Any] | None = None,
) -> None:
    """Record the event `run` `begin`.

    `command`: the command that started the run. `repeat`: the command that repeats it. `asked`: the durability that a
    task must have before the target promises it. `network`: the cost of the proxy between workers and server, if any.
    """
    durability = server.durability()
    summary = plan.summary()
    hanging = sorted(plan.behaving.get("hang-once", ()))
    recorder.record(
        "run",
        "begin",
        format=FORMAT,
        seed=plan.seed,
        target=title(target),
        command=[masked(word) for word in command],
        repeat=list(repeat),
        recover_within=target.recover_within,
        plan={
            **summary,
            "recover_sooner": dict(target.recover_sooner),
            "in_order": target.in_order and plan.workers == 1,
            "fifo": target.fifo,
            "unexplained_duplicates": target.unexplained_duplicates,
            "idempotent": target.idempotent,
            "max_attempts": target.max_attempts,
            "backoff": target.backoff,
            "max_recoveries": target.max_recoveries,
            "retries": other_retries(plan, target),
            "attempts_grow": target.attempts_grow,
            "priorities": list(target.priorities),
            "lower_within": target.lower_within,
            "delays": target.delays,
            "starts_when_idle": target.starts_when_idle,
            "accepts": target.accepts,
            "drains_when_full": target.drains_when_full,
            "keeps_through": target.keeps_through,
            "grace": target.grace,
            "time_limit": target.time_limit,
            "hanging": hanging,
            "ends_its_process": [*summary["ends_its_process"], *(hanging if target.time_limit is not None else ())],
            "workers_stay": target.workers_stay,
            "recovers_in_order": target.recovers_in_order,
            "keys_at_rest": target.keys_at_rest,
            "requeues": can_requeue(target),
            "pauses_within": target.pauses_within,
        },
        versions={
            "zeroloss": own_version(),
            "python": platform.python_version(),
            "server": server.version(),
            **{f"target's {name}": version for name, version in agent_versions.items()},
        },
        server={"kind": server.kind, "version": server.version(), "sentence": server.describe()},
        durability={**dataclasses.asdict(durability), "sentence": durability.sentence, "asked": asked},
        network=network,
        date=now(),
        machine=machine(),
        commit=_commit_of(target) or None,
    )


def other_retries(plan: Plan, target: type[Target]) -> list[dict[str, Any]]:
    """Return each retry limit that differs from the general one, with its tasks."""
    limits = {task.id: target.retries_by_type[task.type] for task in plan.tasks if task.type in target.retries_by_type}
    if (after_s := target.asks_again_after) is not None and target.max_attempts is not None:
        later = Retries(target.max_attempts, ((after_s, after_s), *(target.backoff or ())[1:]))
        limits |= dict.fromkeys(plan.behaving.get("raise-later", ()), later)
    limits |= {task.id: Retries(ATTEMPTS[task.behaviour]) for task in plan.tasks if task.behaviour in ATTEMPTS}
    return [
        {**limit._asdict(), "tasks": [name for name, its in limits.items() if its == limit]}
        for limit in dict.fromkeys(limits.values())
    ]


def _commit_of(target: type[Target]) -> str:
    with suppress(TypeError, OSError):  # the class was not defined in a file
        return commit_of(Path(inspect.getfile(target)))
    return ""


def own_version() -> str:
    """Return the version of this zeroloss."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("zeroloss")
    return "not installed"
