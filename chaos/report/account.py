"""The account of one task that went wrong: submitted when, struck by what, last seen where."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..checker.evidence import Evidence, Task, gather
from ..checker.verdicts import Fate, Result
from ..checker.wording import DEFECTS
from ..history import Event
from .console import seconds

ACCOUNTS_MAX = 5


@dataclass(frozen=True, kw_only=True)
class Account:
    """Three sentences about a task; times in them are since the run began."""

    task: str
    fate: Fate
    submitted: str
    killed_by: str
    last_seen: str

    def lines(self) -> list[str]:
        return [
            f"{self.task}: {self.fate}",
            f"  submitted  {self.submitted}",
            f"  killed by  {self.killed_by}",
            f"  last seen  {self.last_seen}",
        ]


def accounts(result: Result, events: Iterable[Event]) -> list[Account]:
    """Of the tasks that make the verdict, the worst first; at most `ACCOUNTS_MAX`."""
    wrong = [task for fate in DEFECTS for task in sorted(result.tasks(fate))][:ACCOUNTS_MAX]
    if not wrong:
        return []
    evidence = gather(events)
    return [_account(evidence, name, result.fates[name]) for name in wrong]


def _account(evidence: Evidence, name: str, fate: Fate) -> Account:
    task = evidence.tasks.get(name, Task())
    return Account(
        task=name,
        fate=fate,
        submitted=_submitted(evidence, task),
        killed_by=_killed_by(evidence, name),
        last_seen=_last_seen(evidence, name, task),
    )


def _at(evidence: Evidence, t: int) -> str:
    return seconds((t - evidence.first_t) / 1e6)


def _submitted(evidence: Evidence, task: Task) -> str:
    if task.invoked_t is None:
        return "never"
    answer = "refused" if task.refused else "its outcome unknown"
    if task.ok_t is not None:
        answer = f"promised at {_at(evidence, task.ok_t)}"
    return f"{_at(evidence, task.invoked_t)} after the start, {answer}"


def _killed_by(evidence: Evidence, name: str) -> str:
    """The last fault that struck it in its body, or that the nemesis says it hit on its way."""
    struck = [
        (fault.effective_t, fault)
        for fault in evidence.faults.values()
        if fault.effective_t is not None and (name in fault.struck or name in fault.claimed)
    ]
    if not struck:
        return "no fault that struck it in its body"
    t, fault = max(struck, key=lambda pair: pair[0])
    said = f": {fault.evidence}" if fault.evidence else ""
    return f"fault {fault.number} ({fault.name}) at {_at(evidence, t)}{said}"


def _last_seen(evidence: Evidence, name: str, task: Task) -> str:
    census = evidence.census
    places = sorted(census.found.get(name, {})) if census else []
    if places:
        return f"in the broker, in {' and '.join(places)}, at the end"
    gone = ", and not in the broker at the end" if census else ""
    if not task.executions:
        return f"when it was submitted: nobody ran it{gone}"
    last = max(task.executions, key=lambda execution: execution.begin)
    began = f"process {last.pid}, which began it at {_at(evidence, last.begin)}"
    if last.end is None:
        return f"in {began} and never ended it{gone}"
    ended = "completed it" if last.completed else "gave it up with an error"
    return f"in {began} and {ended} at {_at(evidence, last.end)}{gone}"
