"""Small whole runs with real servers, workers and kills."""

import io
import math
import time
from pathlib import Path

import pytest
from rich.console import Console
from support.apps.lazy_worker import TASKS
from support.places import TARGETS
from support.runs import carry_out
from zeroloss.checker.verdicts import Fate, Verdict
from zeroloss.history import Census, Poke, Submit, load
from zeroloss.history import Run as RunEvent
from zeroloss.plan.plan import load_plan, make_plan
from zeroloss.plan.requests import parse_faults
from zeroloss.run import starvation
from zeroloss.run.progress import Progress
from zeroloss.run.run import HarnessError, Outcome, run
from zeroloss.system.sessions import bearing
from zeroloss.target import TargetError, load_target


def phases(directory: Path) -> list[str]:
    return [event.phase for event in load(directory / "run") if isinstance(event, RunEvent)]


def pokes(directory: Path) -> list[str]:
    return [event.phase for event in load(directory / "run") if isinstance(event, Poke)]


def test_the_reference_loses_nothing_when_its_workers_are_killed_in_mid_task(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, "reference", "worker-sigkill:count=3")
    assert outcome.failure is None
    result = outcome.result
    assert (result.verdict, result.because) == (Verdict.PASS, result.because)
    assert (result.kills.planned, result.kills.mid_task) == (3, 3)
    assert set(result.fates.values()) <= {Fate.DONE, Fate.DUPLICATE}
    assert all(redelivery.ms is not None for redelivery in result.redeliveries)
    assert phases(tmp_path) == ["begin", "healed", "drained", "end"]


def test_the_baseline_run_of_the_reference_has_no_duplicates(tmp_path: Path) -> None:
    result = carry_out(tmp_path, "reference", "none").result
    assert result.verdict is Verdict.PASS
    assert result.counts == {"DONE": 60}
    assert result.exits == []
    assert result.leftovers == []


def test_the_reference_loses_nothing_when_its_server_is_killed_under_load(tmp_path: Path) -> None:
    result = carry_out(tmp_path, "reference", "server-sigkill:count=2:down_s=0.3", tasks=200).result
    assert result.verdict is Verdict.PASS, result.because
    assert [fault.state for fault in result.faults] == ["effective", "effective"]


def test_a_queue_that_pops_loses_what_its_killed_workers_held(tmp_path: Path) -> None:
    result = carry_out(tmp_path, "brpop", "worker-sigkill:count=3").result
    assert result.verdict is Verdict.VIOLATION
    assert result.counts["LOST"] == 3
    struck = {task for fault in result.faults for task in fault.tasks_hit}
    assert struck == set(result.tasks(Fate.LOST))


def test_a_list_that_nobody_reads_again_strands_what_killed_workers_held(tmp_path: Path) -> None:
    result = carry_out(tmp_path, "shared-list", "worker-sigkill:count=2").result
    assert result.verdict is Verdict.LIVENESS
    assert result.counts["STUCK"] == 2
    assert pokes(tmp_path) == ["task", "restart"]


def test_a_task_that_moves_only_when_a_new_one_comes_needs_traffic(tmp_path: Path) -> None:
    result = carry_out(tmp_path, f"{TARGETS}:NeedsTraffic", "none", tasks=TASKS).result
    assert result.verdict is Verdict.LIVENESS
    assert result.counts["NEEDS_TRAFFIC"] == 1
    assert pokes(tmp_path) == ["task"]


def test_a_task_that_moves_only_when_a_worker_starts_needs_a_restart(tmp_path: Path) -> None:
    result = carry_out(tmp_path, f"{TARGETS}:NeedsRestart", "none", tasks=20).result
    assert result.verdict is Verdict.LIVENESS
    assert result.counts["NEEDS_RESTART"] == 1
    assert pokes(tmp_path) == ["task", "restart"]


def test_a_task_given_up_on_record_is_not_waited_for_and_not_poked(tmp_path: Path) -> None:
    result = carry_out(tmp_path, f"{TARGETS}:Buries", "none", tasks=20).result
    assert result.counts == {"FAILED": 1, "DONE": 19}  # the workload did not ask for a failure
    assert pokes(tmp_path) == []
    assert "drained" in phases(tmp_path)


def test_a_run_in_which_nothing_could_be_killed_mid_task_is_inconclusive(tmp_path: Path) -> None:
    result = carry_out(tmp_path, "brpop", "worker-sigkill:count=1:patience_s=0", tasks=1, seed=3).result
    assert result.verdict is Verdict.INCONCLUSIVE
    assert [fault.state for fault in result.faults] == ["missed"]


def test_a_queue_whose_task_body_records_nothing_is_not_accused_of_losing_it_all(tmp_path: Path) -> None:
    result = carry_out(tmp_path, f"{TARGETS}:Unrecorded", "none", tasks=20).result
    assert (result.verdict, result.exit_code) == (Verdict.INCONCLUSIVE, 4)
    assert "does your task call `effect`, and is ZEROLOSS_LEDGER set in that process?" in result.because


def test_a_queue_that_recovers_much_later_than_it_promises_while_its_workers_idle_is_LIVENESS(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starvation, "CROWDED", math.inf)  # on a machine crowded by tests nothing would count as late
    # The queue counts from the claim, and a kill may hit at the end of a body: short bodies leave most of the 5 s.
    result = carry_out(tmp_path, f"{TARGETS}:Late", "worker-sigkill:count=3", tasks=100, work_ms=(20, 200)).result
    assert (result.verdict, result.exit_code) == (Verdict.LIVENESS, 3), result.because
    assert result.late
    assert all(one.ms is not None and one.ms > 4_000 for one in result.late)
    assert set(result.counts) <= {"DONE", "DUPLICATE"}


def say_of(directory: Path, target: str, faults: str, tasks: int) -> tuple[Outcome, str, int]:
    """Run the target. Return the outcome, the console's text, and the number of submitted tasks."""
    found, said = load_target(target), io.StringIO()
    plan = make_plan(
        target=target, tasks=tasks, faults=parse_faults(faults, None), seed=1, server="embedded", appendfsync="off",
        workers=1,
    )  # fmt: skip
    progress = Progress(Console(file=said))
    outcome = run(plan, found, directory=directory / "run", command=["zeroloss", "run"], progress=progress)
    return outcome, said.getvalue(), len({event.task for event in load(directory / "run") if isinstance(event, Submit)})


def test_a_client_that_raises_for_each_task_ends_the_run_early_and_is_named(tmp_path: Path) -> None:
    outcome, said, submitted = say_of(tmp_path, f"{TARGETS}:Raises", "worker-sigkill:count=3", tasks=2_000)
    assert outcome.failure is None
    assert (outcome.result.verdict, outcome.result.exit_code) == (Verdict.INCONCLUSIVE, 4)
    assert "LookupError: no such queue: mail" in outcome.result.because
    assert said.count("LookupError: no such queue: mail") == 2  # the first error, and the reason of the run's end
    assert 20 <= submitted < 1_000
    assert set(outcome.result.counts) == {"ABSENT"}


def test_a_client_that_raises_only_later_is_named_and_does_not_end_the_run(tmp_path: Path) -> None:
    outcome, said, submitted = say_of(tmp_path, f"{TARGETS}:RaisesAfterAWhile", "none", tasks=60)
    assert said.count("LookupError: no such queue: mail") == 1
    assert submitted >= 60
    assert outcome.result.tasks(Fate.ABSENT)


def test_the_plan_is_there_before_anything_starts_and_the_run_can_be_repeated_from_it(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, f"{TARGETS}:Stumbles", "none", server="redis://127.0.0.1:1/0")
    assert outcome.failure is not None
    assert phases(tmp_path) == []
    assert load_plan(tmp_path / "run" / "plan.json").target == f"{TARGETS}:Stumbles"


def test_workers_that_end_as_soon_as_they_are_started_end_the_run_with_their_last_words(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, f"{TARGETS}:Stumbles", "none", tasks=2000)
    assert isinstance(outcome.failure, TargetError)
    assert "no such thing" in str(outcome.failure)
    assert outcome.result.verdict is Verdict.INCONCLUSIVE


def test_a_producer_that_ends_by_itself_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brpop = load_target("brpop")
    monkeypatch.setattr(brpop, "producer", ("sh", "-c", "echo out of paper; sleep 1; exit 3"))
    outcome = carry_out(tmp_path, "brpop", "none", tasks=400)
    assert isinstance(outcome.failure, HarnessError)
    assert "status 3; its last output: out of paper" in str(outcome.failure)


def test_the_census_of_a_drained_run_is_the_targets_own_where_it_has_one(tmp_path: Path) -> None:
    carry_out(tmp_path, "reference", "none", tasks=20)
    done = [event for event in load(tmp_path / "run") if isinstance(event, Census) and event.phase == "done"]
    assert [(event.source, event.after, event.count) for event in done] == [("target", "end", 0)]


def test_nothing_outlives_a_run(tmp_path: Path) -> None:
    carry_out(tmp_path, "reference", "worker-sigkill:count=1", tasks=20)
    assert bearing(f"ZEROLOSS_RUN={(tmp_path / 'run').resolve()}") == []


@pytest.mark.container
def test_the_same_run_passes_against_redis_in_a_container(docker: None, tmp_path: Path) -> None:
    begun_s = time.monotonic()
    result = carry_out(
        tmp_path, "reference", "worker-sigkill:count=2,server-sigkill:count=1", server="container"
    ).result
    assert result.verdict is Verdict.PASS, result.because
    assert "container" in result.server
    assert time.monotonic() - begun_s < 60
