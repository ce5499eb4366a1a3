"""Where a promised task must be on disk, none is promised while nothing reaches the disk."""

from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict

STOPPED_MS = (2_000, 7_000)


def accepted(*, at_ms: int, answered_ms: int, asked: str | None = "fsync", fault: str = "server-slow-fsync") -> Result:
    """Judge a run with a fault from 2 s to 7 s, and a task that is submitted and promised at these times."""
    durability = {"appendonly": True, "appendfsync": "everysec", "asked": asked}
    story = Story().begin(plan={"tasks": 1}, durability=durability)
    story.add("fault", "begin", fault=fault, number=1, at_ms=1_900)
    named: dict[str, Any] = {"fault": fault, "number": 1, "evidence": "slow"}
    story.add("submit", "invoke", task="a", at_ms=at_ms).add("submit", "ok", task="a", at_ms=answered_ms)
    story.ran("a")
    lasted = [t * 1_000_000 for t in STOPPED_MS]
    story.add("fault", "effective", at_ms=8_000, lasted=lasted, **named).add("fault", "end", fault=fault, number=1)
    return judge(story.drained().end().events)


def broken(result: Result) -> list[str]:
    return [one.name for one in result.promises if one.broken]


def test_a_task_that_is_promised_while_nothing_reaches_the_disk_breaks_the_promise() -> None:
    result = accepted(at_ms=3_000, answered_ms=3_100)
    assert (result.verdict, broken(result)) == (Verdict.VIOLATION, ["durability"])
    assert "1 task was accepted while nothing reached the server's disk (I1): a" in result.because


@pytest.mark.parametrize(("at_ms", "answered_ms"), [(1_990, 2_100), (6_900, 7_010)])
def test_a_task_that_was_submitted_before_or_promised_afterwards_may_be_on_disk(at_ms: int, answered_ms: int) -> None:
    assert not broken(accepted(at_ms=at_ms, answered_ms=answered_ms))


@pytest.mark.parametrize("asked", [None, "memory", "replicas:1"])
def test_where_a_promised_task_need_not_be_on_disk_it_may_be_promised(asked: str | None) -> None:
    assert not broken(accepted(at_ms=3_000, answered_ms=3_100, asked=asked))


def test_a_fault_that_lets_writes_through_keeps_nothing_from_the_disk() -> None:
    assert not broken(accepted(at_ms=3_000, answered_ms=3_100, fault="server-sigstop"))
