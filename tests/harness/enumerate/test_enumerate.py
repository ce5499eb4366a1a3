"""`zeroloss enumerate`: the planned points, the findings for a queue that loses tasks, and the clean-up."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.places import TARGETS
from support.waiting import wait_until
from zeroloss.checker.verdicts import Verdict
from zeroloss.cli import execute
from zeroloss.enumerate.pairs import plan_pairs, worth_a_pair
from zeroloss.enumerate.plan import Crash, count_points, matches, plan_crashes
from zeroloss.enumerate.table import Report, Row, RowFile, summary_of, table_of, verdict_of
from zeroloss.system.proxy import Phase, Point


def recording(*words: str) -> dict[tuple[str, str], int]:
    """Return the counts of commands given as `role/NAME`."""
    return dict(count_points(Point(*word.split("/"), 1) for word in words))


def row(crashes: list[str], verdict: Verdict = Verdict.PASS, **members: Any) -> Row:
    given = {"fates": {}, "duplicates": 0, "unexplained": 0, "redelivery_ms": None, "reached": True, "recovery": {}}
    return Row(crashes=crashes, attempts=1, verdict=verdict, because="", directory="cases/x", **given | members)


def test_every_point_that_all_recordings_reached_is_planned_in_every_phase() -> None:
    crashes = plan_crashes([recording("A/A", "A/B"), recording("A/A", "A/B", "A/C")])
    assert [str(crash) for crash in crashes] == [
        f"A/{name}#1 {phase}" for name, phase in itertools.product("AB", ("before", "executed", "after"))
    ]


def test_an_occurrence_that_does_not_come_in_every_recording_is_not_counted_on() -> None:
    crashes = plan_crashes([recording(*["A/A"] * 5), recording(*["A/A"] * 3)])
    assert {crash.occurrence for crash in crashes} == {1, 2}


def test_a_command_that_a_worker_repeats_forever_is_planned_a_bounded_number_of_times() -> None:
    assert {crash.occurrence for crash in plan_crashes([recording(*["A/A"] * 99)], per_name=2)} == {1, 2}


def test_roles_say_nothing_where_a_workers_threads_share_their_connections() -> None:
    own = plan_crashes([recording("A/A", "B/B", "B/B")])
    shared = plan_crashes([recording("A/A", "B/B", "B/A")])
    assert {(crash.role, crash.name) for crash in own} == {("A", "A"), ("B", "B")}
    assert {(crash.role, crash.name, crash.occurrence) for crash in shared} == {
        ("*", "A", 1),
        ("*", "A", 2),
        ("*", "B", 1),
    }


def test_points_are_chosen_by_a_pattern() -> None:
    planned = plan_crashes([recording("A/A", "A/B", "A/B")])
    assert [crash for crash in planned if matches(crash, "B#2 ex")] == [Crash("A", "B", 2, Phase.EXECUTED)]


def test_a_point_that_was_not_reached_makes_the_result_inconclusive_and_a_loss_makes_it_worse() -> None:
    missed = row(["A/A#1 before"], Verdict.INCONCLUSIVE, reached=False)
    lost = row(["A/A#1 after"], Verdict.VIOLATION, fates={"LOST": ["t1"]})
    assert verdict_of([row(["A/A#2 after"]), missed]) is Verdict.INCONCLUSIVE
    assert verdict_of([missed, lost]) is Verdict.VIOLATION
    assert verdict_of([]) is Verdict.INCONCLUSIVE


def test_rows_survive_a_torn_last_line(tmp_path: Path) -> None:
    rows = RowFile(tmp_path)
    rows.add(row(["A/A#1 before"]))
    with (tmp_path / "cases.jsonl").open("ab") as file:
        file.write(b'{"crashes":["A')
    assert [known.crashes for known in rows.read()] == [["A/A#1 before"]]


def test_the_table_names_scripts_and_says_what_was_lost_where() -> None:
    report = Report(
        verdict=Verdict.VIOLATION,
        exit_code=1,
        target="x",
        server="s",
        durability="d",
        recover_within_s=2.0,
        planned=2,
        reached=1,
        seconds=1.0,
        versions={},
        scripts={"0123abcd": "settle"},
        notes=["A note."],
        rows=[
            row(["*/EVALSHA:0123abcd#2 before"], Verdict.VIOLATION, fates={"LOST": ["t1"]}, redelivery_ms=40.0),
            row(["*/GET#1 after"], Verdict.INCONCLUSIVE, reached=False),
        ],
    )
    console = Console(record=True, width=120)
    console.print(table_of(report))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert lines[1] == ["*/EVALSHA:settle#2", "before", "1", "LOST", "-", "40", "ms"]
    assert lines[2] == ["*/GET#1", "after", "not", "reached", "-", "-"]
    assert "1 of 2 planned crashes were reached, in 1 s." in summary_of(report)


@pytest.mark.timeout(180)
def test_brpop_loses_what_it_was_handed_and_nothing_at_the_point_before(tmp_path: Path) -> None:
    out = tmp_path / "out"
    status = execute(
        ["enumerate", "--target", "brpop", "--redis", "embedded", "--points", "BRPOP#2", "--out", str(out)]
    )
    report = json.loads((out / "enumeration.json").read_text())
    verdicts = {one["crashes"][0]: (one["verdict"], list(one["fates"])) for one in report["rows"] if one["crashes"]}
    assert status == 1
    lost = ("VIOLATION", ["LOST"])
    # The worker has received the reply, so it may complete the task just before it is killed.
    assert verdicts.pop("BRPOP/BRPOP#2 after") in (lost, ("PASS", []))
    assert verdicts == {"BRPOP/BRPOP#2 before": ("PASS", []), "BRPOP/BRPOP#2 executed": lost}
    assert (report["planned"], report["reached"]) == (3, 3)
    # This queue loses tasks to any kill. Kills without a point are reported, but are not cases.
    assert [one["step"] for one in report["rows"] if not one["crashes"]] == report_steps()


@pytest.mark.timeout(180)
def test_the_reference_loses_nothing_when_it_is_killed_around_its_blocking_claim(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["enumerate", "--redis", "embedded", "--points", "BLPOP#1", "--jobs", "3"]
    assert execute([*command, "--out", str(out)]) == 0
    report = json.loads((out / "enumeration.json").read_text())
    assert (report["verdict"], report["planned"], report["reached"]) == ("PASS", 3, 3)
    # A resumed enumeration has no work left.
    known = (out / "cases.jsonl").read_bytes()
    assert execute([*command, "--resume", str(out)]) == 0
    assert (out / "cases.jsonl").read_bytes() == known


def test_workers_that_end_as_soon_as_they_are_started_end_the_enumeration_with_their_last_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["enumerate", "--target", f"{TARGETS}:Stumbles", "--redis", "embedded", "--jobs", "1"]
    begun_s = time.monotonic()
    assert execute([*words, "--out", str(tmp_path / "out")]) == 2
    assert time.monotonic() - begun_s < 30
    said = " ".join(capsys.readouterr().err.split())
    assert "The workers exit immediately after they are started; last output: no such thing" in said


@pytest.mark.timeout(120)
def test_an_interrupted_enumeration_says_how_to_go_on_and_leaves_no_process(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "zeroloss",
        "enumerate",
        "--target",
        "brpop",
        "--redis",
        "embedded",
        "--out",
        str(out),
    ]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        wait_until(lambda: list((out / "cases").glob("*/events/worker-*.jsonl")), timeout_s=60)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 130
    assert f"--resume {out}" in said
    wait_until(lambda: not _bearing(out), message="processes were left behind")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--resume", "nowhere"], "nothing to resume"),
        (["--target", "nobody"], "'nobody' is not a target"),
    ],
)
def test_bad_usage_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert execute(["enumerate", "--redis", "embedded", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def report_steps() -> list[str]:
    return ["another worker killed in the middle of a task", "an orderly stop by SIGTERM"]


def _bearing(directory: Path) -> list[int]:
    """Return the pids of processes whose environment contains this directory."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = Path(entry.path, "environ").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in environment:
                found.append(int(entry.name))
    return found


def test_a_pair_is_planned_where_every_recorded_recovery_from_its_first_crash_came() -> None:
    crash = ["*/A#1 executed"]
    once, again = row(crash, recovery={"A": 1, "B": 3}), row(crash, recovery={"B": 2})
    other = row(["*/C#1 executed"], recovery={"D": 1})
    assert [str(second) for _, second in plan_pairs(once, [once, other, again])] == [
        f"*/B#1 {phase}" for phase in ("before", "executed", "after")
    ]


def test_of_each_command_one_crash_that_left_something_to_recover_is_worth_a_pair() -> None:
    rows = [
        row(["*/A#1 before"], redelivery_ms=None),
        row(["*/A#2 before"], redelivery_ms=1.0),
        row(["*/A#3 executed"], redelivery_ms=1.0),
        row(["*/B#1 after"], redelivery_ms=1.0, reached=False),
    ]
    assert [one.crashes for one in worth_a_pair(rows)] == [["*/A#3 executed"]]
