"""Where tasks got lost, what interrupted them, and what they have in common: three sentences."""

from collections import Counter
from collections.abc import Collection, Mapping

from ..checker.evidence import Evidence, FaultRecord
from ..checker.verdicts import Fate
from ..checker.wording import plural
from ..faults.planned import PlannedTask
from ..history.trace import Trail
from .common import common_of
from .where import Finder, Place, Where, interruptions

MISSING = {
    Fate.LOST: "lost",
    Fate.EXCUSED: "lost as the configured durability allows",
    Fate.FAILED: "given up",
    Fate.STUCK: "left in the broker",
    Fate.NEEDS_TRAFFIC: "left waiting until a new task was submitted",
    Fate.NEEDS_RESTART: "left waiting until a worker was restarted",
    Fate.UNDECIDED: "left with an unknown outcome",
}
"""The outcomes of promised tasks that were not done as promised, the worst first."""
WRONG = {
    Fate.CORRUPT: "ran with a payload that differs from the submitted one",
    Fate.GHOST: "ran although they were refused",
    Fate.PHANTOM: "ran although they were never submitted",
}
FAULTS_NAMED_MAX = 5


def cause_of(
    evidence: Evidence, fates: Mapping[str, Fate], plan: Mapping[str, PlannedTask], trails: Mapping[str, Trail]
) -> list[str]:
    """Return the sentences on the cause; empty: every promised task was done, and no other task ran."""
    missing = [name for name, fate in fates.items() if fate in MISSING]
    if missing:
        finder = Finder(evidence, trails)
        places = {name: finder.place(name) for name in missing}
        wheres = {place.where for place in places.values()}
        return [
            _where(fates, places),
            _interrupted(evidence, places),
            _common(evidence, missing, plan, wheres),
        ]
    wrong = [name for name, fate in fates.items() if fate in WRONG]
    if not wrong:
        return []
    counts = Counter(fates[name] for name in wrong)
    return [
        _joined([f"{plural(counts[fate], 'task')} {words}" for fate, words in WRONG.items() if counts[fate]]) + ".",
        _common(evidence, wrong, plan, ()),
    ]


def _where(fates: Mapping[str, Fate], places: Mapping[str, Place]) -> str:
    counts = Counter(fates[name] for name in places)
    met = [fate for fate in MISSING if counts[fate]]
    became = _joined([f"{plural(counts[fate], 'task')} {_were(counts[fate])} {MISSING[fate]}" for fate in met])
    wheres = Counter(place.where for place in places.values())
    if len(wheres) == 1:
        (where,) = wheres
        return f"{became}, {where if len(places) == 1 else _of_several(where)}."
    listed = [f"{count:,} {_of_several(where) if count > 1 else where}" for where, count in wheres.most_common()]
    return f"{became}: {_joined(listed)}."


def _interrupted(evidence: Evidence, places: Mapping[str, Place]) -> str:
    begun = sum(len(evidence.tasks[name].executions) for name in places)
    raised = sum(one.raised for name in places for one in evidence.tasks[name].executions)
    interrupted, again = interruptions(evidence, places)
    they = "It was" if len(places) == 1 else "They were"
    clauses = [f"begun {_times(begun)}" if begun else "never begun"]
    if interrupted:
        clauses.append(f"interrupted {_times(interrupted)}")
        clauses.append(f"retried after {again} of these" if again else "never retried")
    if raised:
        clauses.append(f"their bodies raised {_times(raised)}" if len(places) > 1 else f"raised {_times(raised)}")
    return f"{they} {_joined(clauses)}; {_by(places)}."


def _by(places: Mapping[str, Place]) -> str:
    """Return a clause on the faults that were active, and on how many tasks were lost without any."""
    faults: dict[str, list[FaultRecord]] = {}
    for place in places.values():
        if place.fault:
            faults.setdefault(place.fault.name, []).append(place.fault)
    without = sum(place.fault is None for place in places.values())
    if not faults:
        return "no fault was active at that time"
    clauses = []
    for name, met in sorted(faults.items(), key=lambda pair: -len(pair[1])):
        numbers = sorted({fault.number for fault in met})
        named = ", ".join(map(str, numbers[:FAULTS_NAMED_MAX])) + (", …" if len(numbers) > FAULTS_NAMED_MAX else "")
        count = f"{plural(len(met), 'task')}, " if len(places) > 1 else ""
        clauses.append(f"{name} ({count}fault{'s' if len(numbers) > 1 else ''} {named})")
    if without:
        clauses.append(f"no fault ({plural(without, 'task')})")
    return f"active at that time: {_joined(clauses)}"


def _common(
    evidence: Evidence, lost: Collection[str], plan: Mapping[str, PlannedTask], wheres: Collection[Where]
) -> str:
    found = common_of(evidence, lost, plan, wheres)
    if not found:
        it = "it" if len(lost) == 1 else "them"
        return (
            f"No trait distinguishes {it} from the other tasks beyond chance. Compared: type, size, batch, behaviour, "
            "worker, fault, and whether a body had raised before."
        )
    everyone = sum(task.promised for task in evidence.tasks.values())
    clauses = [
        f"{_all(one.lost, len(lost))} {one.trait} (of the {everyone - len(lost):,} other tasks: "
        f"{one.others or 'none':{',' if one.others else ''}})"
        for one in found
    ]
    return f"In common: {'; '.join(clauses)}."


def _all(count: int, of: int) -> str:
    if count == of:
        return {1: "the one", 2: "both"}.get(of, f"all {of:,}")
    return f"{count:,} of the {of:,}"


def _of_several(where: Where) -> str:
    return {
        Where.BODY: "interrupted in their bodies",
        Where.WAITING: "before any worker claimed them",
        Where.GIVEN_UP: "when the queue gave them up",
    }.get(where, where.value)


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
