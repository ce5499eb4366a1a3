"""When a certificate is issued, what it says, and when it is refused."""

import msgspec
import pytest
from support.histories import Story
from zeroloss.campaigns.certificate import certify, loss_probability_below
from zeroloss.campaigns.mutation import Mutation, Row, Trial
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict
from zeroloss.enumerate.table import Report


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


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ((report(verdict=Verdict.INCONCLUSIVE, reached=137), [passed()], mutation(row("a", True))), "137 of 138"),
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


def test_mutants_that_were_not_run_are_said_to_be_not_covered() -> None:
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
