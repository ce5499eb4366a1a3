"""An impossible ledger: its mistake is reported, and no verdict about the queue is drawn from it."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runs import carry_out
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Verdict
from zeroloss.history import Effect, Ledger, Recorder, load, read, write_merged
from zeroloss.history.tail import LedgerTail

PID = 4_194_999  # larger than any real pid


def line(t: object, **changes: Any) -> str:
    event = {"t": t, "pid": PID, "kind": "effect", "phase": "begin", "task": "a", "execution": "x-1"}
    return json.dumps({**event, **changes}) + "\n"


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """The events folder of a run that has begun."""
    folder = tmp_path / "events"
    Recorder(folder, "harness").record("run", "begin", seed=1)
    return folder


def complaints(events: Path) -> list[str]:
    return [event.reason for event in read(events) if isinstance(event, Ledger)]


def milliseconds() -> int:
    return time.monotonic_ns() // 1_000_000


@pytest.mark.parametrize(
    ("t", "named"),
    [
        (milliseconds, "it looks like milliseconds"),
        (lambda: time.monotonic_ns() // 1_000, "it looks like microseconds"),
        (lambda: time.monotonic_ns() // 1_000_000_000, "it looks like seconds"),
        (time.time_ns, "it looks like the time of day"),
        (lambda: int(time.time() * 1_000), "it looks like the time of day"),
        (lambda: 17, "before the run began"),
        (lambda: time.monotonic_ns() * 1_000, "after the run ended"),
    ],
    ids=["milliseconds", "microseconds", "seconds", "the time of day", "its milliseconds", "an early one", "late"],
)
def test_a_time_that_cannot_be_true_is_named_with_its_file_and_line(
    events: Path, t: Callable[[], int], named: str
) -> None:
    (events / f"worker-{PID}.jsonl").write_text(line(time.monotonic_ns()) + line(t()) + line(t()))
    (reason,) = complaints(events)
    assert reason.startswith(f"worker-{PID}.jsonl, line 2: `t` is ")
    assert named in reason
    assert "CLOCK_MONOTONIC" in reason
    assert "2 lines of this file are wrong." in reason
    assert len([event for event in read(events) if isinstance(event, Effect)]) == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (lambda: line(time.monotonic_ns() / 1e9), "Expected `int`, got `float` - at `$.t`"),
        (lambda: line(time.monotonic_ns(), pid=7), f"`pid` is 7, and the file is that of process {PID}"),
        (lambda: line(time.monotonic_ns(), phase="start"), "Invalid enum value 'start' - at `$.phase`"),
        (lambda: line(time.monotonic_ns(), extra=1), "unknown field `extra`"),
        (lambda: line(time.monotonic_ns(), kind="run", phase="end"), "unknown field `task`"),
        (lambda: '{"t":1,"pid":1,"kind":"run","phase":"end"}\n', "`kind` must be effect"),
        (lambda: "hello\n", "JSON is malformed"),
    ],
    ids=["a fraction", "another pid", "a phase", "a member", "a kind", "another kind", "no JSON"],
)
def test_a_line_that_is_not_an_effect_is_named_and_the_others_are_kept(
    events: Path, text: Callable[[], str], named: str
) -> None:
    (events / f"worker-{PID}.jsonl").write_text(line(time.monotonic_ns()) + text())
    (reason,) = complaints(events)
    assert reason.startswith(f"worker-{PID}.jsonl, line 2: ")
    assert named in reason
    assert "docs/ledger.md" in reason
    assert len([event for event in read(events) if isinstance(event, Effect)]) == 1


@pytest.mark.parametrize("name", ["worker.jsonl", "ledger-1.jsonl", "worker-7.json", "worker-a.jsonl"])
def test_a_file_of_another_name_is_named_and_not_read(events: Path, name: str) -> None:
    (events / name).write_text(line(time.monotonic_ns()))
    (reason,) = complaints(events)
    assert reason.startswith(f"{name} is not a name of a ledger's file")
    assert "worker-PID.jsonl" in reason
    assert not [event for event in read(events) if isinstance(event, Effect)]


def test_a_wrong_ledger_makes_a_stored_run_inconclusive_and_stays_in_its_history(tmp_path: Path, events: Path) -> None:
    (events / f"worker-{PID}.jsonl").write_text(line(17))
    write_merged(tmp_path)
    result = judge(load(tmp_path))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert any(doubt.startswith(f"worker-{PID}.jsonl, line 1: `t` is 17") for doubt in result.doubts)


def test_the_tail_passes_over_lines_that_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "worker-1.jsonl").write_text("hello\n" + line(1, phase="end"))
    tail = LedgerTail(tmp_path)
    tail.poll()
    assert tail.completed() == {"a"}


def test_a_run_whose_worker_writes_milliseconds_is_inconclusive_and_says_what_to_do(tmp_path: Path) -> None:
    target = str(Path(__file__).parents[2] / "support" / "apps" / "chaos_targets.py")
    outcome = carry_out(tmp_path, f"{target}:TellsMilliseconds", "none", tasks=3)
    assert outcome.failure is None
    assert outcome.result.verdict is Verdict.INCONCLUSIVE
    assert "it looks like milliseconds" in outcome.result.because
    assert outcome.result.end_to_end_ms is None
