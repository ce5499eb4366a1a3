"""Traffic from a real, headless Locust in place of the plan's tasks: `zeroloss run --load PROFILE`.

Like the agent, Locust's users record their submissions in the run's events. `Load` reads its counts from these.
"""

import importlib.util
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from zeroloss.loadtests.profile import ProfileError, read_profile

from ..history.tail import Growing
from ..plan.plan import PlannedLoad
from ..plan.requests import PlanError
from ..system.processes import Managed
from ..system.submitter import Submitter
from ..target import Found, Task

START_DEADLINE_S = 60.0
POLL_S = 0.05
FINISHED = (0, 1, 3)
"""Exit statuses of Locust after a complete load: success, some failed requests, a broken threshold."""
_TIME = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.ASCII)


class _Line(msgspec.Struct):
    kind: str
    phase: str
    task: str = ""


def plan_load(profile: Path, run_time: str | None) -> PlannedLoad:
    """Return the planned load. `profile`: a path, or the name of a shipped profile.

    `run_time`: in the notation of Locust, such as 90s; None: the run time of the profile. Raises PlanError.
    """
    if importlib.util.find_spec("locust") is None:
        raise PlanError("--load needs Locust: pip install 'zeroloss[load]'.")
    try:
        read = read_profile(str(profile)).path.read_text()
    except ProfileError as error:
        raise PlanError(f"--load: {error}") from None
    found = re.findall(r"^run-time\s*[=:]\s*(\S+)", read, re.MULTILINE)
    text = run_time or (found[-1] if found else "")
    match = _TIME.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    run_s = hours * 3600 + minutes * 60 + seconds
    if not run_s:  # Locust takes 0 as unlimited
        raise PlanError(f"--load {profile}: the run time must be like 90s, 5m or 1h30m, not {text!r}.")
    return PlannedLoad(str(profile), float(run_s))


def locust_command(load: PlannedLoad, *, url: str, events: Path, reports: Path) -> list[str]:
    """Return the command that runs Locust. Its options override those of the profile where the run depends on them.

    Locust writes its own reports into `reports`.
    """
    options: Mapping[str, object] = {
        "run-time": f"{load.run_s:.0f}s",
        "host": url,
        "ledger": events,
        "record": events,
        "csv": reports / "locust",
        "html": reports / "locust.html",
        "junit": reports / "slo.xml",
    }
    words = read_profile(load.profile).options()
    words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "locust", *words, "--headless", "--only-summary"]


class Load:
    """One Locust process. It is the workload of the run, and the submitter of the drain, with the agent behind it."""

    def __init__(self, start_locust: Callable[[], Managed], *, events: Path, agent: Submitter) -> None:
        self._start_locust = start_locust
        self._agent = agent
        self._files = Growing(events, "load-")
        self._decoder = msgspec.json.Decoder(_Line)
        self._process: Managed | None = None
        self._promised: set[str] = set()
        self._invoked = self._answered = 0

    def start(self) -> None:
        """Start Locust, and wait for its first submission. Raises CannotStart, TimeoutError."""
        self._process = self._start_locust()
        give_up_s = time.monotonic() + START_DEADLINE_S
        while not self._invoked and self.is_alive():
            self.poll()
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"Locust has sent nothing within {START_DEADLINE_S:g} s; {self._last_words()}")
            time.sleep(POLL_S)

    def is_alive(self) -> bool:
        """Return whether Locust runs: it submits tasks, or waits for those that were promised."""
        return self._process is not None and self._process.poll() is None

    @property
    def failure(self) -> BaseException | None:
        """The reason why the load failed; None: it succeeded, or it still runs."""
        status = None if self._process is None else self._process.poll()
        if status is None or (status in FINISHED and self._invoked):
            return None
        return RuntimeError(f"Locust ended with status {status}; {self._last_words()}")

    def close(self) -> None:
        """Kill Locust, if it still runs."""
        if self._process:
            self._process.kill_session()

    def poll(self) -> None:
        """Read the submissions and answers that were recorded since the last call."""
        for line in self._files.lines():
            event = self._decoder.decode(line)
            if event.kind != "submit":
                continue
            if event.phase == "invoke":
                self._invoked += 1
                continue
            self._answered += 1
            if event.phase == "ok":
                self._promised.add(event.task)

    @property
    def handed(self) -> int:
        return self._invoked + self._agent.handed

    @property
    def answered(self) -> int:
        # After Locust has ended no client waits for an answer: all of its submissions count as answered.
        return (self._answered if self.is_alive() else self._invoked) + self._agent.answered

    @property
    def repeated(self) -> int:
        return self._agent.repeated

    @property
    def promised(self) -> frozenset[str]:
        return self._agent.promised.union(self._promised)

    @property
    def promised_count(self) -> int:
        return len(self._promised) + self._agent.promised_count

    def enqueue(self, *tasks: Task) -> None:
        """Submit tasks through the agent: the poke."""
        self._agent.enqueue(*tasks)

    def census(self) -> list[Found] | None:
        """Return the target's own census, taken by the agent."""
        return self._agent.census()

    def _last_words(self) -> str:
        return f"its last output: {self._process.log_tail() if self._process else ''}"
