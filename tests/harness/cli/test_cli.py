"""The command line: one clear sentence for invalid input, and an exit status that a pipeline can use."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.places import ROOT
from support.processes.programs import zeroloss
from support.waiting import wait_until
from zeroloss.cli import execute
from zeroloss.cli.common import say_failure
from zeroloss.faults import FAULTS
from zeroloss.history import Run, load
from zeroloss.plan.mix import listed
from zeroloss.plan.plan import load_plan
from zeroloss.system.sessions import bearing
from zeroloss.target import SHIPPED

SMALL = ["--redis", "embedded", "--seed", "1", "--tasks", "40"]
KILLS = ["--faults", "worker-sigkill", "--kills", "2"]


def begin_of(directory: Path) -> Run:
    """Return the event that begins the run's history."""
    return next(event for event in load(directory) if isinstance(event, Run))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "Unknown command"),
        (["run", "--fault", "x"], "Unknown option: --fault"),
        (["run", "--tasks", "many"], 'unable to convert "many" into int'),
        (["run", "--tasks", "0"], "--tasks must be at least 1"),
        (["run", "--seed", "-1"], "--seed must be at least 0"),
        (["run", "--appendfsync", "never"], "--appendfsync"),
        (["run", "--faults", "earthquake"], "There is no fault 'earthquake'"),
        (["run", "--faults", "mix,client-kill"], "--faults mix cannot be combined"),
        (["run", "--kills", "0"], "--kills must be at least 1, not 0"),
        (["run", "--target", "nope"], "'nope' is not a target: say one of reference, "),
        (["run", "--target", "no.such.module:Class"], "no module is named no"),
        (["run", "--target", "no/such/file.py:Class"], "there is no file no/such/file.py"),
        (["run", "--target", "zeroloss.target:Task"], "Task is not a subclass"),
        (["run", "--target", "zeroloss.target:Target"], "its `worker` must be a command"),
        (["run", "--redis", "postgres", "--out", "{tmp}/a"], "'postgres' is not a server"),
        (["run", "--redis", "redis://127.0.0.1:1/0", "--out", "{tmp}/b"], "cannot be used"),
        (
            ["run", "--redis", "redis://127.0.0.1:1/0", "--faults", "server-sigkill"],
            "does not kill a server that it did not start",
        ),
        (["run", "--durability", "replicas:0"], "--durability must be memory, fsync or replicas:N, not 'replicas:0'"),
        (["run", "--demand", "glory"], "--demand: there is no situation 'glory'"),
        (["run", "--demand", "worker-sigkill@home"], "--demand: there is no situation 'worker-sigkill@home'"),
        (["prove", "--quick", "--thorough"], "--quick and --thorough exclude each other"),
        (["prove", "--target", "nope"], "'nope' is not a target"),
        (["prove", "--redis", "redis://127.0.0.1:1/0"], "--redis"),
        (["run", "--out", "{tmp}"], "exists and is not an empty directory"),
        (["run", "--out", "{tmp}/something.txt/x"], "something.txt/x can't be made: not a directory"),
        (["compare", "--targets", "brpop", "--out", "{tmp}/something.txt/x"], "can't be made: not a directory"),
        (["mutants", "--out", "{tmp}/something.txt/x"], "can't be made: not a directory"),
        (["enumerate", "--out", "{tmp}/something.txt/x"], "can't be made: not a directory"),
        (["prove", "--out", "{tmp}/something.txt/x"], "can't be made: not a directory"),
        (["check", "{tmp}/nothing"], "There is no directory"),
        (["check", "{tmp}"], "can't be read"),
        (["check"], "--directory"),
        (["replay", "{tmp}/nothing.json"], "can't be read"),
        (["replay", "{tmp}/something.txt"], "is not a plan"),
    ],
)
def test_a_senseless_command_is_refused_in_one_sentence_with_status_2(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "something.txt").write_text("nonsense")
    assert execute([word.replace("{tmp}", str(tmp_path)) for word in arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.startswith("zeroloss: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said


def test_a_report_that_cannot_be_written_is_reported_in_one_sentence_and_is_not_a_violation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    assert execute(["run", "--target", "brpop", *SMALL, "--faults", "none", "--out", str(directory)]) == 0
    (directory / "result.json").unlink()
    (directory / "result.json").mkdir()  # stands for a read-only or full file system
    capsys.readouterr()
    assert execute(["check", str(directory)]) == 70
    said = capsys.readouterr().err
    assert said == f"zeroloss: {directory / 'result.json'}: is a directory.\n"


def test_a_mistake_of_the_harness_is_shown_with_its_traceback_and_is_not_a_violation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zeroloss.target.SHIPPED", None)
    assert execute(["targets"]) == 70
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("zeroloss: The harness failed: ")


@pytest.mark.parametrize("command", ["run", "enumerate", "prove"])
def test_for_an_invalid_target_no_directory_is_made(command: str, tmp_path: Path) -> None:
    assert execute([command, "--target", "nobody", "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


BLOCKED = """
from zeroloss.targets.brpop import Brpop
class Blocked(Brpop):
    def enqueue(self, task):
        (self.directory / "history.jsonl").mkdir(exist_ok=True)
        super().enqueue(task)
"""


def test_a_run_whose_history_cannot_be_written_is_not_a_violation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "blocked.py").write_text(BLOCKED)
    few = ["--redis", "embedded", "--tasks", "4", "--faults", "none", "--out", str(tmp_path / "run")]
    assert execute(["run", "--target", f"{tmp_path / 'blocked.py'}:Blocked", *few]) == 70
    assert capsys.readouterr().err == f"zeroloss: {tmp_path / 'run' / 'history.jsonl'}: is a directory.\n"


def test_a_traceback_that_cannot_be_kept_is_not_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "error.txt").mkdir()
    assert say_failure(RuntimeError("why"), tmp_path) == 70
    said = capsys.readouterr().err
    assert "The harness failed: RuntimeError: why" in said
    assert "error.txt" not in said


@pytest.mark.parametrize("status", [0, 1])
def test_a_target_that_ends_python_when_it_is_imported_has_no_say_in_the_status(
    status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"script_{status}.py").write_text(f"raise SystemExit({status})\n")
    assert execute(["run", "--target", f"{tmp_path / f'script_{status}.py'}:Script"]) == 70
    assert f"called sys.exit({status})" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["targets"], ["faults"], ["--help"]], ids=" ".join)
def test_a_reader_that_has_seen_enough_is_not_a_violation(words: list[str], tmp_path: Path) -> None:
    command = zeroloss(*words, cwd=tmp_path)
    assert command.stdout is not None
    assert command.stderr is not None
    command.stdout.close()  # before the first output: Python is still starting
    assert (command.wait(timeout=60), command.stderr.read()) == (141, "")
    command.stderr.close()


def test_a_result_that_cannot_be_printed_is_not_a_violation(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zeroloss", "check", "nothing"]
    with Path("/dev/full").open("w") as full:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(command, cwd=tmp_path, env=environment, stderr=full, timeout=60, check=False)
    assert ended.returncode == 70


def test_faults_lists_every_fault_with_what_it_threatens(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["faults"]) == 0
    said = capsys.readouterr().out
    for name, fault in FAULTS.items():
        assert f"{name}:count={fault.count}" in said
        assert f"Threatens {', '.join(fault.threatens) or 'nothing'}." in said


def test_targets_lists_every_shipped_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["targets"]) == 0
    said = capsys.readouterr().out
    assert [name for name in SHIPPED if name not in said] == []


def test_a_run_and_its_check_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "run"
    assert execute(["run", "--target", "brpop", *SMALL, *KILLS, "--out", str(directory)]) == 1
    said = capsys.readouterr().out
    assert "VIOLATION" in said
    assert "Server: embedded Valkey" in said
    assert str(directory / "report.html") in said
    assert f"repeat        zeroloss replay {directory / 'plan.json'}\n" in said
    for name in ("plan.json", "history.jsonl", "result.json", "junit.xml", "report.html"):
        assert (directory / name).is_file()
    assert execute(["check", str(directory)]) == 1
    assert "VIOLATION" in capsys.readouterr().out


def test_a_replay_carries_out_the_same_plan(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert execute(["run", "--target", "brpop", *SMALL, "--faults", "none", "--out", str(first)]) == 0
    assert execute(["replay", str(first / "plan.json"), "--out", str(second)]) == 0
    assert (second / "plan.json").read_bytes() == (first / "plan.json").read_bytes()


def test_a_replay_asks_for_the_durability_of_its_plan_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("ZEROLOSS_DURABILITY", "memory")
    few = ["--target", "brpop", "--redis", "embedded", "--tasks", "4", "--faults", "none"]
    assert execute(["run", *few, "--durability", "fsync", "--out", str(first)]) == 0
    assert load_plan(first / "plan.json").durability == "fsync"
    assert execute(["replay", str(first / "plan.json"), "--out", str(second)]) == 0
    assert [begin_of(run).durability["asked"] for run in (first, second)] == ["fsync", "fsync"]


def test_the_durability_that_the_environment_asks_for_is_part_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROLOSS_DURABILITY", "fsync")
    # No server listens there: the plan is written before the start.
    execute(["run", "--redis", "redis://127.0.0.1:1/0", "--faults", "none", "--out", str(tmp_path / "run")])
    assert load_plan(tmp_path / "run" / "plan.json").durability == "fsync"


def test_a_run_that_does_not_meet_what_was_demanded_is_inconclusive_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--target", "brpop", "--redis", "embedded", "--tasks", "4", "--faults", "none"]
    directory = tmp_path / "a run"
    assert execute(["run", *few, "--demand", "killed-holding", "--out", str(directory)]) == 4
    said = capsys.readouterr().out
    assert "'killed-holding'" in said
    assert f"zeroloss replay '{directory / 'plan.json'}'" in said
    assert f"zeroloss replay '{directory / 'plan.json'}'" in (directory / "junit.xml").read_text()


def test_a_run_that_must_take_no_excuse_says_so_in_its_plan_and_its_history(tmp_path: Path) -> None:
    few = ["--target", "brpop", "--redis", "embedded", "--tasks", "4", "--faults", "none", "--require-durability"]
    assert execute(["run", *few, "--out", str(tmp_path / "run")]) == 0
    assert load_plan(tmp_path / "run" / "plan.json").require_durability
    assert begin_of(tmp_path / "run").plan["require_durability"] is True


def test_without_faults_named_the_console_says_which_were_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # No server listens there: only the report before the start matters.
    words = ["run", "--redis", "redis://127.0.0.1:1/0", "--seed", "1", "--kills", "7", "--out", str(tmp_path / "run")]
    assert execute(words) == 2
    drawn = listed(load_plan(tmp_path / "run" / "plan.json").faults)
    assert drawn.startswith("7 worker-sigkill, ")
    assert all(one in drawn for one in ("1 worker-sigterm", "1 worker-sigstop", "1 client-reuses-key"))
    assert "server" not in drawn  # a server with a URL is external
    assert f"Faults: {drawn}\n" in capsys.readouterr().out


def test_a_run_goes_into_a_directory_of_its_own_with_a_seed_that_is_printed(tmp_path: Path) -> None:
    run = zeroloss(
        "run", "--target", "shared-list", "--redis", "embedded", "--faults", "none", "--tasks", "8", cwd=tmp_path
    )
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    seed = re.search(r"Seed: (\d+)", output)
    assert seed
    [directory] = (tmp_path / "zeroloss-runs").iterdir()
    assert directory.name.endswith(f"-shared-list-seed{seed[1]}")


def test_a_check_judges_what_a_killed_harness_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["run", "--target", "brpop", *SMALL, "--faults", "none", "--out", str(tmp_path / "run")]) == 0
    before = (tmp_path / "run" / "history.jsonl").read_bytes()
    (tmp_path / "run" / "history.jsonl").unlink()
    assert execute(["check", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "history.jsonl").read_bytes() == before


@pytest.mark.parametrize("content", ['"x"', "[1,2]", "", "\xff"])
def test_a_check_of_a_run_whose_plan_file_was_replaced_shows_nothing_either_way(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert execute(["run", "--target", "brpop", *SMALL, "--faults", "none", "--out", str(run)]) == 0
    (run / "plan.json").write_text(content, encoding="latin-1")
    assert execute(["check", str(run)]) == 4
    assert "plan.json can't be read" in " ".join(capsys.readouterr().out.split())
    (run / "plan.json").unlink()
    assert execute(["check", str(run)]) == 0


def test_a_check_of_a_run_that_lost_the_events_of_many_tasks_shows_nothing_either_way(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert execute(["run", "--target", "brpop", *SMALL, "--faults", "none", "--out", str(run)]) == 0
    history = run / "history.jsonl"
    lines = history.read_text().splitlines(keepends=True)
    history.write_text("".join(line for line in lines if '"task":"zl-' not in line or '01"' in line))
    assert execute(["check", str(run)]) == 4


NOWHERE = """
from zeroloss.target import Target
class Nowhere(Target):
    worker = ("true",)
    python = "/no/such/python"
"""


@pytest.mark.parametrize(("effort", "pairs"), [("--quick", ""), ("--thorough", " --pairs")])
def test_prove_says_what_it_does_with_its_options_and_ends_with_the_part_that_came_to_nothing(
    effort: str, pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nowhere.py").write_text(NOWHERE)
    target, out = f"{tmp_path / 'nowhere.py'}:Nowhere", tmp_path / "proof"
    assert execute(["prove", effort, "--target", target, "--redis", "embedded", "--out", str(out)]) == 70
    said = capsys.readouterr()
    assert said.out.startswith(f"zeroloss enumerate --target {target} --redis embedded{pairs}   (its output: {out}")
    assert "`zeroloss enumerate` left no result; its last output: " in said.err
    assert "The agent cannot be started with '/no/such/python'" in said.err
    assert said.err.count("\n") == 1
    assert not (out / "certificate.json").exists()


def left_over(directory: Path) -> list[str]:
    """Return the processes of a run, its server included: those that name its directory."""
    found = [str(pid) for pid in bearing(f"ZEROLOSS_RUN={directory.resolve()}")]
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(directory.resolve()) in " ".join(words) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(" ".join(words))
    return found


@pytest.fixture
def under_way(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run with three active workers, and its directory."""
    directory = tmp_path / "run"
    run = zeroloss("run", "--target", "brpop", "--redis", "embedded", "--out", "run", cwd=tmp_path)
    wait_until(lambda: len(list((directory / "events").glob("worker-*.jsonl"))) >= 3, timeout_s=30)
    yield run, directory
    run.kill()
    run.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_everything_within_seconds_and_says_where_the_rest_is(
    under_way: tuple[subprocess.Popen[str], Path], number: signal.Signals
) -> None:
    run, directory = under_way
    run.send_signal(number)
    output, errors = run.communicate(timeout=10)
    assert run.returncode == 130
    assert "Interrupted" in errors
    assert "in run." in errors
    assert "Traceback" not in output + errors
    assert "INCONCLUSIVE" in output
    assert left_over(directory) == []
    assert len(load(directory)) > 10
    assert (directory / "report.html").is_file()


def test_a_run_that_is_interrupted_while_it_starts_leaves_nothing_either(tmp_path: Path) -> None:
    run = zeroloss("run", "--target", "reference", "--redis", "embedded", "--out", "run", cwd=tmp_path)
    assert run.stdout is not None
    while not run.stdout.readline().startswith("Server: "):
        pass
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=10)
    assert (run.returncode, "Traceback" in errors) == (130, False), errors
    assert left_over(tmp_path / "run") == []


def test_a_harness_that_is_killed_takes_everything_along(under_way: tuple[subprocess.Popen[str], Path]) -> None:
    run, directory = under_way
    assert left_over(directory)
    run.kill()
    run.communicate()
    wait_until(lambda: not left_over(directory), timeout_s=5, message="something outlived the harness")
