"""Recall: the share of mutants that each command catches with its own settings, and the wording of the figure."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from support.places import ROOT
from zeroloss.campaigns import recall_runs
from zeroloss.campaigns.chance import interval
from zeroloss.campaigns.mutation_report import recall_table
from zeroloss.campaigns.prove import EFFORTS
from zeroloss.campaigns.recall import Observed, Recall, Share, recall_page, recall_sentences, shipped_recall
from zeroloss.campaigns.recall_runs import Step, commands, measure
from zeroloss.checker.verdicts import AGAINST, Verdict
from zeroloss.cli import execute
from zeroloss.mutants.mutant import ON_A_CLUSTER, PROTOCOL, load_mutants

A_RUN, QUICK_RUN = "run --seed 1 --tasks 2000 --kills 50", "run --seed 1 --tasks 400 --kills 10"


def observed(mutant: str, kind: str = "payloads", **verdicts: Verdict) -> Observed:
    steps = {"a_run": A_RUN, "quick_run": QUICK_RUN, "enumeration": "enumerate"}
    told = {steps[name]: verdict for name, verdict in verdicts.items()}
    return Observed(mutant=mutant, kind=kind, defect="It is wrong.", blind_spot="", verdicts=told)


def recall_of(*mutants: Observed, reference: Verdict = Verdict.PASS) -> Recall:
    steps = {"run": [A_RUN], "prove --quick": [QUICK_RUN, "enumerate"]}
    return Recall(made="today", commands=steps, reference={A_RUN: reference}, mutants=list(mutants))


def shown(recall: Recall) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(recall_table(recall))
    return captured.get()


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=0.0001)
    assert interval(0, 10) == pytest.approx((0.0, 0.2775), abs=0.0001)
    assert interval(10, 10)[1] == pytest.approx(1.0)
    assert interval(0, 0) == (0.0, 1.0)


def test_a_mutant_is_caught_by_any_of_a_commands_steps_and_missed_by_those_that_were_not_tried() -> None:
    steps = [QUICK_RUN, "enumerate"]
    assert observed("a", quick_run=Verdict.PASS, enumeration=Verdict.VIOLATION).caught_by(steps) is True
    assert observed("a", quick_run=Verdict.LEAK).caught_by(steps) is True
    assert observed("a", quick_run=Verdict.PASS, enumeration=Verdict.PASS).caught_by(steps) is False
    assert observed("a", quick_run=Verdict.PASS).caught_by(steps) is False
    assert observed("a", a_run=Verdict.PASS).caught_by(steps) is None


def test_a_blind_spot_that_was_not_tried_counts_as_missed() -> None:
    blind = msgspec.structs.replace(observed("a"), blind_spot="Nobody looks.")
    assert blind.caught_by([A_RUN]) is False
    assert recall_of(blind).share("run") == Share(0, 1)
    assert "| a | It is wrong. | blind spot | blind spot |" in recall_page(recall_of(blind))


@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.EXCUSED, Verdict.PASS, Verdict.HARNESS_ERROR])
def test_a_verdict_that_does_not_blame_the_queue_catches_no_mutant(verdict: Verdict) -> None:
    assert observed("a", a_run=verdict).caught_by([A_RUN]) is False


def test_mutants_that_were_not_tried_are_not_counted() -> None:
    made = recall_of(
        observed("a", a_run=Verdict.VIOLATION),
        observed("b", a_run=Verdict.PASS, quick_run=Verdict.PASS),
        observed("c", "memory", a_run=Verdict.PASS),
    )
    assert made.share("run") == Share(1, 3)
    assert made.share("run", "payloads") == Share(1, 2)
    assert made.share("prove --quick") == Share(0, 1)
    assert next(recall_sentences(made)) == (
        "Of 3 mutants `run` catches 1 with its own settings: 6% to 79% of such defects at 95% confidence."
    )
    assert "| b | It is wrong. | no | no (1 of 2 steps) |" in recall_page(made)


def test_a_share_is_shown_for_each_kind_of_mutants_and_for_all() -> None:
    told = shown(recall_of(observed("a", a_run=Verdict.VIOLATION), observed("c", "memory", a_run=Verdict.PASS)))
    assert [line.split()[:4] for line in told.splitlines()[1:4]] == [
        ["payloads", "1", "of", "1"],
        ["memory", "0", "of", "1"],
        ["all", "1", "of", "2"],
    ]
    assert "means nothing" not in told


def test_a_share_means_nothing_where_the_reference_itself_is_blamed() -> None:
    told = shown(recall_of(observed("a", a_run=Verdict.VIOLATION), reference=Verdict.LIVENESS))
    assert f"These counts are invalid: the reference itself failed under {A_RUN}." in told


def test_the_steps_of_a_command_are_those_that_it_carries_out_itself() -> None:
    steps = commands(1, "embedded")
    assert steps["run"] == [A_RUN]
    assert steps["prove --quick"] == [A_RUN, f"{QUICK_RUN.replace('seed 1', 'seed 2')} @recycled", "enumerate"]
    assert steps["prove"][0] == A_RUN
    assert len(steps["prove"]) == EFFORTS["default"].runs + 1


def test_a_mutant_is_caught_in_a_real_run_and_the_campaign_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = "run --seed 1 --tasks 40 --faults none"
    monkeypatch.setattr(recall_runs, "run_step", lambda *_: step)
    said: list[Step] = []

    def measured(*asked: str) -> Recall:
        return measure(
            [load_mutants()["type-normalised"]],
            asked=asked,
            jobs=2,
            seed=1,
            server="embedded",
            directory=tmp_path,
            say=said.append,
        )

    made = measured("run")
    verdicts = {one.target: one.verdict for one in said}
    assert verdicts.keys() == {"reference", "type-normalised"}
    assert verdicts["type-normalised"] is Verdict.VIOLATION, said
    assert verdicts["reference"] not in AGAINST, said
    assert (made.share("run"), list(made.commands)) == (Share(1, 1), ["run"])
    assert made.reference == {step: verdicts["reference"]}
    assert msgspec.json.decode((tmp_path / "recall.json").read_bytes(), type=Recall).mutants == made.mutants
    said.clear()
    assert measured("run").mutants == made.mutants
    assert said == []


def test_a_step_that_comes_to_nothing_is_reported_with_its_last_words(tmp_path: Path) -> None:
    mutant = replace(load_mutants()["payload-encoded-anew"], name="nobody")
    said: list[Step] = []
    nobody = {"asked": ["run"], "jobs": 2, "seed": 1, "server": "embedded", "directory": tmp_path, "say": said.append}
    recall_runs.measure([mutant], **nobody | {"asked": []})
    (tmp_path / "steps.jsonl").write_bytes(
        msgspec.json.encode(Step(target="reference", step=A_RUN, verdict=Verdict.PASS, because="", seconds=1.0)) + b"\n"
    )
    recall_runs.measure([mutant], **nobody)
    assert [(one.target, one.verdict) for one in said] == [("nobody", Verdict.HARNESS_ERROR)]
    assert "nobody" in said[0].because


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--recall", "enumerate"], "--recall: 'enumerate' is not one of the commands run, prove --quick, prove."),
        (["--recall", ","], "--recall names no command; there are run, prove --quick, prove."),
        (["--recall", "run", "--jobs", "0"], "--jobs must be at least 1, not 0."),
    ],
)
def test_a_recall_that_is_invalid_is_refused_in_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["mutants", *words, "--out", str(tmp_path / "mutants")]) == 2
    assert capsys.readouterr().err.strip() == f"zeroloss: {sentence}"


def test_the_shipped_recall_names_every_mutant_beside_those_of_the_protocol() -> None:
    recall = shipped_recall()
    assert recall is not None
    assert recall.commands.items() <= commands(1, "embedded").items()
    assert not recall.false_alarms
    assert {one.mutant for one in recall.mutants} == {
        name for name, mutant in load_mutants().items() if mutant.kind not in PROTOCOL + ON_A_CLUSTER
    }
    for one in recall.mutants:
        mutant = load_mutants()[one.mutant]
        assert (one.kind, one.defect, one.blind_spot) == (mutant.kind, mutant.defect, mutant.blind_spot), one.mutant


def test_the_page_about_mutants_holds_the_table_that_is_shipped() -> None:
    recall = shipped_recall()
    assert recall is not None
    assert (ROOT / "docs" / "mutants.md").read_text().endswith(recall_page(recall))
