"""Run the mutants, and the reference in their place, to check that the harness notices every planted defect.

A mutant is caught when its run ends in a verdict against it, with an exit status other than 0, and shows a category
that the mutant expects (see `mutants/mutant.py`). This is evidence only if the reference passes under the same profile,
without that category.
"""

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from threading import Event

import msgspec

from ..checker.verdicts import AGAINST, LIVENESS_DEFECTS, VIOLATIONS, Fate, Result, Verdict
from ..mutants.mutant import LEAK, MUTANTS, OVERTAKEN, UNEXPLAINED, Mutant, load_mutants
from ..mutants.profiles import PROFILES, Profile
from ..mutants.target import CONTROL, spec_of
from .subharness import replay_plan
from .trials import read_all, run_all

MUTANTS_NAME = "mutants.json"
TRIALS_NAME = "trials.jsonl"
"""File of the runs so far, a line each, from which an interrupted campaign can be resumed."""
TRIAL_DEADLINE_S = 300.0
_CONTROL_NAME = CONTROL.replace("_", "-")
AGAIN_MAX = 3
"""Limit on additional runs of a target whose runs decided nothing: some defects show only by chance."""


class MutationError(Exception):
    """The request is invalid; the text is one sentence for the user."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one target."""

    target: str
    profile: str
    seed: int
    verdict: Verdict
    categories: list[str]
    """The categories in its result: outcomes that are defects, UNEXPLAINED, OVERTAKEN, LEAK, broken promises."""
    because: str
    seconds: float
    caught: bool
    """A mutant: whether it was caught as expected. The reference: whether its run counts against it."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One mutant, or the reference under one profile, over all its runs."""

    target: str
    profile: str
    expects: list[str]
    defect: str
    trials: list[Trial]

    @property
    def caught(self) -> int:
        """Number of its runs that caught it."""
        return sum(trial.caught for trial in self.trials)

    @property
    def passed(self) -> int:
        """Number of its runs that ended in a PASS, without being caught."""
        return sum(trial.verdict is Verdict.PASS and not trial.caught for trial in self.trials)

    @property
    def shown(self) -> list[str]:
        """All categories that its runs show."""
        return sorted({category for trial in self.trials for category in trial.categories})


class Mutation(msgspec.Struct, frozen=True, kw_only=True):
    """mutants.json. `controls`: the reference under each profile that was used."""

    controls: list[Row]
    mutants: list[Row]

    @property
    def survivors(self) -> list[str]:
        """The mutants that no run caught."""
        return [row.target for row in self.mutants if not row.caught]

    @property
    def doubtful(self) -> list[str]:
        """The profiles under which the reference itself broke a promise, or never passed."""
        return [row.profile for row in self.controls if row.caught or not row.passed]

    @property
    def exit_code(self) -> int:
        """1 if a mutant survived, else 4 if a profile is in doubt, else 0."""
        if self.survivors:
            return Verdict.VIOLATION.exit_code
        return Verdict.INCONCLUSIVE.exit_code if self.doubtful else 0


def choose(only: str | None, *, blind_spots: bool = False) -> list[Mutant]:
    """Return the mutants of a comma-separated list; without a list, all mutants, with or without blind spots.

    Raises MutationError.
    """
    known = load_mutants()
    if only is None:
        return [one for one in known.values() if blind_spots or not one.blind_spot]
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise MutationError(f"There is no mutant {name!r}; there are {', '.join(known)}.")
    if not names:
        raise MutationError("--only names no mutant.")
    return [known[name] for name in dict.fromkeys(names)]


def mutate(
    mutants: Sequence[Mutant],
    *,
    runs: int,
    jobs: int,
    seed: int,
    server: str,
    directory: Path,
    say: Callable[[Trial], None],
) -> Mutation:
    """Run the controls and then the mutants, `jobs` at a time. `say` is called with each completed run.

    Raises:
        MutationError: runs or jobs are invalid.
    """
    if runs < 1:
        raise MutationError(f"--runs must be at least 1, not {runs}.")
    if jobs < 1:
        raise MutationError(f"--jobs must be at least 1, not {jobs}.")
    profiles = [profile for profile in PROFILES.values() if any(one.profile is profile for one in mutants)]
    controls = [_control(profile, mutants) for profile in profiles]
    planned = [*controls, *((mutant.name, mutant.profile, mutant.expects, mutant.defect) for mutant in mutants)]
    stopping = Event()
    known = read_all(directory / TRIALS_NAME, Trial)

    def attempt(target: str, profile: Profile, expects: Collection[str], one_seed: int) -> Trial:
        return _attempt(target, profile, expects, one_seed, server, directory, stopping)

    trials = {target: [trial for trial in known if trial.target == target] for target, *_ in planned}
    rounds = [range(seed, seed + runs), *([seed + runs + number] for number in range(AGAIN_MAX))]
    for seeds in rounds:
        work = [
            partial(attempt, target, profile, expects, one_seed)
            for target, profile, expects, _ in planned
            if not _decided(target, trials[target])
            for one_seed in seeds
            if one_seed not in {trial.seed for trial in trials[target]}
        ]
        for trial in run_all(work, jobs=jobs, path=directory / TRIALS_NAME, stopping=stopping):
            trials[trial.target].append(trial)
            say(trial)
    rows = [
        Row(target=target, profile=profile.name, expects=list(expects), defect=defect, trials=trials[target])
        for target, profile, expects, defect in planned
    ]
    mutation = Mutation(controls=rows[: len(controls)], mutants=rows[len(controls) :])
    (directory / MUTANTS_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(mutation)))
    return mutation


def categories(result: Result) -> list[str]:
    """Return the categories in a result: defects as outcomes, unexplained duplicates, disorder, leaks, promises."""
    shown: list[str] = [
        fate.value for fate in Fate if fate in VIOLATIONS | LIVENESS_DEFECTS and result.counts.get(fate)
    ]
    if any(not duplicate.explained for duplicate in result.duplicates):
        shown.append(UNEXPLAINED)
    if result.overtaken:
        shown.append(OVERTAKEN)
    if result.leaks:
        shown.append(LEAK)
    shown += [promise.name.partition(" ")[0].upper() for promise in result.promises if promise.broken]
    return list(dict.fromkeys(shown))


def _decided(target: str, trials: Sequence[Trial]) -> bool:
    """Return whether a target needs no more runs: the mutant was caught; the reference passed or broke a promise."""
    return any(trial.caught or (target.startswith(_CONTROL_NAME) and trial.verdict is Verdict.PASS) for trial in trials)


def _control(profile: Profile, mutants: Iterable[Mutant]) -> tuple[str, Profile, tuple[str, ...], str]:
    expects = {category for mutant in mutants if mutant.profile is profile for category in mutant.expects}
    name = f"{_CONTROL_NAME}{profile.name}"
    return name, profile, tuple(sorted(expects)), "none: the reference itself"


def _attempt(
    target: str,
    profile: Profile,
    expects: Collection[str],
    seed: int,
    server: str,
    directory: Path,
    stopping: Event,
) -> Trial:
    """Carry out one run in a harness of its own, as `zeroloss replay` would repeat it."""
    place = directory / f"{target}-seed{seed}"
    shutil.rmtree(place, ignore_errors=True)  # left by an interrupted campaign
    plan = profile.plan(seed=seed, target=spec_of(target), server=server)
    if target in MUTANTS.origins:
        plan = msgspec.structs.replace(plan, plugins=[*plan.plugins, MUTANTS.origins[target]])
    begun_s = time.monotonic()
    result, last_words = replay_plan(plan, place, stopping=stopping, deadline_s=TRIAL_DEADLINE_S)
    seconds = time.monotonic() - begun_s
    if result is None:
        verdict, shown = Verdict.HARNESS_ERROR, []
        because = f"The run left no result; its last output: {last_words[-500:]}"
    else:
        verdict, shown, because = result.verdict, categories(result), result.because
    return Trial(
        target=target,
        profile=profile.name,
        seed=seed,
        verdict=verdict,
        categories=shown,
        because=because,
        seconds=round(seconds, 1),
        caught=caught(target, verdict, shown, expects),
    )


def caught(target: str, verdict: Verdict, shown: Collection[str], expects: Collection[str]) -> bool:
    """Return whether a run counts against a mutant, in an expected category, or against the reference in its place.

    An inconclusive run counts neither for nor against the reference.
    """
    if verdict in AGAINST and not set(expects).isdisjoint(shown):
        return True
    return target.startswith(_CONTROL_NAME) and verdict not in (Verdict.PASS, Verdict.INCONCLUSIVE)
