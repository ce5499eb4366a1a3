"""Where the time of a task goes during a drain: the worker's threads, the claimer's functions, the server.

There are two drains. In the first the kernel counts the processor time of every thread, which costs nothing. In the
second cProfile times the claimer's functions, which slows them, small ones most.
"""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from ..backlog import release, stage
from ..context import Context
from ..peers import OURS
from ..queues import Queue
from ..rows import Row

FUNCTIONS = 15
CALM_S = 0.5  # the profile is written every 0.2 s


def measure(context: Context) -> list[Row]:
    return _threads(context) + _functions(context)


def _threads(context: Context) -> list[Row]:
    client = context.empty_server()
    spent = _drain(client, context, {})["spent"]
    rows = [_row(f"processor: {name}", ns / context.tasks) for name, ns in spent.most_common() if name != "profile"]
    for name, counted in sorted(client.info("commandstats").items(), key=lambda item: -item[1]["usec"]):
        ns = counted["usec"] * 1000 / context.tasks
        if ns > 10:
            each = context.tasks / counted["calls"]
            rows.append(_row(f"server: {name.removeprefix('cmdstat_')}, {each:.1f} tasks a call", ns))
    return rows


def _functions(context: Context) -> list[Row]:
    functions = _drain(context.empty_server(), context, {"BENCH_FUNCTIONS": "1"})["functions"]
    functions.sort(key=lambda function: -function[1])
    return [_row(f"claimer under cProfile: {name}", s * 1e9 / context.tasks) for name, s in functions[:FUNCTIONS]]


def _drain(client: redis.Redis, context: Context, env: dict[str, str]) -> dict[str, Any]:
    """Drain a backlog. Return the output of `apps/profiled_app.py`, and in `spent` the processor time by thread, ns."""
    stage(client, context.tasks)
    worker = tuple("profiled_app" if word == "reference_app" else word for word in OURS.worker)
    path = context.folder / "profile.json"
    path.unlink(missing_ok=True)
    command, own_env = Queue(replace(OURS, worker=worker), context).worker({"BENCH_PROFILE": str(path)} | env)
    with context.processes.running(command, own_env) as process:
        context.wait_until(lambda: client.zcard("tasks:consumers") == 1, process)
        context.wait_until(lambda: path.exists() and "claimer" in path.read_text(), process)
        client.config_resetstat()
        before = _used_ns(path, client)
        release(client, context.tasks)
        context.wait_until(lambda: OURS.left(client) == 0, process, 120)
        after = _used_ns(path, client)
        time.sleep(CALM_S)
        profile: dict[str, Any] = json.loads(path.read_text())
        return profile | {"spent": after - before}


def _used_ns(path: Path, client: redis.Redis) -> Counter[str]:
    """Return the processor time of each thread of the worker, and of the server, ns; handler threads count as one."""
    profile, used = json.loads(path.read_text()), Counter[str]()
    for native_id, name in profile["threads"].items():
        schedule = Path(f"/proc/{profile['pid']}/task/{native_id}/schedstat").read_text()
        used[name.split("-")[0]] += int(schedule.split()[0])
    cpu = client.info("cpu")
    used["server"] = int((cpu["used_cpu_user"] + cpu["used_cpu_sys"]) * 1e9)
    return used


def _row(label: str, ns: float) -> Row:
    return Row(label=label, unit="us a task", values=(ns / 1000,))
