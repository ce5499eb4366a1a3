"""A run in a few lines: what the account of a task says, and that an id stays text wherever it goes."""

from pathlib import Path

from zeroloss.checker.judge import judge
from zeroloss.history import Census, Effect, Event, Fault, Run, Submit
from zeroloss.report.account import accounts
from zeroloss.report.summary import annotation, markdown, plain

S = 1_000_000_000
NASTY = "a\n::error::b|`c`%"


def history(task: str, *more: Event) -> list[Event]:
    """Promised at 2 s; whatever more; drained, and a census that was completed, at 9 s."""
    return [
        Run(t=1 * S, pid=1, phase="begin", seed=1, target="x", plan={"tasks": 1, "faults": []}),
        Submit(t=2 * S, pid=2, phase="invoke", task=task),
        Submit(t=3 * S, pid=2, phase="ok", task=task),
        *more,
        Run(t=8 * S, pid=1, phase="deadline"),
        Census(t=9 * S, pid=1, phase="done", after="end", source="scan", count=0),
        Run(t=10 * S, pid=1, phase="end"),
    ]


def struck(task: str) -> list[Event]:
    return [
        Effect(t=4 * S, pid=7, phase="begin", task=task, execution="e"),
        Fault(t=5 * S, pid=1, phase="begin", fault="worker-sigkill", number=1),
        Fault(t=5 * S, pid=1, phase="effective", fault="worker-sigkill", number=1, evidence="Dead.", pids=[7]),
    ]


def test_an_account_says_when_it_was_submitted_what_killed_it_and_where_it_was_last() -> None:
    events = history("t", *struck("t"))
    (account,) = accounts(judge(events), events)
    assert account.lines() == [
        "t: LOST",
        "  submitted  1 s after the start, promised at 2 s",
        "  killed by  fault 1 (worker-sigkill) at 4 s: Dead.",
        "  last seen  in process 7, which began it at 3 s and never ended it, and not in the broker at the end",
    ]


def test_a_task_that_nobody_ran_was_seen_last_when_it_was_submitted() -> None:
    events = history("t")
    (account,) = accounts(judge(events), events)
    assert account.killed_by == "no fault that struck it in its body"
    assert account.last_seen == "when it was submitted: nobody ran it, and not in the broker at the end"


def test_a_task_that_still_waits_was_seen_last_in_the_broker() -> None:
    found = Census(t=9 * S, pid=1, phase="found", task="t", place="pending", after="end")
    events = history("t", found)
    (account,) = accounts(judge(events), events)
    assert (account.fate, account.last_seen) == ("STUCK", "in the broker, in pending, at the end")


def test_a_task_that_nobody_submitted_has_an_account_too() -> None:
    events = history("t", *(Effect(t=4 * S, pid=7, phase=phase, task=one, execution=one) for one, phase in ENDED))
    (account,) = accounts(judge(events), events)
    assert (account.task, account.fate, account.submitted) == ("phantom", "PHANTOM", "never")


ENDED = [(task, phase) for task in ("t", "phantom") for phase in ("begin", "end")]


def test_an_id_can_neither_begin_a_command_of_the_pipeline_nor_become_markup() -> None:
    events = history(NASTY, *struck(NASTY))
    result = judge(events)
    said = annotation(result, events, Path("run"))
    assert "\n" not in said
    assert "a%0A::error::b|`c`%25 LOST" in said
    page = markdown(result, events, Path("run"))
    assert "| `a ::error::b/'c'%` | LOST |" in page
    text = plain(result, events, Path("run"))
    assert "\na\\n::error::b|`c`%: LOST\n" in text
    assert "report  run/report.html" in text


def test_a_run_that_passed_annotates_nothing() -> None:
    events = history("t", *(Effect(t=4 * S, pid=7, phase=phase, task="t", execution="e") for phase in ("begin", "end")))
    result = judge(events)
    assert result.verdict == "PASS", result.because
    assert annotation(result, events, Path("run")) == ""
    assert markdown(result, events, Path("run")).startswith("## zeroloss: PASS\n")
