"""Play schedules: one by its choices, those with the fewest choices first, or all."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import groupby

import pytest

from .cast import Theatre
from .scenario import Scenario
from .stage import STEPS_MAX, STRUCK_BY_NAME, WAYS, Stage

Choices = dict[int, int]
"""Point (counted from 0) -> number of the option taken there. At all other points it is the first option: the thread
with the last turn continues, and when it waits, the next thread does."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """The result of one schedule."""

    story: list[str]
    violations: list[str]
    broke: list[str]
    steps: int
    widths: list[int]
    """Number of options at each point."""
    executed: list[tuple[str, str]]


def options(stage: Stage, *, everybody: bool) -> list[Callable[[], object]]:
    """Return the possible next steps: a thread continues, or a fault happens.

    `everybody`: a fault may hit any thread, once in a schedule; otherwise only the first thread, any number of times.
    """
    able = stage.able()
    if everybody:
        able = stage.alone(able)
    found: list[Callable[[], object]] = [lambda each=each: stage.step(*each) for each in able]  # type: ignore[misc]
    found += [lambda late=packet: stage.arrive(late) for packet in stage.network.packets]  # type: ignore[misc]
    if stage.network.packets and not able and not everybody:
        found.append(stage.pass_by)  # the packet is delayed further
    if everybody and stage.faults:
        return found
    struck: set[Hashable] = set()
    for process, actor in able if everybody else able[:1]:
        for what in stage.faults_of(process, actor):
            whom = actor if what in WAYS else None if what in STRUCK_BY_NAME else process
            if (what, whom) not in struck:
                struck.add((what, whom))
                found.append(lambda p=process, a=actor, w=what: stage.fault(w, p, a))  # type: ignore[misc]
    return found


def play(theatre: Theatre, scenario: Scenario, choices: Choices) -> Played:
    """Play one schedule until a law is broken or all tasks have ended; a schedule that does not end breaks I2."""
    widths: list[int] = []

    def choose(_stage: Stage, possible: int) -> int:
        widths.append(possible)
        return choices.get(len(widths) - 1, 0) % possible

    return _perform(theatre, scenario, choose, widths, everybody=False)


def _perform(
    theatre: Theatre,
    scenario: Scenario,
    choose: Callable[[Stage, int], int | None],
    widths: list[int],
    *,
    everybody: bool,
) -> Played:
    """Play one schedule. `choose` returns the number of an option, or None to stop there."""
    with pytest.MonkeyPatch.context() as patch:
        stage = Stage(theatre, scenario, patch)
        judge = stage.judge
        try:
            while not judge.violations and not stage.over:
                possible = options(stage, everybody=everybody)
                if possible:
                    taken = choose(stage, len(possible))
                    if taken is None:
                        break
                    possible[taken]()
                elif not stage.pass_by():
                    judge.violations.append("I2: it does not end.")
                if stage.steps > STEPS_MAX:
                    judge.violations.append("I2: it comes to no end.")
            if not judge.violations:
                stage.judge_the_end()
            alone = scenario.workers == scenario.producers == 1 and not scenario.orphans
            if alone and not stage.faults and not any(wish.behaviour for wish in scenario.wishes):
                judge.in_order()
        finally:
            stage.close()
        return Played(
            story=_shortened(stage.story),
            violations=judge.violations,
            broke=stage.broke,
            steps=stage.steps,
            widths=widths,
            executed=judge.executed,
        )


def _shortened(story: list[str]) -> list[str]:
    """Merge repeated lines."""
    counted = [(said, len(list(same))) for said, same in groupby(story)]
    return [said if times == 1 else f"{said} ({times} times)" for said, times in counted]


def every(theatre: Theatre, scenario: Scenario) -> Iterator[Played]:
    """Play every order of all commands, with at most one fault in each, at any command of any process.

    A schedule stops in a state that another schedule has reached: its continuations are those of the other one.
    """
    seen: set[Hashable] = set()
    prefixes: list[list[int]] = [[]]
    while prefixes:
        prefix = prefixes.pop()
        taken: list[int] = []

        def choose(stage: Stage, possible: int, prefix: list[int] = prefix, taken: list[int] = taken) -> int | None:
            if len(taken) < len(prefix):
                taken.append(prefix[len(taken)])
                return taken[-1]
            state = stage.state()
            if state in seen:
                return None
            seen.add(state)
            prefixes.extend([*taken, other] for other in range(1, possible))
            taken.append(0)
            return 0

        yield _perform(theatre, scenario, choose, taken, everybody=True)


def nearest_first(theatre: Theatre, scenario: Scenario, changes_max: int) -> Iterator[tuple[Choices, Played]]:
    """Play the schedule without choices, then all with one, then all with two, so the first hit is a short one."""
    ring: list[Choices] = [{}]
    for changes in range(changes_max + 1):
        outer: list[Choices] = []
        for choices in ring:
            played = play(theatre, scenario, choices)
            yield choices, played
            if changes < changes_max:
                first = max(choices, default=-1) + 1
                points = enumerate(played.widths[first:], first)
                outer += [{**choices, at: taken} for at, width in points for taken in range(1, width)]
        ring = outer


def story(played: Played, choices: Choices, scenario: Scenario) -> str:
    """Return the story of a schedule as text, with the command that replays it."""
    lines = [f"{number:3d}. {said}" for number, said in enumerate(played.story, 1)]
    again = f'PYTHONPATH=.:tests python -m support.schedule replay "{scenario!r}" "{choices!r}"'
    return "\n".join([*played.violations[:3], *played.broke[:1], *lines, f"replay: {again}"])
