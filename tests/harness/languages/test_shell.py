"""Workers in Shell: the copied ledger, and the verdicts of runs that kill workers."""

from pathlib import Path

from support.languages import assert_judged_rightly


def test_a_worker_in_shell_is_judged_rightly_when_it_is_killed_in_the_middle_of_tasks(tmp_path: Path) -> None:
    assert_judged_rightly(tmp_path, "shell")
