"""Mistakes of a new user who tests a queue for the first time: each gets a sentence that helps."""

import io
import sys
from pathlib import Path

import msgspec
import pytest
import redis
from rich.console import Console
from support.places import TARGETS
from support.runs import carry_out
from zeroloss.checker.verdicts import Fate, Verdict
from zeroloss.cli import execute
from zeroloss.faults.planned import PlannedTask
from zeroloss.history import load
from zeroloss.plan.plan import Plan, make_plan
from zeroloss.plan.requests import PlanError, parse_faults
from zeroloss.report import console_summary
from zeroloss.run import complaints
from zeroloss.run.progress import Progress
from zeroloss.run.run import run
from zeroloss.system import environments
from zeroloss.system.servers import Server
from zeroloss.target import Target, load_target

APPS = str(Path(TARGETS).with_name("first_hour.py"))


def test_an_enqueue_that_never_returns_ends_the_run_with_what_it_should_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complaints, "HANG_S", 0.5)
    said = io.StringIO()
    plan = make_plan(
        target=f"{APPS}:Hangs", tasks=20, faults=parse_faults("none", None), seed=1, server="embedded",
        appendfsync="off", workers=1,
    )  # fmt: skip
    target = load_target(f"{APPS}:Hangs")
    monkeypatch.setattr("zeroloss.run.run.FIRST_TASK_S", 3.0)
    progress = Progress(Console(file=said))
    outcome = run(plan, target, directory=tmp_path / "run", command=["zeroloss", "run"], progress=progress)
    assert outcome.failure is None
    assert outcome.result.verdict is Verdict.INCONCLUSIVE
    assert "enqueue has not returned for" in said.getvalue()
    assert "It must return once the queue has accepted the task." in said.getvalue()


def test_a_run_whose_bodies_end_at_once_does_not_wait_for_one_and_says_how_long_they_should_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda _progress, line: said.append(line))
    result = carry_out(tmp_path, f"{APPS}:Instant", "worker-sigkill:count=3", tasks=60).result
    assert [line for line in said if 'payload["work_ms"]' in line]
    missed = [fault.evidence for fault in result.faults if fault.state == "missed"]
    assert "No worker was inside a task, and nothing was left to wait for." in missed


def test_an_asyncio_client_submits_all_tasks_on_one_event_loop(tmp_path: Path) -> None:
    result = carry_out(tmp_path, f"{APPS}:Asyncio", "none", tasks=20).result
    assert (result.verdict, result.counts) == (Verdict.PASS, {"DONE": 20}), result.because


def test_a_record_alone_does_not_show_whether_its_task_waits_and_census_is_asked_for(tmp_path: Path) -> None:
    result = carry_out(tmp_path, f"{APPS}:KeepsRecords", "none", tasks=20, arranged=briefly).result
    assert result.verdict is Verdict.INCONCLUSIVE, result.because
    (lost,) = result.tasks(Fate.UNDECIDED)
    assert f"in the string job:{lost}" in result.because
    assert "Implement census() in the target" in result.because
    assert "waiting" not in result.because


def test_the_reason_that_a_queue_gives_is_in_console_report_junit_and_json(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, f"{APPS}:Sweeps", "none", tasks=20, arranged=briefly)
    assert outcome.result.counts["FAILED"] == 1, outcome.result.because
    console = Console(file=io.StringIO(), width=200)
    console.print(console_summary(outcome.result))
    texts = [console.file.getvalue()]
    texts += [(tmp_path / "run" / name).read_text() for name in ("report.html", "junit.xml", "result.json")]
    assert [text.count("swept") > 0 for text in texts] == [True] * 4
    assert not [text for text in texts if "without a reason" in text]


def test_a_loss_that_a_scan_would_have_found_in_redis_is_not_waited_for_three_times(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, f"{TARGETS}:Forgets", "none", tasks=200, work_ms=(1, 2))
    assert outcome.result.verdict is Verdict.VIOLATION
    assert [event.phase for event in load(tmp_path / "run") if event.kind == "poke"] == []


@pytest.mark.parametrize("server", ["embedded", "container", "sentinel", "sentinel-url", "cluster"])
def test_a_durability_that_the_server_has_no_replicas_for_is_refused_before_anything_starts(server: str) -> None:
    with pytest.raises(PlanError, match=f"--durability replicas:9 can't be met: --redis {server} has"):
        make_plan(
            target="brpop", tasks=1, faults=[], seed=1, server=server, appendfsync="off", workers=1,
            durability="replicas:9",
        )  # fmt: skip


def test_a_server_with_a_url_is_asked_for_its_replicas_before_the_workers_start(
    embedded: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with redis.Redis.from_url(embedded.url) as client:
        client.flushall()
    words = ["run", "--target", "brpop", "--redis", embedded.url, "--faults", "none", "--tasks", "1"]
    assert execute([*words, "--durability", "replicas:9", "--out", str(tmp_path / "run")]) == 2
    assert "--durability replicas:9 can't be met: the server has no replicas." in capsys.readouterr().err


def test_sys_executable_is_the_python_of_the_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    monkeypatch.setattr(environments, "environment", lambda _requirements, _say: tmp_path)

    class Needs(Target):
        requirements = ("saq",)
        worker = (sys.executable, "-m", "myapp.worker")
        producer = (sys.executable, "-m", "myapp.producer")

    equipped = environments.equipped(Needs, print)
    python = str(tmp_path / "bin" / "python")
    assert equipped.worker == (python, "-m", "myapp.worker")
    assert equipped.producer == (python, "-m", "myapp.producer")


def briefly(plan: Plan) -> Plan:
    """Return the plan with short bodies that start at once, so the run is short."""

    tasks = [PlannedTask(task.id, 0.0, 5) for task in plan.tasks]
    return msgspec.structs.replace(plan, tasks=tasks)
