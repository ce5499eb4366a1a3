"""A history of a very long run, with tens of thousands of faults, is judged in seconds."""

from pathlib import Path
from typing import Any

import msgspec
from zeroloss.checker.judge import judge
from zeroloss.history import load

FAULTS = 33_334
EVERY_MS = 1_000
STRUCK_EVERY = 15
MS = 1_000_000


def a_long_run() -> list[dict[str, Any]]:
    """Return a run in which a worker is killed each second, inside a task or just after one: both run again.

    Each tenth fault is a server fault, and one of the tasks has failed before it.
    """
    events: list[dict[str, Any]] = []

    def add(at_ms: int, kind: str, phase: str, pid: int = 1, **members: Any) -> None:
        events.append({"t": at_ms * MS, "pid": pid, "kind": kind, "phase": phase, **members})

    def ran(task: str, at_ms: int, pid: int, phase: str = "end") -> None:
        execution = f"{pid}-{at_ms}"
        add(at_ms, "effect", "begin", pid, task=task, execution=execution)
        if phase:
            add(at_ms + 50, "effect", phase, pid, task=task, execution=execution)

    promises = {"idempotent": True, "unexplained_duplicates": 0, "max_attempts": 3, "backoff": [[0.1, 0.2]]}
    add(0, "run", "begin", recover_within=2.5, target="mine", plan={"tasks": 0, "faults": [], **promises})
    for number in range(1, FAULTS + 1):
        at_ms, pid, server = number * EVERY_MS, 1_000 + number, number % 10 == 0
        struck = number % STRUCK_EVERY == 0
        for task in (f"a{number}", f"b{number}") if struck else ():
            add(at_ms, "submit", "invoke", task=task)
            add(at_ms + 1, "submit", "ok", task=task)
            ran(task, at_ms + 100, pid, "end" if task.startswith("a") else "error" if server else "")
        name, aims_at = ("server-sigkill", "server") if server else ("worker-sigkill", "worker")
        fault = {"fault": name, "number": number, "pids": [] if server else [pid]}
        traits = {"aims_at": aims_at, "everywhere": server, "ends_server": "killed" if server else "no"}
        add(at_ms + 300, "fault", "begin", **fault, traits=traits)
        add(at_ms + 310, "fault", "effective", **fault, evidence="It ended.")
        add(at_ms + 310, "process", "exit", pid, role="server" if server else "worker", sid=pid, wanted=True, status=-9)
        add(at_ms + 320, "fault", "end", **fault)
        for task in (f"a{number}", f"b{number}") if struck else ():
            ran(task, at_ms + 650, pid + 1)
    end_ms = (FAULTS + 2) * EVERY_MS
    for phase in ("healed", "drained"):
        add(end_ms, "run", phase)
    add(end_ms, "census", "done", source="target", after="end", count=0)
    add(end_ms, "run", "end")
    return events


def test_a_history_of_100_000_events_of_faults_is_judged_in_seconds(tmp_path: Path) -> None:
    encoder = msgspec.json.Encoder()
    (tmp_path / "history.jsonl").write_bytes(b"".join(encoder.encode(event) + b"\n" for event in a_long_run()))
    result = judge(load(tmp_path))
    assert result.because.startswith("4,444 promised tasks completed and none was lost"), result.because
    assert (result.kills.planned, result.kills.mid_task) == (30_001, 1_111)
    assert all(duplicate.explained for duplicate in result.duplicates)
