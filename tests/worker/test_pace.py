"""The number of tasks claimed ahead: a few tens of ms of work, by measured durations, and never a slow task."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroloss.reference.queue.config import Config
from zeroloss.reference.worker import pace
from zeroloss.reference.worker.pace import Pace

NOW_S = 1_000.0


@pytest.fixture(autouse=True)
def _a_clock_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: NOW_S))


def running(since_s: float | None, seconds: float | None = None) -> SimpleNamespace:
    """Return a task in hand. `since_s`: time since it began, None if unbegun. `seconds`: its duration, if finished."""
    return SimpleNamespace(started=None if since_s is None else NOW_S - since_s, seconds=seconds, size_bytes=2)


def pace_of(*seconds: float, threads: int = 4, ahead: int = 100, ahead_ms: int = 20) -> Pace:
    """Return a pace that has learned these durations."""
    made = Pace(Config(threads=threads, ahead=ahead, ahead_ms=ahead_ms))
    for each in seconds:
        made.learn(each)
    return made


def test_nothing_is_claimed_ahead_before_a_task_has_been_timed() -> None:
    assert pace_of().ahead([]) == 0


def test_as_much_is_claimed_ahead_as_the_threads_do_in_that_time() -> None:
    assert pace_of(0.004).ahead([]) == 4 * 20 // 4
    assert pace_of(0.004, threads=1).ahead([]) == 20 // 4
    assert pace_of(0.004, ahead_ms=40).ahead([]) == 4 * 40 // 4


def test_nothing_is_claimed_ahead_while_a_mebibyte_waits_in_hand() -> None:
    waiting = [SimpleNamespace(started=None, seconds=None, size_bytes=262_144) for _ in range(4)]
    assert pace_of(0.004).ahead(waiting[:3]) == 20
    assert pace_of(0.004).ahead(waiting) == 0
    waiting[0].started = NOW_S
    assert pace_of(0.004).ahead(waiting) == 20


def test_no_slow_task_is_claimed_ahead() -> None:
    assert pace_of(0.081).ahead([]) == 0
    assert pace_of(0.079).ahead([]) == 1


@pytest.mark.parametrize("ahead", [0, 1, 7])
def test_never_more_is_claimed_ahead_than_is_allowed(ahead: int) -> None:
    assert pace_of(0.0, ahead=ahead).ahead([]) == ahead
    assert pace_of(0.000_001, ahead=ahead).ahead([]) == ahead


def test_tasks_that_took_no_time_are_as_good_as_a_millionth_of_a_second() -> None:
    assert pace_of(0.0, threads=1, ahead=100_000).ahead([]) == 20_000


def test_a_thread_that_has_been_busy_for_longer_than_that_time_counts_as_occupied() -> None:
    learnt = pace_of(0.004)
    assert learnt.ahead([running(0.021)]) == 3 * 5
    assert learnt.ahead([running(0.021), running(0.5)]) == 2 * 5
    assert learnt.ahead([running(0.5)] * 4) == 0


def test_a_task_that_is_quick_or_not_begun_or_through_occupies_no_thread() -> None:
    learnt = pace_of(0.004)
    assert learnt.ahead([running(0.019), running(None), running(0.5, seconds=0.5)]) == 4 * 5


def test_one_odd_task_moves_the_average_by_a_tenth() -> None:
    assert pace_of(0.010, 0.020, threads=11, ahead_ms=100).ahead([]) == 1_100 // 11
    assert pace_of(0.020, 0.010, threads=19, ahead_ms=100).ahead([]) == 1_900 // 19


@given(first=st.floats(0.0001, 0.1), later=st.floats(0.0001, 0.1))
def test_the_average_comes_to_what_the_tasks_take_now(first: float, later: float) -> None:
    usual, after = pace_of(later, ahead=10_000), pace_of(first, *[later] * 200, ahead=10_000)
    assert abs(after.ahead([]) - usual.ahead([])) <= 1


def test_waiting_work_is_given_back_when_all_threads_have_been_busy_for_five_times_that_long() -> None:
    learnt = pace_of(0.004, threads=2, ahead_ms=20)
    assert learnt.hoarding_s == pytest.approx(0.1)
    assert not learnt.hoards([])
    assert not learnt.hoards([running(0.101)])
    assert not learnt.hoards([running(0.101), running(0.099)])
    assert learnt.hoards([running(0.101), running(0.101)])
    assert not learnt.hoards([running(0.101), running(0.101, seconds=0.1)])


def test_a_claimer_without_a_prefetch_does_not_look_for_idle_workers_all_the_time() -> None:
    assert Pace(Config(ahead_ms=0)).hoarding_s == 0.05
