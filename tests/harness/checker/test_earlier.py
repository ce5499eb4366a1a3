"""Histories of zeroloss 0.1, in which faults do not record their traits."""

from typing import Any

import pytest
from msgspec.structs import replace
from support.histories import Story
from zeroloss.checker.earlier import traits_of
from zeroloss.checker.judge import judge
from zeroloss.faults import FAULTS
from zeroloss.history import Fault, Traits

OLD = (
    "none slow slow-idle worker-sigkill worker-sigterm worker-sigint worker-sigstop worker-sigkill-quiet "
    "worker-sigkill-parent worker-sigkill-child worker-sigterm-then-sigkill worker-kill-storm worker-kill-in-recovery "
    "worker-memory asleep-sigkill server-sigkill server-sigstop client-kill server-sigterm server-maxmemory "
    "server-evicts server-torn-aof server-disk-full server-slow-fsync client-pause script-flush producer-sigkill "
    "client-gives-up client-retries clock-jump handler-raises handler-hangs handler-exits handler-outlives-lease "
    "net-partition net-latency net-throttle net-reply-reset net-reply-loss net-reset primary-sigkill primary-cut-off "
    "net-disconnect"
)


def judged_by(traits: Traits) -> tuple[object, ...]:
    """Return the part of the traits that a verdict depends on."""
    # `arranges` matters only to a baseline, and the kind of a server's end only if no failover replaces it.
    of_baseline = traits.baseline and traits.arranges
    aim = traits.aims_at if traits.aims_at in ("worker", "network", "handler") else None
    end = "no" if traits.fails_over else traits.ends_server
    return aim, traits.baseline, of_baseline, end, traits.ends_late, traits.fails_over, traits.loses_replies


@pytest.mark.parametrize("name", OLD.split())
def test_a_fault_of_an_old_history_is_judged_as_what_its_class_says_today(name: str) -> None:
    today = FAULTS[name]().traits()
    assert judged_by(traits_of(name, everywhere=today.everywhere)) == judged_by(today)


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_name_that_nobody_knows_says_nothing(everywhere: bool) -> None:
    assert traits_of("unheard-of", everywhere=everywhere) == replace(Traits(), everywhere=everywhere)


def seen(name: str, *, of_today: bool) -> dict[str, Any]:
    """Return the result of a run in which the fault hit a worker inside a task, on a server without persistence."""
    planned = {"number": 1, "fault": name, "everywhere": FAULTS[name].everywhere}
    kept = {"appendonly": False, "save": ""}
    story = Story().begin(durability=kept, plan={"misbehaving": 0, "faults": [planned]}).submit("gone").submit("a")
    story.started("a", "a1").kill(1, pids=(100,), tasks=("a",), name=name).ran("a", pid=200).ran("a", pid=200)
    events = story.deadline().end().events
    if not of_today:
        events = [replace(event, traits=None) if isinstance(event, Fault) else event for event in events]
    result = judge(events)
    members = ("verdict", "fates", "kills", "duplicates", "excuses", "situations", "matrix", "overtaken")
    return {member: getattr(result, member) for member in members}


@pytest.mark.parametrize("name", OLD.split())
def test_a_history_whose_faults_say_nothing_of_themselves_is_judged_as_one_whose_faults_do(name: str) -> None:
    assert seen(name, of_today=False) == seen(name, of_today=True)
