"""Chaos under load: a real Locust sends tasks, the harness injects faults, and one history records both."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.histories import MS, Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Fate, Verdict
from zeroloss.cli import execute
from zeroloss.history import Load, Run, load
from zeroloss.plan.plan import load_plan, make_plan
from zeroloss.plan.requests import parse_faults
from zeroloss.report.traffic import traffic
from zeroloss.run.load import plan_load
from zeroloss.run.progress import Progress
from zeroloss.run.run import Outcome, run
from zeroloss.target import TargetError, load_target

PROFILE = """
locustfile = loadtests/locustfile.py
users = 8
spawn-rate = 8
run-time = {seconds}s
stop-timeout = 10s
user-rate = 5
work-ms = 20
batch-size = 5
slo-lost = 0
{more}
"""


def profile(directory: Path, seconds: int = 4, more: str = "") -> Path:
    path = directory / "profile.conf"
    path.write_text(PROFILE.format(seconds=seconds, more=more))
    return path


def carry_out(directory: Path, faults: str, target: str = "reference", **changes: Any) -> Outcome:
    found = load_target(target)
    asked = {"seed": 1, "server": "embedded", "appendfsync": "always", "workers": found.workers, "tasks": 1, **changes}
    plan = make_plan(target=target, faults=parse_faults(faults, None), **asked)
    progress = Progress(Console(file=io.StringIO()))
    return run(plan, found, directory=directory / "run", command=["zeroloss", "run"], progress=progress)


def test_the_reference_loses_nothing_of_what_locust_sends_while_workers_and_server_are_killed(tmp_path: Path) -> None:
    planned = plan_load(profile(tmp_path, seconds=6), None)
    outcome = carry_out(tmp_path, "worker-sigkill:count=2,server-sigkill:count=1:down_s=0.3", load=planned)
    assert outcome.failure is None, outcome.failure
    result = outcome.result
    assert (result.verdict, result.because) == (Verdict.PASS, result.because)
    assert result.kills.mid_task == 2
    assert set(result.fates.values()) <= {Fate.DONE, Fate.DUPLICATE, Fate.RECOVERED, Fate.ABSENT}
    assert result.exits == []
    assert result.load is not None
    assert result.load.requests > 50
    assert result.load.broken == []
    assert any(sentence.startswith("tasks accepted and never executed: 0") for sentence in result.load.kept)
    assert (tmp_path / "run" / "load" / "locust.html").exists()
    assert load_plan(tmp_path / "run" / "plan.json").load == planned
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Sent by Locust" in page
    drawn = traffic(load(tmp_path / "run"), result, 100_000)
    assert sum(drawn["requests"]) == pytest.approx(result.load.requests, rel=0.1)
    assert len(drawn["redelivered"]) == len([one for one in result.redeliveries if one.ms is not None])


def test_a_broken_threshold_is_a_verdict_of_its_own_with_status_3(tmp_path: Path) -> None:
    planned = plan_load(profile(tmp_path, seconds=2, more="slo-p95-ms = 0.01"), None)
    outcome = carry_out(tmp_path, "none", load=planned)
    assert outcome.failure is None, outcome.failure
    result = outcome.result
    assert (result.verdict, result.exit_code) == (Verdict.SLO, 3)
    assert result.because.startswith("The load broke a threshold: p95 of requests")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["load"]["broken"]


def test_a_locust_that_cannot_send_is_an_error_of_the_run_and_not_a_verdict(tmp_path: Path) -> None:
    planned = plan_load(profile(tmp_path, more="no-such-option = 1"), None)
    outcome = carry_out(tmp_path, "none", load=planned)
    assert "Locust ended with status 2" in str(outcome.failure)
    assert "no-such-option" in str(outcome.failure)


def test_a_target_that_takes_nothing_over_http_cannot_be_put_under_load(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, "none", target="brpop", load=plan_load(profile(tmp_path), None))
    assert isinstance(outcome.failure, TargetError)
    assert "no url()" in str(outcome.failure)


@pytest.mark.parametrize(("run_time", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5_400), ("20", 20), (None, 4)])
def test_the_length_of_a_load_is_written_as_locust_does_and_else_the_profile_s(
    run_time: str | None, seconds: int, tmp_path: Path
) -> None:
    assert plan_load(profile(tmp_path), run_time).run_s == seconds


def test_faults_are_spread_over_the_load(tmp_path: Path) -> None:
    planned = plan_load(profile(tmp_path), "5m")
    plan = make_plan(
        seed=1, target="reference", server="embedded", appendfsync="always", workers=3, tasks=1,
        faults=parse_faults("worker-sigkill:count=100", None), load=planned,
    )  # fmt: skip
    assert plan.tasks == []
    assert 200 < max(fault.at_s for fault in plan.faults) <= 0.85 * 300


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--load", "no-such.conf"), "--load: There is no profile no-such.conf; shipped ones are batches, "),
        (("--load", "PROFILE", "--run-time", "soon"), "must be like 90s"),
        (("--load", "PROFILE", "--run-time", "0"), "must be like 90s, 5m or 1h30m, not '0'"),
        (("--load", "PROFILE", "--run-time", "0h0m0s"), "must be like 90s, 5m or 1h30m, not '0h0m0s'"),
        (("--load", "ENDLESS"), "must be like 90s, 5m or 1h30m, not '0s'"),
        (("--load", "BINARY"), "can't be read: it is not text"),
        (("--load", "PROFILE", "--faults", "handler-raises"), "needs tasks of its own"),
        (("--load", "PROFILE", "--faults", "producer-sigkill"), "Locust does not follow"),
    ],
)
def test_a_load_that_is_invalid_is_refused_before_anything_starts(
    options: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "endless").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    files = {"PROFILE": profile(tmp_path), "BINARY": tmp_path / "binary"}
    files["ENDLESS"] = profile(tmp_path / "endless", seconds=0)  # to Locust, 0 means unlimited
    assert execute(["run", "--redis", "embedded", *(str(files.get(word, word)) for word in options)]) == 2
    assert sentence in capsys.readouterr().err


def under_load(story: Story) -> Story:
    return story.begin(plan={"load": "steady.conf", "faults": []})


def test_the_seconds_that_locust_tells_of_are_added_up() -> None:
    story = under_load(Story()).submit("a").ran("a")
    for requests, failures, p95_ms in ((10, 1, 30.0), (20, 0, 50.0), (30, 2, 40.0)):
        story.add("load", "second", requests=requests, failures=failures, p95_ms=p95_ms)
    result = judge(story.add("load", "end", seconds=3.0, kept=["fine"]).drained().end().events)
    assert result.verdict is Verdict.PASS
    assert result.load is not None
    assert (result.load.requests, result.load.failures, result.load.rate) == (60, 3, 20.0)
    assert result.load.p95_ms_median == 40.0


def test_a_lost_task_is_worse_than_a_broken_threshold() -> None:
    story = under_load(Story()).submit("done").ran("done").submit("a")
    story.add("load", "end", seconds=1.0, broken=["too slow"])
    result = judge(story.drained().end().events)
    assert result.verdict is Verdict.VIOLATION
    assert result.load is not None
    assert result.load.broken == ["too slow"]


def test_a_load_that_did_not_come_to_its_end_shows_nothing_either_way() -> None:
    story = under_load(Story()).submit("a").ran("a").add("load", "second", requests=1)
    result = judge(story.drained().end().events)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "The load did not end" in result.because


def test_the_backlog_is_what_is_promised_and_not_completed_second_by_second() -> None:
    story = Story().begin(at_ms=0, plan={"load": "steady.conf"})
    story.add("submit", "invoke", task="a", at_ms=100).add("submit", "ok", task="a", at_ms=200)
    story.add("submit", "invoke", task="b", at_ms=300).add("submit", "ok", task="b", at_ms=400)
    story.add("load", "second", requests=100, failures=10, at_ms=1_000)
    story.add("load", "second", requests=100, at_ms=2_500)
    story.add("effect", "begin", task="a", execution="1", at_ms=2_600).add("effect", "end", task="a", execution="1")
    story.add("load", "end", seconds=3.0, at_ms=4_000)
    drawn = traffic(story.events, judge(story.events), 100_000)
    assert drawn["step"] == 10_000
    assert drawn["backlog"] == [2, 2, 1, 1, 1]
    assert drawn["requests"] == [100, 67, 33, 0, 0]
    assert drawn["failures"] == [10, 0, 0, 0, 0]


def test_the_events_of_a_load_are_part_of_the_history() -> None:
    (event,) = Story().add("load", "second", requests=5, failures=1, p95_ms=3.5, at_ms=7).events
    assert isinstance(event, Load)
    assert (event.t, event.requests, event.failures, event.p95_ms) == (7 * MS, 5, 1, 3.5)


def test_an_ended_locust_is_not_an_exit_that_nobody_wanted() -> None:
    story = under_load(Story()).submit("a").ran("a").add("load", "end", seconds=1.0)
    story.add("process", "exit", role="load", sid=5, status=0, wanted=False)
    assert judge(story.drained().end().events).exits == []


def test_the_profile_and_its_length_are_part_of_the_command_that_is_on_record(tmp_path: Path) -> None:
    path = profile(tmp_path, seconds=2)
    words = ["run", "--redis", "embedded", "--faults", "none", "--load", str(path), "--run-time", "2s", "--seed", "1"]
    assert execute([*words, "--out", str(tmp_path / "run")]) == 0
    begin = next(event for event in load(tmp_path / "run") if isinstance(event, Run))
    assert begin.command[-4:] == ["--load", str(path), "--run-time", "2s"]
