"""Shrinking: a bounded search for a smaller plan that fails in the same way, with a record of all tries."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.places import ROOT, TARGETS
from support.waiting import wait_until
from zeroloss.campaigns.shrink import Try, minimise
from zeroloss.cli import execute
from zeroloss.plan.plan import Plan, load_plan

BURIES = f"{TARGETS}:Buries"
"""A target that dead-letters its first task, with or without faults."""


@given(culprits=st.sets(st.integers(0, 39), max_size=4), count=st.integers(40, 60))
def test_the_shrunk_plan_is_the_cause_and_nothing_else(culprits: set[int], count: int) -> None:
    assert minimise(range(count), culprits.issubset) == sorted(culprits)


def test_no_part_is_asked_about_twice() -> None:
    asked: list[tuple[int, ...]] = []

    def is_same(part: list[int]) -> bool:
        asked.append(tuple(part))
        return {3, 11} <= set(part)

    assert minimise(range(16), is_same) == [3, 11]
    assert len(asked) == len(set(asked))


def test_one_of_many_is_found_in_as_many_steps_as_it_can_be_halved() -> None:
    asked: list[int] = []

    def is_same(part: list[int]) -> bool:
        asked.append(len(part))
        return 0 in part

    assert minimise(range(1024), is_same) == [0]
    assert len(asked) <= 12


@pytest.fixture(scope="module")
def buried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that failed because of its first task."""
    directory = tmp_path_factory.mktemp("buried") / "run"
    words = ["run", "--target", BURIES, "--redis", "embedded", "--seed", "1", "--tasks", "8", "--faults", "none"]
    assert execute([*words, "--out", str(directory)]) == 1
    return directory


def tries_of(directory: Path) -> list[Try]:
    return [msgspec.json.decode(line, type=Try) for line in (directory / "tries.jsonl").read_bytes().splitlines()]


def test_a_run_that_went_wrong_becomes_that_task_and_one_that_ran_and_what_was_tried_is_on_record(
    buried: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smaller = tmp_path / "smaller"
    assert execute(["shrink", str(buried), "--tries", "1", "--out", str(smaller)]) == 0
    plan, original = load_plan(smaller / "plan.json"), load_plan(buried / "plan.json")
    # The first task alone would be INCONCLUSIVE: no task body would be recorded.
    assert (plan.faults, plan.tasks) == ([], original.tasks[:2])
    tries = tries_of(smaller)
    assert [(one.verdict, one.shows, one.same) for one in tries if one.same] == [("VIOLATION", "FAILED", True)] * 3
    assert [one.verdict for one in tries if one.tasks == 1] == ["INCONCLUSIVE", "PASS"]
    said = capsys.readouterr().out
    assert "try 1: 0 faults, 8 tasks: VIOLATION (FAILED), as before" in said
    assert f"From 1 fault and 8 tasks to 0 faults and 2 tasks, in {len(tries)} runs; still VIOLATION." in said
    assert f"zeroloss replay {smaller / 'plan.json'}" in said


def test_where_nothing_that_was_tried_failed_as_before_no_verdict_is_claimed(
    buried: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For example after a repair of the queue."""
    shutil.copytree(buried, tmp_path / "run")
    result = (tmp_path / "run" / "result.json").read_text()
    (tmp_path / "run" / "result.json").write_text(result.replace("VIOLATION", "LIVENESS", 1))
    assert execute(["shrink", str(tmp_path / "run"), "--runs", "1"]) == 0
    said = capsys.readouterr().out
    assert (
        "No smaller plan failed as before, in 1 run. The plan itself, of 1 fault and 8 tasks, was not repeated." in said
    )
    assert "still LIVENESS" not in said


def test_its_runs_are_bounded_and_the_best_so_far_is_kept(
    buried: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smaller = tmp_path / "smaller"
    assert execute(["shrink", str(buried), "--runs", "1", "--out", str(smaller)]) == 0
    assert [one.number for one in tries_of(smaller)] == [1]
    assert load_plan(smaller / "plan.json").faults == []
    assert len(load_plan(smaller / "plan.json").tasks) == 8
    assert "The limit of 1 run was reached; allow more with --runs." in capsys.readouterr().out


def test_an_interrupted_shrinking_leaves_the_best_so_far(buried: Path, tmp_path: Path) -> None:
    shrinking = subprocess.Popen(
        [sys.executable, "-m", "zeroloss", "shrink", str(buried), "--out", "smaller"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((tmp_path / "smaller" / "try-001" / "run" / "events").is_dir, timeout_s=30)
    shrinking.send_signal(signal.SIGINT)
    output, errors = shrinking.communicate(timeout=30)
    assert shrinking.returncode == 130, errors
    assert "Interrupted; the plan below is the smallest so far." in errors
    assert "zeroloss replay smaller/plan.json" in output
    assert "Traceback" not in output + errors
    plan: Plan = load_plan(tmp_path / "smaller" / "plan.json")
    assert len(plan.tasks) == 8


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{tmp}/nothing"], "can't be read"),
        (["{run}", "--runs", "0"], "--runs must be more than 0"),
        (["{run}", "--minutes", "-1"], "--minutes must be more than 0"),
        (["{run}", "--tries", "0"], "--tries must be more than 0"),
        (["{run}", "--out", "{run}"], "exists and is not an empty directory"),
    ],
)
def test_a_run_that_cannot_be_shrunk_is_named_in_one_sentence(
    words: list[str], says: str, buried: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["shrink", *(word.format(tmp=tmp_path, run=buried) for word in words)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_run_that_did_not_go_wrong_is_not_shrunk(
    buried: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("plan.json", "result.json"):
        text = (buried / name).read_text().replace('"VIOLATION"', '"PASS"')
        (tmp_path / name).write_text(text)
    assert execute(["shrink", str(tmp_path)]) == 2
    assert "is PASS: only a VIOLATION or LIVENESS can be shrunk" in capsys.readouterr().err
