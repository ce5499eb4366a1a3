"""The story of a task that went wrong: submitted when, begun by which process, interrupted by what, last seen where."""

from collections.abc import Mapping

from ..checker.evidence import Evidence, Execution, Task
from ..checker.verdicts import Fate, Story
from ..checker.wording import DEFECTS, duration, plural
from ..history.trace import Trail
from .commands import sentence_of
from .where import Finder, Where

STORIES_MAX = 5
EXECUTIONS_MAX = 4
TOLD = (*DEFECTS, Fate.UNDECIDED, Fate.EXCUSED)
LOSSES = (Fate.LOST, Fate.EXCUSED)
"""Outcomes of tasks that are gone: a story names the state in which its task got lost."""
SHOWN_BY_EXECUTIONS = (Where.BODY, Where.UNBEGUN)
"""States that the sentences on a task's executions already show."""


def stories_of(evidence: Evidence, fates: Mapping[str, Fate], trails: Mapping[str, Trail]) -> list[Story]:
    """Return at most `STORIES_MAX` stories, the worst outcome first; of lost tasks, one of each state comes first."""
    by_fate: dict[Fate, list[str]] = {}
    for name, fate in sorted(fates.items()):
        by_fate.setdefault(fate, []).append(name)
    if not any(fate in by_fate for fate in TOLD):
        return []
    finder = Finder(evidence, trails)
    wrong: list[str] = []
    for fate in TOLD:
        if len(wrong) < STORIES_MAX:
            names = by_fate.get(fate, [])
            wrong += _one_of_each_state(finder, names) if fate in LOSSES else names
    return [story_of(finder, evidence, name, fates[name], trails.get(name)) for name in wrong[:STORIES_MAX]]


def _one_of_each_state(finder: Finder, names: list[str]) -> list[str]:
    """Return the first task of each state in which tasks got lost, the most frequent state first; then the others."""
    by_state: dict[Where, list[str]] = {}
    for name in names:
        by_state.setdefault(finder.place(name).where, []).append(name)
    first = [alike[0] for alike in sorted(by_state.values(), key=len, reverse=True)]
    return first + [name for name in names if name not in first]


def story_of(finder: Finder, evidence: Evidence, name: str, fate: Fate, trail: Trail | None) -> Story:
    """Return the story of one task."""
    task = evidence.tasks.get(name, Task())
    sentences = [_submitted(evidence, task), *_executed(finder, evidence, name, task)]
    if fate in LOSSES:
        sentences.append(_lost(finder, name))
    if trail:
        sentences.append(sentence_of(evidence, task, trail))
    sentences.append(_last_seen(evidence, name))
    return Story(name, fate, [one for one in sentences if one])


def _at(evidence: Evidence, t: int) -> str:
    return duration((t - evidence.first_t) / 1e6)


def _submitted(evidence: Evidence, task: Task) -> str:
    if task.invoked_t is None:
        return "It was never submitted."
    answer = "refused" if task.refused else "got no answer: it is unknown whether the queue accepted it"
    if task.ok_t is not None:
        answer = f"promised at {_at(evidence, task.ok_t)}"
    return f"It was submitted at {_at(evidence, task.invoked_t)} and {answer}."


def _executed(finder: Finder, evidence: Evidence, name: str, task: Task) -> list[str]:
    executions = sorted(task.executions, key=lambda one: one.begin)
    if not executions:
        return ["No worker began it."]
    shown = executions if len(executions) <= EXECUTIONS_MAX else [executions[0], *executions[1 - EXECUTIONS_MAX :]]
    sentences = [_execution(finder, evidence, name, one) for one in shown]
    if len(shown) < len(executions):
        left_out = len(executions) - len(shown)
        sentences.insert(1, f"{plural(left_out, 'more execution')} {'is' if left_out == 1 else 'are'} not shown here.")
    if not executions[-1].completed:
        sentences.append("It was never begun again." if len(executions) == 1 else "It was not begun again after that.")
    return sentences


def _execution(finder: Finder, evidence: Evidence, name: str, one: Execution) -> str:
    began = f"Process {one.pid} began it at {_at(evidence, one.begin)}"
    if one.end is not None:
        return f"{began} and {'completed it' if one.completed else 'raised'} at {_at(evidence, one.end)}."
    fault = finder.interrupter(name, one)
    if fault is None:
        return f"{began} and never recorded its end; no fault explains this."
    said = f": {fault.evidence.rstrip('.')}" if fault.evidence else ""
    return (
        f"{began}; fault {fault.number} ({fault.name}) interrupted it at {_at(evidence, fault.effective_t or 0)}{said}."
    )


def _lost(finder: Finder, name: str) -> str:
    """Return the state in which the task got lost, and the fault then; empty: its executions show that."""
    place = finder.place(name)
    where, fault = place.where, place.fault
    if where in SHOWN_BY_EXECUTIONS:
        return ""
    by = f"{fault.name} (fault {fault.number}) was active" if fault else "no fault was active"
    by += " at that time"
    return f"It was lost, {where}; {by}."


def _last_seen(evidence: Evidence, name: str) -> str:
    census = evidence.census
    if census is None:
        return "No census was completed, so it is unknown whether the task is still in the broker."
    places = census.found.get(name, {})
    if not places:
        return "It was not in the broker at the end."
    found = [f"{_PLACES.get(place, place)}{f' ({reason})' if reason else ''}" for place, reason in places.items()]
    return f"At the end {' and '.join(found)}."


_PLACES = {
    "pending": "the broker held it as pending",
    "delayed": "the broker held it as delayed",
    "processing": "the broker held it as being processed",
    "dead_letter": "it was in the dead-letter list",
    "failed": "the queue had given it up",
    "record": "the broker held a record of it, which does not show whether it waits or has failed",
    "unknown": "it was still in the broker",
}
