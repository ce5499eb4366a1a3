"""The laws as predicates: each accepts allowed histories and reports forbidden ones."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroloss.invariants import (
    INVARIANTS,
    Answer,
    Transition,
    bounded_attempts,
    bounded_recovery,
    conservation,
    idempotent_enqueue,
    no_invention,
    no_loss,
    order,
    ownership,
)

TASKS = st.lists(st.text("abcdef", min_size=1, max_size=2), unique=True, max_size=12)


def test_the_laws_are_numbered_I1_to_I8_in_order() -> None:
    assert list(INVARIANTS) == [f"I{n}" for n in range(1, 9)]
    for number, invariant in INVARIANTS.items():
        assert invariant.number == number
        assert invariant.title
        assert invariant.law.endswith(".")
        assert callable(invariant.check)


def test_I1_holds_when_each_task_is_finished_or_in_exactly_one_place() -> None:
    assert conservation(["a", "b", "c"], ["a"], {"pending": ["b"], "processing:w1": ["c"], "delayed": []}) == []


@pytest.mark.parametrize(
    ("finished", "places", "sentence"),
    [
        ([], {"pending": []}, "lies nowhere"),
        ([], {"pending": ["a"], "processing:w1": ["a"]}, "2 places: pending, processing:w1"),
        ([], {"pending": ["a", "a"]}, r"2 places: pending \(2 times\)"),
        (["a"], {"dead_letter": ["a"]}, "finished and yet lies in dead_letter"),
    ],
)
def test_I1_is_violated_by_a_task_in_no_place_or_in_two(
    finished: list[str], places: dict[str, list[str]], sentence: str
) -> None:
    (violation,) = conservation(["a"], finished, places)
    assert re.search(sentence, violation)


@given(TASKS, st.data())
def test_I1_sees_every_task_that_is_taken_out_of_its_place(tasks: list[str], data: st.DataObject) -> None:
    where = {task: data.draw(st.sampled_from(["pending", "delayed", "processing:w1", "finished"])) for task in tasks}
    places = {place: [t for t in tasks if where[t] == place] for place in ("pending", "delayed", "processing:w1")}
    finished = [task for task in tasks if where[task] == "finished"]
    assert conservation(tasks, finished, places) == []
    for task in tasks:
        without = {place: [t for t in ids if t != task] for place, ids in places.items()}
        assert len(conservation(tasks, [t for t in finished if t != task], without)) == 1
        twice = {**places, "dead_letter": [task]}
        assert len(conservation(tasks, finished, twice)) == 1


def test_I2_holds_for_completed_dead_and_waiting_tasks() -> None:
    assert no_loss(["a", "b", "c"], ["a"], {"b": "poison"}, waiting=["c"]) == []


@pytest.mark.parametrize(
    ("dead", "sentence"), [({}, "is gone"), ({"a": None}, "without a reason"), ({"a": ""}, "reason")]
)
def test_I2_is_violated_by_a_task_that_is_gone_or_given_up_without_a_reason(
    dead: dict[str, str | None], sentence: str
) -> None:
    (violation,) = no_loss(["a"], [], dead)
    assert sentence in violation


@given(TASKS, st.sets(st.text("abcdef", min_size=1, max_size=2)))
def test_I2_names_exactly_the_tasks_that_were_not_completed(tasks: list[str], completed: set[str]) -> None:
    assert len(no_loss(tasks, completed, {})) == len(set(tasks) - completed)


def test_I3_holds_when_the_holder_acts_and_when_another_is_refused() -> None:
    assert (
        ownership(
            [
                Transition("ack", "w1", 1, [1], succeeded=True),
                Transition("ack", "w2", 1, [], succeeded=False),
            ]
        )
        == []
    )


@pytest.mark.parametrize("verb", ["ack", "fail", "release"])
def test_I3_is_violated_by_a_consumer_that_settles_what_it_does_not_hold(verb: str) -> None:
    (violation,) = ownership([Transition(verb, "w2", 1, [2], succeeded=True)])
    assert violation.startswith(f"Consumer w2 could {verb}")


def test_I4_holds_up_to_the_bound_and_not_beyond() -> None:
    assert bounded_recovery({"a": 5.0}, within_s=5.0) == []
    assert "later than 5 s" in bounded_recovery({"a": 5.001}, within_s=5.0)[0]
    assert "nor later by itself" in bounded_recovery({"a": None}, within_s=5.0)[0]


def test_I5_wants_the_last_allowed_failure_to_end_in_dead_letter() -> None:
    assert bounded_attempts({"a": 3, "b": 4}, failures_max=4, dead=["b"]) == []
    assert "not in dead_letter" in bounded_attempts({"a": 4}, failures_max=4, dead=[])[0]
    assert "more than 4" in bounded_attempts({"a": 5}, failures_max=4, dead=["a"])[0]


def test_I6_holds_for_submitted_tasks_with_equal_or_unknown_digests() -> None:
    assert no_invention({"a": "1", "b": None}, [("a", "1"), ("a", None), ("b", "2")]) == []


def test_I6_is_violated_by_invention_refusal_and_another_payload() -> None:
    assert "never submitted" in no_invention({}, [("a", None)])[0]
    assert "had been refused" in no_invention({"a": None}, [("a", None)], refused=["a"])[0]
    assert "another payload" in no_invention({"a": "1"}, [("a", "2")])[0]


def test_I7_holds_for_gaps_and_repetitions_and_not_for_an_inversion() -> None:
    assert order("abcd", "aabd") == []
    assert order("abcd", "abcdb") == []
    assert order("abcd", "acbd") == ["Task b was executed after task c, which was accepted later."]


@given(TASKS, st.randoms())
def test_I7_holds_only_for_the_order_of_acceptance(tasks: list[str], random: object) -> None:
    shuffled = list(tasks)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert (order(tasks, shuffled) == []) == (shuffled == tasks)


def test_I8_holds_when_a_key_gives_one_id_and_refuses_another_request() -> None:
    assert (
        idempotent_enqueue(
            [Answer("k", "1", None), Answer("k", "1", "a"), Answer("k", "1", "a"), Answer("k", "2", None)]
        )
        == []
    )


def test_I8_is_violated_by_a_second_id_or_a_second_request() -> None:
    assert "two tasks: a and b" in idempotent_enqueue([Answer("k", "1", "a"), Answer("k", "1", "b")])[0]
    assert "two different requests" in idempotent_enqueue([Answer("k", "1", "a"), Answer("k", "2", "a")])[0]
