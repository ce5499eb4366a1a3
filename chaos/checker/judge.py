"""The judge: a pure function from a history to a `Result`. It reads no file, no clock and no broker.

What each outcome and each verdict means is defined once, in `verdicts.py`; the laws are in `invariants.py`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..history import Event
from .evidence import CensusRecord, Evidence, Task, gather
from .excuses import excuses_of
from .explanations import duplicates_of, too_many_of
from .findings import (
    body_ms,
    end_to_end_ms,
    exits_in_short,
    exits_of,
    fault_results,
    kills_of,
    leftovers_of,
    load_of,
    overtaken_of,
    redeliveries_of,
    starved_ms,
)
from .gaps import gaps_of
from .payloads import differences_of, with_difference
from .promises.answers import answers_of
from .promises.baseline import breaches_of, disorder_of, promises_fifo
from .promises.beside import clauses_of, note_of, promises_of
from .promises.lateness import late_of
from .promises.laws import laws_of
from .promises.resources import leaks_of, usage_of
from .promises.retries import worn_out_of
from .situations import matrix_of, situations_of, unmet
from .stated import option
from .submissions import failures_of, few_promises, first_error_of, with_failures
from .verdicts import (
    LIVENESS_DEFECTS,
    VIOLATIONS,
    Excuse,
    Fate,
    Kills,
    Leak,
    LoadResult,
    MatrixRow,
    Promise,
    Result,
    Situation,
    Verdict,
    summarise,
)
from .wording import (
    because,
    circumstances_of,
    describe,
    none_mid_task,
    notes_on,
    notes_on_excuses,
    replay_command,
    undecided_tasks,
    versions_of,
    while_starved,
    without_promise,
)

WAITING_PLACES = ("pending", "delayed", "processing")


def judge(events: Iterable[Event], missing: Sequence[str] = ()) -> Result:
    """Judge one run. Never raises on a well-formed history, however incomplete: gaps make it INCONCLUSIVE.

    `missing`: further known gaps that the history does not show, a sentence each.
    """
    evidence = gather(events)
    begin = evidence.begin
    # Before a drain, an incomplete task may merely be late: no census can tell lost from in flight.
    census = evidence.census if evidence.drained else None
    excuses = excuses_of(evidence)
    excused = _excused(evidence, excuses)
    worn_out = worn_out_of(evidence)
    fates = {name: _fate(name, task, evidence, census, excused, worn_out) for name, task in evidence.tasks.items()}
    kills = kills_of(evidence)
    duplicates = duplicates_of(evidence)
    redeliveries = redeliveries_of(evidence)
    late = late_of(evidence)
    leftovers = leftovers_of(evidence, census)
    overtaken = overtaken_of(evidence)
    situations, matrix = situations_of(evidence, census), matrix_of(evidence, census)
    gaps = [*missing, *gaps_of(evidence, fates)]
    failures = failures_of(evidence)
    doubts = gaps + few_promises(failures) + _doubts(evidence, kills, fates.values())
    doubts += _demanded(evidence, situations, matrix)
    disorder = disorder_of(evidence)
    late_comers = overtaken if promises_fifo(evidence) else []
    breaches = breaches_of(evidence, duplicates, disorder, late_comers)
    too_many = too_many_of(evidence, duplicates)
    promises = promises_of(
        evidence,
        fates,
        duplicates=duplicates,
        too_many=too_many,
        out_of_order=disorder + late_comers,
        late=late,
        answers=answers_of(evidence, excuses.keys()),
    )
    breaches += _new(promises, Verdict.VIOLATION)
    late_retries = _new(promises, Verdict.LIVENESS)
    interrupted = _new(promises, Verdict.DUPLICATES)
    load = load_of(evidence)
    leaks, exits = leaks_of(evidence), exits_of(evidence)
    starved = _starved(evidence, fates.values())
    if evidence.void:
        verdict = Verdict.HARNESS_ERROR
    elif gaps:
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = _verdict(
            fates.values(), doubts, breaches, starved, late or late_retries, too_many or interrupted, leaks, load
        )
    clauses = breaches + late_retries + interrupted
    sentence = because(verdict, fates, doubts, kills, clauses, late, too_many, load, leaks)
    differences = differences_of(evidence, fates)
    gone = [excuses[name] for name, fate in fates.items() if fate in (Fate.EXCUSED, Fate.LOST) and name in excuses]
    return Result(
        verdict=verdict,
        exit_code=verdict.exit_code,
        because=evidence.void or with_difference(with_failures(sentence, verdict, failures), differences),
        doubts=doubts,
        notes=notes_on(evidence, census, duplicates, leftovers, redeliveries, overtaken)
        + notes_on_excuses(verdict, fates, gone)
        + [note_of(promises)],
        seed=begin.seed if begin else None,
        target=(begin.target if begin else None) or "unknown",
        server=describe(begin.server if begin else None),
        durability=describe(begin.durability if begin else None),
        recover_within_s=begin.recover_within if begin else None,
        versions=versions_of(begin),
        circumstances=circumstances_of(begin),
        replay=replay_command(begin),
        duration_ms=(evidence.last_t - evidence.first_t) / 1e6,
        counts={fate.value: count for fate, count in sorted(Counter(fates.values()).items())},
        kills=kills,
        time_to_redelivery_ms=summarise([one.ms for one in redeliveries if one.ms is not None]),
        redeliveries=redeliveries,
        late=late,
        end_to_end_ms=summarise(end_to_end_ms(evidence)),
        properties=laws_of(evidence, census, fates, late, promises, disorder, late_comers, differences),
        promises=promises,
        faults=fault_results(evidence, duplicates, redeliveries),
        duplicates=duplicates,
        leftovers=leftovers,
        overtaken=overtaken,
        excuses=gone,
        situations=situations,
        matrix=matrix,
        exits=exits,
        exits_in_short=exits_in_short(evidence, exits),
        leaks=leaks,
        usage=usage_of(evidence),
        load=load,
        fates=fates,
    )


def _new(promises: list[Promise], verdict: Verdict) -> list[str]:
    """Return the clauses of broken promises that no outcome and no baseline rule reports already."""
    judged_elsewhere = ("recover_within", "order", "unexplained_duplicates")
    return clauses_of([one for one in promises if one.name not in judged_elsewhere], verdict)


def _excused(evidence: Evidence, excuses: Mapping[str, Excuse]) -> Collection[str]:
    """Return the tasks whose loss the configured durability allows; nothing if the run accepts no excuses."""
    return frozenset() if option(evidence.begin, "require_durability") else excuses.keys()


def _demanded(evidence: Evidence, situations: list[Situation], matrix: list[MatrixRow]) -> list[str]:
    demands = option(evidence.begin, "demand")
    missing = unmet(demands, situations, matrix) if isinstance(demands, list) else []
    return [f"The run did not meet the demanded situation {demand!r}." for demand in missing]


def _fate(
    name: str,
    task: Task,
    evidence: Evidence,
    census: CensusRecord | None,
    excused: Collection[str],
    worn_out: Collection[str],
) -> Fate:
    if not task.submitted:
        return Fate.PHANTOM
    if task.refused:
        return Fate.GHOST if task.executions else Fate.ABSENT
    if task.corrupt_digests:
        return Fate.CORRUPT
    if task.completed:
        return _fate_of_the_completed(task, evidence) if task.promised else Fate.RECOVERED
    places = census.found.get(name, {}) if census else {}
    # A task that still waits may still be done: it is not dead yet, even if a dead letter is a copy of it.
    waiting = any(place in places for place in WAITING_PLACES)
    wished = evidence.doomed is None or name in evidence.doomed or name in worn_out
    if places.get("dead_letter") and wished and not waiting:
        return Fate.DEAD
    if not task.promised:
        return Fate.ABSENT
    if census is None:
        return Fate.UNDECIDED
    if waiting:
        return Fate.STUCK
    if "dead_letter" in places or "failed" in places:
        return Fate.FAILED
    if places:
        return Fate.UNDECIDED if all(place == "record" for place in places) else Fate.STUCK
    return Fate.EXCUSED if name in excused else Fate.LOST


def _fate_of_the_completed(task: Task, evidence: Evidence) -> Fate:
    for poke, fate in (("restart", Fate.NEEDS_RESTART), ("task", Fate.NEEDS_TRAFFIC)):
        poke_t = evidence.pokes.get(poke)
        # A task submitted as the poke, or after it, did not depend on it.
        if poke_t is not None and (task.invoked_t or 0) < poke_t < (task.completed_t or 0):
            return fate
    return Fate.DUPLICATE if len(task.completed) > 1 else Fate.DONE


def _starved(evidence: Evidence, fates: Collection[Fate]) -> dict[Fate, int]:
    """Return the liveness defects that prove nothing because the machine was starved, with its lateness in ms."""
    late_ms = {fate: starved_ms(evidence, fate) for fate in LIVENESS_DEFECTS.intersection(fates)}
    return {fate: ms for fate, ms in late_ms.items() if ms}


def _verdict(
    fates: Collection[Fate],
    doubts: list[str],
    breaches: list[str],
    starved: Collection[Fate],
    late: Sequence[object],
    too_many: list[str],
    leaks: list[Leak],
    load: LoadResult | None,
) -> Verdict:
    met = frozenset(fates)
    if met & VIOLATIONS or breaches:
        return Verdict.VIOLATION
    if late or met & LIVENESS_DEFECTS - set(starved):
        return Verdict.LIVENESS
    if too_many:
        return Verdict.DUPLICATES
    if leaks:
        return Verdict.LEAK
    if load and load.broken:
        return Verdict.SLO
    if doubts:
        return Verdict.INCONCLUSIVE
    return Verdict.EXCUSED if Fate.EXCUSED in met else Verdict.PASS


def _doubts(evidence: Evidence, kills: Kills, fates: Collection[Fate]) -> list[str]:
    doubts = []
    if option(evidence.begin, "load") and not any(one.phase == "end" for one in evidence.load):
        doubts.append("The load did not end, so it is unknown whether it met its thresholds.")
    if not any(task.promised for task in evidence.tasks.values()):
        doubts.append(without_promise(first_error_of(evidence.tasks.values())))
    without_effect = [fault for fault in evidence.faults.values() if fault.effective_t is None or fault.missed]
    if without_effect:
        named = ", ".join(f"{fault.number} ({fault.name})" for fault in without_effect[:5])
        more = f" and {len(without_effect) - 5} more" if len(without_effect) > 5 else ""
        doubts.append(f"{len(without_effect)} of {len(evidence.faults)} faults took no effect: {named}{more}.")
    if kills.planned and not kills.mid_task:
        doubts.append(none_mid_task(kills, body_ms(evidence)))
    if not evidence.drained:
        doubts.append("The run neither drained nor reached its deadline.")
    undecided = sum(fate is Fate.UNDECIDED for fate in fates)
    if undecided and evidence.drained:
        doubts.append(undecided_tasks(undecided, evidence.census))
    if starved := _starved(evidence, fates):
        doubts.append(while_starved(max(starved.values()), sum(fate in starved for fate in fates)))
    if "end" not in evidence.phases:
        doubts.append("The run did not end.")
    return doubts
