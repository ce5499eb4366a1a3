"""Losses that the durability setting excuses, and others: hand-written histories in which a server dies."""

from typing import Any

import pytest
from support.histories import MS, Story
from zeroloss.checker.evidence import gather
from zeroloss.checker.excuses import crashes_of
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Fate, Result, Verdict

NO_AOF = {"appendonly": False, "appendfsync": "everysec", "save": "", "maxmemory_policy": "noeviction"}
SNAPSHOTS = {**NO_AOF, "save": "3600 1"}
ALWAYS = {**NO_AOF, "appendonly": True, "appendfsync": "always"}
EVERYSEC = {**ALWAYS, "appendfsync": "everysec"}
BY_THE_KERNEL = {**ALWAYS, "appendfsync": "no"}
UNKNOWN = {"appendonly": None, "appendfsync": None, "save": None, "maxmemory_policy": None}


class ServerStory(Story):
    """A run with one finished task, and a server that ends at 10 s under fault 1 and restarts."""

    def __init__(self, durability: Any, *, name: str = "server-sigkill", **plan: Any) -> None:
        super().__init__()
        self.fault = name
        self.begin(durability=durability, plan=plan).submit("done").ran("done")

    def promised(self, task: str, at_ms: int, answered_ms: int | None = None) -> "ServerStory":
        self.add("submit", "invoke", task=task, at_ms=at_ms)
        self.add("submit", "ok", task=task, at_ms=at_ms + 1 if answered_ms is None else answered_ms)
        return self

    def server_ends(self, status: int | None = -9, *, number: int = 1, at_ms: int = 10_000) -> "ServerStory":
        self.add("fault", "begin", fault=self.fault, number=number, at_ms=at_ms - 10)
        if status is not None:
            self.add("process", "exit", role="server", sid=300, status=status, wanted=True, at_ms=at_ms)
        self.add("fault", "effective", fault=self.fault, number=number, evidence="gone", at_ms=at_ms + 1_000)
        return self

    def judged(self, **places: Any) -> Result:
        self._clock_ms = max(event.t for event in self.events) // MS
        self.deadline(**places).end(**places)
        # The harness ends its server in this way at the end of each run.
        self.add("process", "exit", role="server", sid=301, status=-9, wanted=True)
        return judge(self.events)


def lost_before(durability: Any, at_ms: int, **members: Any) -> Result:
    """Judge a run in which a task promised at `at_ms` is gone after the server's end at 10 s."""
    return ServerStory(durability, **members).promised("gone", at_ms).server_ends().judged()


# Losses that the kill of a server excuses ---------------------------------------------------------------------------


@pytest.mark.parametrize("at_ms", [50, 9_000, 9_985])
@pytest.mark.parametrize("durability", [NO_AOF, SNAPSHOTS])
def test_without_an_append_only_file_everything_before_the_kill_is_excused(durability: Any, at_ms: int) -> None:
    result = lost_before(durability, at_ms)
    assert result.fates["gone"] is Fate.EXCUSED
    assert (result.verdict, result.exit_code) == (Verdict.EXCUSED, 0)


@pytest.mark.parametrize("at_ms", [50, 9_000, 9_985])
@pytest.mark.parametrize("durability", [ALWAYS, BY_THE_KERNEL, UNKNOWN, None, "AOF somehow"])
def test_where_a_kill_takes_nothing_each_loss_is_LOST(durability: Any, at_ms: int) -> None:
    result = lost_before(durability, at_ms)
    assert result.fates["gone"] is Fate.LOST
    assert (result.verdict, result.exit_code, result.excuses) == (Verdict.VIOLATION, 1, [])


@pytest.mark.parametrize(("at_ms", "fate"), [(7_900, Fate.LOST), (7_995, Fate.EXCUSED), (9_985, Fate.EXCUSED)])
def test_with_an_fsync_every_second_the_last_two_seconds_are_excused(at_ms: int, fate: Fate) -> None:
    assert lost_before(EVERYSEC, at_ms).fates["gone"] is fate


@pytest.mark.parametrize("durability", [NO_AOF, EVERYSEC])
def test_a_promise_after_the_servers_end_is_not_excused(durability: Any) -> None:
    story = ServerStory(durability).server_ends().promised("gone", 10_500)
    assert story.judged().fates["gone"] is Fate.LOST


def test_a_promise_whose_answer_came_in_late_is_excused_as_the_write_came_before() -> None:
    story = ServerStory(EVERYSEC).server_ends()
    story.promised("gone", 9_980, answered_ms=10_005)
    assert story.judged().fates["gone"] is Fate.EXCUSED


def test_a_submission_that_began_long_before_its_answer_may_have_been_written_last() -> None:
    story = ServerStory(EVERYSEC).promised("gone", 1_000, answered_ms=9_000).server_ends()
    assert story.judged().fates["gone"] is Fate.EXCUSED


@pytest.mark.parametrize(
    ("durability", "fate"), [(NO_AOF, Fate.EXCUSED), (SNAPSHOTS, Fate.LOST), (EVERYSEC, Fate.LOST)]
)
def test_a_server_that_ends_in_order_takes_only_what_is_kept_nowhere(durability: Any, fate: Fate) -> None:
    story = ServerStory(durability, name="server-sigterm").promised("gone", 9_900).server_ends(status=0)
    assert story.judged().fates["gone"] is fate


@pytest.mark.parametrize("status", [1, -6])
def test_a_server_that_dies_of_a_failed_write_takes_what_a_killed_one_takes(status: int) -> None:
    story = ServerStory(EVERYSEC, name="server-disk-full").promised("gone", 9_900).server_ends(status=status)
    assert story.judged().fates["gone"] is Fate.EXCUSED


@pytest.mark.parametrize(
    ("name", "fate"),
    [("server-sigkill", Fate.EXCUSED), ("server-torn-aof", Fate.EXCUSED), ("server-sigterm", Fate.LOST)],
)
def test_in_a_container_whose_exits_nobody_sees_the_faults_name_says_how_it_ended(name: str, fate: Fate) -> None:
    story = ServerStory(EVERYSEC, name=name).promised("gone", 9_900).server_ends(status=None)
    assert story.judged().fates["gone"] is fate


@pytest.mark.parametrize("name", ["server-evicts", "server-sigstop", "worker-sigkill", "client-pause"])
def test_a_fault_that_does_not_end_the_server_excuses_nothing(name: str) -> None:
    story = ServerStory(NO_AOF, name=name).promised("gone", 9_900).server_ends(status=None)
    assert story.judged().fates["gone"] is Fate.LOST


def test_the_servers_end_at_the_end_of_the_run_excuses_nothing() -> None:
    assert ServerStory(NO_AOF).promised("gone", 9_900).judged().fates["gone"] is Fate.LOST


def test_each_crash_has_its_own_window() -> None:
    story = ServerStory(EVERYSEC).promised("first", 4_000).server_ends(number=1, at_ms=5_000)
    story.promised("between", 7_000).promised("second", 19_000).server_ends(number=2, at_ms=20_000)
    result = story.judged()
    fates = {name: result.fates[name] for name in ("first", "between", "second")}
    assert fates == {"first": Fate.EXCUSED, "between": Fate.LOST, "second": Fate.EXCUSED}
    assert [(one.task, one.fault.number) for one in result.excuses] == [("first", 1), ("second", 2)]


def test_a_loss_is_put_down_to_the_first_crash_that_could_take_it() -> None:
    story = ServerStory(NO_AOF).promised("gone", 4_000).server_ends(number=1, at_ms=5_000)
    assert [one.fault.number for one in story.server_ends(number=2, at_ms=20_000).judged().excuses] == [1]


def test_a_fault_that_killed_the_server_and_was_missed_for_another_reason_took_what_it_took() -> None:
    story = ServerStory(NO_AOF).promised("gone", 9_900)
    story.add("fault", "begin", fault="server-torn-aof", number=1, at_ms=9_990)
    story.add("process", "exit", role="server", sid=300, status=-9, wanted=True, at_ms=10_000)
    story.add("fault", "missed", fault="server-torn-aof", number=1, reason="no file", at_ms=10_100)
    result = story.judged()
    assert (result.fates["gone"], result.verdict) == (Fate.EXCUSED, Verdict.INCONCLUSIVE)
    assert [crash.ordered for crash in crashes_of(gather(story.events))] == [False]


def test_a_workers_end_is_not_a_crash_of_the_server() -> None:
    story = ServerStory(NO_AOF, name="worker-sigkill").promised("gone", 9_900)
    story.add("fault", "begin", fault="worker-sigkill", number=1, at_ms=9_990)
    story.add("process", "exit", role="worker", sid=300, status=-9, wanted=True, at_ms=10_000)
    story.add("fault", "effective", fault="worker-sigkill", number=1, at_ms=10_010)
    assert story.judged().fates["gone"] is Fate.LOST


def test_a_queue_that_confirms_each_task_by_an_fsync_has_no_excuse_while_there_is_a_file() -> None:
    assert lost_before({**EVERYSEC, "asked": "fsync"}, 9_900).fates["gone"] is Fate.LOST
    assert lost_before({**EVERYSEC, "asked": "memory"}, 9_900).fates["gone"] is Fate.EXCUSED


@pytest.mark.parametrize(("at_ms", "fate"), [(6_900, Fate.LOST), (7_100, Fate.EXCUSED), (9_985, Fate.EXCUSED)])
def test_a_slow_fsync_excuses_what_was_held_back_at_the_end_and_not_all_since_it_began(at_ms: int, fate: Fate) -> None:
    story = ServerStory(EVERYSEC, name="server-slow-fsync").promised("gone", at_ms)
    story.add("fault", "begin", fault=story.fault, number=1, at_ms=5_000)
    story.add("process", "exit", role="server", sid=300, status=-9, wanted=True, at_ms=10_000)
    story.add("fault", "effective", fault=story.fault, number=1, evidence="gone", at_ms=11_000)
    assert story.judged().fates["gone"] is fate


# Losses that a failover excuses -------------------------------------------------------------------------------------

FAILOVERS = ["primary-sigkill", "primary-cut-off"]


def failed_over(durability: Any, *promises: tuple[str, int], name: str = "primary-cut-off") -> Result:
    """Judge a failover whose fault begins at 9.99 s, and which clients follow at 11 s."""
    story = ServerStory(durability, name=name)
    for task, at_ms in promises:
        story.promised(task, at_ms)
    return story.server_ends(-9 if name == "primary-sigkill" else None).judged()


@pytest.mark.parametrize("name", FAILOVERS)
@pytest.mark.parametrize("durability", [ALWAYS, EVERYSEC, NO_AOF, UNKNOWN, {**ALWAYS, "asked": "fsync"}])
def test_a_failover_excuses_what_was_promised_from_its_beginning_until_clients_followed(
    durability: Any, name: str
) -> None:
    result = failed_over(
        durability, ("before", 9_900), ("first", 9_995), ("last", 10_990), ("after", 11_005), name=name
    )
    fates = [result.fates[task] for task in ("before", "first", "last", "after")]
    assert fates == [Fate.LOST, Fate.EXCUSED, Fate.EXCUSED, Fate.LOST]


@pytest.mark.parametrize("name", FAILOVERS)
def test_a_task_that_a_replica_had_to_confirm_is_LOST_when_a_failover_takes_it(name: str) -> None:
    result = failed_over({**ALWAYS, "asked": "replicas:1"}, ("gone", 10_500), name=name)
    assert (result.fates["gone"], result.verdict, result.excuses) == (Fate.LOST, Verdict.VIOLATION, [])


def test_a_failover_that_was_missed_may_have_come_later() -> None:
    story = ServerStory(ALWAYS)
    story.add("fault", "begin", fault="primary-cut-off", number=1, at_ms=9_990)
    story.add("fault", "missed", fault="primary-cut-off", number=1, reason="too late", at_ms=10_100)
    result = story.promised("gone", 10_500).judged()
    assert (result.fates["gone"], result.verdict) == (Fate.EXCUSED, Verdict.INCONCLUSIVE)


def test_a_failover_that_was_missed_excuses_nothing_that_was_promised_after_it_was_healed() -> None:
    story = ServerStory(ALWAYS)
    story.add("fault", "begin", fault="primary-cut-off", number=1, at_ms=9_990)
    story.add("fault", "missed", fault="primary-cut-off", number=1, reason="too late", at_ms=10_100)
    story.add("fault", "end", fault="primary-cut-off", number=1, at_ms=10_300)
    result = story.promised("inside", 10_200).promised("after", 10_500).judged()
    assert [result.fates[task] for task in ("inside", "after")] == [Fate.EXCUSED, Fate.LOST]


def test_an_excuse_by_a_failover_says_when_clients_followed() -> None:
    (excuse,) = failed_over(ALWAYS, ("gone", 10_500)).excuses
    assert excuse.reason == (
        "Promised at 10.491 s; clients followed the new primary at 10.990 s, and with asynchronous replication a "
        "failover may take what no replica had confirmed."
    )


# Only missing tasks are excused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "fate"), [("pending", Fate.STUCK), ("failed", Fate.FAILED), (("dead_letter", "why"), Fate.DEAD)]
)
def test_a_task_that_is_still_somewhere_needs_no_excuse(place: Any, fate: Fate) -> None:
    result = ServerStory(NO_AOF).promised("there", 9_900).server_ends().judged(there=place)
    assert (result.fates["there"], result.excuses) == (fate, [])


def test_a_task_that_was_done_or_never_promised_needs_no_excuse() -> None:
    result = ServerStory(NO_AOF).submit("unknown", "info").submit("no", "fail").server_ends().judged()
    assert result.fates == {"done": Fate.DONE, "unknown": Fate.ABSENT, "no": Fate.ABSENT}
    assert (result.verdict, result.excuses) == (Verdict.PASS, [])


def test_an_excused_loss_does_not_cover_another_one() -> None:
    story = ServerStory(EVERYSEC).promised("old", 1_000).promised("new", 9_900).server_ends()
    result = story.judged()
    assert (result.fates["old"], result.fates["new"]) == (Fate.LOST, Fate.EXCUSED)
    assert (result.verdict, result.exit_code) == (Verdict.VIOLATION, 1)


# Wording ------------------------------------------------------------------------------------------------------------


def test_a_run_with_excused_losses_says_how_many_and_never_PASS() -> None:
    result = lost_before(NO_AOF, 9_000)
    assert result.because.startswith("1 promised task was lost as the configured durability allows (EXCUSED); ")
    assert "none was lost" not in result.because
    assert result.counts == {"DONE": 1, "EXCUSED": 1}
    (excuse,) = result.excuses
    assert str(excuse.fault) == "fault 1 (server-sigkill)"
    assert excuse.reason == (
        "Promised at 8.991 s; the server ended at 9.990 s, and without an append-only file that takes everything."
    )


def test_excused_losses_violate_no_law() -> None:
    assert [law.violations for law in lost_before(NO_AOF, 9_000).properties if law.violations] == []


def test_with_require_durability_an_excused_loss_is_a_violation_that_is_explained() -> None:
    result = lost_before(NO_AOF, 9_000, require_durability=True)
    assert (result.fates["gone"], result.verdict, result.exit_code) == (Fate.LOST, Verdict.VIOLATION, 1)
    assert [excuse.task for excuse in result.excuses] == ["gone"]
    assert any("--require-durability" in note for note in result.notes)


def test_a_doubt_hides_no_excused_loss() -> None:
    story = ServerStory(NO_AOF).promised("gone", 9_900).server_ends()
    story.missed(2)
    result = story.judged()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert any(
        "1 promised task was lost as the configured durability allows (EXCUSED)" in note for note in result.notes
    )
