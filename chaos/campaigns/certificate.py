"""The certificate: exactly three statements, their numbers, and what was not covered. Never "proved".

A pure function of the results of the three parts. If a part did not pass, or a mutant survived, none is issued.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec

from ..checker.verdicts import AGAINST, Fate, Result, Verdict, merge
from ..enumerate.table import Report, headline
from ..faults import load_faults
from .chance import CONFIDENCE, loss_probability_below, missed_with
from .circumstances import Circumstances
from .mutation import Mutation, Row
from .recall import Recall, recall_rows, recall_sentences

RARE = (300, 10_000)
"""Defects that hit one task in this many: the certificate states the probability that they were missed."""
RUNS_FOR_ONE_PERCENT = 299
INCONCLUSIVE_SHARE_MAX = 0.05
"""Share of the seeded runs that may be inconclusive and are not counted: a night of runs has some on any machine."""
NOT_JUDGED = frozenset({Fate.ABSENT, Fate.PHANTOM, Fate.GHOST, Fate.UNDECIDED})

NOT_COVERED = [
    "A power failure: a killed process leaves what it had written to the kernel.",
    "A partition between servers.",
    "Defects that only show under a load, a size or a length of time beyond the runs' own.",
    "What the handlers of an application do besides their ledger entries.",
]


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """certificate.json. If the evidence does not support the statements, `issued` is False and `refused` says why."""

    issued: bool
    exit_code: int
    """0: issued. Otherwise that of the worst verdict against the queue, or 4 if there is no such verdict."""
    refused: list[str]
    target: str
    circumstances: Circumstances | None
    servers: list[str]
    """The servers of the seeded runs and of the enumeration, with their durability."""
    proxy: str
    """The latency that the enumeration's proxy added, in a sentence."""
    statements: list[str]
    crash_points: int
    crash_points_reached: int
    runs: int
    """Number of conclusive runs."""
    inconclusive_runs: int
    seeds: list[int | None]
    loss_probability_below: float | None
    tasks_judged: int
    missed: list[str]
    """The probability that a rare defect was missed, a sentence for each."""
    mutants: int
    mutants_caught: int
    weakest_mutant: str
    recall: list[str]
    """The share of mutants that each command catches with its own settings, as measured for this version."""
    recall_by_kind: dict[str, dict[str, str]]
    """Kind of defect -> command -> share of caught mutants."""
    duplicates: int
    not_covered: list[str]
    versions: dict[str, str]
    commands: list[str]


def certify(
    report: Report,
    results: Sequence[Result],
    mutation: Mutation,
    commands: Sequence[str],
    *,
    mutants_known: int,
    circumstances: Circumstances | None = None,
    stopped: str = "",
    recall: Recall | None = None,
) -> Certificate:
    """Weigh the evidence and return the certificate.

    Args:
        report: the report of `zeroloss enumerate`.
        results: the results of the seeded runs.
        mutation: the result of `zeroloss mutants`.
        commands: the command that repeats each part.
        circumstances: date, target, machine and effort.
        stopped: the part with the first conclusive failure, which ended the proof; empty: none.
        mutants_known: number of known mutants; those that were not run are listed as not covered.
        recall: the recall measured for this version; None: it was not measured.
    """
    conclusive = [result for result in results if result.verdict is not Verdict.INCONCLUSIVE]
    caught = [row for row in mutation.mutants if row.caught]
    weakest = min(mutation.mutants, key=_share_caught, default=None)
    below = loss_probability_below(len(conclusive)) if conclusive else 1.0
    refused = _refusals(report, results, mutation, stopped)
    worst = merge([report.verdict, *(result.verdict for result in results)])
    judged = tasks_judged(conclusive)
    statements = [
        f"All {report.planned - report.unreachable} crash points that the enumeration found were reached, and none "
        "lost a task."
        + (f" {report.unreachable} more depend on timing and did not come." if report.unreachable else ""),
        f"No loss in {len(conclusive)} independent seeded runs{_variants_of(conclusive)}: under this workload and "
        f"these faults the probability that a run loses a task is below {below:.1%}, at {CONFIDENCE:.0%} confidence.",
        f"{len(caught)} of {len(mutation.mutants)} mutants were caught"
        + (f", the weakest ({weakest.target}) in {weakest.caught} of {len(weakest.trials)} runs." if weakest else "."),
    ]
    return Certificate(
        issued=not refused,
        exit_code=(worst if worst in AGAINST else Verdict.INCONCLUSIVE).exit_code if refused else 0,
        refused=refused,
        target=report.target,
        circumstances=circumstances,
        servers=[
            *(f"Seeded runs: {one.server}. {one.durability}" for one in results[:1]),
            f"Enumeration: {report.server}. {report.durability}",
        ],
        proxy=report.proxy,
        statements=statements if not refused else [],
        crash_points=report.planned,
        crash_points_reached=report.reached,
        runs=len(conclusive),
        inconclusive_runs=len(results) - len(conclusive),
        seeds=[result.seed for result in results],
        loss_probability_below=below,
        tasks_judged=judged,
        missed=[*_missed(judged), _runs_for_one_percent(len(conclusive))] if conclusive else [],
        mutants=len(mutation.mutants),
        mutants_caught=len(caught),
        weakest_mutant=weakest.target if weakest else "",
        recall=list(recall_sentences(recall)) if recall else [],
        recall_by_kind={kind: {name: str(one) for name, one in shares.items()} for kind, shares in recall_rows(recall)}
        if recall
        else {},
        duplicates=sum(len(result.duplicates) for result in results),
        not_covered=[*_mutants_not_run(mutation, mutants_known), *_failover_not_covered(results), *NOT_COVERED],
        versions=results[0].versions if results else report.versions,
        commands=list(commands),
    )


def _variants_of(results: Sequence[Result]) -> str:
    """Return a clause about the runs of variants, `, of which 2 of its variant recycled`; empty: there are none."""
    counts = Counter(variant for result in results if (variant := result.target.partition("@")[2]))
    named = [f"{count} of its variant {name}" for name, count in counts.items()]
    return f", of which {' and '.join(named)}" if named else ""


def _failover_not_covered(results: Sequence[Result]) -> list[str]:
    fail_over = {fault.name for fault in load_faults() if fault.fails_over}
    met = {fault.name for result in results for fault in result.faults if fault.state == "effective"}
    return [] if met & fail_over else ["A failover to a replica."]


def tasks_judged(results: Sequence[Result]) -> int:
    """Return the number of promised tasks that the runs followed to their end."""
    return sum(fate not in NOT_JUDGED for result in results for fate in result.fates.values())


def _missed(tasks: int) -> list[str]:
    return [
        f"The runs judged {tasks:,} tasks: a defect that hits one task in {one_in:,}, independently, would have been "
        f"missed with probability {missed_with(one_in, tasks):.1%}."
        for one_in in RARE
    ]


def _runs_for_one_percent(runs: int) -> str:
    return f"A bound of 1% per run needs {RUNS_FOR_ONE_PERCENT} runs without a loss; there were {runs}."


def _mutants_not_run(mutation: Mutation, known: int) -> list[str]:
    left_out = known - len(mutation.mutants)
    return [f"The {left_out} of {known} mutants that were not run."] if left_out else []


def _share_caught(row: Row) -> float:
    return row.caught / len(row.trials)


def _refusals(report: Report, results: Sequence[Result], mutation: Mutation, stopped: str) -> list[str]:
    refused = []
    if report.verdict is not Verdict.PASS:
        refused.append(f"The enumeration is {report.verdict}: {headline(report)}")
    inconclusive = sum(result.verdict is Verdict.INCONCLUSIVE for result in results)
    bearable = {Verdict.INCONCLUSIVE} if inconclusive <= INCONCLUSIVE_SHARE_MAX * len(results) else set()
    refused += [
        f"The run with seed {result.seed} is {result.verdict}: {result.because}"
        for result in results
        if result.verdict not in {Verdict.PASS, *bearable}
    ]
    if stopped:
        return [*refused, f"Nothing more was run after {stopped}, whose failure is conclusive."]
    if mutation.survivors:
        refused.append(f"Mutants survived: {', '.join(mutation.survivors)}.")
    if not mutation.mutants:
        refused.append("No mutant was run.")
    if mutation.doubtful:
        refused.append(f"The reference itself did not pass under the profiles {', '.join(mutation.doubtful)}.")
    return refused
