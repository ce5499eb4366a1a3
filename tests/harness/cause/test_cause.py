"""The cause of a loss: state, fault, number of executions, and common properties of the lost tasks."""

from collections.abc import Mapping

import pytest
from support.histories import MS, Story
from zeroloss.cause.sentences import cause_of
from zeroloss.cause.stories import stories_of
from zeroloss.checker.evidence import gather
from zeroloss.checker.judge import judge
from zeroloss.faults.planned import PlannedTask
from zeroloss.history.trace import Step, Trail


def cause(story: Story, plan: Mapping[str, PlannedTask] | None = None, **trails: Trail) -> list[str]:
    return cause_of(gather(story.events), judge(story.events).fates, plan or {}, trails)


def done(story: Story, count: int) -> Story:
    """Add `count` tasks that were completed at once."""
    for number in range(count):
        story.submit(f"done-{number}").ran(f"done-{number}", pid=200)
    return story


def failed(story: Story, task: str, pid: int = 100) -> Story:
    return story.started(task, f"{task}-1", pid).add(
        "effect", "error", pid=pid, task=task, execution=f"{task}-1", error="RuntimeError: no"
    )


def test_a_task_whose_body_a_fault_interrupted_is_lost_there_if_the_queue_retries_none() -> None:
    story = done(Story().begin(), 5).submit("a").started("a", "e").kill(1, pids=(100,), tasks=("a",)).drained().end()
    where, by, common = cause(story)
    assert where == "1 task was lost, interrupted in its body."
    assert by == "It was begun once, interrupted once and never retried; active at that time: worker-kill (fault 1)."
    assert common.startswith("No trait distinguishes it from the other tasks")


def test_a_task_is_lost_on_recovery_where_the_queue_retries_most_that_were_interrupted() -> None:
    story = Story().begin()
    for number in range(1, 4):
        task, pid = f"t{number}", 100 + number
        story.submit(task).started(task, task, pid).kill(number, pids=(pid,), tasks=(task,))
        if number < 3:
            story.ran(task, pid=200)
    assert cause(story.drained().end())[0] == "1 task was lost, during recovery."


def test_a_task_that_raised_last_is_lost_while_it_is_retried_and_at_its_last_attempt_given_up() -> None:
    story = failed(Story().begin().submit("a"), "a").drained().end()
    assert cause(story)[:2] == [
        "1 task was lost, while being retried.",
        "It was begun once and raised once; no fault was active at that time.",
    ]
    story = failed(Story().begin(plan={"max_attempts": 1}).submit("a"), "a").drained().end()
    assert cause(story)[0] == "1 task was lost, when the queue gave it up."


def test_a_task_that_was_never_begun_is_lost_at_enqueue_if_the_server_was_ended_meanwhile() -> None:
    story = done(Story().begin(), 5).add("submit", "invoke", task="a")
    story.kill(1, name="server-sigkill").add("submit", "ok", task="a").drained().end()
    assert cause(story)[0] == "1 task was lost, at enqueue."


def test_a_task_that_a_killed_worker_had_claimed_and_not_begun_is_lost_there() -> None:
    story = Story().begin().submit("a").submit("b").submit("c").ran("a", pid=100)
    story.kill(1, pids=(100,), name="worker-sigkill").ran("c", pid=200).drained().end()
    where, by, _ = cause(story)
    assert where == "1 task was lost, claimed and not yet begun."
    assert by == "It was never begun; active at that time: worker-sigkill (fault 1)."


def test_states_and_faults_of_several_tasks_are_counted() -> None:
    story = done(Story().begin(), 3).submit("a").started("a", "e").kill(1, pids=(100,), tasks=("a",))
    failed(story.submit("b"), "b", pid=300).submit("c").started("c", "f", pid=400).add(
        "fault", "end", fault="x", number=1
    )
    where, by, _ = cause(story.drained().end())
    assert where.startswith("3 tasks were lost: 2 interrupted in their bodies and 1 while being retried")
    assert "active at that time: worker-kill" in by


def told(story: Story) -> list[tuple[str, list[str]]]:
    """Return the task and the sentences of each story."""
    return [(one.task, one.sentences) for one in stories_of(gather(story.events), judge(story.events).fates, {})]


def test_executions_that_a_story_leaves_out_are_counted() -> None:
    story = Story().begin().submit("a")
    for number in range(1, 6):
        story.started("a", f"e{number}", 100 + number).kill(number, pids=(100 + number,), tasks=("a",))
    ((_, sentences),) = told(story.drained().end())
    assert sentences[2] == "1 more execution is not shown here."


def test_the_first_stories_are_of_one_task_of_each_state_the_most_frequent_first() -> None:
    story = done(Story().begin(), 3)
    for task in ("a", "b"):
        story.submit(task).started(task, task, 100).kill(ord(task), pids=(100,), tasks=(task,))
    for task in ("c", "d", "e"):
        failed(story.submit(task), task, pid=300)
    tasks = [task for task, _ in told(story.drained().end())]
    assert tasks == ["c", "a", "b", "d", "e"]


def test_the_story_of_a_lost_task_names_the_state_and_the_fault_then() -> None:
    story = Story().begin().submit("a").submit("b").submit("c").ran("a", pid=100)
    story.kill(1, pids=(100,), name="worker-sigkill").ran("c", pid=200).drained().end()
    ((_, sentences),) = told(story)
    assert "It was lost, claimed and not yet begun; worker-sigkill (fault 1) was active at that time." in sentences


def test_the_story_of_a_task_that_was_lost_without_a_fault_says_so() -> None:
    ((_, sentences),) = told(failed(Story().begin().submit("a"), "a").drained().end())
    assert "It was lost, while being retried; no fault was active at that time." in sentences


def test_a_trait_that_all_lost_tasks_and_few_others_have_is_named_with_both_counts() -> None:
    story = done(Story().begin(), 40)
    for number in range(4):
        story.submit(f"big-{number}")
    story.drained().end()
    plan = {name: PlannedTask(name, 0.0, 5) for name in gather(story.events).tasks}
    plan |= {f"big-{number}": PlannedTask(f"big-{number}", 0.0, 5, size_bytes=100_000) for number in range(4)}
    plan["done-1"] = PlannedTask("done-1", 0.0, 5, size_bytes=100_000)
    assert cause(story, plan)[2] == "In common: all 4 have a payload above 64 KiB (of the 40 other tasks: 1)."


def test_lost_tasks_that_share_nothing_are_reported_to_share_nothing() -> None:
    story = done(Story().begin(), 10)
    for number in range(3):
        failed(story.submit(f"x{number}"), f"x{number}", pid=100 + number)
    assert cause(story.drained().end())[2].startswith("No trait distinguishes them from the other tasks beyond chance.")


def test_a_trait_of_one_lost_task_is_left_to_chance_where_few_others_lack_it() -> None:
    story = done(Story().begin(), 5).submit("a").started("a", "e").kill(1, pids=(100,), tasks=("a",)).drained().end()
    assert "from the other tasks beyond chance" in cause(story)[2]


def test_a_run_in_which_nothing_is_missing_has_no_cause() -> None:
    assert cause(done(Story().begin(), 3).drained().end()) == []


def test_tasks_that_ran_wrongly_are_counted_by_what_was_wrong() -> None:
    assert cause(Story().begin().ran("nobody's").drained().end())[0] == "1 task ran although they were never submitted."


def step(t_ms: int, who: str, pid: int, command: str, *words: str, **members: object) -> Step:
    given = {"answered": True, "connection": 1, **members}
    return Step(t=t_ms * MS, who=who, pid=pid, command=command, words=list(words), **given)  # type: ignore[arg-type]


PUSHED = step(1, "client", 7, "LPUSH", "q")
LIVES = [
    pytest.param(
        [],
        "No command carried it: the client that received the promise sent no command with this task.",
        "at enqueue",
        id="none",
    ),
    pytest.param(
        [PUSHED],
        "LPUSH by the client (process 7) put it into q; no later command claimed or moved it.",
        "before any worker claimed it",
        id="pushed",
    ),
    pytest.param(
        [PUSHED, step(2, "worker-1", 100, "BRPOP", "q", "1", carried_by="reply")],
        "BRPOP by worker-1 (process 100) removed it from q; no later command put it back",
        "claimed and not yet begun",
        id="popped",
    ),
    pytest.param(
        [
            PUSHED,
            step(2, "worker-1", 100, "BRPOPLPUSH", "q", "p", carried_by="reply"),
            step(3, "worker-1", 100, "LREM", "p", "1"),
            step(4, "worker-1", 100, "RPUSH", "q", refused="READONLY"),
        ],
        "LREM by worker-1 (process 100) removed it from p; no later command put it back",
        "claimed and not yet begun",
        id="a retry that was refused",
    ),
    pytest.param(
        [PUSHED, step(2, "worker-1", 100, "script claim", "q", carried_by="reply", answered=False)],
        "script claim (no reply was received) by worker-1 (process 100) returned it; no later command carried it",
        "claimed and not yet begun",
        id="a script",
    ),
]


@pytest.mark.parametrize(("steps", "sentence", "where"), LIVES)
def test_the_last_command_that_changed_where_a_task_lies_decides(steps: list[Step], sentence: str, where: str) -> None:
    story = done(Story().begin(), 3).submit("a").drained().end()
    trail = Trail(task="a", steps=steps)
    assert cause(story, a=trail)[0] == f"1 task was lost, {where}."
    evidence = gather(story.events)
    (told,) = stories_of(evidence, judge(story.events).fates, {"a": trail})
    assert [one for one in told.sentences if one.startswith(sentence)], told.sentences


def test_a_command_s_process_that_a_fault_killed_is_named_with_the_time_between() -> None:
    story = Story().begin().submit("a").started("a", "e").kill(1, pids=(100,), tasks=("a",)).drained().end()
    effective_t = next(fault.effective_t for fault in gather(story.events).faults.values())
    popped = step(0, "worker-1", 100, "BRPOP", "q", carried_by="reply")
    popped.t = (effective_t or 0) - 128 * MS
    (told,) = stories_of(
        gather(story.events), judge(story.events).fates, {"a": Trail(task="a", steps=[PUSHED, popped])}
    )
    assert (
        "BRPOP by worker-1 (process 100) removed it from q; no later command put it back; the process was killed "
        "128 ms later by fault 1 (worker-kill)."
    ) in told.sentences
