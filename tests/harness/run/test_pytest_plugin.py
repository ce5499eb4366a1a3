"""`zeroloss` as a fixture: a queue's own tests run faults, and a failure names the lost task, the cause and place."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import ROOT
from support.processes.programs import run_pytest

QUEUE = """
from zeroloss.targets.brpop import Brpop

class MyQueue(Brpop):
    name = "my queue"
    recover_within = 0.2
"""
KILL = 'zeroloss.run({target}, faults=["worker-sigkill"], tasks=30, kills=2)'
LOSING = f"""{QUEUE}
def test_my_queue_survives(zeroloss):
    {KILL.format(target="MyQueue()")}.assert_at_least_once()
"""
QUIET = f"""{QUEUE}
import pytest

@pytest.mark.zeroloss(tasks=20)
def test_without_faults_nothing_is_lost(zeroloss):
    survived = zeroloss.run(MyQueue, faults="none")
    survived.assert_at_least_once()
    assert survived.result.counts["DONE"] == 20
"""
TWICE = f"""{QUEUE}
class Twice(MyQueue):
    unexplained_duplicates = 0

    def enqueue(self, task):
        super().enqueue(task)
        super().enqueue(task)

def run(zeroloss, target):
    return zeroloss.run(target, faults="worker-sigstop:count=1:for_s=0.2", tasks=30)

def test_nothing_is_lost(zeroloss):
    survived = run(zeroloss, Twice)
    survived.assert_at_least_once()
    assert survived.result.verdict == "DUPLICATES"

def test_nothing_ran_twice(zeroloss):
    run(zeroloss, Twice).assert_no_unexplained_duplicates()

def test_nothing_of_another_queue_ran_twice(zeroloss):
    run(zeroloss, MyQueue).assert_no_unexplained_duplicates()

def test_a_run_that_shows_nothing(zeroloss):
    zeroloss.run(MyQueue, faults="worker-sigkill:patience_s=0:count=1", tasks=1).assert_no_unexplained_duplicates()
"""


def test_a_failure_names_the_task_when_it_was_submitted_what_killed_it_where_it_was_and_what_replays_it(
    tmp_path: Path,
) -> None:
    ended = run_pytest(
        tmp_path, LOSING, "--zeroloss-seed=1", "--zeroloss-backend=embedded", "--zeroloss-artifacts=kept"
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    run = tmp_path / "kept" / "test_my_queue_survives-1"
    for line in (
        r"VIOLATION: \d tasks? (was|were) promised and lost \(LOST\)\.",
        r"zl-1-\d{7}: LOST",
        r"\d tasks? (was|were) lost, .*",
        r"  It was submitted at [\d.]+ m?s and promised at [\d.]+ m?s\.",
        r"  Process \d+ began it at [\d.]+ m?s; fault \d \(worker-sigkill\) interrupted it at .* inside a task .*",
        r"  It was not in the broker at the end\.",
        rf"replay  zeroloss replay {run}/plan\.json",
        rf"report  {run}/report\.html",
    ):
        assert re.search(f"^{line}$", ended.stdout, re.M), f"{line}\n{ended.stdout}"
    assert (run / "report.html").is_file()
    assert (run / "history.jsonl").is_file()


def test_a_queue_that_runs_tasks_twice_for_no_reason_loses_nothing_and_fails_an_assertion_of_its_own(
    tmp_path: Path,
) -> None:
    ended = run_pytest(tmp_path, TWICE, "--zeroloss-seed=3", "--zeroloss-backend=embedded", "-rA")
    for line in (
        r"PASSED test_mine.py::test_nothing_is_lost",
        r"FAILED test_mine.py::test_nothing_ran_twice.*",
        r"DUPLICATES: \d+ tasks completed more than once without a fault that explains it, "
        r"more than the target's unexplained_duplicates allows\.",
        r"zl-3-\d{7} completed 2 times: unexplained",
        r"PASSED test_mine.py::test_nothing_of_another_queue_ran_twice",
        r"FAILED test_mine.py::test_a_run_that_shows_nothing.*",
    ):
        assert re.search(f"^{line}$", ended.stdout, re.M), f"{line}\n{ended.stdout}"


def test_it_works_under_xdist_and_two_tests_do_not_get_in_each_other_s_way(tmp_path: Path) -> None:
    two = QUIET + LOSING.removeprefix(QUEUE).replace("MyQueue()", "MyQueue")
    ended = run_pytest(tmp_path, two, "-n", "2", "--zeroloss-seed=1", "--zeroloss-backend=embedded")
    assert "1 failed, 1 passed" in ended.stdout, ended.stdout + ended.stderr
    runs = {path.name for path in (tmp_path / "zeroloss-runs").iterdir() if path.is_dir()}
    assert runs == {"test_without_faults_nothing_is_lost-1", "test_my_queue_survives-1"}


def test_a_test_that_uses_the_fixture_has_the_marker_and_can_be_left_out(tmp_path: Path) -> None:
    ended = run_pytest(tmp_path, LOSING, "-m", "not zeroloss", "--strict-markers")
    assert "1 deselected" in ended.stdout, ended.stdout


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('zeroloss.run(MyQueue, faults="earthquake")', "There is no fault 'earthquake'"),
        ('zeroloss.run("nope")', "'nope' is not a target"),
        ('zeroloss.run(MyQueue, plugin=["a.py", "b.py"])', "--plugin a.py: there is no such Python file."),
        (
            "zeroloss.run(type('Inner', (MyQueue,), {'__qualname__': 'f.Inner'}))",
            "Other processes can't import f.Inner",
        ),
        ("mine = MyQueue(); mine.workers = 9; zeroloss.run(mine)", "set workers in the class"),
    ],
)
def test_a_run_that_cannot_begin_is_named_in_one_sentence(line: str, says: str, tmp_path: Path) -> None:
    ended = run_pytest(tmp_path, f"{QUEUE}\ndef test_mine(zeroloss):\n    {line}\n", "--zeroloss-backend=embedded")
    assert ended.returncode == 1
    assert says in ended.stdout, ended.stdout


def test_nothing_heavy_is_imported_where_no_test_uses_it() -> None:
    heavy = {"redis", "msgspec", "rich", "cyclopts", "jinja2", "psutil", "falcon", "zeroloss.run"}
    code = f"import sys, zeroloss.pytest_plugin; print(sorted({heavy!r} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
