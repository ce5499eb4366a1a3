"""`zeroloss compare`: its commands, its table, and its continuation after an interruption."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import ROOT
from support.waiting import wait_until
from zeroloss.campaigns import comparison_report as report
from zeroloss.campaigns.compare import FAULTS, Cell, Comparison, Request, Subject, fault_words, load_targets, outcome
from zeroloss.checker.verdicts import Summary, Verdict
from zeroloss.cli import execute
from zeroloss.plan.requests import parse_faults
from zeroloss.system.sessions import bearing
from zeroloss.target import SHIPPED


def test_a_worker_is_stopped_for_longer_than_its_queue_takes_to_recover() -> None:
    assert fault_words("worker-sigstop", 15.0, 10) == "worker-sigstop:count=1:for_s=18"
    assert fault_words("worker-sigkill", 15.0, 10) == "worker-sigkill:count=10"
    assert fault_words("worker-sigterm", 15.0, 10) == "worker-sigterm:count=2:patience_s=20"
    assert fault_words("server-sigkill", 15.0, 10) == "server-sigkill"
    assert fault_words("worker-sigkill:count=3", 15.0, 10) == "worker-sigkill:count=3"


def test_the_command_of_a_cell_is_one_that_a_user_would_type() -> None:
    request = Request(
        targets=load_targets(["brpop"]), faults=["worker-sigkill"], tasks=40, kills=2, seed=7, server="embedded"
    )
    assert " ".join(request.command("brpop", "worker-sigkill")) == (
        "run --target brpop --seed 7 --redis embedded --tasks 40 --faults worker-sigkill:count=2"
    )


def test_every_shipped_target_is_in_the_published_table_and_each_of_its_commands_can_be_run() -> None:
    text = (ROOT / "docs" / "comparison.md").read_text()
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("    zeroloss ")]
    compared = [name for name in SHIPPED if name != "reference-in-order"]
    assert [command[command.index("--target") + 1] for command in commands] == [
        name for name in compared for _ in FAULTS.split(",")
    ]
    for command in commands:
        assert parse_faults(command[command.index("--faults") + 1], None)
    assert "cells were run" not in text  # an incomplete table states this


def test_the_table_shows_every_cell_beside_the_promise_and_the_settings() -> None:
    lossy = _cell("queue", "worker-sigkill", Verdict.VIOLATION, counts={"LOST": 3, "DONE": 37}, struck=3, never=3)
    slow = _cell("queue", "server-sigkill", Verdict.PASS, counts={"DONE": 40}, duplicates=2, struck=2)
    comparison = _comparison([lossy, slow], ["worker-sigkill", "server-sigkill", "worker-sigterm"])
    text = report.render("comparison.md.j2", comparison)
    assert "| queue | VIOLATION: 3 lost | PASS | not run | Loses nothing. |" in text
    assert "| its documentation |\n| --- | --- | --- | --- | --- |\n| queue |" in text
    assert "- Documented: Loses nothing. (https://example.org/promise)" in text
    assert "- Settings: lease 5 s (default 60)." in text
    assert "- Versions: queue 1.2.3, server 9.1." in text
    assert "| worker-sigkill | VIOLATION | 40 | 3 | 0 | 0 | 0 | 3 of 3 never |" in text
    assert "| server-sigkill | PASS | 40 | 0 | 0 | 0 | 2 | median 1.2 s, max 2.5 s |" in text
    assert "    zeroloss run --target queue --faults server-sigkill\n" in text
    assert "**2 of 3 cells were run**" in text


def test_the_html_table_is_self_contained_and_takes_no_text_for_markup() -> None:
    cell = _cell("queue", "worker-sigkill", Verdict.LIVENESS, because="<b>stuck</b>", counts={"STUCK": 1, "DONE": 1})
    page = report.render("comparison.html.j2", _comparison([cell], ["worker-sigkill"]))
    assert "&lt;b&gt;stuck&lt;/b&gt;" in page
    assert "1 stuck" in page
    assert not any(outside in page for outside in ("<script", "<link", "src=", "@import"))


def test_the_exit_status_is_that_of_the_worst_cell() -> None:
    cells = [_cell("queue", verdict.value, verdict) for verdict in (Verdict.PASS, Verdict.LIVENESS)]
    assert _comparison(cells, []).exit_code == 3
    assert _comparison([*cells, _cell("queue", "x", Verdict.VIOLATION)], []).exit_code == 1
    assert _comparison([], []).exit_code == Verdict.INCONCLUSIVE.exit_code


def test_a_cell_says_what_moved_its_stuck_tasks() -> None:
    cell = _cell("queue", "quiet", Verdict.LIVENESS, counts={"NEEDS_TRAFFIC": 2, "STUCK": 1})
    assert outcome(cell) == "LIVENESS: 1 stuck, 2 moved by new traffic only"
    assert cell.stuck == 3


def test_a_comparison_is_gone_on_with_and_does_not_run_a_cell_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "--targets", "brpop", "--faults", "none", "--tasks", "40", "--out", str(tmp_path / "out")]
    written = tmp_path / "docs" / "comparison.md"
    assert execute([*words, "--write", str(written)]) == 0
    assert "[1/1] brpop under none: PASS: " in capsys.readouterr().out
    assert written.read_text() == (tmp_path / "out" / "comparison.md").read_text()
    assert execute(words) == 0
    assert "under none" not in capsys.readouterr().out
    repeat = "zeroloss run --target brpop --seed 1 --redis embedded --tasks 40 --faults none"
    assert repeat in (tmp_path / "out" / "comparison.html").read_text()


def test_a_comparison_that_is_interrupted_leaves_nothing_running_and_says_how_to_go_on(tmp_path: Path) -> None:
    words = ["compare", "--targets", "brpop", "--faults", "worker-sigkill", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "zeroloss", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ledger = tmp_path / "out" / "cells" / "brpop.worker-sigkill" / "run" / "events"
    wait_until(lambda: any(ledger.glob("worker-*.jsonl")), 30)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"the same command with --out {tmp_path / 'out'} continues it." in said
    wait_until(lambda: not bearing(f"ZEROLOSS_LEDGER={ledger}"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--targets", "nobody"], "'nobody' is not a target: say one of reference, "),
        (["--faults", "earthquake"], "There is no fault 'earthquake'"),
        (["--tasks", "0"], "--tasks must be at least 1, not 0."),
        (["--kills", "0"], "--kills must be at least 1, not 0."),
    ],
)
def test_a_comparison_that_is_invalid_is_refused_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["compare", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"zeroloss: {sentence}")


def _cell(target: str, fault: str, verdict: Verdict, **members: object) -> Cell:
    known = {
        "command": ["run", "--target", target, "--faults", fault],
        "because": "It is so.",
        "promised": 40,
        "versions": {"python": "3.11.7", "target's queue": "1.2.3", "server": "9.1"},
        **members,
    }
    if verdict is Verdict.PASS:
        known.setdefault("redelivery_ms", Summary(count=2, median=1_200.0, p90=2_500.0, p99=2_500.0, max=2_500.0))
    return Cell(target=target, fault=fault, verdict=verdict, **known)  # type: ignore[arg-type]


def _comparison(cells: list[Cell], faults: list[str]) -> Comparison:
    subject = Subject(
        name="queue",
        summary="A queue.",
        promise="Loses nothing.",
        promise_url="https://example.org/promise",
        settings="lease 5 s (default 60)",
        recover_within_s=15.0,
    )
    return Comparison(subjects=[subject], faults=faults, cells=cells, tasks=40, seed=1, planned=len(faults))
