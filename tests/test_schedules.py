"""The queue's own code, one Redis command at a time, in orders that Hypothesis chooses and shrinks."""

import random
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule.planting import plant
from schedule.scheduler import Way
from schedule.stage import Stage

from chaos.mutants.mutant import load_mutants

GOING = st.tuples(st.just("step"), st.integers(0, 3))
FAULTS = st.sampled_from([("lost", 0), ("lost", 1), ("lost", 2), ("unsent", 2), ("crash", 0), ("crash", 1)])
TIME = st.tuples(st.just("pass"), st.sampled_from([1_000, 30_000, 61_000]))
CAUGHT = {
    "plain-brpop": "I1",
    "ack-before-the-handler": "I1",
    "recovery-ignores-leases": "I3",
    "recovery-in-two-steps": "I1",
    "idempotency-in-two-steps": "I1",
    "payload-by-cjson": "I6",
}
"""Mutant -> the law that it is seen to break. The others of chaos.mutants are not looked for here."""
SCHEDULES = st.lists(st.one_of(GOING, GOING, GOING, GOING, FAULTS, TIME), min_size=10, max_size=50)


def play(client: redis.Redis, url: str, schedule: list[tuple[str, int]]) -> Stage:
    """One schedule, until a law is broken, and then to its end with nothing failing."""
    with pytest.MonkeyPatch.context() as patch:
        stage = Stage(client, url, patch, tasks=3)
        for what, number in schedule:
            if stage.violations:
                break
            if what == "pass":
                stage.pass_by(number)
            elif what == "crash":
                stage.crash(number)
            else:
                stage.step(number, {"lost": Way.REPLY_LOST, "unsent": Way.NEVER_SENT}.get(what, Way.GOES))
        stage.drain()
        return stage


def test_no_schedule_of_the_real_code_breaks_a_law(embedded: Any) -> None:
    with redis.Redis.from_url(embedded.url) as client:

        @settings(max_examples=settings().max_examples)
        @given(SCHEDULES)
        def every_schedule(schedule: list[tuple[str, int]]) -> None:
            stage = play(client, embedded.url, schedule)
            story = "\n".join(f"{number:2d}. {said}" for number, said in enumerate(stage.story[:60], 1))
            assert not stage.violations, f"{stage.violations[:3]}\n{story}\nreplay: play(client, url, {schedule!r})"

        every_schedule()


def test_a_schedule_replays_to_the_same_story(embedded: Any) -> None:
    with redis.Redis.from_url(embedded.url) as client:
        for seed in range(5):
            schedule = drawn(seed)
            first, again = (play(client, embedded.url, schedule) for _ in range(2))
            assert (first.story, first.executed) == (again.story, again.executed)


@pytest.mark.parametrize("name", CAUGHT)
def test_a_mutant_breaks_a_law_in_some_schedule(name: str, embedded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", embedded.url)
    with redis.Redis.from_url(embedded.url) as client:
        plant(load_mutants()[name], monkeypatch)
        stages = (play(client, embedded.url, drawn(seed)) for seed in range(20))
        broken = next((stage.violations for stage in stages if stage.violations), [])
    assert any(text.startswith(CAUGHT[name]) for text in broken)


def drawn(seed: int) -> list[tuple[str, int]]:
    """A schedule of 50 steps, the same for the same seed."""
    source = random.Random(seed)
    faults = [("lost", 0), ("lost", 1), ("lost", 2), ("unsent", 2), ("crash", 0), ("crash", 1)]
    schedule = []
    for _ in range(50):
        chance = source.random()
        if chance < 0.8:
            schedule.append(("step", source.randrange(4)))
        elif chance < 0.93:
            schedule.append(source.choice(faults))
        else:
            schedule.append(("pass", source.choice([1_000, 30_000, 61_000])))
    return schedule
