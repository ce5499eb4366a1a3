"""The answers under one idempotency key: one request is accepted, under one id, and another is a conflict (I8)."""

from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict

A, B = "a" * 64, "b" * 64
PLAN = {"idempotent": True}


def told(*answers: tuple[str, str, dict[str, Any]], executed: str = A, plan: dict[str, Any] | None = None) -> Result:
    """Judge a task that was submitted once for each answer (payload, phase, members)."""
    story = Story().begin(plan=PLAN if plan is None else plan)
    for digest, _, _ in answers:
        story.add("submit", "invoke", task="t", digest=digest)
    for digest, phase, members in answers:
        story.add("submit", phase, task="t", digest=digest, **members)
    story.add("effect", "begin", pid=100, task="t", execution="1", digest=executed)
    story.add("effect", "end", pid=100, task="t", execution="1")
    return judge(story.drained().end().events)


def test_an_answer_that_can_not_be_true_is_a_violation_whatever_the_target_states() -> None:
    result = told((A, "info", {"wrong": True, "error": "WrongAnswer: another id"}), plan={})
    assert result.verdict is Verdict.VIOLATION
    assert "1 task got an answer that can't be true: t" in result.because


ACCEPTED = (A, "ok", {"promised": "t"})
CONFLICT = (B, "fail", {"conflict": True, "error": "Conflict: 422"})


@pytest.mark.parametrize(
    "answers",
    [
        (ACCEPTED, ACCEPTED, CONFLICT),
        (CONFLICT, ACCEPTED),
        (ACCEPTED, (B, "info", {}), (A, "info", {})),
        (ACCEPTED, (A, "fail", {"error": "Refused: the memory is full"})),
        ((A, "ok", {}), (A, "ok", {"promised": "t"})),
        ((A, "fail", {"conflict": True}), (B, "info", {})),
    ],
)
def test_answers_that_agree_pass(answers: tuple[tuple[str, str, dict[str, Any]], ...]) -> None:
    executed = A if answers[0][1] == "ok" or answers[-1][1] == "ok" else B
    assert told(*answers, executed=executed).verdict is not Verdict.VIOLATION


@pytest.mark.parametrize(
    ("answers", "executed", "said"),
    [
        ((ACCEPTED, (B, "ok", {"promised": "t"})), A, "accepted with two payloads under one idempotency key"),
        ((ACCEPTED, (A, "ok", {"promised": "u"})), A, "promised under two ids for one idempotency key"),
        (
            (ACCEPTED, (A, "fail", {"conflict": True})),
            A,
            "accepted and also refused as another request under its idempotency key",
        ),
        (
            (ACCEPTED, (B, "info", {})),
            B,
            "executed with another payload than was accepted under its idempotency key",
        ),
    ],
)
def test_answers_that_disagree_are_a_violation_where_idempotency_is_stated(
    answers: tuple[tuple[str, str, dict[str, Any]], ...], executed: str, said: str
) -> None:
    result = told(*answers, executed=executed)
    assert result.verdict is Verdict.VIOLATION
    assert f"1 task was {said} (I8): t" in result.because
    assert [one.name for one in result.promises if one.broken] == ["idempotent"]
    assert told(*answers, executed=executed, plan={}).verdict is not Verdict.VIOLATION


def test_the_very_bytes_of_the_accepted_payload_may_be_what_was_executed() -> None:
    story = Story().begin(plan=PLAN).add("submit", "invoke", task="t", digest=A, raw_digest="c" * 64)
    story.add("submit", "ok", task="t", digest=A, raw_digest="c" * 64).ran("t", digest="c" * 64)
    assert judge(story.drained().end().events).verdict is Verdict.PASS


def test_a_key_that_a_crash_may_take_with_its_task_is_not_judged() -> None:
    fault = {"number": 1, "fault": "server-sigkill"}
    no_aof = {"appendonly": False, "appendfsync": "everysec", "save": "", "maxmemory_policy": "noeviction"}
    story = Story().begin(plan={**PLAN, "faults": [fault]}, durability=no_aof)
    story.add("submit", "invoke", task="t", digest=A).add("submit", "ok", task="t", digest=A)
    story.add("fault", "begin", fault="server-sigkill", number=1)
    story.add("process", "exit", role="server", sid=300, status=-9, wanted=True)
    story.add("fault", "effective", fault="server-sigkill", number=1, evidence="gone")
    story.add("submit", "invoke", task="t", digest=B).add("submit", "ok", task="t", digest=B)
    story.add("effect", "begin", pid=100, task="t", execution="1", digest=B)
    story.add("effect", "end", pid=100, task="t", execution="1")
    assert judge(story.drained().end().events).verdict is Verdict.PASS


def test_a_conflict_that_the_plan_provokes_is_not_the_first_error_of_a_client() -> None:
    story = Story().begin(plan=PLAN).add("submit", "invoke", task="t", digest=B)
    story.add("submit", "fail", task="t", digest=B, conflict=True, error="Conflict: 422")
    story.add("submit", "invoke", task="u").add("submit", "info", task="u", error="OSError: gone")
    assert "OSError: gone" in judge(story.drained().end().events).because
