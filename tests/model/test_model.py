"""Search the model: I1 to I8 and liveness in every state within the bounds, and whether planted mistakes are found.

The result holds for the real queue where it equals the model: see test_conservation.py.
"""

import inspect
import re
from dataclasses import replace

import pytest
from support.model import model, story
from support.model.bounds import ONE, TESTED, TWO, wanted
from support.model.planted import PLANTED, PLANTED_WITHIN
from support.model.search import HEADER, Found, canonical, row, search
from support.model.steps import LATE, LOST, REPEATED, steps
from support.model.world import Bounds, Protocol, World, begin
from support.places import TESTS
from zeroloss.invariants import INVARIANTS

SEARCHED: dict[Bounds, Found] = {}


def searched(bounds: Bounds) -> Found:
    """Return the result for these bounds, which are searched only once. `pytest -s` shows the table."""
    if bounds not in SEARCHED:
        SEARCHED[bounds] = search(bounds)
    return SEARCHED[bounds]


@pytest.mark.law("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8")
@pytest.mark.timeout(1_800)  # the search is finite, but the machine may be busy
@pytest.mark.parametrize("name", wanted())
def test_every_law_holds_in_every_state_and_from_each_of_them_every_task_can_be_ended(name: str) -> None:
    bounds = wanted()[name]
    found = searched(bounds)
    print(f"\n{HEADER}\n{row(name, bounds, found)}")
    assert found.violations == (), found.numbered()
    assert found.states > 1_000


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_found_with_a_shortest_story(name: str) -> None:
    planted = PLANTED[name]
    found = search(planted.bounds, planted.protocol, planted.law)
    print(f"\n{name}:\n{found.numbered()}")
    assert found.violations, f"{found.states} states were searched, and none breaks {planted.law}"
    assert all(text.startswith(planted.law) for text in found.violations)
    assert 2 <= len(found.story) <= 8


@pytest.mark.parametrize("law", [*INVARIANTS, "Liveness"])
def test_each_law_has_a_planted_mistake_that_breaks_it(law: str) -> None:
    assert any(planted.law == law for planted in PLANTED.values())


@pytest.mark.parametrize("name", PLANTED_WITHIN)
def test_within_the_bounds_of_the_planted_mistakes_the_correct_protocol_breaks_nothing(name: str) -> None:
    assert searched(PLANTED_WITHIN[name]).violations == ()
    assert {planted.bounds for planted in PLANTED.values()} == set(PLANTED_WITHIN.values())


def story_of(name: str) -> list[str]:
    planted = PLANTED[name]
    return list(search(planted.bounds, planted.protocol, planted.law).story)


def test_the_story_of_an_ack_of_whatever_is_held_is_the_pause_that_outlives_a_lease() -> None:
    assert story_of("an ack does not ask who holds the task") == [
        "the producer submits t1",
        "w1 claims t1",
        "w1 runs t1 to its end",
        "w1 is paused and its lease ends",
        "a reaper recovers t1 from w1",
        "w1 acks t1",
    ]


def test_the_story_of_a_number_in_flight_is_a_worker_that_reads_its_hash_before_the_reply() -> None:
    assert story_of("reconciling believes what is in flight") == [
        "w1 waits",
        "the producer submits t1",
        "the bell rings for w1, and its claim takes t1",
        "w1 renews its lease",
        "w1 reads its hash",
        "the reply to the wait of w1 arrives",
    ]


def test_the_story_of_a_number_that_names_two_deliveries_is_a_claim_repeated_after_a_recovery() -> None:
    assert story_of("a renewal lets repeated claims of before a recovery in") == [
        "the producer submits t1",
        "w1 claims t1, and the network repeats it",
        "w1 is paused and its lease ends",
        "a reaper recovers t1 from w1",
        "w1 renews its lease",
        "a late request of w1 is carried out, and claims t1",
    ]


def test_without_faults_nothing_is_recovered_and_so_nothing_runs_twice() -> None:
    found = search(Bounds(consumers=2, wishes=ONE, faults=0, max_retries=0, waits=True))
    assert found.violations == ()
    assert not [says for says in found.kinds if "crashes" in says or LOST in says or LATE in says or REPEATED in says]
    recovered = search(Bounds(consumers=1, wishes=TWO, faults=0, hand=2, max_retries=0)).kinds
    assert not [says for says in recovered if "recovers" in says or "reads" in says]


def test_every_kind_of_step_is_taken_within_the_bounds() -> None:
    names = [
        "one consumer, two tasks in hand",
        "one consumer, late requests",
        "two consumers, two tasks",
        "a lost log, one key",
    ]
    kinds = frozenset().union(*(searched(TESTED[name]).kinds for name in names))
    for word in (
        "submits {}, and the reply is lost",
        "submits {} again",
        "acks {} and {} claims {}",
        "raises",
        "gives {} back, and the reply is lost",
        "reads its hash",
        "leaves",
        "crashes",
        "is paused",
        "waits, which takes long",
        "claims, which takes long",
        "claim takes {}, and the network repeats it",
        "the bell rings for {}, and its claim finds nothing",
        "the wait of {} times out",
        "the reply to the wait of {} arrives, and the reply is lost",
        "a late request of {} is carried out, and claims {}",
        "takes the place",
        "a reaper recovers",
        "its parent recovers",
        "removes {}",
        "promotes",
        "requeues",
        "nothing reaches the server's disk",
        "comes back without",
    ):
        assert any(word in says for says in kinds), word


def after(world: World, bounds: Bounds, *story: str) -> World:
    for said in story:
        (world,) = (step.world for step in steps(Protocol(), bounds, world) if str(step) == said)
    return world


def test_worlds_that_differ_only_in_who_is_who_are_one_state() -> None:
    bounds = Bounds(consumers=2, wishes=ONE, faults=1)
    first = after(begin(bounds), bounds, "the producer submits t1", "w1 claims t1")
    second = after(begin(bounds), bounds, "the producer submits t1", "w2 claims t1")
    assert first != second
    assert canonical(first) == canonical(second)
    done = after(second, bounds, "w2 runs t1 to its end")
    assert canonical(done) != canonical(first)
    assert canonical(after(first, bounds, "w1 runs t1 to its end")) == canonical(done)


def test_a_mistake_that_needs_more_faults_than_are_allowed_is_not_found() -> None:
    planted = PLANTED["an ack does not ask who holds the task"]
    harmless = replace(planted.bounds, faults=0)
    assert search(harmless, planted.protocol, planted.law).violations == ()
    assert search(harmless, Protocol()).violations == ()


def test_every_verb_of_the_model_is_held_to_the_real_queue() -> None:
    """Otherwise the search of the model would prove nothing about the queue."""
    driven = inspect.getsource(story) + (TESTS / "model" / "test_conservation.py").read_text()
    verbs = {name for name, verb in inspect.getmembers(model, inspect.isfunction) if verb.__module__ == model.__name__}
    for verb in verbs:
        assert verb.startswith("_") or re.search(rf"\bmodel\.{verb}\b", driven), verb
