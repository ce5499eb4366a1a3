"""Traits that the lost tasks have in common and others lack."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ..checker.evidence import Evidence
from ..faults.planned import PlannedTask
from .where import Where, last_execution

LARGE_BYTES = 65_536
SHARE_MIN = 0.8
"""Share of the lost tasks that must have a trait."""
CHANCE_MAX = 0.002
"""Highest probability at which a trait is reported: that as many lost tasks have it by chance."""
SHOWN_MAX = 2


class Common(NamedTuple):
    """A trait, with the numbers of lost and of other tasks that have it. `chance`: probability that this is random."""

    trait: str
    lost: int
    others: int
    chance: float


def traits_of(evidence: Evidence, plan: Mapping[str, PlannedTask]) -> dict[str, set[str]]:
    """Return trait -> the promised tasks that have it."""
    traits: dict[str, set[str]] = {}
    for name, task in evidence.tasks.items():
        if not task.promised:
            continue
        for trait in _of_plan(plan.get(name)):
            traits.setdefault(trait, set()).add(name)
        if any(one.raised for one in task.executions):
            traits.setdefault("had raised before", set()).add(name)
        if any(one.end is None for one in task.executions):
            traits.setdefault("had been interrupted", set()).add(name)
        if not task.executions:
            traits.setdefault("were never begun", set()).add(name)
        if last := last_execution(task):
            traits.setdefault(f"were last run by process {last.pid}", set()).add(name)
        if task.invoked > 1:
            traits.setdefault("were submitted more than once", set()).add(name)
    for fault in evidence.faults.values():
        if fault.effective_t is not None and fault.traits.aims_at != "handler":
            hit = fault.struck.keys() | fault.claimed
            traits.setdefault(f"were hit by a {fault.name}", set()).update(hit)
    return traits


def _of_plan(planned: PlannedTask | None) -> list[str]:
    if planned is None:
        return []
    traits = []
    if planned.size_bytes > LARGE_BYTES:
        traits.append("have a payload above 64 KiB")
    if planned.type:
        traits.append(f"are of the type {planned.type!r}")
    if planned.behaviour:
        traits.append(f"misbehave as {planned.behaviour}")
    if planned.batch:
        traits += ["were submitted in a batch", f"were submitted in batch {planned.batch}"]
    if planned.raw:
        traits.append("have a payload in UTF-8")
    return traits


def common_of(
    evidence: Evidence, lost: Collection[str], plan: Mapping[str, PlannedTask], wheres: Collection[Where]
) -> list[Common]:
    """Return the traits that distinguish the lost tasks from the others, the most telling first."""
    everyone = {name for name, task in evidence.tasks.items() if task.promised}
    lost = everyone & set(lost)
    others = everyone - lost
    if not lost or not others:
        return []
    found = []
    for trait, names in traits_of(evidence, plan).items():
        if _said(trait, wheres):
            continue
        with_it, beside = len(lost & names), len(others & names)
        if with_it < SHARE_MIN * len(lost) or beside == len(others):
            continue
        chance = _chance(len(everyone), with_it + beside, len(lost), with_it)
        if chance <= CHANCE_MAX:
            found.append(Common(trait, with_it, beside, chance))
    found.sort(key=lambda one: (-one.lost, one.others, _is_result(one.trait)))
    return found[:SHOWN_MAX]


def _said(trait: str, wheres: Collection[Where]) -> bool:
    """Return whether the states in which tasks got lost already imply the trait."""
    said = {
        "had been interrupted": {Where.BODY, Where.RECOVERY},
        "were never begun": {Where.ENQUEUE, Where.CLAIMED, Where.UNBEGUN, Where.WAITING},
        "had raised before": {Where.RETRY, Where.GIVEN_UP},
    }
    return bool(set(wheres) & said.get(trait, set()))


def _is_result(trait: str) -> bool:
    """Return whether the trait follows from the loss: it tells less than one that the task had from the start."""
    return trait.startswith(("had", "were last run", "were never"))


def _chance(count: int, having: int, drawn: int, hit: int) -> float:
    """Return the probability that, of `drawn` out of `count` tasks, at least `hit` are among `having` given ones."""
    total = math.comb(count, drawn)
    ways = sum(math.comb(having, k) * math.comb(count - having, drawn - k) for k in range(hit, min(drawn, having) + 1))
    return ways / total
