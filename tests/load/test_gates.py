"""The gates and the follower, tested with figures and a ledger, without Locust."""

import json
import time
from argparse import Namespace
from pathlib import Path

import pytest
from zeroloss.ledger import effect
from zeroloss.loadtests.judging.follow import Follower, Promise
from zeroloss.loadtests.judging.gates import Counts, Figures, Gate, Slo, check, rounded_up

FINE = {
    "requests": 1_000,
    "failures": 10,
    "seconds": 10.0,
    "p95_ms": 40.0,
    "p99_ms": 90.0,
    "refused": 5,
    "promised": 900,
    "effect_p95_ms": 300.0,
    "high_effect_p95_ms": 200.0,
    "lost": 0,
    "drain_s": 1.5,
}


def gates(slo: Slo, **changes: object) -> dict[str, Gate]:
    return {gate.name: gate for gate in check(Figures(**{**FINE, **changes}), slo)}  # type: ignore[arg-type]


KEPT_AND_BROKEN = [
    ("failure_ratio", 0.01, 0.009),
    ("p95_ms", 40, 39),
    ("p99_ms", 90, 89),
    ("min_rate", 100, 101),
    ("effect_p95_ms", 300, 299),
    ("high_effect_p95_ms", 200, 199),
    ("drain_s", 1.5, 1.4),
    ("min_refused", 5, 6),
]


@pytest.mark.parametrize(("name", "kept", "broken"), KEPT_AND_BROKEN)
def test_a_threshold_is_kept_up_to_itself_and_broken_beyond(name: str, kept: float, broken: float) -> None:
    title = name.replace("_", "-")
    assert gates(Slo(**{name: kept}))[title].passed
    assert not gates(Slo(**{name: broken}))[title].passed


@pytest.mark.parametrize(
    ("slo", "changes", "told"),
    [
        (Slo(failure_ratio=0), {"failures": 1, "requests": 62_920}, "0.002%, at most 0% allowed"),
        (Slo(p95_ms=0.05), {"p95_ms": 0.3}, "0.3 ms, at most 0.05 ms allowed"),
        (Slo(drain_s=1), {"drain_s": 1.004}, "1.004 s, at most 1 s allowed"),
        (Slo(min_rate=100), {"seconds": 10.001}, "99.99/s, at least 100/s wanted"),
        (Slo(p95_ms=1_500), {"p95_ms": 12_345.6}, "12,346 ms, at most 1,500 ms allowed"),
        (Slo(failure_ratio=0.01), {"failures": 7, "requests": 3_000}, "0.23%, at most 1% allowed"),
    ],
)
def test_a_broken_threshold_is_reported_with_its_figures(slo: Slo, changes: dict[str, object], told: str) -> None:
    sentences = [gate.sentence for gate in gates(slo, **changes).values()]
    assert any(sentence.endswith(f": {told}.") for sentence in sentences), sentences


@pytest.mark.parametrize(
    ("ms", "counted"),
    [
        (0, 0),
        (0.3, 1),
        (100, 100),
        (100.2, 101),
        (999.5, 1_000),
        (1_000, 1_000),
        (1_000.5, 1_010),
        (1_049, 1_050),
        (10_000, 10_000),
        (10_001, 10_100),
        (123_456, 124_000),
    ],
)
def test_a_time_is_counted_as_three_digits_of_it_and_never_as_less_than_it_was(ms: float, counted: int) -> None:
    assert rounded_up(ms) == counted


@pytest.mark.parametrize("name", ["p95_ms", "p99_ms", "effect_p95_ms", "drain_s", "lost"])
def test_an_unmeasured_figure_keeps_no_threshold(name: str) -> None:
    gate = gates(Slo(**{name: 1_000_000.0}), **{name: None})[name.replace("_", "-")]
    assert not gate.passed
    assert "not measured" in gate.sentence


def test_no_request_at_all_never_passes_whatever_is_set() -> None:
    nothing = {"requests": 0, "failures": 0, "p95_ms": None, "p99_ms": None, "promised": None, "lost": None}
    assert not gates(Slo(), **nothing)["requests"].passed
    assert not gates(Slo(failure_ratio=1.0), **nothing)["failure-ratio"].passed


def test_an_empty_ledger_fails_where_tasks_were_accepted_and_only_there() -> None:
    empty = {"ledger_empty": True, "lost": None, "drain_s": None, "effect_p95_ms": None}
    assert "while 22,792 tasks were accepted" in gates(Slo(), promised=22_792, **empty)["ledger"].sentence
    assert not gates(Slo(), promised=22_792, **empty)["ledger"].passed
    assert "ledger" not in gates(Slo(), promised=0, **empty)


def test_a_lost_task_fails_where_there_is_a_ledger_though_no_threshold_says_so() -> None:
    assert not gates(Slo(), lost=1)["lost"].passed
    assert gates(Slo(lost=1), lost=1)["lost"].passed
    assert "lost" not in gates(Slo(), lost=None)


def test_a_scheduled_task_that_ran_early_fails_though_no_threshold_says_so() -> None:
    assert gates(Slo(), early=2)["early"].sentence == "2 tasks were executed before they were due."
    assert "early" not in gates(Slo())


COUNTED = Counts(enqueued=900, succeeded=890, dead_lettered=4, redelivered=3, backlog=5)


def test_figures_of_the_queue_name_what_is_nowhere_and_hold_what_was_accepted_here() -> None:
    gate = gates(Slo(), counted=COUNTED)["counted"]
    assert gate.passed
    assert gate.sentence == (
        "/metrics counted 900 tasks enqueued while 900 were accepted here: 890 succeeded, 4 dead-lettered, "
        "3 redelivered; the backlog grew by 5, and 1 are nowhere."
    )
    assert not gates(Slo(), counted=COUNTED, promised=901)["counted"].passed
    assert not gates(Slo(), counted=COUNTED, uncounted="It is away.")["counted"].passed


def test_of_tasks_that_are_only_counted_those_that_did_not_succeed_are_unfinished() -> None:
    assert (COUNTED.missing, COUNTED.unfinished) == (1, 10)
    before = Counts(enqueued=100, succeeded=90, dead_lettered=1, redelivered=0, backlog=9)
    assert COUNTED.since(before).unfinished == 1 + 3  # one is missing, three were dead-lettered


def test_redeliveries_beyond_their_threshold_fail_and_so_they_do_where_nobody_counts() -> None:
    assert gates(Slo(redelivered=3), counted=COUNTED)["redelivered"].passed
    assert not gates(Slo(redelivered=2), counted=COUNTED)["redelivered"].passed
    assert "not measured" in gates(Slo(redelivered=2))["redelivered"].sentence


def test_a_threshold_on_effects_is_not_judged_where_tasks_are_only_counted() -> None:
    assert "effect-p95-ms" not in gates(Slo(effect_p95_ms=1), counted=COUNTED, effect_p95_ms=None)


def test_to_follow_nothing_does_not_pass() -> None:
    assert not gates(Slo(), promised=0)["promised"].passed
    assert "promised" not in gates(Slo(), promised=None)


def test_thresholds_typed_into_a_page_are_text_and_empty_ones_are_not_set() -> None:
    assert Slo.read(Namespace(slo_p95_ms="250", slo_lost="", slo_p99_ms=None)) == Slo(p95_ms=250.0)
    with pytest.raises(ValueError, match="fast"):
        Slo.read(Namespace(slo_p95_ms="fast"))


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEROLOSS_LEDGER", str(tmp_path))
    return tmp_path


def run_task(name: str) -> None:
    with effect(name):
        pass


def test_a_promise_is_followed_to_the_end_of_its_task_and_the_time_between_is_shown(ledger: Path) -> None:
    follower = Follower(ledger)
    sent_s = time.time() - 2
    assert list(follower.follow(Promise("a", "single", sent_s))) == []
    assert [one.task for one in follower.waiting()] == ["a"]
    run_task("a")
    (executed,) = follower.poll()
    assert executed.promise.task == "a"
    assert 2_000 <= executed.ms < 4_000
    assert follower.waiting() == []
    assert follower.last_executed_s == pytest.approx(sent_s + executed.ms / 1000)


def test_a_task_that_was_done_before_its_promise_was_known_counts_as_kept(ledger: Path) -> None:
    follower = Follower(ledger)
    run_task("a")
    assert list(follower.poll()) == []
    (executed,) = follower.follow(Promise("a", "single", time.time() - 1))
    assert executed.promise.task == "a"
    assert follower.waiting() == []


def test_an_event_from_before_the_load_is_not_read(ledger: Path) -> None:
    run_task("a")
    follower = Follower(ledger)
    assert list(follower.follow(Promise("a", "single", time.time()))) == []
    assert list(follower.poll()) == []
    assert [one.task for one in follower.waiting()] == ["a"]


def test_a_task_whose_handler_raised_or_did_not_end_is_not_executed(ledger: Path) -> None:
    follower = Follower(ledger)
    assert list(follower.follow(Promise("raises", "single", time.time()))) == []
    assert follower.silent
    with pytest.raises(RuntimeError), effect("raises"):
        raise RuntimeError("as planned")
    assert list(follower.poll()) == []
    assert not follower.silent


def test_a_task_that_ends_before_it_is_due_is_counted_as_early(ledger: Path) -> None:
    follower = Follower(ledger)
    for name, due_in_s in (("early", 60.0), ("due", -0.5)):
        assert list(follower.follow(Promise(name, "scheduled", time.time() + due_in_s))) == []
        run_task(name)
    assert [one.ms == 0 for one in follower.poll()] == [True, False]
    assert follower.early == 1


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(ledger: Path) -> None:
    follower = Follower(ledger)
    assert list(follower.follow(Promise("a", "single", time.time()))) == []
    line = json.dumps({"t": time.monotonic_ns(), "phase": "end", "task": "a"}) + "\n"
    with (ledger / "worker-1.jsonl").open("w") as file:
        file.write(line[:20])
        file.flush()
        assert list(follower.poll()) == []
        file.write(line[20:])
    assert [one.promise.task for one in follower.poll()] == ["a"]
