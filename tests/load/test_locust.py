"""Load with Locust: accepted tasks are followed to their execution, and thresholds decide the exit status."""

import csv
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from junitparser import JUnitXml
from support.processes.load_system import EFFECT, LOCUST, PROFILES, ROOT, SHORT, put_load, rows, run
from support.processes.load_system import own_system as _  # noqa: F401 - the fixture `system`
from zeroloss.ledger import effect
from zeroloss.loadtests.system import System


@pytest.mark.parametrize(
    ("threshold", "sentence"),
    [
        (("--slo-p95-ms", "0.01"), "p95 of requests"),
        (("--slo-p99-ms", "0.01"), "p99 of requests"),
        (("--slo-min-rate", "100000"), "requests per second"),
        (("--slo-effect-p95-ms", "0.01"), "p95 of enqueue -> effect"),
        (("--slo-min-refused", "1"), "requests refused with 429"),
    ],
)
def test_a_threshold_out_of_reach_ends_with_status_3_and_its_sentence(
    threshold: tuple[str, ...],
    sentence: str,
    system: System,
    tmp_path: Path,
) -> None:
    ended = put_load(system, *threshold, "--run-time", "1s", "--junit", str(tmp_path / "load.xml"))
    assert ended.status == 3, ended.said
    (broken,) = ended.broken
    assert broken.startswith(sentence)
    (suite,) = JUnitXml.fromfile(str(tmp_path / "load.xml"))
    assert [case.name for case in suite if not case.is_passed] == [threshold[0].removeprefix("--slo-")]


def test_failed_requests_beyond_their_share_break_the_load(system: System) -> None:
    ended = put_load(system, "--task-type", "", "--slo-failure-ratio", "0.1", "--run-time", "1s")
    assert ended.status == 3, ended.said
    assert [line.partition(":")[0] for line in ended.broken] == [
        "No task was accepted, so that none could be followed.",
        "failed requests",
    ]


@contextmanager
def others_at_work(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Execute tasks of other clients, which do not belong to the load."""
    monkeypatch.setenv("ZEROLOSS_LEDGER", str(ledger))
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            with effect("of-others"):
                pass

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


def test_tasks_that_nobody_executes_are_lost_and_so_is_every_threshold_on_their_execution(
    system: System,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefix = str(tmp_path / "load")
    thresholds = ("--slo-lost", "0", "--slo-drain-s", "10", "--slo-effect-p95-ms", "1000")
    other = ("--ledger", str(tmp_path), "--patience-s", "0.5", "--csv", prefix)
    with others_at_work(tmp_path, monkeypatch):
        ended = put_load(system, *other, *thresholds, "SingleTasks")
    assert ended.status == 3, ended.said
    names = [line.partition(":")[0] for line in ended.broken]
    assert names[0] == "tasks accepted and never executed"
    assert names[-1] == "drain after the load"
    accepted = sum(int(row["Request Count"]) for row in rows(tmp_path / "load") if row["Type"] == "POST")
    assert f": {accepted}," in ended.broken[0]
    assert "accepted, and never executed" in Path(f"{prefix}_failures.csv").read_text()


def test_a_ledger_that_stays_empty_is_named_with_its_likely_causes_and_no_task_is_called_lost(
    system: System,
    tmp_path: Path,
) -> None:
    options = ("--ledger", str(tmp_path), "--patience-s", "0.5", "--csv", str(tmp_path / "load"))
    ended = put_load(system, *options, "SingleTasks")
    assert ended.status == 3, ended.said
    accepted = sum(int(row["Request Count"]) for row in rows(tmp_path / "load") if row["Type"] == "POST")
    (broken,) = ended.broken
    assert broken.startswith(f"--ledger stayed empty while {accepted:,} tasks were accepted: ")
    for cause in ("ZEROLOSS_LEDGER", "handler", "--task-type"):
        assert cause in broken
    assert "never executed" not in ended.said
    (failure,) = csv.DictReader((tmp_path / "load_failures.csv").read_text().splitlines())
    assert failure["Error"] == broken
    assert failure["Occurrences"] == "1"


def test_without_a_ledger_a_load_is_judged_by_the_monitor_s_metrics_and_says_what_that_cannot_see(
    system: System,
    tmp_path: Path,
) -> None:
    options = ("--ledger", "none", "--metrics", f"{system.monitor}/metrics", "--slo-effect-p95-ms", "0.01")
    ended = put_load(system, *options, "--slo-lost", "0", "--slo-redelivered", "0", "--junit", str(tmp_path / "x.xml"))
    assert ended.status == 0, ended.said
    (counted,) = re.findall(r"counted ([\d,]+) tasks enqueued while ([\d,]+) were accepted here: ([\d,]+)", ended.said)
    assert len(set(counted)) == 1, "nobody else enqueues, and all of it succeeds"
    assert "Not seen: which tasks ran" in ended.said
    (suite,) = JUnitXml.fromfile(str(tmp_path / "x.xml"))
    assert {case.name for case in suite} == {"requests", "counted", "lost", "redelivered"}


def test_metrics_that_cannot_be_read_are_refused_before_anything_is_sent(system: System) -> None:
    refused = {
        "http://127.0.0.1:9/metrics": "cannot be read",
        f"{system.url}/metrics": "has no zeroloss_enqueued_total",
        "nonsense": "cannot be read",
    }
    for url, words in refused.items():
        ended = run(*LOCUST, *SHORT, "--host", system.url, "--ledger", "none", "--metrics", url)
        assert ended.status == 2, ended.said
        (sentence,) = [line for line in ended.said.splitlines() if line.startswith("--metrics")]
        assert words in sentence
        assert "Traceback" not in ended.said


def test_locust_s_totals_are_of_requests_alone_and_effects_are_rows_beside_them(
    system: System,
    tmp_path: Path,
) -> None:
    ended = put_load(system, "--csv", str(tmp_path / "load"), "SingleTasks")
    assert ended.status == 0, ended.said
    table = rows(tmp_path / "load")
    counts = {kind: sum(int(row["Request Count"]) for row in table if row["Type"] == kind) for kind in ("POST", EFFECT)}
    assert counts["POST"] == counts[EFFECT] > 20
    (total,) = [row for row in table if row["Name"] == "Aggregated"]
    assert int(total["Request Count"]) == counts["POST"]
    (requests,) = [row for row in table if row["Type"] == "POST"]
    assert total["Max Response Time"] == requests["Max Response Time"]


def test_a_load_that_requests_nothing_never_passes(system: System) -> None:
    ended = put_load(system, "--users", "0", "--run-time", "1s")
    assert ended.status == 3, ended.said
    assert "No request was made." in ended.broken


def test_a_threshold_on_tasks_without_a_ledger_is_refused_before_anything_is_sent() -> None:
    ended = run(*LOCUST, *SHORT, "--host", "http://127.0.0.1:9", "--slo-lost", "0")
    assert ended.status == 2, ended.said
    assert "--ledger" in ended.said


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_ledger_that_is_not_a_folder_is_refused_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    ledger, host = str(tmp_path / name), ("--host", "http://127.0.0.1:9")
    capacity = (sys.executable, "-m", "zeroloss.loadtests.capacity", *host)
    for command in ((*LOCUST, *SHORT, *host), (*capacity, "--slo-p95-ms", "1", "--out", str(tmp_path / "out"))):
        ended = run(*command, "--ledger", ledger)
        assert ended.status == 2, ended.said
        assert f"--ledger {ledger} is not a folder: name the one that the workers have in ZEROLOSS" in ended.said
        assert "Traceback" not in ended.said
    assert not (tmp_path / "out").exists()


def test_wrong_requests_are_refused_as_they_should_be_and_leave_nothing_to_be_done(
    system: System,
    tmp_path: Path,
) -> None:
    record = ("--record", str(tmp_path), "--slo-failure-ratio", "0")
    ended = put_load(system, *record, "--ledger", "", "--users", "8", "WrongClients")
    assert ended.status == 0, ended.said
    (file,) = tmp_path.glob("load-*.jsonl")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    refused = {event["task"] for event in events if event["phase"] == "fail"}
    assert len(refused) > 20
    ran = "".join(path.read_text() for path in system.ledger.glob("worker-*.jsonl"))
    assert not [task for task in refused if task in ran]


def test_every_option_and_profile_of_the_documentation_exists_and_every_profile_is_in_it() -> None:
    text = (ROOT / "docs" / "load.md").read_text()
    helps = (
        LOCUST[:5],
        (sys.executable, "-m", "zeroloss.loadtests"),
        (sys.executable, "-m", "zeroloss.loadtests.capacity"),
        (sys.executable, "-m", "zeroloss", "run"),
    )
    known = {option for command in helps for option in re.findall(r"--[a-z0-9-]+", run(*command, "--help").said)}
    # Locust prints its help before it reads a locustfile.
    ours = re.findall(r'"(?:--)?([a-z0-9-]+)"', (ROOT / "loadtests" / "options.py").read_text())
    known.update(f"--{name}" for name in ours)
    assert set(re.findall(r"--[a-z][a-z0-9-]+", text)) <= known | {"--app"}
    assert set(re.findall(r"`(\w+\.conf)`", text)) == {path.name for path in PROFILES.glob("*.conf")}
    for option in sorted(known):
        assert not option.startswith("--slo") or option in text


def test_no_test_imports_locust_which_would_patch_the_process_of_all_the_others() -> None:
    patches = re.compile(
        r"^\s*(?:import|from) (?:locust|gevent|loadtests\.(?:users|session|options|seconds|shapes))\b", re.M
    )
    assert not [path.name for path in (ROOT / "tests").glob("*.py") if patches.search(path.read_text())]
