"""The recall: which mutants each command catches with its own settings, and with what confidence.

`zeroloss mutants` runs each mutant under the faults that show its defect best. A user does not know the defect:
`zeroloss mutants --recall` runs the mutants as `run`, `prove --quick` and `prove` would. The result is shipped.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files

import msgspec

from ..checker.verdicts import AGAINST, Verdict
from .chance import CONFIDENCE, interval

RECALL_NAME = "recall.json"
PAGE_NAME = "recall.md"


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """One mutant. `verdicts`: step, such as `run --seed 1 --tasks 2000 --kills 50` -> its verdict."""

    mutant: str
    kind: str
    defect: str
    blind_spot: str
    verdicts: dict[str, Verdict]

    def caught_by(self, steps: Sequence[str]) -> bool | None:
        """Return whether one of these steps ended in a verdict against the mutant; None: no step was tried.

        An untried step counts as a miss: otherwise the defects that are found early would weigh more. A blind spot
        without any tried step counts as missed, too.
        """
        tried = [self.verdicts[step] for step in steps if step in self.verdicts]
        return any(verdict in AGAINST for verdict in tried) if tried or self.blind_spot else None


class Share(msgspec.Struct, frozen=True):
    """A number of caught mutants, out of a total."""

    caught: int
    of: int

    @property
    def range(self) -> str:
        """The confidence interval of the share of such defects, in words."""
        least, most = interval(self.caught, self.of)
        return f"{least:.0%} to {most:.0%} of such defects at {CONFIDENCE:.0%} confidence"

    def __str__(self) -> str:
        least, most = interval(self.caught, self.of)
        return f"{self.caught} of {self.of} ({least:.0%} to {most:.0%})"


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """recall.json. `commands`: requested command -> its steps. `reference`: step -> verdict on the reference itself."""

    made: str
    """Date and machine of the measurement."""
    commands: dict[str, list[str]]
    reference: dict[str, Verdict]
    mutants: list[Observed]

    @property
    def kinds(self) -> list[str]:
        """The kinds, in the order of the mutants."""
        return list(dict.fromkeys(one.kind for one in self.mutants))

    def share(self, command: str, kind: str | None = None) -> Share:
        """Return how many mutants, of one kind or of all, the command catches of those it was tried on."""
        steps = self.commands[command]
        tried = [
            found for one in self.mutants if kind in (None, one.kind) and (found := one.caught_by(steps)) is not None
        ]
        return Share(sum(tried), len(tried))

    @property
    def false_alarms(self) -> list[str]:
        """The steps that ended in a verdict against the reference."""
        return [step for step, verdict in self.reference.items() if verdict in AGAINST]


@cache
def shipped_recall() -> Recall | None:
    """Return the recall that is shipped with this version; None: it was not measured."""
    path = files(__package__) / RECALL_NAME
    return msgspec.json.decode(path.read_bytes(), type=Recall) if path.is_file() else None


def recall_sentences(recall: Recall) -> Iterator[str]:
    """Yield a sentence for each command, for a certificate and for the console."""
    for command in recall.commands:
        share = recall.share(command)
        if share.of:
            yield f"Of {share.of} mutants `{command}` catches {share.caught} with its own settings: {share.range}."


def shipped_sentences() -> list[str]:
    """Return the sentences of the shipped recall; empty if this version was not measured."""
    recall = shipped_recall()
    return list(recall_sentences(recall)) if recall else []


def recall_rows(recall: Recall) -> Iterator[tuple[str, Mapping[str, Share]]]:
    """Yield a row for each kind, and one for all."""
    for kind in [*recall.kinds, None]:
        yield kind or "all", {command: recall.share(command, kind) for command in recall.commands}


def recall_page(recall: Recall) -> str:
    """Return docs/mutants.md below its introduction: the tables in Markdown."""
    commands = list(recall.commands)
    lines = [f"| kind | {' | '.join(f'`{command}`' for command in commands)} |", f"| --- |{' --- |' * len(commands)}"]
    lines += [
        f"| {kind} | {' | '.join(str(shares[command]) if shares[command].of else '' for command in commands)} |"
        for kind, shares in recall_rows(recall)
    ]
    lines += ["", f"| mutant | defect | {' | '.join(f'`{command}`' for command in commands)} |"]
    lines += [f"| --- | --- |{' --- |' * len(commands)}"]
    lines += [
        f"| {one.mutant} | {one.defect} | {' | '.join(_told(one, recall.commands[command]) for command in commands)} |"
        for one in recall.mutants
    ]
    spots = [f"- {one.mutant}: {one.blind_spot}" for one in recall.mutants if one.blind_spot]
    lines += ["", f"Measured {recall.made}.", *(["", "Blind spots, and why:", "", *spots] if spots else [])]
    return "\n".join(lines) + "\n"


def _told(one: Observed, steps: Sequence[str]) -> str:
    verdicts = [one.verdicts[step] for step in steps if step in one.verdicts]
    caught = next((verdict for verdict in verdicts if verdict in AGAINST), None)
    if caught:
        return str(caught)
    if not verdicts:
        return "blind spot" if one.blind_spot else ""
    notes = [str(verdict) for verdict in dict.fromkeys(verdicts) if verdict is not Verdict.PASS]
    notes += [f"{len(verdicts)} of {len(steps)} steps"] * (len(verdicts) < len(steps))
    return f"no ({', '.join(notes)})" if notes else "no"
