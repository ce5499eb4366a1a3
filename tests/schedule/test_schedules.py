"""Run the queue's code one Redis command at a time, in orders that are chosen, enumerated, or drawn and shrunk."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.schedule.cast import Theatre
from support.schedule.mutants import SOUGHT, hunt
from support.schedule.planting import plant
from support.schedule.scenario import Scenario, Wish
from support.schedule.search import every, nearest_first, play, story
from support.schedule.stage import FAULTS
from zeroloss.mutants.mutant import PROTOCOL, load_mutants

LINES_MAX = 15
CROWD = Scenario(
    wishes=(Wish(), Wish(behaviour="raises once", priority="high"), Wish(behaviour="slow", priority="low")),
    producers=2,
    workers=2,
    reapers=2,
    faults=FAULTS,
)
BAD_COMPANY = Scenario(
    wishes=(
        Wish(behaviour="kills"),
        Wish(behaviour="raises", priority="high"),
        Wish(behaviour="unknown type"),
        Wish(at_ms=150_000, delay_ms=30_000),
    ),
    workers=2,
    reapers=2,
    undecodable=True,
    orphans=("p-0", "p-1", "p-2"),
)
WHILE_ALL_WAIT = (Wish(at_ms=20_000),)
CHOICES = st.dictionaries(st.integers(0, 80), st.integers(1, 12), max_size=8)
ONE_TASK = {
    "a worker and a reaper": Scenario(wishes=(Wish(),), faults=("lost", "unsent", "crash")),
    "two workers": Scenario(wishes=(Wish(),), workers=2, faults=()),
    "a worker that waits, and its bell": Scenario(
        wishes=WHILE_ALL_WAIT, reapers=0, faults=("half", "apart", "bell lost", "bell doubled")
    ),
    "a worker, and commands that come late or twice": Scenario(wishes=(Wish(),), reapers=0, faults=("late", "twice")),
    "a worker that is asked to end while it waits": Scenario(wishes=WHILE_ALL_WAIT, reapers=0, faults=("stop",)),
    "two producers": Scenario(wishes=(Wish(),), producers=2, reapers=0, faults=("lost", "unsent")),
}
NIGHTLY = {
    "a worker that naps and a reaper": Scenario(wishes=(Wish(),), faults=("nap",)),
    "a slow worker and a reaper, and a clock that is set": Scenario(
        wishes=(Wish(behaviour="slow"),), faults=("clock ahead", "clock back")
    ),
}
if settings.get_current_profile_name() == "nightly":
    ONE_TASK |= NIGHTLY


@pytest.fixture(scope="module")
def theatre(embedded: Any) -> Iterator[Theatre]:
    made = Theatre(embedded.url)
    yield made
    made.close()


@pytest.mark.law("I1", "I2", "I3")
@given(scenario=st.sampled_from([CROWD, BAD_COMPANY]), choices=CHOICES)
def test_no_schedule_of_the_real_code_breaks_a_law(
    theatre: Theatre, scenario: Scenario, choices: dict[int, int]
) -> None:
    played = play(theatre, scenario, choices)
    assert not played.violations + played.broke, story(played, choices, scenario)


@pytest.mark.law("I1", "I2", "I3")
@pytest.mark.timeout(600)  # needed under a tracer; otherwise it takes seconds
@pytest.mark.parametrize("who", ONE_TASK)
def test_every_schedule_of_one_task_with_at_most_one_fault_keeps_the_laws(who: str, theatre: Theatre) -> None:
    schedules = 0
    for played in every(theatre, ONE_TASK[who]):
        schedules += 1
        assert not played.violations + played.broke, "\n".join([*played.violations, *played.broke, *played.story])
    print(f"{who}: {schedules} schedules, and what they have in common was played once.")


def test_a_schedule_replays_to_the_same_story(theatre: Theatre) -> None:
    for choices in ({3: 2, 17: 3}, {9: 4, 30: 1, 31: 5}, {5: 5}):
        assert play(theatre, CROWD, choices) == play(theatre, CROWD, choices)


def test_every_mutant_of_the_protocol_is_looked_for() -> None:
    assert SOUGHT.keys() == {name for name, mutant in load_mutants().items() if mutant.kind in PROTOCOL}


@pytest.mark.parametrize("name", SOUGHT)
def test_a_mutant_is_found_by_a_short_story_and_the_reference_is_not(
    name: str, theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought = SOUGHT[name]
    for choices, played in nearest_first(theatre, sought.scenario, sought.changes):
        assert not played.violations + played.broke, story(played, choices, sought.scenario)
    mutant = load_mutants()[name]
    with monkeypatch.context() as patch:
        plant(mutant, theatre, patch)
        found = hunt(theatre, sought)
    told = story(found.played, found.choices, sought.scenario)
    print(told)
    assert len(found.played.story) <= LINES_MAX, told
    with monkeypatch.context() as patch:
        plant(mutant, theatre, patch)
        assert play(theatre, sought.scenario, found.choices) == found.played
