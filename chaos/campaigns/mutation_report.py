"""Console output of `zeroloss mutants`: a line for each run, and a table at the end."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..mutants.mutant import Mutant
from .mutation import Mutation, Row, Trial
from .recall import Recall, recall_rows, recall_sentences
from .recall_runs import Step


def trial_line(trial: Trial) -> str:
    """Return a line about one run."""
    shown = ", ".join(trial.categories) or trial.verdict.value
    return f"{trial.target} (seed {trial.seed}, {trial.seconds:.0f} s): {shown}"


def mutants_table(mutants: Iterable[Mutant]) -> RenderableType:
    """Return a table: each mutant, the invariant that it breaks, and its defect."""
    table = Table("mutant", "breaks", "defect", box=None)
    for mutant in mutants:
        table.add_row(mutant.name, mutant.breaks, mutant.defect)
    return table


def mutation_table(mutation: Mutation) -> RenderableType:
    """Return a table: each mutant, its categories and the number of runs that caught it; then the reference."""
    table = Table(box=None, pad_edge=False)
    table.add_column("mutant", no_wrap=True)
    table.add_column("")
    table.add_column("in runs", no_wrap=True)
    table.add_column("as", overflow="fold")
    table.add_column("s", justify="right", no_wrap=True)
    for row in mutation.mutants:
        of = f"{row.caught} of {len(row.trials)}"
        met = [category for category in row.expects if category in row.shown]
        if row.caught:
            table.add_row(row.target, Text("caught", "green"), of, ", ".join(met), _seconds(row))
        else:
            wanted = f"not {' or '.join(row.expects)}, but {_shown(row)}"
            table.add_row(row.target, Text("SURVIVED", "bold red"), of, wanted, _seconds(row))
    for row in mutation.controls:
        of = f"{row.passed} of {len(row.trials)}"
        mark = Text("FAILED", "bold red") if row.profile in mutation.doubtful else Text("passed", "green")
        table.add_row(row.target, mark, of, _shown(row), _seconds(row))
    return Group(table, Text(_sentence(mutation), "bold"))


def step_line(step: Step) -> str:
    """Return a line about one step of the recall."""
    return f"{step.target}, {step.step} ({step.seconds:.0f} s): {step.verdict}"


def recall_table(recall: Recall) -> RenderableType:
    """Return a table with a row per kind of mutant and a column per command, and its summary in sentences."""
    table = Table(box=None, pad_edge=False)
    table.add_column("kind", no_wrap=True)
    for command in recall.commands:
        table.add_column(f"caught by {command}")
    for kind, shares in recall_rows(recall):
        table.add_row(kind, *(str(share) if share.of else "" for share in shares.values()))
    said = list(recall_sentences(recall))
    if recall.false_alarms:
        said.append(f"These counts are invalid: the reference itself failed under {', '.join(recall.false_alarms)}.")
    return Group(table, *(Text(sentence, "bold") for sentence in said))


def _shown(row: Row) -> str:
    return ", ".join(row.shown or sorted({trial.verdict.value for trial in row.trials}))


def _seconds(row: Row) -> str:
    return f"{max((trial.seconds for trial in row.trials), default=0.0):.0f}"


def _sentence(mutation: Mutation) -> str:
    caught = len(mutation.mutants) - len(mutation.survivors)
    sentence = f"{caught} of {len(mutation.mutants)} mutants were caught"
    if mutation.survivors:
        sentence += f"; not caught: {', '.join(mutation.survivors)}"
    if mutation.doubtful:
        return (
            f"{sentence}. This count is invalid under {', '.join(mutation.doubtful)}: the reference did not pass there."
        )
    return f"{sentence}; the reference passed under the same {len(mutation.controls)} profiles."
