"""A proof can be interrupted: finished parts are kept, and interrupted parts are repeated or continued."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import msgspec
import pytest
from support.histories import Story
from zeroloss.campaigns import prove as module
from zeroloss.campaigns.certificate import Certificate
from zeroloss.campaigns.mutation import Mutation
from zeroloss.campaigns.prove import EFFORTS, Effort, PartFailed, prove
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Verdict
from zeroloss.cli import execute
from zeroloss.enumerate.table import Report

REPORT = Report(
    verdict=Verdict.PASS, exit_code=0, target="reference", server="embedded", durability="none", recover_within_s=1.0,
    planned=9, reached=9, seconds=1.0, versions={}, scripts={}, notes=[], rows=[],
)  # fmt: skip
RESULT = msgspec.structs.replace(judge(Story().events), verdict=Verdict.PASS, seed=1)
VIOLATED = msgspec.structs.replace(RESULT, verdict=Verdict.VIOLATION, seed=2)
RESULTS = {"enumeration.json": REPORT, "result.json": RESULT, "mutants.json": Mutation(controls=[], mutants=[])}
FEW = replace(EFFORTS["quick"], runs=3)


class Parts:
    """Stands in for the commands of the parts: each writes its result; the part `broken` is interrupted before that.

    With a part `failing`, the first run lasts until it is stopped.
    """

    def __init__(self) -> None:
        self.carried_out: list[str] = []
        self.ended: list[str] = []
        self.broken = self.failing = ""

    def __call__(self, words: Sequence[str], _log: Path, result: Path, stopping: Event) -> bytes:
        place = result.parent
        assert words[-2:] in (["--out", str(place)], ["--resume", str(place)])
        assert (words[-2] == "--resume") is place.exists()
        place.mkdir(exist_ok=True)
        if place.name == self.broken:
            (place / module.CONTINUED.get(self.broken, "plan.json")).touch()
            raise KeyboardInterrupt
        if self.failing and place.name == "run-1":
            assert stopping.wait(10.0)
            self.ended.append(place.name)
            raise PartFailed("It was ended.")
        self.carried_out.append(" ".join([place.name, words[-2]]))
        what = VIOLATED if place.name == self.failing else RESULTS[result.name]
        result.write_bytes(msgspec.json.encode(what))
        return result.read_bytes()


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    made = Parts()
    monkeypatch.setattr(module, "_run_part", made)
    return made


def go(directory: Path, effort: Effort = FEW, seed: int = 1) -> Certificate:
    return prove(effort, target="reference", server="embedded", seed=seed, directory=directory, say=lambda _: None)


@pytest.mark.parametrize(("broken", "how"), [("enumeration", "--resume"), ("run-2", "--out"), ("mutants", "--resume")])
def test_a_proof_goes_on_where_it_was_interrupted(broken: str, how: str, parts: Parts, tmp_path: Path) -> None:
    parts.broken = broken
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path)
    parts.broken = ""
    certificate = go(tmp_path)
    others = {"enumeration", "run-1", "run-2", "run-3", "mutants"} - {broken}
    assert sorted(parts.carried_out) == sorted([f"{broken} {how}", *(f"{one} --out" for one in others)])
    assert certificate.runs == 3
    assert len(certificate.commands) == 5


def test_a_conclusive_failure_ends_what_is_under_way(parts: Parts, tmp_path: Path) -> None:
    parts.failing = "run-2"
    certificate = go(tmp_path, replace(FEW, runs=1_000))
    assert certificate.refused[-1] == "Nothing more was run after the run with seed 2, whose failure is conclusive."
    assert parts.carried_out == ["enumeration --out", "run-2 --out"]
    assert parts.ended == ["run-1"]


def test_a_proof_with_too_few_runs_is_continued_with_more(parts: Parts, tmp_path: Path) -> None:
    go(tmp_path)
    parts.carried_out = []
    assert go(tmp_path, replace(FEW, runs=5)).runs == 5
    assert sorted(parts.carried_out) == ["run-4 --out", "run-5 --out"]


def test_a_proof_of_something_else_is_not_continued(parts: Parts, tmp_path: Path) -> None:
    go(tmp_path)
    with pytest.raises(PartFailed, match="can't be continued: its seed was 1 and is 2 now"):
        go(tmp_path, seed=2)
    assert len(parts.carried_out) == 5


def test_a_directory_without_a_proof_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["prove", "--resume", str(tmp_path)]) == 2
    said = f"zeroloss: There is nothing to resume in {tmp_path}: it holds no proof.json."
    assert " ".join(capsys.readouterr().err.split()) == said
