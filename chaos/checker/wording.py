"""The sentences of a result: the verdict in one, the notes, and how to repeat the run."""

import shlex
from collections.abc import Collection, Mapping
from typing import Any

from ..history import Harness, Run
from .evidence import CensusRecord, Evidence
from .outages import outages_of
from .verdicts import (
    LIVENESS_DEFECTS,
    VIOLATIONS,
    Duplicate,
    Excuse,
    Fate,
    Kills,
    Leak,
    Leftover,
    LoadResult,
    Redelivery,
    Verdict,
)

_CLAUSES = {
    Fate.LOST: "promised and lost",
    Fate.FAILED: "promised and given up without having completed",
    Fate.CORRUPT: "executed with a payload that differs from the submitted one",
    Fate.GHOST: "refused but executed anyway",
    Fate.PHANTOM: "executed but never submitted",
    Fate.STUCK: "promised and still waiting in the broker after the deadline",
    Fate.NEEDS_TRAFFIC: "completed only after another task was submitted",
    Fate.NEEDS_RESTART: "completed only after a worker was restarted",
}
SHORT_BODY_MS = 5
"""Duration of a body, in ms, below which a fault hardly ever hits it."""
DEFECTS = tuple(_CLAUSES)
"""The outcomes that are a defect of the queue, the worst first."""


def plural(count: int, noun: str, many: str = "") -> str:
    """Format a count with its noun: `1 task`, `2,000 tasks`. `many`: an irregular plural."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {many or noun + 's'}"


def duration(ms: float) -> str:
    """Format a duration: `0.4 ms`, `180 ms`, `1.25 s`, `62 s`."""
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.3g} s" if ms < 999_500 else f"{ms / 1000:,.0f} s"


def because(
    verdict: Verdict,
    fates: Mapping[str, Fate],
    doubts: list[str],
    kills: Kills,
    breaches: Collection[str] = (),
    late: Collection[Redelivery] = (),
    too_many: Collection[str] = (),
    load: LoadResult | None = None,
    leaks: Collection[Leak] = (),
) -> str:
    """Return the verdict in one sentence, the worst first.

    `breaches`: clauses on broken rules and promises; `late`: tasks recovered too late; `too_many`: tasks whose
    duplicates nothing explains.
    """
    counts = _counts(fates.values())
    if verdict in (Verdict.VIOLATION, Verdict.LIVENESS):
        defects = VIOLATIONS if verdict is Verdict.VIOLATION else VIOLATIONS | LIVENESS_DEFECTS
        clauses = [
            f"{plural(counts[fate], 'task')} {'was' if counts[fate] == 1 else 'were'} {clause} ({fate})"
            for fate, clause in _CLAUSES.items()
            if counts[fate] and fate in defects
        ]
        if late:
            count = plural(len({one.task for one in late}), "task")
            clauses.append(
                f"{count} ran again later than promised after a worker's death, although another worker was idle (I4)"
            )
        return _sentence("; ".join([*clauses, *breaches]))
    if verdict is Verdict.DUPLICATES:
        count = plural(len(too_many), "task")
        unexplained = f"{count} completed more than once without a fault that explains it"
        clauses = [f"{unexplained}, more than the target's unexplained_duplicates allows"] if too_many else []
        return _sentence("; ".join([*clauses, *breaches]))
    if verdict is Verdict.LEAK:
        return _sentence("Resources leak: " + "; ".join(map(str, list(leaks)[:3])))
    if verdict is Verdict.INCONCLUSIVE:
        return _sentence(" ".join(["This run allows no conclusion.", *doubts]))
    if verdict is Verdict.SLO and load:
        return _sentence("The load broke a threshold: " + " ".join(load.broken))
    completed = counts[Fate.DONE] + counts[Fate.DUPLICATE]
    excused = counts[Fate.EXCUSED]
    clauses = [f"{plural(completed, 'promised task')} completed{'' if excused else ' and none was lost'}"]
    if excused:
        clauses.insert(0, f"{lost_within_durability(excused)} (EXCUSED)")
    if kills.planned:
        clauses.append(f"{kills.mid_task:,} of {plural(kills.planned, 'worker fault')} interrupted a task in its body")
    if counts[Fate.DUPLICATE]:
        clauses.append(f"{plural(counts[Fate.DUPLICATE], 'task')} completed more than once")
    if counts[Fate.DEAD]:
        clauses.append(f"{plural(counts[Fate.DEAD], 'task')} ended in the dead-letter list with a reason")
    return _sentence("; ".join(clauses))


def lost_within_durability(count: int) -> str:
    were = "was" if count == 1 else "were"
    return f"{plural(count, 'promised task')} {were} lost as the configured durability allows"


def without_promise(error: str | None) -> str:
    """Return why nothing was promised, if the clients know. `error`: the first error that a client raised."""
    if error is None:
        return "No submission was acknowledged."
    return _sentence(f"No submission was acknowledged; the first failed submission raised {error}")


def undecided_tasks(count: int, census: CensusRecord | None) -> str:
    """Return why the outcome of `count` unfinished tasks is unknown, and what to do."""
    if census is None:
        return f"No census was completed, so the outcome of {plural(count, 'unfinished task')} is unknown."
    places = (reason for places in census.found.values() for place, reason in places.items() if place == "record")
    example = next((f", as {reason}" for reason in places if reason), "")
    return (
        f"Only a record of {plural(count, 'unfinished task')} is left in Redis{example}, which does not show whether a "
        "task waits or has failed. Implement census() in the target, so that the queue itself is asked."
    )


def none_mid_task(kills: Kills, body_ms: float | None) -> str:
    """Return why kills show nothing, and what to do if bodies are too short. `body_ms`: median duration of a body."""
    sentence = f"None of the {kills.planned} planned worker faults hit a task in its body"
    if body_ms is None or body_ms >= SHORT_BODY_MS:
        return f"{sentence}."
    return (
        f"{sentence}: half of the bodies lasted less than {duration(body_ms)}. Make each body last "
        "as long as work_ms in its payload says (milliseconds)."
    )


def while_starved(late_ms: int, tasks: int) -> str:
    """Return why late or stuck tasks do not count; `tasks` is their number."""
    return (
        f"{plural(tasks, 'task')} {'was' if tasks == 1 else 'were'} late or unfinished while the machine was "
        f"overloaded: the harness itself ran up to {late_ms / 1000:.1f} s late while it waited for the queue."
    )


def notes_on_excuses(verdict: Verdict, fates: Mapping[str, Fate], excuses: list[Excuse]) -> list[str]:
    """Return sentences on losses that the durability explains, if the verdict's sentence leaves them out."""
    excused = sum(fates[one.task] is Fate.EXCUSED for one in excuses)
    notes = []
    if excused and verdict is not Verdict.EXCUSED:
        notes.append(f"{lost_within_durability(excused)} (EXCUSED).")
    if len(excuses) > excused:
        notes.append(
            f"{lost_within_durability(len(excuses) - excused)}; --require-durability counts such tasks as LOST."
        )
    return notes


def notes_on(
    evidence: Evidence,
    census: CensusRecord | None,
    duplicates: list[Duplicate],
    leftovers: list[Leftover],
    redeliveries: list[Redelivery],
    overtaken: list[str],
) -> list[str]:
    """Return sentences for the reader that change no verdict."""
    notes = []
    unexplained = sum(not duplicate.explained for duplicate in duplicates)
    if duplicates and not evidence.faults:
        notes.append(f"{plural(len(duplicates), 'duplicate')} without any fault: this was a baseline run.")
    elif unexplained:
        notes.append(f"No fault explains {plural(unexplained, 'duplicate')}.")
    overlapping = sum(duplicate.overlapping for duplicate in duplicates)
    if overlapping:
        notes.append(f"{plural(overlapping, 'task')} ran twice at the same time.")
    if leftovers:
        notes.append(
            f"{plural(len(leftovers), 'completed task')} {'was' if len(leftovers) == 1 else 'were'} still in the "
            "broker at the last census: the queue may run such tasks again."
        )
    if overtaken:
        notes.append(f"{plural(len(overtaken), 'task')} ran out of order: tasks accepted later completed long before.")
    crowded_s = sum(one.late_ms for one in evidence.crowded) / 1_000
    if crowded_s:
        notes.append(
            f"For {crowded_s:,.0f} s of the run, more than five threads per processor were ready to run: delays in "
            "that time are not held against the queue."
        )
    found = census.found if census else {}
    twice = sum(len(places) > 1 for places in found.values())
    if twice:
        notes.append(f"The census saw {plural(twice, 'task')} in more than one place.")
    started = sum(
        bool(task.executions) and not task.completed and not task.promised and not task.refused and task.submitted
        for task in evidence.tasks.values()
    )
    if started:
        notes.append(f"{plural(started, 'task')} with an unknown outcome began and did not complete.")
    if evidence.late:
        longest_s = max(one.late_ms for one in evidence.late) / 1000
        notes.append(
            f"The machine was overloaded: the harness itself ran late {plural(len(evidence.late), 'time')}, by up to "
            f"{longest_s:.1f} s. Do not judge the queue's speed by the times of this run."
        )
    notes += [_on_a_clock(one) for one in evidence.clock_set]
    notes += outages_of(evidence)
    notes += _notes_on_recovery(evidence, redeliveries)
    if evidence.begin and evidence.begin.network:
        notes.append(describe(evidence.begin.network))
    if census and any(place == "unknown" for places in found.values() for place in places):
        notes.append(
            "The census is a scan of the broker: it finds tasks but cannot tell waiting tasks from failed ones."
        )
    return notes


def _on_a_clock(one: Harness) -> str:
    """Return a sentence about one setting of the wall clock."""
    by_s = (one.by_ms or 0) / 1_000
    return (
        f"The machine's clock was set {abs(by_s):,.2f} s {'ahead' if by_s > 0 else 'back'} in the run: what depended "
        "on it at that time is not held against the queue."
    )


def _notes_on_recovery(evidence: Evidence, redeliveries: list[Redelivery]) -> list[str]:
    notes = []
    never = sum(redelivery.ms is None for redelivery in redeliveries)
    if never:
        were = "was" if never == 1 else "were"
        notes.append(f"{plural(never, 'execution')} {were} interrupted by a fault and never retried.")
    within_s = evidence.begin.recover_within if evidence.begin else None
    if within_s is not None:
        late = sum(redelivery.ms is not None and redelivery.ms > within_s * 1000 for redelivery in redeliveries)
        if late:
            # Not a violation of I4 by itself: the queue must only make the task claimable, and a backlog may run first.
            notes.append(f"{plural(late, 'task')} of dead workers waited more than {within_s:g} s for a new execution.")
    return notes


def describe(fact: Any) -> str:
    """Describe a server, network or durability as recorded: text, or a mapping that may hold a `sentence`."""
    if not fact:
        return "unknown"
    if isinstance(fact, Mapping):
        sentence = fact.get("sentence")
        if isinstance(sentence, str):
            return sentence
        return ", ".join(f"{name} {member}" for name, member in fact.items())
    return str(fact)


def versions_of(begin: Run | None) -> dict[str, str]:
    versions = begin.versions if begin else None
    return {str(name): str(version) for name, version in versions.items()} if isinstance(versions, Mapping) else {}


def circumstances_of(begin: Run | None) -> str:
    """Return when and where the run took place, and the commit of the target's file; empty: not recorded."""
    if begin is None:
        return ""
    commit = f"commit {begin.commit}" if begin.commit else None
    return " · ".join(part for part in (begin.date, begin.machine, commit) if part)


def replay_command(begin: Run | None) -> str:
    """Return the command that replays the plan, if recorded; else the run's own command, with its seed."""
    if begin is None:
        return ""
    if begin.repeat:
        return shlex.join(begin.repeat)
    recorded = begin.command
    if isinstance(recorded, list):
        command = shlex.join(str(argument) for argument in recorded)
    else:
        command = str(recorded) if recorded else "zeroloss run"
    if begin.seed is None or "--seed" in command:
        return command
    return f"{command} --seed {begin.seed}"


def _counts(fates: Collection[Fate]) -> dict[Fate, int]:
    counts = dict.fromkeys(Fate, 0)
    for fate in fates:
        counts[fate] += 1
    return counts


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else text + "."
