"""Certificates: conditions of issue, contents, and reasons of refusal."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support.histories import Story
from zeroloss.campaigns.certificate import Certificate, certify
from zeroloss.campaigns.chance import loss_probability_below, missed_with
from zeroloss.campaigns.circumstances import circumstances_of
from zeroloss.campaigns.mutation import Mutation, Row, Trial
from zeroloss.campaigns.prove import EFFORTS, drawn, effort_name, write
from zeroloss.campaigns.recall import Observed, Recall
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Fate, FaultResult, Result, Verdict
from zeroloss.cli import execute
from zeroloss.enumerate.table import Report
from zeroloss.mutants.mutant import load_mutants


def report(**changes: object) -> Report:
    made = Report(
        verdict=Verdict.PASS,
        exit_code=0,
        target="reference",
        server="embedded",
        durability="none",
        recover_within_s=1.0,
        planned=138,
        reached=138,
        seconds=1.0,
        versions={"python": "3"},
        scripts={},
        notes=[],
        rows=[],
    )
    return msgspec.structs.replace(made, **changes)


def passed() -> Result:
    result = judge(Story().events)
    served = {"server": "embedded, AOF always", "durability": "An acknowledged write is on disk."}
    return msgspec.structs.replace(result, verdict=Verdict.PASS, seed=7, **served)


def row(target: str, *caught: bool) -> Row:
    trials = [
        Trial(
            target=target, profile="p", seed=1, verdict=Verdict.PASS, categories=[], because="", seconds=1.0, caught=one
        )
        for one in caught
    ]
    return Row(target=target, profile="p", expects=["LOST"], defect="d", trials=trials)


def mutation(*mutants: Row, control: bool = False) -> Mutation:
    return Mutation(controls=[row("reference-p", control)], mutants=list(mutants))


def test_a_certificate_tells_the_servers_of_its_parts_and_how_safe_their_writes_were() -> None:
    told = report(server="embedded, no AOF", durability="A killed server loses everything.")
    issued = certify(told, [passed()], mutation(row("a", True)), [], mutants_known=1)
    assert issued.servers == [
        "Seeded runs: embedded, AOF always. An acknowledged write is on disk.",
        "Enumeration: embedded, no AOF. A killed server loses everything.",
    ]


def test_a_certificate_makes_exactly_three_statements_with_their_numbers() -> None:
    issued = certify(
        report(), [passed()] * 10, mutation(row("a", True, True), row("b", True, False)), [], mutants_known=2
    )
    assert issued.issued
    assert issued.refused == []
    assert len(issued.statements) == 3
    assert "All 138 crash points" in issued.statements[0]
    assert "10 independent seeded runs" in issued.statements[1] and "25.9%" in issued.statements[1]
    assert "2 of 2 mutants" in issued.statements[2] and "the weakest (b) in 1 of 2 runs" in issued.statements[2]
    assert "prove" not in " ".join(issued.statements)


def test_a_certificate_says_how_many_of_its_runs_were_of_a_variant() -> None:
    varied = msgspec.structs.replace(passed(), target="reference@recycled")
    issued = certify(report(), [passed(), varied, varied], mutation(row("a", True)), [], mutants_known=1)
    assert issued.statements[1].startswith(
        "No loss in 3 independent seeded runs, of which 2 of its variant recycled: under"
    )


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ((report(verdict=Verdict.INCONCLUSIVE, reached=137), [passed()], mutation(row("a", True))), "not reached"),
        (
            (
                report(),
                [passed(), msgspec.structs.replace(passed(), verdict=Verdict.VIOLATION)],
                mutation(row("a", True)),
            ),
            "The run with seed 7 is VIOLATION",
        ),
        ((report(), [passed()], mutation(row("a", True), row("b", False, False))), "Mutants survived: b"),
        ((report(), [passed()], mutation(row("a", True), control=True)), "did not pass under the profiles p"),
        ((report(), [passed()], mutation()), "No mutant was run"),
    ],
)
def test_no_certificate_is_given_where_any_part_does_not_carry_it(
    evidence: tuple[Report, list[Result], Mutation], reason: str
) -> None:
    refused = certify(*evidence, [], mutants_known=2)
    assert not refused.issued
    assert refused.statements == []
    assert reason in " ".join(refused.refused)


def test_the_bound_on_the_probability_of_a_loss_is_the_one_of_the_rule_of_three() -> None:
    assert loss_probability_below(1) == pytest.approx(0.95)
    assert loss_probability_below(300) == pytest.approx(3 / 300, rel=0.01)


def test_mutants_that_were_not_run_are_listed_as_not_covered() -> None:
    issued = certify(report(), [passed()], mutation(row("a", True)), [], mutants_known=30)
    assert issued.not_covered[0] == "The 29 of 30 mutants that were not run."
    assert not [
        said
        for said in certify(report(), [passed()], mutation(row("a", True)), [], mutants_known=1).not_covered
        if "mutants" in said
    ]


def test_a_certificate_says_what_the_proxy_of_the_enumeration_cost() -> None:
    sentence = "Workers reached the server through the proxy: a PING takes 0.1 ms there."
    issued = certify(report(proxy=sentence), [passed()], mutation(row("a", True)), [], mutants_known=1)
    assert issued.proxy == sentence


def test_a_failover_is_covered_where_a_run_had_one() -> None:
    fault = FaultResult(1, "primary-sigkill", "effective", 0.0, "", [], 0, None, 0)
    for state, says in (("effective", False), ("missed", True)):
        hit = msgspec.structs.replace(fault, state=state)
        run = msgspec.structs.replace(passed(), faults=[hit])
        not_covered = certify(report(), [passed(), run], mutation(row("a", True)), [], mutants_known=1).not_covered
        assert any("failover" in sentence for sentence in not_covered) is says


def test_a_certificate_says_how_probably_a_rare_defect_was_missed() -> None:
    assert missed_with(300, 1_865) == pytest.approx(0.002, abs=0.0002)
    assert missed_with(10_000, 3_000) == pytest.approx(0.74, abs=0.01)
    many = msgspec.structs.replace(passed(), fates={**{f"t{n}": Fate.DONE for n in range(300)}, "no": Fate.ABSENT})
    issued = certify(report(), [many] * 10, mutation(row("a", True)), [], mutants_known=1)
    assert issued.tasks_judged == 3_000
    assert "one task in 10,000, independently, would have been missed with probability 74.1%." in issued.missed[1]
    assert issued.missed[2] == "A bound of 1% per run needs 299 runs without a loss; there were 10."


def test_a_conclusive_failure_ends_the_proof_without_runs_or_mutants() -> None:
    failed = report(verdict=Verdict.VIOLATION)
    refused = certify(failed, [], mutation(), [], mutants_known=30, stopped="the enumeration")
    assert not refused.issued
    assert refused.refused[0].startswith("The enumeration is VIOLATION")
    assert refused.refused[-1] == "Nothing more was run after the enumeration, whose failure is conclusive."
    assert refused.missed == []
    assert "No mutant" not in " ".join(refused.refused)


@pytest.mark.parametrize(
    ("enumerated", "run", "exit_code"),
    [
        (Verdict.PASS, Verdict.PASS, 0),
        (Verdict.VIOLATION, Verdict.PASS, 1),
        (Verdict.PASS, Verdict.LIVENESS, 3),
        (Verdict.PASS, Verdict.INCONCLUSIVE, 4),
    ],
)
def test_a_proof_ends_with_the_status_of_the_worst_verdict_against_the_queue(
    enumerated: Verdict, run: Verdict, exit_code: int
) -> None:
    run_result = msgspec.structs.replace(passed(), verdict=run)
    made = certify(report(verdict=enumerated), [run_result], mutation(row("a", True)), [], mutants_known=1)
    assert (made.issued, made.exit_code) == (exit_code == 0, exit_code)


def test_points_that_depend_on_timing_are_counted_apart_in_a_certificate() -> None:
    issued = certify(report(reached=136, unreachable=2), [passed()], mutation(row("a", True)), [], mutants_known=1)
    assert issued.issued
    assert "All 136 crash points" in issued.statements[0]
    assert "2 more depend on timing" in issued.statements[0]


@pytest.mark.parametrize("profile", ["quick", "quick, 3 runs at most", "default"])
def test_a_certificate_names_its_circumstances_and_a_quick_one_looks_like_what_it_is(
    profile: str, tmp_path: Path
) -> None:
    made = circumstances_of("brpop", profile)
    issued = certify(report(), [passed()], mutation(row("a", True)), [], mutants_known=1, circumstances=made)
    write(issued, tmp_path)
    page = (tmp_path / "certificate.html").read_text()
    assert made.date.endswith("UTC")
    assert "brpop.py, sha256 " in made.source
    for text in (made.date, made.source, made.machine, f"profile {profile}"):
        assert text in page
    assert ("QUICK CHECK" in page) == (profile != "default")


def test_a_target_that_git_does_not_track_is_named_by_its_digest_alone(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from zeroloss import Target\n\nclass Own(Target):\n    worker = ('true',)\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-qm", "Begin", "--allow-empty"], check=True)
    assert circumstances_of(f"{tmp_path}/own.py:Own", "default").source.endswith(", no commit")
    subprocess.run([*git, "add", "own.py"], check=True)
    subprocess.run([*git, "commit", "-qm", "Add it"], check=True)
    assert re.search(r", commit [0-9a-f]{12}$", circumstances_of(f"{tmp_path}/own.py:Own", "default").source)


def test_few_inconclusive_runs_of_many_are_not_counted_and_refuse_nothing() -> None:
    vague = msgspec.structs.replace(passed(), verdict=Verdict.INCONCLUSIVE)
    issued = certify(report(), [*[passed()] * 39, vague], mutation(row("a", True)), [], mutants_known=1)
    assert (issued.issued, issued.runs, issued.inconclusive_runs) == (True, 39, 1)
    assert "No loss in 39 independent" in issued.statements[1]
    assert not certify(report(), [passed(), vague], mutation(row("a", True)), [], mutants_known=1).issued


def test_a_certificate_says_what_share_of_the_mutants_each_command_catches_by_kind(tmp_path: Path) -> None:
    step = "run --seed 1 --tasks 2000 --kills 50"
    seen = [
        Observed(mutant=name, kind="sizes", defect="d.", blind_spot="", verdicts={step: verdict})
        for name, verdict in (("a", Verdict.VIOLATION), ("b", Verdict.PASS))
    ]
    measured = Recall(made="today", commands={"run": [step]}, reference={step: Verdict.PASS}, mutants=seen)
    issued = certify(report(), [passed()], mutation(row("a", True)), [], mutants_known=1, recall=measured)
    write(issued, tmp_path)
    page = (tmp_path / "certificate.html").read_text()
    assert "Of 2 mutants `run` catches 1" in issued.recall[0]
    assert issued.recall[0] in page
    assert "<td>sizes</td><td>1 of 2 (9% to 91%)</td>" in page
    assert "What each command catches" not in _page(certify(report(), [], mutation(), [], mutants_known=1), tmp_path)


def _page(certificate: Certificate, directory: Path) -> str:
    write(certificate, directory)
    return (directory / "certificate.html").read_text()


def test_a_proof_draws_its_mutants_by_the_seed() -> None:
    names = str(drawn(EFFORTS["default"], 1)).split(",")
    assert len(set(names)) == 10
    assert set(names) <= set(load_mutants())
    assert len({load_mutants()[name].profile.name for name in names}) == 10
    assert names == str(drawn(EFFORTS["default"], 1)).split(",")
    assert names != str(drawn(EFFORTS["default"], 2)).split(",")
    assert drawn(EFFORTS["thorough"], 1) is None


def test_the_profile_of_a_proof_says_what_was_changed() -> None:
    assert effort_name(EFFORTS["quick"]) == "quick"
    changed = replace(EFFORTS["default"], runs=299, hours=8)
    assert effort_name(changed) == "default, 299 runs at most, 8 h at most"


@pytest.mark.parametrize(("words", "says"), [(["--runs", "0"], "--runs must be"), (["--hours", "0"], "--hours must")])
def test_a_bound_that_is_invalid_is_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["prove", *words]) == 2
    assert says in capsys.readouterr().err
