"""`zeroloss mutants --recall`: run the mutants and the reference as `run`, `prove --quick` and `prove` would."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event

import msgspec

from ..checker.verdicts import Verdict
from ..mutants.mutant import Mutant
from ..mutants.target import AS_SHIPPED, spec_of
from ..plan.fitting import ALONE
from ..system.machine import machine, now
from .mutation import MutationError
from .prove import EFFORTS, ENUMERATE, aimed, run_step, variants_at
from .recall import RECALL_NAME, Observed, Recall
from .subharness import run_harness
from .trials import read_all, run_all

STEPS_NAME = "steps.jsonl"
"""File of the completed steps, a line each."""
REFERENCE = "reference"
STEP_DEADLINE_S = 900.0
RESULTS = {"run": "run/result.json", "enumerate": "run/enumeration.json"}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A completed step on one mutant, or on the reference."""

    target: str
    step: str
    verdict: Verdict
    because: str
    seconds: float


class _Outcome(msgspec.Struct):
    """The members that the results of all commands share."""

    verdict: Verdict
    because: str = ""


def commands(seed: int, server: str) -> dict[str, list[str]]:
    """Return command -> its steps, cheapest first: the order does not change what a command finds."""

    def runs(effort: str, count: int) -> list[str]:
        variants = variants_at(REFERENCE, server)
        return [run_step(EFFORTS[effort], number, seed + number, variants) for number in range(count)]

    return {
        "run": runs("default", 1),
        "prove --quick": [*runs("quick", EFFORTS["quick"].runs), ENUMERATE],
        "prove": [*runs("default", EFFORTS["default"].runs), ENUMERATE],
    }


def chosen_commands(text: str) -> list[str]:
    """Return the commands of a comma-separated list. Raises MutationError."""
    known = commands(1, ALONE[0])
    asked = [name.strip() for name in text.split(",") if name.strip()]
    for name in asked:
        if name not in known:
            raise MutationError(f"--recall: {name!r} is not one of the commands {', '.join(known)}.")
    if not asked:
        raise MutationError(f"--recall names no command; there are {', '.join(known)}.")
    return asked


def measure(
    mutants: Sequence[Mutant],
    *,
    asked: Sequence[str],
    jobs: int,
    seed: int,
    server: str,
    directory: Path,
    say: Callable[[Step], None],
) -> Recall:
    """Carry out the steps of the requested commands, and write recall.json.

    Once a command has caught a mutant, its further steps are not carried out on that mutant.

    Raises MutationError: jobs is invalid.
    """
    if jobs < 1:
        raise MutationError(f"--jobs must be at least 1, not {jobs}.")
    stopping = Event()
    path = directory / STEPS_NAME
    known: dict[str, dict[str, Verdict]] = {name: {} for name in (REFERENCE, *(mutant.name for mutant in mutants))}
    for one in read_all(path, Step):
        known.setdefault(one.target, {})[one.step] = one.verdict
    names = {mutant.name: spec_of(f"{AS_SHIPPED}{mutant.name}") for mutant in mutants}

    def recall() -> Recall:
        return Recall(
            made=f"{now()}, {machine()}",
            commands={command: commands(seed, server)[command] for command in asked},
            reference=known[REFERENCE],
            mutants=[_observed(mutant, known[mutant.name]) for mutant in mutants],
        )

    for command in asked:
        steps = commands(seed, server)[command]
        for step in steps:
            open_ = {one.mutant for one in recall().mutants if not one.caught_by(steps)} | {REFERENCE}
            work = [
                partial(_carry_out, name, spec, step, server, directory, stopping)
                for name, spec in {REFERENCE: REFERENCE, **names}.items()
                if name in open_ and step not in known[name]
            ]
            for done in run_all(work, jobs=jobs, path=path, stopping=stopping):
                known[done.target][done.step] = done.verdict
                say(done)
    (directory / RECALL_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(recall()), indent=1) + b"\n")
    return recall()


def _observed(mutant: Mutant, verdicts: Mapping[str, Verdict]) -> Observed:
    return Observed(
        mutant=mutant.name,
        kind=mutant.kind,
        defect=mutant.defect,
        blind_spot=mutant.blind_spot,
        verdicts=dict(verdicts),
    )


def _carry_out(name: str, spec: str, step: str, server: str, directory: Path, stopping: Event) -> Step:
    place = directory / f"{name}-{step.replace('--', '').replace(' ', '-').replace('@', '')}"
    shutil.rmtree(place, ignore_errors=True)  # left by an interrupted campaign
    place.mkdir()
    words = [*aimed(step, spec, server), "--out", str(place / "run")]
    begun_s = time.monotonic()
    process = run_harness(words, log_path=place / "harness.log", stopping=stopping, deadline_s=STEP_DEADLINE_S)
    try:
        outcome = msgspec.json.decode((place / RESULTS[step.split()[0]]).read_bytes(), type=_Outcome)
    except (OSError, msgspec.MsgspecError):
        outcome = _Outcome(
            Verdict.HARNESS_ERROR, f"The step left no result; its last output: {process.log_tail()[-500:]}"
        )
    return Step(
        target=name,
        step=step,
        verdict=outcome.verdict,
        because=outcome.because,
        seconds=round(time.monotonic() - begun_s, 1),
    )
