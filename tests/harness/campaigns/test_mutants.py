"""The power of the harness: it catches queues that are broken in one named way, for that reason."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from zeroloss.campaigns.mutation import Mutation, Row, Trial, categories, caught, choose, mutate
from zeroloss.campaigns.mutation_report import mutation_table
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import LIVENESS_DEFECTS, VIOLATIONS, Verdict
from zeroloss.cli import execute
from zeroloss.invariants import INVARIANTS
from zeroloss.mutants.mutant import LEAK, OVERTAKEN, UNEXPLAINED, load_mutants
from zeroloss.mutants.patching import edit, patch
from zeroloss.mutants.profiles import PROFILES, Profile
from zeroloss.mutants.target import spec_of
from zeroloss.plan.plan import Plan, encode
from zeroloss.reference.queue.connection import Script
from zeroloss.target import load_target

MUTANTS = load_mutants()
QUICK = "payload-by-cjson,gives-up-at-once,recovery-keeps-the-attempt"

PUT_EACH_IN = """
import os, sys
from zeroloss.mutants.mutant import load_mutants
for name, mutant in load_mutants().items():
    child = os.fork()
    if child == 0:
        try:
            mutant.apply()
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_there_are_at_least_twenty_and_each_says_what_it_breaks_and_how_it_is_caught() -> None:
    assert len(MUTANTS) >= 20
    names = {fate.value for fate in VIOLATIONS | LIVENESS_DEFECTS} | {UNEXPLAINED, OVERTAKEN, LEAK}
    names |= {promise.name.upper() for promise in judge([]).promises}
    for mutant in MUTANTS.values():
        assert mutant.defect.endswith("."), mutant.name
        assert bool(mutant.expects) != bool(mutant.blind_spot), mutant.name
        assert set(mutant.expects) <= names, mutant.name
        assert mutant.breaks in INVARIANTS, mutant.name
        assert mutant.profile is PROFILES[mutant.profile.name], mutant.name


def test_every_profile_shows_something() -> None:
    assert {mutant.profile.name for mutant in MUTANTS.values()} == set(PROFILES)


def test_every_defect_can_still_be_put_into_the_reference() -> None:
    environment = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(
        [sys.executable, "-c", PUT_EACH_IN], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


@pytest.mark.parametrize("name", [*MUTANTS, *(f"reference-{profile}" for profile in PROFILES)])
def test_a_plan_can_name_it_and_its_target_is_found(name: str) -> None:
    target = load_target(spec_of(name))
    assert target.name == name
    assert target.worker[3:] != load_target("reference").worker[3:] or name.startswith("reference-")
    assert target.worker[2].startswith("zeroloss.")  # independent of the current folder


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_a_profile_draws_the_same_plan_from_the_same_seed(profile: Profile) -> None:
    drawn = [encode(profile.plan(seed=seed, target="reference", server="embedded")) for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_no_task_of_a_profile_is_larger_than_its_queue_takes(profile: Profile) -> None:
    largest = int(load_target(spec_of(f"reference-{profile.name}")).env["ZEROLOSS_MAX_TASK_BYTES"])
    tasks = profile.plan(seed=1, target="reference", server="embedded").tasks
    assert max(len(task.text().encode()) for task in tasks) < largest


def test_the_default_profile_is_what_a_run_does_without_options(tmp_path: Path) -> None:
    words = ["run", "--redis", "embedded", "--seed", "3", "--out", str(tmp_path / "run")]
    planned: list[Plan] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("zeroloss.cli.runs.carry_out", lambda plan, *_, **__: planned.append(plan) or 0)
        assert execute(words) == 0
    assert encode(planned[0]) == encode(PROFILES["default"].plan(seed=3, target="reference", server="embedded"))


def test_a_blind_spot_is_run_only_where_it_is_named() -> None:
    named = [name for name, one in MUTANTS.items() if one.blind_spot]
    assert {mutant.name for mutant in choose(None)} == MUTANTS.keys() - set(named)
    assert len(choose(None, blind_spots=True)) == len(MUTANTS)
    assert [mutant.name for mutant in choose(",".join(named))] == named


def test_a_broken_promise_is_a_category_by_its_name() -> None:
    result = judge([])
    broken = [msgspec.structs.replace(one, broken=["so"]) for one in result.promises if one.name.startswith("backoff")]
    assert categories(msgspec.structs.replace(result, promises=broken)) == ["BACKOFF"]


def test_the_tasks_that_misbehave_are_as_many_as_the_profile_says() -> None:
    plan = PROFILES["handlers"].plan(seed=1, target="reference", server="embedded")
    behaviours = [task.behaviour for task in plan.tasks if task.behaviour]
    assert {name: behaviours.count(name) for name in behaviours} == dict(PROFILES["handlers"].behaviours)
    assert len(plan.doomed) == 22
    assert all("behaviour" in task.task().payload for task in plan.tasks if task.behaviour)


def test_a_defect_that_has_nothing_to_replace_is_an_error_and_no_healthy_queue() -> None:
    class Owner:
        script = Script("return 1")

    with pytest.raises(ValueError, match="does not contain"):
        edit(Owner, "script", "return 2", "")
    with pytest.raises(AttributeError):
        patch(Owner, "renamed", None)


def test_mutants_are_caught_in_real_runs_and_the_reference_passes_in_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = execute(["mutants", "--only", QUICK, "--out", str(tmp_path / "mutants")])
    said = capsys.readouterr().out
    assert status == 0, said
    assert "3 of 3 mutants were caught; the reference passed under the same 2 profiles." in said
    assert "mutants `run` catches" in said  # the measured share of this version
    for name, category in (
        ("payload-by-cjson", "CORRUPT"),
        ("gives-up-at-once", "FAILED"),
        ("recovery-keeps", "ATTEMPTS_GROW"),
    ):
        assert any(name in line and "caught" in line and category in line for line in said.splitlines()), said


def test_a_mutant_whose_defect_does_not_show_is_tried_again_and_survives_and_that_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroloss.campaigns.mutation.AGAIN_MAX", 1)
    # The mutant drops one task in 500, and this profile has fewer.
    said: list[Trial] = []
    mutation = mutate(
        [replace(MUTANTS["canary"], profile=PROFILES["calm"])],
        runs=1,
        jobs=2,
        seed=1,
        server="embedded",
        directory=tmp_path,
        say=said.append,
    )
    assert {trial.verdict for trial in said} == {Verdict.PASS}
    assert sorted((trial.target, trial.seed) for trial in said) == [("canary", 1), ("canary", 2), ("reference-calm", 1)]
    assert (mutation.survivors, mutation.doubtful, mutation.exit_code) == (["canary"], [], 1)
    assert "0 of 1 mutants were caught; not caught: canary" in _shown(mutation)


def test_a_catch_means_nothing_where_the_reference_does_not_pass() -> None:
    caught = _row("canary", caught=True)
    doubtful = Mutation(controls=[_row("reference-default", caught=True)], mutants=[caught])
    assert (doubtful.doubtful, doubtful.exit_code) == (["default"], 4)
    assert "This count is invalid under default: the reference did not pass there." in _shown(doubtful)
    assert Mutation(controls=[_row("reference-default", caught=False)], mutants=[caught]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "nobody"], "There is no mutant 'nobody'; there are plain-brpop, "),
        (["--only", ","], "--only names no mutant."),
        (["--runs", "0"], "--runs must be at least 1, not 0."),
        (["--jobs", "0"], "--jobs must be at least 1, not 0."),
    ],
)
def test_a_senseless_option_is_refused_in_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["mutants", *arguments, "--out", str(tmp_path / "mutants")]) == 2
    assert capsys.readouterr().err.startswith(f"zeroloss: {sentence}")


def test_a_mutant_is_chosen_once_however_often_it_is_named() -> None:
    assert [mutant.name for mutant in choose("canary, canary")] == ["canary"]


def _row(target: str, *, caught: bool = False, verdict: Verdict | None = None, trials: Sequence[Trial] = ()) -> Row:
    trial = Trial(
        target=target,
        profile="default",
        seed=1,
        verdict=verdict or (Verdict.VIOLATION if caught else Verdict.PASS),
        categories=["LOST"] if caught else [],
        because="",
        seconds=1.0,
        caught=caught,
    )
    return Row(target=target, profile="default", expects=["LOST"], defect="", trials=list(trials) or [trial])


def _shown(mutation: Mutation) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(mutation_table(mutation))
    return captured.get()


def test_a_run_that_shows_nothing_speaks_neither_for_the_reference_nor_against_it() -> None:
    caught = _row("canary", caught=True)
    nothing = _row("reference-default", caught=False, verdict=Verdict.INCONCLUSIVE)
    passed = _row("reference-default", caught=False)
    both = [trial for row in (nothing, passed) for trial in row.trials]
    assert Mutation(controls=[nothing], mutants=[caught]).doubtful == ["default"]
    assert Mutation(controls=[_row("reference-default", trials=both)], mutants=[caught]).doubtful == []


@pytest.mark.parametrize("verdict", Verdict)
def test_a_mutant_is_caught_only_by_a_verdict_that_makes_the_exit_status_tell(verdict: Verdict) -> None:
    against = {Verdict.VIOLATION, Verdict.LIVENESS, Verdict.DUPLICATES, Verdict.LEAK}
    assert caught("newest-first", verdict, [OVERTAKEN], [OVERTAKEN]) == (verdict in against)
    assert not caught("newest-first", verdict, [UNEXPLAINED], [OVERTAKEN])
    assert all(one.exit_code for one in against)


def test_a_campaign_that_was_broken_off_is_resumed_without_repeating_its_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = [_trial("reference-kills"), _trial("plain-brpop", caught=True)]
    lines = b"".join(msgspec.json.encode(trial) + b"\n" for trial in done)
    (tmp_path / "trials.jsonl").write_bytes(lines + b'{"target":"pl')
    assert execute(["mutants", "--only", "plain-brpop", "--resume", str(tmp_path)]) == 0
    assert "1 of 1 mutants were caught" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []  # no trial was run
    assert (tmp_path / "trials.jsonl").read_bytes() == lines


def test_nothing_can_be_resumed_where_no_campaign_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["mutants", "--resume", str(tmp_path)]) == 2
    assert "it holds no trials.jsonl" in capsys.readouterr().err


def _trial(target: str, *, caught: bool = False) -> Trial:
    verdict = Verdict.VIOLATION if caught else Verdict.PASS
    given = {"categories": ["LOST"] if caught else [], "because": "", "seconds": 1.0}
    return Trial(target=target, profile="kills", seed=1, verdict=verdict, caught=caught, **given)


def test_a_profile_without_later_traffic_keeps_no_task_for_a_fault() -> None:
    made = {
        name: PROFILES[name].plan(seed=1, target="reference", server="embedded").tasks for name in ("burst", "down")
    }
    assert not any(task.fault or task.at_s for task in made["burst"])
    assert any(task.fault for task in made["down"])


def test_mutants_are_listed_with_their_defects_and_none_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["mutants", "--list", "--only", "plain-brpop,dead-letters-expire"]) == 0
    printed = capsys.readouterr().out
    assert "plain-brpop" in printed
    assert "The dead letters expire" in printed
    assert "Directory" not in printed
