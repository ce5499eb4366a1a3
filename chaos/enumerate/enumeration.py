"""`zeroloss enumerate`: kill a worker at every command that it sends, before, during and after it.

Record the fixed workload a few times -> keep the points that recur -> crash at each point in each phase -> with
`pairs`, also kill the recovering worker at each of its own points.
"""

import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from ..checker.verdicts import Verdict
from ..system.network import ProxyCost, measure
from ..system.proxy import ANY_ROLE
from ..system.servers import Server
from ..target import Target, TargetError, title
from .case import CaseRun, Stopped
from .pairs import first_crash, plan_pairs, worth_a_pair
from .plan import Crash, count_points, matches, plan_crashes
from .reports import write_reports
from .scenario import COLLEAGUE, OPTIONAL_STEPS, STOP, Case, Outcome, Prepared
from .slot import Slot
from .table import Report, Row, RowFile, row_of, unreachable_of, verdict_of

RECORDINGS = 3
POINTS_NAME = "points.json"
PAIRS_NAME = "pairs.json"
ATTEMPTS = 6
"""Maximum number of attempts to reach a point."""
DATABASES = 16
"""Number of databases of a server by default. Each slot has its own."""
BROKEN = frozenset({Verdict.VIOLATION, Verdict.LIVENESS, Verdict.DUPLICATES, Verdict.LEAK})
STEP_TITLES = {COLLEAGUE: "another worker killed in the middle of a task", STOP: "an orderly stop by SIGTERM"}

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Request:
    """The request. `directory` is new, or holds the rows of an enumeration to resume."""

    spec: str
    target: type[Target]
    server: Server
    directory: Path
    jobs: int
    pattern: str | None
    pairs: bool


class FailedUnharmed(Exception):
    """The target broke a promise without any kill, so a crash would show nothing more. `row`: its case."""

    def __init__(self, row: Row) -> None:
        super().__init__(row.because)
        self.row = row


class Recorded(msgspec.Struct, frozen=True):
    """The results of the recordings, kept so that a resumed enumeration has the same points."""

    steps: list[str]
    crashes: list[Crash]
    left_out: list[Row]


class Enumeration:
    """One enumeration. `run()` returns its report; `say` gets status lines, `tick` the progress."""

    def __init__(self, request: Request, say: Callable[[str], None], tick: Callable[[int, int], None]) -> None:
        self._request, self._say, self._tick = request, say, tick
        self._cases = request.directory / "cases"
        self._rows = RowFile(request.directory)
        self._known = {tuple(row.crashes): row for row in self._rows.read() if row.crashes}
        self._slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._found: list[Row] = []
        self._steps: tuple[str, ...] = ()
        self._prepared: Prepared | None = None
        self._planned: list[tuple[str, ...]] = []

    def run(self) -> Report:
        """Enumerate. Raises TargetError: the target fails the workload even without a kill; and errors of the start."""
        begun_s = time.monotonic()
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self._request.jobs))
            first = self._open_slot(stack, 0)
            cost = measure(first.url, first.proxy)
            others = pool.submit(lambda: [self._open_slot(stack, number) for number in range(1, self._request.jobs)])
            try:
                recorded = self._record(first, pool, others.result)
            except FailedUnharmed as failure:
                self._found.append(failure.row)
                self._say("The target fails without any kill, so the crash points are not tried.")
            else:
                self._steps = tuple(recorded.steps)
                self._found += recorded.left_out
                for row in recorded.left_out:
                    self._say(f"Left out, as the target fails there without a kill: {row.step}: {row.because}")
                crashes = [crash for crash in recorded.crashes if matches(crash, self._request.pattern)]
                if not crashes:
                    raise TargetError(f"No crash point matches --points {self._request.pattern!r}: widen the pattern.")
                self._say(f"{len(crashes)} crashes at {len({crash.point for crash in crashes})} points.")
                singles = self._run_all(pool, [(crash,) for crash in crashes])
                if self._request.pairs:
                    pairs = self._plan_pairs(pool, singles)
                    self._say(f"{len(pairs)} pairs.")
                    self._run_all(pool, pairs)
            finally:
                # The slots may be closed only when no case uses them any more.
                self._stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)
        return self._report(time.monotonic() - begun_s, first.versions, cost)

    # -- recordings ------------------------------------------------------------------------------------------------

    def _open_slot(self, stack: ExitStack, number: int) -> Slot:
        directory = self._request.directory / f"slot-{number + 1}"
        server = self._request.server
        # On an external server, only the database in its URL may be used.
        url = server.url if server.kind == "external" else _with_database(server.url, number)
        slot = Slot(self._request.spec, self._request.target, url=url, directory=directory)
        stack.enter_context(slot)
        self._slots.put(slot)
        return slot

    def _record(self, slot: Slot, pool: ThreadPoolExecutor, wait_for_others: Callable[[], object]) -> Recorded:
        """Record the workload without kills. A step at which the target fails even so is reported, and left out."""
        self._slots.get()
        # The first recording also loads the scripts into the server, so that all later ones send the same commands.
        self._demand_a_pass(self._run_case(slot, Case((), ()), "recording-plain"), "recording-plain")
        self._prepared = CaseRun(slot, Case((), ()), None, self._cases / "colleague", self._stopping).prepare()
        if self._prepared is None:
            raise TargetError("No worker was seen inside a task: do the task bodies write to the ledger?")
        path = self._request.directory / POINTS_NAME
        if path.exists():
            self._slots.put(slot)
            wait_for_others()
            return msgspec.json.decode(path.read_bytes(), type=Recorded)
        steps: list[str] = []
        left_out: list[Row] = []
        for step in OPTIONAL_STEPS:
            outcome = self._run_case(slot, Case((), (*steps, step)), f"recording-{step}")
            if outcome.result.verdict is Verdict.PASS:
                steps.append(step)
            else:
                left_out.append(_unharmed(STEP_TITLES[step], outcome, f"recording-{step}"))
        self._slots.put(slot)
        wait_for_others()
        numbers = range(1, RECORDINGS + 1)
        case = Case((), tuple(steps))
        outcomes = self._map(pool, numbers, lambda slot, number: self._run_case(slot, case, f"recording-{number}"))
        for number, outcome in zip(numbers, outcomes, strict=True):
            self._demand_a_pass(outcome, f"recording-{number}")
        recorded = Recorded(steps, plan_crashes([count_points(outcome.seen[0]) for outcome in outcomes]), left_out)
        path.write_bytes(msgspec.json.encode(recorded))
        return recorded

    def _demand_a_pass(self, outcome: Outcome, name: str) -> None:
        """Raise FailedUnharmed if the recording broke a promise, TargetError if it fails to pass for another reason."""
        if outcome.result.verdict in BROKEN:
            raise FailedUnharmed(_unharmed("the workload with nothing killed", outcome, name))
        if outcome.result.verdict is not Verdict.PASS:
            raise TargetError(
                f"The target fails the fixed workload (tasks that succeed, one that raises once, one "
                f"that always raises) without any kill, so that a crash would show nothing. It is "
                f"{outcome.result.verdict}: {outcome.result.because} Its history: {self._cases / name}"
            )

    # -- crashes ---------------------------------------------------------------------------------------------------

    def _run_all(self, pool: ThreadPoolExecutor, cases: Sequence[tuple[Crash, ...]]) -> list[Row]:
        """Run the cases and return their rows; cases with a row from an interrupted enumeration are not repeated."""
        keys = [tuple(map(str, crashes)) for crashes in cases]
        self._planned += keys
        left = [crashes for key, crashes in zip(keys, cases, strict=True) if key not in self._known]
        rows = [self._known[key] for key in keys if key in self._known]
        done = 0

        def one(slot: Slot, crashes: tuple[Crash, ...]) -> Row:
            nonlocal done
            row = self._run_crashes(slot, crashes)
            with self._lock:
                self._rows.add(row)
                done += 1
                self._tick(done, len(left))
            return row

        rows += self._map(pool, left, one)
        self._found += rows
        return rows

    def _plan_pairs(self, pool: ThreadPoolExecutor, singles: Sequence[Row]) -> list[tuple[Crash, ...]]:
        """Return the pairs. A recovery depends on the state that the first crash left, so it is recorded repeatedly."""
        path = self._request.directory / PAIRS_NAME
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=list[tuple[Crash, ...]])
        firsts = worth_a_pair(singles)
        runs = [(row, f"recording-{number}-") for row in firsts for number in range(2, RECORDINGS + 1)]
        again = self._map(pool, runs, lambda slot, one: self._run_crashes(slot, (first_crash(one[0]),), one[1]))
        self._found += [row for row in again if row.verdict != Verdict.PASS and row.reached]
        recordings = [*firsts, *(row for row in again if row.reached)]
        pairs = [pair for row in firsts for pair in plan_pairs(row, recordings)]
        path.write_bytes(msgspec.json.encode(pairs))
        return pairs

    def _run_crashes(self, slot: Slot, crashes: tuple[Crash, ...], prefix: str = "") -> Row:
        name = prefix + "--".join(_file_name(crash) for crash in crashes)
        attempts = 0
        short: dict[Crash, int] = {}
        while attempts < ATTEMPTS:
            attempts += 1
            outcome = self._run_case(slot, Case(crashes, self._steps), name)
            short = _fell_short(crashes, outcome, short)
            # No further attempt may discard a finding.
            if outcome.reached or outcome.result.verdict is not Verdict.INCONCLUSIVE:
                break
        return row_of(
            map(str, crashes),
            outcome.result,
            reached=outcome.reached,
            attempts=attempts,
            redelivery_ms=outcome.redelivery_ms,
            directory=f"cases/{name}",
            recovery=Counter(point.name for point in outcome.seen[-1]),
            unreached="" if outcome.reached else _why(short, attempts),
        )

    def _run_case(self, slot: Slot, case: Case, name: str) -> Outcome:
        if self._stopping.is_set():
            raise Stopped
        return CaseRun(slot, case, self._prepared, self._cases / name, self._stopping).carry_out()

    def _map(
        self, pool: ThreadPoolExecutor, items: Iterable[Item], act: Callable[[Slot, Item], Answer]
    ) -> list[Answer]:
        """Apply `act` to the items, in free slots. The first error ends the enumeration."""

        def one(item: Item) -> Answer:
            slot = self._slots.get()
            try:
                return act(slot, item)
            except BaseException:
                self._stopping.set()
                raise
            finally:
                self._slots.put(slot)

        futures = [pool.submit(one, item) for item in items]
        failures = [error for future in futures if (error := future.exception())]
        for failure in sorted(failures, key=lambda error: isinstance(error, Stopped)):
            raise failure
        return [future.result() for future in futures]

    def _report(self, seconds: float, versions: dict[str, str], cost: ProxyCost) -> Report:
        server = self._request.server
        order = {crashes: number for number, crashes in enumerate(self._planned)}
        self._found.sort(key=lambda row: order.get(tuple(row.crashes), -1))
        crashed = [row for row in self._found if row.crashes]
        verdict = verdict_of(self._found)
        report = Report(
            verdict=verdict,
            exit_code=verdict.exit_code,
            target=title(self._request.target),
            server=server.describe(),
            durability=server.durability().sentence,
            recover_within_s=self._request.target.recover_within,
            planned=len(self._planned),
            reached=len({tuple(row.crashes) for row in crashed if row.reached}),
            unreachable=len(unreachable_of(self._found)),
            seconds=seconds,
            versions=versions,
            proxy=cost.sentence,
            scripts=dict(self._request.target.scripts),
            notes=[
                f"{row.step} already fails without a kill, and was left out."
                for row in self._found
                if row.step in STEP_TITLES.values()
            ],
            rows=self._found,
        )
        write_reports(self._request.directory, report)
        return report


def _unharmed(step: str, outcome: Outcome, name: str) -> Row:
    """Return the row of a case that failed without a kill at a point."""
    return row_of(
        [],
        outcome.result,
        step=step,
        reached=True,
        attempts=1,
        redelivery_ms=None,
        directory=f"cases/{name}",
        recovery={},
    )


def _fell_short(crashes: Sequence[Crash], outcome: Outcome, before: Mapping[Crash, int]) -> dict[Crash, int]:
    """Return the crashes whose commands were sent too few times: crash -> most occurrences in any attempt."""
    found: dict[Crash, int] = {}
    for crash, seen in zip(crashes, outcome.seen, strict=False):
        times = max(count_points(seen).get((crash.role, crash.name), 0), before.get(crash, 0))
        if times < crash.occurrence:
            found[crash] = times
    return found


def _why(short: Mapping[Crash, int], attempts: int) -> str:
    """Return why a point was not reached, in a sentence; empty if its command was sent often enough."""
    return " ".join(
        f"In {attempts} attempts the worker sent {crash.role}/{crash.name} at most {times} times before it was idle."
        for crash, times in short.items()
    )


def _with_database(url: str, number: int) -> str:
    return urlsplit(url)._replace(path=f"/{number}").geturl()


def _file_name(crash: Crash) -> str:
    return re.sub(r"[^\w.|+-]+", "-", str(crash).replace(ANY_ROLE, "any"))
