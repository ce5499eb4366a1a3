"""The process that holds a user's `Target`: `python -m zeroloss.agent SPEC`, in the target's own environment.

Commands come in as JSON lines on standard input, answers go out as JSON lines on standard output:

    {"do": "ready"}                                 -> {"ready": true}
    {"do": "enqueue", "tasks": [[ID, TEXT, TYPE, PRIORITY, DELAY_MS], ...]}
                                                    -> {"task": ID, "outcome": "ok" | "fail" | "info", "again": null,
                                                        "error": TEXT | null}, one for each
    {"do": "census"}                                -> {"census": [[ID, PLACE, REASON, DIGEST | null], ...] | null}
    {"do": "requeue", "tasks": [ID, ...]}           -> {"requeued": true}
    {"do": "pause"}, {"do": "resume"}               -> {"paused": true}, {"resumed": true}
    {"do": "stop"}                                  exits when the running enqueues are done

Several tasks of one command are submitted in one call. A task whose client is to send it twice is enqueued twice; then
`again` is the second outcome, and `outcome` the better one. At the end of standard input the agent exits at once, so
that it does not outlive the harness. Each submission is recorded in the history before it is tried and when its outcome
is known, here and not in the harness: a promise counts from the moment this process has it. Standard library only,
beside what the target itself imports.
"""

import errno
import importlib.metadata
import itertools
import json
import os
import platform
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from .ledger import DIRECTORY_VARIABLE, SHOWN_BYTES_MAX, digest
from .target import Conflict, Found, Refused, Target, TargetError, Task, WrongAnswer, load_target

THREADS = 8
TWICE = "client-retries"
"""Prefix of the behaviours whose tasks are enqueued twice."""
REUSES = "client-reuses-key"
"""Prefix of the behaviours whose tasks are enqueued several times under one key, also with another payload."""
AT_ONCE = "client-reuses-key-at-once"
"""Behaviour, one of these, that sends all at once. In the others the first is answered `LATE_S` before the rest."""
LATE_S = 1.0
BY_THE_PLAN = "client-"
"""Prefix of the behaviours in which the client misbehaves."""
OUTCOMES = ("ok", "info", "fail")
"""Outcomes of a submission, the best first: of several submissions of a task the best outcome counts."""
SHOWN_TASKS = 200
"""Number of submissions whose payload itself is recorded, as the ledger does for the first executions."""
ERROR_CHARACTERS_MAX = 500
FULL, UNWRITTEN = errno.ENOSPC, 70
"""Exit statuses if an event could not be written: because the file system is full, or for another reason."""
NAMESPACE_VARIABLE = "ZEROLOSS_NAMESPACE"
DIRECTORY_OF_RUN_VARIABLE = "ZEROLOSS_RUN"
INTERPRETERS = frozenset({"node", "ruby"})
"""Interpreters whose versions are recorded. For a compiled program the pin of its compiler gives the version."""
VERSION_TIMEOUT_S = 10.0


class Agent:
    """Answers commands. `reply` is called from several threads, one reply at a time."""

    def __init__(self, target: Target, events: Path, reply: Callable[[dict[str, Any]], None]) -> None:
        self._target = target
        self._reply = reply
        self._fd = os.open(
            events / f"agent-{os.getpid()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        self._invoked = itertools.count(1)
        self._calls = itertools.count(1)  # next() is atomic
        self._tasks: queue.SimpleQueue[list[Task]] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._enqueue_all, daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def obey(self, command: Mapping[str, Any]) -> bool:
        """Execute one command. Return False after the last one. Errors of the target are answered, not raised."""
        verb = command["do"]
        if verb == "enqueue":
            self._tasks.put([_task(*listed) for listed in command["tasks"]])
        elif verb == "ready":
            self._answer("ready", lambda: bool(self._target.ready()))
        elif verb == "census":
            self._answer("census", self._census)
        elif verb == "requeue":
            self._answer("requeued", lambda: _done(self._target.requeue, command["tasks"]))
        elif verb == "pause":
            self._answer("paused", lambda: _done(self._target.pause))
        elif verb == "resume":
            self._answer("resumed", lambda: _done(self._target.resume))
        else:
            for _ in self._threads:
                self._tasks.put([])
            for thread in self._threads:
                thread.join()
            return False
        return True

    def _answer(self, name: str, ask: Callable[[], Any]) -> None:
        try:
            self._reply({name: ask()})
        except Exception as error:  # noqa: BLE001 - user code may raise anything
            self._reply({name: None, "error": _text(error)})

    def _census(self) -> list[list[str | None]] | None:
        census = self._target.census()
        if census is None:
            return None
        found = [Found(*item) for item in (census.items() if isinstance(census, Mapping) else census)]
        return [
            [one.task, one.place, one.reason, None if one.payload is None else digest(one.payload)] for one in found
        ]

    def _enqueue_all(self) -> None:
        while tasks := self._tasks.get():
            if len(tasks) > 1:
                self._submit_batch(tasks)
                continue
            (task,) = tasks
            again = None
            behaviour = _behaviour(task)
            if behaviour.startswith(REUSES):
                outcome, error = self._reuse_key(task), None
            else:
                outcome, error = self._submit(task)
            if behaviour.startswith(TWICE):
                again, _ = self._submit(replace(task, attempt=2))
                outcome = min(outcome, again, key=OUTCOMES.index)
            # Misbehaviour of a client that the plan requests is not an error to report.
            error = None if behaviour.startswith(BY_THE_PLAN) else error
            self._reply({"task": task.id, "outcome": outcome, "again": again, "error": error})

    def _reuse_key(self, task: Task) -> str:
        """Submit a task, then the task and another payload under its key, twice each, at once. Return the best outcome.

        The first is answered `LATE_S` before the others are sent, or is sent together with them.
        """
        same = replace(task, attempt=2)
        tasks, outcomes = [same, _changed(same)] * 2, list[str]()
        if _behaviour(task) == AT_ONCE:
            tasks.insert(0, task)
        else:
            outcomes.append(self._submit(task)[0])
            if outcomes != ["ok"]:  # it is unknown whether the key is in use
                return outcomes[0]
            time.sleep(LATE_S)
        with ThreadPoolExecutor(len(tasks)) as threads:
            outcomes += [outcome for outcome, _ in threads.map(self._submit, tasks)]
        return min(outcomes, key=OUTCOMES.index)

    def _submit(self, task: Task) -> tuple[str, str | None]:
        self._invoke(task)
        outcome = _outcome(lambda: self._target.enqueue(task))
        answer: dict[str, object] = {}
        if _behaviour(task).startswith(REUSES):
            promised = outcome.returned if isinstance(outcome.returned, str) else None
            answer = {**_digests(task), "promised": promised, "conflict": outcome.conflict or None}
        self._record(outcome.phase, task.id, error=outcome.error, wrong=outcome.wrong or None, **answer)
        return outcome.phase, outcome.error

    def _submit_batch(self, tasks: list[Task]) -> None:
        call = next(self._calls)
        for task in tasks:
            self._invoke(task, call)
        outcome = _outcome(lambda: self._target.enqueue_many(tasks))
        refused = outcome.returned or ()
        for task in tasks:
            one = "fail" if task.id in refused else outcome.phase
            self._record(one, task.id, error=outcome.error, wrong=outcome.wrong or None)
            self._reply({"task": task.id, "outcome": one, "again": None, "error": outcome.error})

    def _invoke(self, task: Task, call: int | None = None) -> None:
        asked = {"priority": task.priority or None, "delay_ms": task.delay_ms or None, "call": call}
        shown = next(self._invoked) <= SHOWN_TASKS and len(task.text) <= SHOWN_BYTES_MAX
        self._record("invoke", task.id, **_digests(task), **asked, payload=task.text if shown else None)

    def _record(self, phase: str, task: str, **members: object) -> None:
        event = {"t": time.monotonic_ns(), "pid": os.getpid(), "kind": "submit", "phase": phase, "task": task}
        event.update((name, member) for name, member in members.items() if member is not None)
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        # Evidence that is silently incomplete would be worse than a run that stops.
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            os._exit(FULL if error.errno == errno.ENOSPC else UNWRITTEN)
        if written != len(line):
            os._exit(UNWRITTEN)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of a submission. `returned`: the return value of the target's method."""

    phase: str
    error: str | None = None
    conflict: bool = False
    wrong: bool = False
    returned: Any = None


def _outcome(submit: Callable[[], Any]) -> _Outcome:
    try:
        return _Outcome("ok", returned=submit())
    except Refused as refused:
        return _Outcome("fail", _text(refused), conflict=isinstance(refused, Conflict))
    # Any other error leaves the outcome unknown. SystemExit and the like must not end this thread.
    except BaseException as unknown:  # noqa: BLE001
        return _Outcome("info", _text(unknown), wrong=isinstance(unknown, WrongAnswer))


def _done(act: Callable[..., None], *arguments: Any) -> bool:
    act(*arguments)
    return True


def _task(task: str, text: str, kind: str, priority: str, delay_ms: int) -> Task:
    return Task(task, json.loads(text), text=text, type=kind, priority=priority, delay_ms=delay_ms)


def _behaviour(task: Task) -> str:
    return str(task.payload.get("behaviour", ""))


def _digests(task: Task) -> dict[str, str]:
    return {"digest": digest(task.payload), "raw_digest": digest(task.text.encode())}


def _changed(task: Task) -> Task:
    """Return the task with another payload, in the spelling of the plan."""
    text = f'{task.text[:-1]},"changed":true}}'
    return replace(task, payload=json.loads(text), text=text)


def _text(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX]
    return text.encode("utf-8", "backslashreplace").decode()


def _versions(target: Target) -> dict[str, str]:
    required = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in target.requirements]
    versions = {"python": platform.python_version()}
    for name in dict.fromkeys([*required, "redis"]):
        try:
            versions["redis-py" if name == "redis" else name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    pinned = [one.rpartition("@") for one in target.npm] + [one.partition("=") for one in target.debian]
    return versions | _interpreters(target) | {name: version for name, _, version in pinned if version}


def _interpreters(target: Target) -> dict[str, str]:
    """Return the versions of the interpreters in the target's commands, as each reports it."""
    named = {Path(word).name for command in (target.worker, target.enqueue_command) for word in command[:3]}
    found = {}
    for name in sorted(named & INTERPRETERS):
        with suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S)
            found[name] = said.stdout.strip().partition("\n")[0].removeprefix(f"{name} ")
    return found


def main() -> None:
    """Run `python -m zeroloss.agent SPEC`. The environment names the server, the run's directory and its events."""
    # Output of the target must not be taken for an answer, so standard output becomes the log.
    answers: IO[bytes] = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    lock = threading.Lock()

    def reply(answer: dict[str, Any]) -> None:
        with lock:
            answers.write(json.dumps(answer).encode() + b"\n")

    try:
        target = load_target(sys.argv[1])(
            redis_url=os.environ["REDIS_URL"],
            namespace=os.environ[NAMESPACE_VARIABLE],
            directory=Path(os.environ[DIRECTORY_OF_RUN_VARIABLE]),
        )
    except TargetError as error:
        reply({"hello": None, "error": str(error)})
        sys.exit(2)
    agent = Agent(target, Path(os.environ[DIRECTORY_VARIABLE]), reply)
    reply({"hello": _versions(target)})
    for line in sys.stdin.buffer:
        if not agent.obey(json.loads(line)):
            break
    # Not sys.exit: an enqueue that hangs must not keep this process.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
