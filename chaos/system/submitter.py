"""The harness's side of the agent: starts it, hands it tasks, and tracks which tasks were promised."""

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ..agent import FULL, THREADS
from ..history import Recorder
from ..target import Found, TargetError, Task, located
from .processes import CannotStart, Managed
from .room import full
from .warden import TOKEN_VARIABLE, warden

START_DEADLINE_S = 30.0
READY_DEADLINE_S = 30.0
CENSUS_DEADLINE_S = 60.0
READY_POLL_S = 0.05
HOPELESS_AFTER = 20
"""Number of submissions: if at least this many were answered, all with one error, the client has a bug."""


class AgentDied(Exception):
    """The agent ended during the run, or does not answer."""


class Submitter:
    """One agent. Safe across threads, except that only one thread at a time may ask for a census."""

    def __init__(
        self, spec: str, *, python: str, env: Mapping[str, str], log_path: Path, recorder: Recorder | None
    ) -> None:
        keeper = warden()
        with log_path.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    [python, "-m", "zeroloss.agent", located(spec)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**env, TOKEN_VARIABLE: keeper.token},
                    start_new_session=True,
                )
            except OSError as error:
                raise CannotStart("agent", python, (error.strerror or str(error)).lower()) from None
        keeper.watch_session(self._process.pid)
        self.managed = Managed(self._process, role="agent", log_path=log_path, recorder=recorder)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._promised: set[str] = set()
        self.handed = 0
        self.answered = 0
        self._calls: dict[int, list[str]] = {}  # number of an unanswered call -> its tasks, in order of submission
        self._call_of: dict[str, int] = {}
        self._unknown: set[str] = set()
        self.repeated = 0
        """Number of tasks whose second submission was acknowledged."""
        self.first_error: str | None = None
        """The first error that a submission raised, refusals included."""
        self._same_error = 0
        self._answered_s = time.monotonic()
        self._reader = threading.Thread(target=self._read, args=(_pipe(self._process.stdout),), daemon=True)
        self._reader.start()

    @property
    def promised(self) -> frozenset[str]:
        """The ids of the acknowledged tasks."""
        with self._lock:
            return frozenset(self._promised)

    @property
    def unknown(self) -> frozenset[str]:
        """The ids of the tasks whose submission has an unknown outcome."""
        with self._lock:
            return frozenset(self._unknown)

    def batch_under_way(self) -> int:
        """Return the number of tasks in the largest call that one of the agent's threads is executing."""
        with self._lock:
            return max((len(call) for call in islice(self._calls.values(), THREADS)), default=0)

    @property
    def promised_count(self) -> int:
        with self._lock:
            return len(self._promised)

    @property
    def hopeless(self) -> bool:
        """Whether all submissions so far raised the same error, and there were at least `HOPELESS_AFTER`."""
        with self._lock:
            return HOPELESS_AFTER <= self._same_error == self.answered

    def hangs(self) -> tuple[float, str] | None:
        """Return for how long (s) the open calls have had no answer, and their first task; None: no call is open."""
        with self._lock:
            first = next((call[0] for call in self._calls.values() if call), None)
            return (time.monotonic() - self._answered_s, first) if first else None

    def start_over(self, promised: frozenset[str]) -> None:
        """Forget all submissions: another run begins, in which these tasks are already promised."""
        with self._lock:
            self._promised = set(promised)
            self._unknown = set()
            self._calls, self._call_of = {}, {}
            self.handed = self.answered = self.repeated = 0

    def hello(self) -> dict[str, str]:
        """Return the versions of the agent's environment. Raises TargetError: the target can't be loaded there."""
        versions: dict[str, str] = self._ask(None, "hello", START_DEADLINE_S)
        return versions

    def wait_until_ready(self, check: Callable[[], None]) -> None:
        """Ask the target until it is ready; call `check` in between. Raises TargetError: it is not ready in time."""
        give_up_s = time.monotonic() + READY_DEADLINE_S
        while True:
            try:
                if self._ask({"do": "ready"}, "ready", READY_DEADLINE_S):
                    return
                last = ""
            except TargetError as error:
                last = f" Its last error: {error}"
            check()
            if time.monotonic() > give_up_s:
                raise TargetError(f"The target is not ready after {READY_DEADLINE_S:g} s.{last}")
            time.sleep(READY_POLL_S)

    def enqueue(self, *tasks: Task) -> None:
        """Hand over a task, or several for one call. The agent submits them when one of its threads is free."""
        with self._lock:
            number = self.handed
            if not self._calls:
                self._answered_s = time.monotonic()
            self.handed += len(tasks)
            self._calls[number] = [task.id for task in tasks]
            self._call_of.update((task.id, number) for task in tasks)
        listed = [[task.id, task.text, task.type, task.priority, task.delay_ms] for task in tasks]
        self._say({"do": "enqueue", "tasks": listed})

    def census(self) -> list[Found] | None:
        """Return the target's census, with digests of payloads; None: it has none. Raises TargetError: it failed."""
        found: Sequence[Sequence[Any]] | None = self._ask({"do": "census"}, "census", CENSUS_DEADLINE_S)
        return None if found is None else [Found(*item) for item in found]

    def requeue(self, tasks: Sequence[str]) -> None:
        """Have the target requeue dead letters. Raises TargetError: the outcome is unknown."""
        self._ask({"do": "requeue", "tasks": list(tasks)}, "requeued", CENSUS_DEADLINE_S)

    def pause(self) -> None:
        """Have the target pause all claiming. Raises TargetError: the outcome is unknown."""
        self._ask({"do": "pause"}, "paused", CENSUS_DEADLINE_S)

    def resume(self) -> None:
        """Have the target let claiming go on. Raises TargetError: the outcome is unknown."""
        self._ask({"do": "resume"}, "resumed", CENSUS_DEADLINE_S)

    def close(self) -> None:
        """End the agent. Tasks that it has not submitted yet are dropped."""
        # Kill first: closing its input would end it too, and would be recorded as an unwanted exit.
        self.managed.kill_session()
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        self._reader.join()
        _pipe(self._process.stdout).close()

    def _ask(self, command: Mapping[str, Any] | None, name: str, deadline_s: float) -> Any:
        if command is not None:
            self._say(command)
        try:
            answer = self._answers.get(timeout=deadline_s)
        except queue.Empty:
            raise AgentDied(f"The agent did not answer to {name} within {deadline_s:g} s.") from None
        if not answer:
            self._answers.put({})  # for the next caller
            raise self.died()
        if "error" in answer:
            raise TargetError(answer["error"])
        return answer[name]

    def _say(self, command: Mapping[str, Any]) -> None:
        try:
            with self._writing:
                pipe = _pipe(self._process.stdin)
                pipe.write(json.dumps(command).encode() + b"\n")
                pipe.flush()
        except (OSError, ValueError):  # the agent is gone, or is being closed
            raise self.died() from None

    def died(self) -> AgentDied | OSError:
        """Return the reason for the agent's end, from its exit status and its log."""
        if self.managed.poll() == FULL:
            return full(self.managed.log_path.parent)
        return AgentDied(
            f"The agent process with the target ended during the run; its last output: {self.managed.log_tail()}"
        )

    def _read(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            answer = json.loads(line)
            if "outcome" not in answer:
                self._answers.put(answer)
                continue
            with self._lock:
                self.answered += 1
                self._answered_s = time.monotonic()
                self._calls.pop(self._call_of.pop(answer["task"], -1), None)
                self.repeated += answer["again"] == "ok"
                if error := answer["error"]:
                    error = error.replace(answer["task"], "TASK")
                    self.first_error = self.first_error or error
                    self._same_error += error == self.first_error
                if answer["outcome"] == "ok":
                    self._promised.add(answer["task"])
                elif answer["outcome"] == "info":
                    self._unknown.add(answer["task"])
        self._answers.put({})


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
