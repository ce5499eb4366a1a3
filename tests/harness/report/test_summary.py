"""A run in a few lines: the sentences of a story, and the escaping of ids in all outputs."""

from pathlib import Path

from zeroloss.cause import explained
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result
from zeroloss.history import Census, Effect, Event, Fault, Run, Submit
from zeroloss.report.summary import annotation, markdown, plain

S = 1_000_000_000
NASTY = "a\n::error::b|`c`%"
NOWHERE = Path("/nowhere")


def judged(task: str, *more: Event) -> Result:
    """Judge a run: a task promised from 2 to 3 s, the events `more`, and a completed census at 9 s."""
    events = [
        Run(t=1 * S, pid=1, phase="begin", seed=1, target="x", plan={"tasks": 1, "faults": []}),
        Submit(t=2 * S, pid=2, phase="invoke", task=task),
        Submit(t=3 * S, pid=2, phase="ok", task=task),
        *more,
        Run(t=8 * S, pid=1, phase="deadline"),
        Census(t=9 * S, pid=1, phase="done", after="end", source="scan", count=0),
        Run(t=10 * S, pid=1, phase="end"),
    ]
    return explained(NOWHERE, judge(events), events)


def struck(task: str) -> list[Event]:
    return [
        Effect(t=4 * S, pid=7, phase="begin", task=task, execution="e"),
        Fault(t=5 * S, pid=1, phase="begin", fault="worker-sigkill", number=1),
        Fault(t=5 * S, pid=1, phase="effective", fault="worker-sigkill", number=1, evidence="Dead.", pids=[7]),
    ]


def test_a_story_says_when_a_task_was_submitted_what_interrupted_it_and_where_it_was_last() -> None:
    (story,) = judged("t", *struck("t")).stories
    assert (story.task, story.fate) == ("t", "LOST")
    assert story.sentences == [
        "It was submitted at 1 s and promised at 2 s.",
        "Process 7 began it at 3 s; fault 1 (worker-sigkill) interrupted it at 4 s: Dead.",
        "It was never begun again.",
        "It was not in the broker at the end.",
    ]


def test_a_task_that_no_worker_began_is_reported_so() -> None:
    (story,) = judged("t").stories
    assert story.sentences[1:] == ["No worker began it.", "It was not in the broker at the end."]


def test_the_reason_that_a_queue_gives_for_giving_a_task_up_is_shown_in_its_story() -> None:
    found = Census(t=9 * S, pid=1, phase="found", task="t", place="failed", reason="swept", after="end")
    (story,) = judged("t", found).stories
    assert (story.fate, story.sentences[-1]) == ("FAILED", "At the end the queue had given it up (swept).")


def test_a_task_that_still_waits_was_seen_last_in_the_broker() -> None:
    found = Census(t=9 * S, pid=1, phase="found", task="t", place="pending", after="end")
    (story,) = judged("t", found).stories
    assert (story.fate, story.sentences[-1]) == ("STUCK", "At the end the broker held it as pending.")


def test_a_task_that_nobody_submitted_has_a_story_too() -> None:
    (story,) = judged(
        "t", *(Effect(t=4 * S, pid=7, phase=phase, task=one, execution=one) for one, phase in ENDED)
    ).stories
    assert (story.task, story.fate, story.sentences[0]) == ("phantom", "PHANTOM", "It was never submitted.")


ENDED = [(task, phase) for task in ("t", "phantom") for phase in ("begin", "end")]


def test_an_id_can_neither_begin_a_command_of_the_pipeline_nor_become_markup() -> None:
    result = judged(NASTY, *struck(NASTY))
    said = annotation(result, Path("run"))
    assert "\n" not in said
    assert "a%0A::error::b|`c`%25 LOST" in said
    page = markdown(result, Path("run"))
    assert "| `a ::error::b/'c'%` | LOST |" in page
    text = plain(result, Path("run"))
    assert "\na\\n::error::b|`c`%: LOST\n" in text
    assert "report  run/report.html" in text


def test_a_summary_has_the_cause_of_a_loss_below_its_verdict() -> None:
    result = judged("t", *struck("t"))
    assert plain(result, Path("run")).splitlines()[1] == "1 task was lost, interrupted in its body."
    assert "`1 task was lost, interrupted in its body.`" in markdown(result, Path("run"))


def test_a_run_that_passed_annotates_nothing() -> None:
    result = judged("t", *(Effect(t=4 * S, pid=7, phase=phase, task="t", execution="e") for phase in ("begin", "end")))
    assert result.verdict == "PASS", result.because
    assert annotation(result, Path("run")) == ""
    assert markdown(result, Path("run")).startswith("## zeroloss: PASS\n")
