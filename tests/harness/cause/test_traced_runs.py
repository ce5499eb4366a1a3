"""Traced runs: the story of a lost task in Redis commands. `sh ci/slow.sh explain` covers five mutants."""

import re
from pathlib import Path

import msgspec
import pytest
from support.places import APPS
from zeroloss.checker.verdicts import Fate, Result
from zeroloss.cli import execute
from zeroloss.faults.planned import PlannedTask
from zeroloss.plan.plan import Plan, make_plan
from zeroloss.plan.requests import parse_faults
from zeroloss.report.result import read

PUSHED = f"{APPS / 'first_hour.py'}:DiesBetweenLremAndRpush"


def traced(directory: Path, target: str, faults: str, tasks: int = 12) -> Result:
    words = ["run", "--target", target, "--faults", faults, "--tasks", str(tasks), "--seed", "1", "--trace"]
    words += ["--redis", "embedded", "--appendfsync", "off", "--work-ms", "20:60", "--out", str(directory / "run")]
    execute(words)
    return read(directory / "run")


def command_of(result: Result, fate: Fate) -> str:
    """Return the sentence about Redis commands in the first story with this outcome."""
    story = next(story for story in result.stories if story.fate is fate)
    return next(sentence for sentence in story.sentences if " by worker-" in sentence)


def test_a_task_that_a_killed_worker_had_popped_is_explained_by_its_pop(tmp_path: Path) -> None:
    result = traced(tmp_path, "brpop", "worker-sigkill:count=2")
    assert re.fullmatch(
        r"BRPOP by worker-\d \(process \d+\) removed it from zeroloss:pending; no later command put it back; the "
        r"process was killed \d+ ms later by fault \d \(worker-sigkill\)\.",
        command_of(result, Fate.LOST),
    )
    assert result.cause[0] == "2 tasks were lost, interrupted in their bodies."


def test_a_task_that_a_killed_worker_had_moved_aside_is_explained_by_its_move(tmp_path: Path) -> None:
    result = traced(tmp_path, "shared-list", "worker-sigkill:count=1")
    assert re.fullmatch(
        r"BRPOPLPUSH by worker-\d \(process \d+\) moved it from zeroloss:pending to zeroloss:processing; no later "
        r"command removed it from there; the process was killed \d+ ms later by fault 1 \(worker-sigkill\)\.",
        command_of(result, Fate.STUCK),
    )


def test_a_retry_that_was_lost_between_its_two_commands_is_explained_by_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = traced(tmp_path, PUSHED, "none")
    assert result.cause[0] == "1 task was lost, while being retried."
    assert re.fullmatch(
        r"LREM( \(no reply was received\))? by worker-1 \(process \d+\) removed it from zeroloss:processing; no later "
        r"command put it back; the process was killed \d+ ms later\.",
        command_of(result, Fate.LOST),
    )
    (lost,) = result.tasks(Fate.LOST)
    capsys.readouterr()
    assert execute(["explain", str(tmp_path / "run"), lost]) == 0
    told = capsys.readouterr().out
    assert [command for command in ("LPUSH", "BRPOPLPUSH", "LREM", "RPUSH") if f" {command} " in told] == [
        "LPUSH",
        "BRPOPLPUSH",
        "LREM",
    ]


def test_a_run_that_was_not_traced_is_explained_by_a_traced_replay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(
        target=PUSHED,
        tasks=5,
        faults=parse_faults("none", None),
        seed=1,
        server="embedded",
        appendfsync="off",
        workers=1,
    )
    (tmp_path / "run").mkdir()
    shortened(plan).write(tmp_path / "run" / "plan.json")
    assert execute(["explain", str(tmp_path / "run"), "--replay"]) == 0
    told = capsys.readouterr().out
    assert "1 task was lost, while being retried." in told
    assert "LREM" in told
    assert (tmp_path / "run" / "replay-traced" / "trace.jsonl").is_file()


def test_a_directory_or_a_task_that_is_not_there_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["explain", str(tmp_path / "none")]) == 2
    assert "There is no directory" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    assert execute(["explain", str(tmp_path / "run")]) == 2
    assert execute(["explain", str(tmp_path / "run"), "--redis", "redis://x"]) == 2


def shortened(plan: Plan) -> Plan:
    return msgspec.structs.replace(plan, tasks=[PlannedTask(task.id, 0.0, 5) for task in plan.tasks])
