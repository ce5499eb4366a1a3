"""The profiles, run as a user runs them, and the command that starts a system for a profile."""

import subprocess
import sys
from pathlib import Path

import pytest
from junitparser import JUnitXml
from support.processes.load_system import PROFILES, effects, rows, run
from support.processes.load_system import own_system as _  # noqa: F401 - the fixture `system`
from zeroloss.loadtests.system import System

LENIENT = ("--slo-min-rate", "0.1", "--slo-min-refused", "0", "--slo-failure-ratio", "0.5", "--slo-drain-s", "60")
LENIENT += ("--slo-p95-ms", "30000", "--slo-p99-ms", "30000", "--slo-effect-p95-ms", "60000")

LOADTESTS = (sys.executable, "-m", "zeroloss.loadtests")


def test_a_profile_runs_against_a_system_of_its_own_and_leaves_csv_html_and_junit(tmp_path: Path) -> None:
    command = (
        sys.executable,
        "-m",
        "zeroloss.loadtests",
        "loadtests/profiles/smoke.conf",
        "--run-time",
        "3s",
        *LENIENT,
    )
    reports = ("--csv", str(tmp_path / "load"), "--html", str(tmp_path / "r" / "load.html"))
    ended = run(*command, *reports, "--junit", str(tmp_path / "r" / "load.xml"))
    assert ended.status == 0, ended.said
    assert ended.broken == []
    assert "single" in effects(tmp_path / "load")
    assert (tmp_path / "r" / "load.html").stat().st_size > 10_000
    (suite,) = JUnitXml.fromfile(str(tmp_path / "r" / "load.xml"))
    assert {case.name for case in suite} >= {"requests", "lost", "p95-ms", "drain-s"}
    assert all(case.is_passed for case in suite)


@pytest.mark.parametrize("profile", sorted(path.name for path in PROFILES.glob("*.conf")))
def test_every_profile_is_one_that_locust_takes(profile: str, system: System, tmp_path: Path) -> None:
    reports = ("--csv", str(tmp_path / "load"), "--html", str(tmp_path / "load.html"), "--junit", str(tmp_path / "x"))
    short = ("--users", "4", "--run-time", "2s", *LENIENT)
    command = (sys.executable, "-m", "locust", "--config", f"loadtests/profiles/{profile}", "--headless", *short)
    ended = run(*command, "--host", system.url, "--ledger", str(system.ledger), *reports)
    assert ended.status == 0, ended.said
    assert sum(effects(tmp_path / "load").values()) > 0


def test_priorities_have_rows_of_their_own_and_scheduled_tasks_never_run_early(tmp_path: Path) -> None:
    """With the ASGI server: `--server` configures the system, the other options go to Locust."""
    profile = tmp_path / "both.conf"
    profile.write_text(
        "locustfile = loadtests/locustfile.py\nusers = 4\nspawn-rate = 4\nuser-rate = 10\nslo-lost = 0\n"
    )
    options = ("--server", "asgi", "--run-time", "3s", "--csv", str(tmp_path / "load"))
    ended = run(*LOADTESTS, str(profile), *options, "PrioritizedTasks", "ScheduledTasks")
    assert ended.status == 0, ended.said
    assert set(effects(tmp_path / "load")) == {"high", "default", "low", "scheduled"}
    assert "before they were due" not in ended.said


def test_a_full_queue_answers_429_and_only_a_load_that_expects_it_takes_that_for_success(tmp_path: Path) -> None:
    profile = ("loadtests/profiles/overload.conf", "--run-time", "4s", "--users", "20", "--user-rate", "20")
    reports = ("--csv", str(tmp_path / "load"), "--html", str(tmp_path / "x.html"), "--junit", str(tmp_path / "x.xml"))
    thresholds = ("--slo-min-refused", "1", "--slo-failure-ratio", "0")
    slow = ("--work-ms", "100", "--batch-size", "100")
    ended = run(
        sys.executable, "-m", "zeroloss.loadtests", *profile, *reports, *thresholds, *slow, "--slo-drain-s", "100"
    )
    assert ended.status == 0, ended.said
    assert any(row["Name"].endswith(" 429") for row in rows(tmp_path / "load"))


def test_a_printed_profile_is_read_by_a_plain_locust_from_any_folder(tmp_path: Path) -> None:
    printed = subprocess.run([*LOADTESTS, "spike", "--print"], cwd=tmp_path, capture_output=True, text=True, check=True)
    (tmp_path / "spike.conf").write_text(printed.stdout)
    command = [sys.executable, "-m", "locust", "--config", "spike.conf", "--list"]
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert listed.returncode == 0, listed.stderr
    assert "SingleTasks" in listed.stdout + listed.stderr


def test_a_profile_that_is_not_text_is_named_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    ended = run(*LOADTESTS, str(tmp_path / "binary"))
    assert ended.status == 2
    assert ended.said == f"loadtests: The profile {tmp_path / 'binary'} can't be read: it is not text.\n"


def test_a_profile_that_is_not_there_is_named_in_a_sentence_beside_those_that_are() -> None:
    ended = run(*LOADTESTS, "no-such.conf")
    shipped = "batches, chaos, overload, priorities, ramp, schedules, smoke, soak, spike, steady"
    assert (ended.status, ended.said) == (
        2,
        f"loadtests: There is no profile no-such.conf; shipped ones are {shipped}.\n",
    )
    helped = run(*LOADTESTS, "--help")
    assert helped.status == 0
    assert shipped in helped.said
