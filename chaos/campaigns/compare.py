"""`zeroloss compare`: run each target under each fault, one after the other, and tabulate the outcomes.

Each cell is a `zeroloss run` in a process of its own, the command that a user would type. It has a directory of its
own, and is not run again if that holds the result of the same command.
"""

import re
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..checker.verdicts import LIVENESS_DEFECTS, Fate, Result, Summary, Verdict, merge
from ..checker.wording import plural
from ..report.result import read
from ..target import Target, load_target, title
from .subharness import run_harness

FAULTS = "worker-sigkill,worker-sigkill-quiet,worker-sigstop,worker-sigterm,server-sigkill"
"""The faults that are compared by default."""
CELLS = "cells"
CELL_NAME = "cell.json"
COMPARISON_NAME = "comparison.json"
CELL_DEADLINE_S = 1_200.0
STOP_BEYOND_S = 3.0
TERMS = 2
TERM_PATIENCE_S = 20
LAST_WORDS_MAX = 500


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One target under one fault."""

    target: str
    fault: str
    command: list[str]
    """The arguments of `zeroloss` that repeat it."""
    settings: str = ""
    """The target's settings at the time of the run."""
    verdict: Verdict
    because: str
    promised: int = 0
    counts: dict[str, int] = {}
    """Outcome -> number of tasks."""
    struck: int = 0
    """Number of tasks whose body a fault interrupted."""
    never: int = 0
    """Number of these that never ran again."""
    duplicates: int = 0
    redelivery_ms: Summary | None = None
    versions: dict[str, str] = {}
    durability: str = ""
    seconds: float = 0.0

    @property
    def stuck(self) -> int:
        """Number of tasks still in the broker at the deadline, whether or not anything moved them later."""
        return sum(self.counts.get(fate, 0) for fate in LIVENESS_DEFECTS)

    @property
    def words(self) -> str:
        """Its bad outcomes, in a few words; empty: none."""
        shown = {
            "lost": self.counts.get(Fate.LOST, 0),
            "failed": self.counts.get(Fate.FAILED, 0),
            "stuck": self.counts.get(Fate.STUCK, 0),
            "moved by new traffic only": self.counts.get(Fate.NEEDS_TRAFFIC, 0),
            "moved by a restart only": self.counts.get(Fate.NEEDS_RESTART, 0),
        }
        return ", ".join(f"{count} {word}" for word, count in shown.items() if count)

    @property
    def repeat(self) -> str:
        """The command line that repeats it."""
        return shlex.join(["zeroloss", *self.command])


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A target as the table shows it, with its project's promise and the settings that were used."""

    name: str
    summary: str
    promise: str
    promise_url: str
    settings: str
    recover_within_s: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """comparison.json. Cells that were not run yet are missing."""

    subjects: list[Subject]
    faults: list[str]
    cells: list[Cell]
    tasks: int
    seed: int
    planned: int

    def cell(self, target: str, fault: str) -> Cell | None:
        """Return the cell, if it was run."""
        return next((cell for cell in self.cells if (cell.target, cell.fault) == (target, fault)), None)

    def versions_of(self, target: str) -> dict[str, str]:
        """Return the versions of the target's runs, from its cells."""
        return {
            name: version for cell in self.cells if cell.target == target for name, version in cell.versions.items()
        }

    @property
    def exit_code(self) -> int:
        """The exit status of the worst verdict."""
        return merge(cell.verdict for cell in self.cells).exit_code


@dataclass(frozen=True, kw_only=True)
class Request:
    """A comparison to make. `targets`: name on the command line -> class. `kills`: count of each repeated fault."""

    targets: Mapping[str, type[Target]]
    faults: Sequence[str]
    tasks: int
    kills: int
    seed: int
    server: str
    plugins: Sequence[str] = ()
    """The command-line options that load the plug-ins."""

    def command(self, spec: str, fault: str) -> list[str]:
        """Return the arguments of `zeroloss` that run one cell."""
        return [
            *("run", "--target", spec, "--seed", str(self.seed), "--redis", self.server, "--tasks", str(self.tasks)),
            *("--faults", fault_words(fault, self.targets[spec].recover_within, self.kills)),
            *self.plugins,
        ]


def load_targets(names: Sequence[str]) -> dict[str, type[Target]]:
    """Return name on the command line -> target. Raises TargetError."""
    return {name: load_target(name) for name in names}


def fault_words(fault: str, recover_within_s: float, kills: int) -> str:
    """Return the fault with options that make it comparable across targets; stated options are kept as they are."""
    options = {
        "worker-sigkill": f"count={kills}",
        # Few: some queues take seconds to stop; others have finished all tasks by then.
        "worker-sigterm": f"count={min(TERMS, kills)}:patience_s={TERM_PATIENCE_S}",
        # Once: the pause outlasts the target's recovery, so after it there may be no task left to interrupt.
        "worker-sigstop": f"count=1:for_s={recover_within_s + STOP_BEYOND_S:g}",
    }
    return f"{fault}:{options[fault]}" if fault in options else fault


def compare(
    request: Request, directory: Path, *, say: Callable[[str], None], publish: Callable[[Comparison], None]
) -> Comparison:
    """Run the missing cells. `publish` gets the comparison so far, at the start and after each cell.

    Raises CannotStart. Interrupted passes through, and the completed cells are kept.
    """
    cells: list[Cell] = []
    publish(_comparison(request, cells))
    planned = [(spec, fault) for spec in request.targets for fault in request.faults]
    for number, (spec, fault) in enumerate(planned, start=1):
        place = directory / CELLS / re.sub(r"[^\w.-]+", "-", f"{spec}.{fault}")
        cell = _stored(place, request.command(spec, fault), request.targets[spec].settings)
        label = f"[{number}/{len(planned)}] {spec} under {fault}"
        if cell is None:
            say(f"{label} ...")
            cell = _run(request, spec, fault, place)
            say(f"{label}: {outcome(cell)} ({cell.seconds:.0f} s)")
        cells.append(cell)
        publish(_comparison(request, cells))
    return _comparison(request, cells)


def outcome(cell: Cell) -> str:
    """Return a cell's verdict and the reason for it, in a line."""
    more = cell.words or (plural(cell.duplicates, "duplicate") if cell.verdict is Verdict.PASS else cell.because)
    return f"{cell.verdict}: {more}"


def cell_of(target: type[Target], fault: str, command: list[str], result: Result, seconds: float) -> Cell:
    """Return the cell for a result."""
    return Cell(
        target=title(target),
        fault=fault,
        command=command,
        settings=target.settings,
        verdict=result.verdict,
        because=result.because,
        promised=sum(count for fate, count in result.counts.items() if fate not in (Fate.ABSENT, Fate.RECOVERED)),
        counts=result.counts,
        struck=len(result.redeliveries),
        never=sum(one.ms is None for one in result.redeliveries),
        duplicates=len(result.duplicates),
        redelivery_ms=result.time_to_redelivery_ms,
        versions=result.versions,
        durability=result.durability,
        seconds=round(seconds, 1),
    )


def _stored(place: Path, command: list[str], settings: str) -> Cell | None:
    try:
        cell = msgspec.json.decode((place / CELL_NAME).read_bytes(), type=Cell)
    except (OSError, msgspec.MsgspecError):
        return None
    return cell if (cell.command, cell.settings) == (command, settings) else None


def _run(request: Request, spec: str, fault: str, place: Path) -> Cell:
    # Existing files are of an interrupted run, or of another command.
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    command = request.command(spec, fault)
    name = title(request.targets[spec])
    begun_s = time.monotonic()
    words = [*command, "--out", str(place / "run")]
    process = run_harness(words, log_path=place / "harness.log", deadline_s=CELL_DEADLINE_S)
    seconds = time.monotonic() - begun_s
    try:
        result = read(place / "run")
    except (OSError, msgspec.MsgspecError):
        result = None
    if result is None or process.poll() != result.exit_code:
        because = f"The run left no result; its last output: {_last_words(process.log_tail())}"
        return Cell(
            target=name,
            fault=fault,
            command=command,
            verdict=Verdict.HARNESS_ERROR,
            because=because,
            seconds=round(seconds, 1),
        )
    cell = cell_of(request.targets[spec], fault, command, result, seconds)
    (place / CELL_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(cell)) + b"\n")
    return cell


def _last_words(log: str) -> str:
    """Return the log from the harness's own error sentence on, or all of it if there is none."""
    return " ".join(log.rpartition("zeroloss: ")[2].split())[:LAST_WORDS_MAX]


def _comparison(request: Request, cells: Sequence[Cell]) -> Comparison:
    return Comparison(
        subjects=[subject_of(target) for target in request.targets.values()],
        faults=list(request.faults),
        cells=list(cells),
        tasks=request.tasks,
        seed=request.seed,
        planned=len(request.targets) * len(request.faults),
    )


def subject_of(target: type[Target]) -> Subject:
    """Return a target's statements about itself."""
    return Subject(
        name=title(target),
        summary=" ".join((target.__doc__ or "").split()),
        promise=target.promise,
        promise_url=target.promise_url,
        settings=target.settings,
        recover_within_s=target.recover_within,
    )
