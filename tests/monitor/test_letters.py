"""Dead letters and tasks over the monitor's HTTP API: pages, single letters, and an operator's actions."""

import json
import threading
from typing import Any

import falcon.testing
import pytest
from support.processes.over_http import assert_problem
from support.queue_fixtures import Queue, entry, ids
from zeroloss.reference.http.readiness import connect_probe
from zeroloss.reference.monitor.app import create_app
from zeroloss.reference.monitor.letters import PAYLOAD_BYTES_MAX
from zeroloss.reference.monitor.places import PAGE


@pytest.fixture
def monitor(queue: Queue) -> falcon.testing.TestClient:
    return falcon.testing.TestClient(create_app(connect_probe(queue.config), queue.config))


def bury(queue: Queue, *entries: bytes, reason: str = "failed", error: str = "ValueError: no") -> list[str]:
    """Add letters as a worker does. Return their ids, oldest first."""
    fields = {"reason": reason, "error": error, "traceback": "", "consumer": "w1"}
    return [queue.client.xadd(queue.keys.dead_letter, {"entry": each, **fields}).decode() for each in entries]


def named(*names: str) -> list[bytes]:
    return [entry(name, attempt=2) for name in names]


def post(monitor: falcon.testing.TestClient, verb: str, body: Any, **headers: str) -> falcon.testing.Result:
    named = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return monitor.simulate_post(f"/letters/{verb}", body=json.dumps(body), headers=named)


def listed(monitor: falcon.testing.TestClient, **query: str) -> list[str]:
    answer = monitor.simulate_get("/letters", params=query)
    assert answer.status_code == 200, answer.text
    return [letter["id"] for letter in answer.json["letters"]]


# Looking


def test_letters_are_listed_newest_first_with_what_went_wrong(queue: Queue, monitor: falcon.testing.TestClient) -> None:
    bury(queue, entry("a", task_type="email", attempt=4, retries=3))
    bury(queue, entry("b"), reason="vanished", error="Its worker vanished.")
    answer = monitor.simulate_get("/letters").json
    newest, oldest = answer["letters"]
    assert answer["total"] == 2
    assert (newest["id"], newest["reason"], newest["error"]) == ("b", "vanished", "Its worker vanished.")
    assert (oldest["type"], oldest["attempts"], oldest["error"]) == ("email", 3, "ValueError: no")
    assert oldest["dead_at"] == int(oldest["letter"].partition("-")[0])


def test_a_letter_says_once_how_often_its_task_was_attempted(queue: Queue, monitor: falcon.testing.TestClient) -> None:
    """The entry's own counters are those of the next attempt, which a requeue would start."""
    bury(queue, entry("a", attempt=4, retries=3))
    (letter,) = monitor.simulate_get("/letters").json["letters"]
    assert letter["attempts"] == 3
    assert letter.keys().isdisjoint({"attempt", "retries", "recoveries"})


def test_letters_come_in_pages_that_miss_none(queue: Queue, monitor: falcon.testing.TestClient) -> None:
    names = [f"t{number}" for number in range(2 * PAGE + 3)]
    bury(queue, *named(*names))
    found: list[str] = []
    before: dict[str, str] = {}
    while before is not None:
        page = monitor.simulate_get("/letters", params=before).json
        found += [letter["id"] for letter in page["letters"]]
        before = {"before": page["next"]} if page["next"] else None
    assert found == names[::-1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"reason": "vanished"}, ["c"]),
        ({"type": "email"}, ["b"]),
        ({"text": "MAILBOX"}, ["b"]),
        ({"text": "nothing like it"}, []),
        ({"reason": "failed", "type": "email"}, ["b"]),
    ],
    ids=str,
)
def test_letters_are_sought_by_reason_type_and_text(
    queue: Queue, monitor: falcon.testing.TestClient, query: dict[str, str], expected: list[str]
) -> None:
    bury(queue, entry("a"))
    bury(queue, entry("b", task_type="email"), error="no such mailbox")
    bury(queue, entry("c"), reason="vanished")
    assert listed(monitor, **query) == expected


def test_one_letter_is_shown_in_whole_with_its_payload_bounded(
    queue: Queue, monitor: falcon.testing.TestClient
) -> None:
    small, large = bury(queue, entry("a", '{"n": 1.10}'), entry("b", json.dumps("x" * 100_000)))
    assert monitor.simulate_get(f"/letters/{small}").json["payload"] == '{"n": 1.10}'
    shown = monitor.simulate_get(f"/letters/{large}").json
    assert (len(shown["payload"]), shown["payload_bytes"]) == (PAYLOAD_BYTES_MAX, 100_002)


def test_an_entry_that_cannot_be_read_is_a_row_that_says_so(queue: Queue, monitor: falcon.testing.TestClient) -> None:
    (letter,) = bury(queue, b"\xff nonsense", reason="not_runnable")
    (row,) = monitor.simulate_get("/letters").json["letters"]
    assert (row["id"], row["unreadable"]) == (None, "its header cannot be read")
    assert "nonsense" in monitor.simulate_get(f"/letters/{letter}").json["payload"]


def test_a_letter_that_is_gone_and_an_invalid_id_are_problems(monitor: falcon.testing.TestClient) -> None:
    assert_problem(monitor.simulate_get("/letters/1-1"), 404, "requeued or purged")
    assert_problem(monitor.simulate_get("/letters/x"), 400, "not an id of a dead letter", kind="malformed")
    assert_problem(monitor.simulate_get("/letters?before=x"), 400, "not an id of a dead letter", kind="malformed")


def test_a_stream_of_another_type_is_a_problem_that_says_so(queue: Queue, monitor: falcon.testing.TestClient) -> None:
    queue.client.set(queue.keys.dead_letter, "a string")
    assert_problem(monitor.simulate_get("/letters"), 503, "Redis refuses: WRONGTYPE")


# Acting


def test_selected_letters_are_requeued_and_the_others_stay(queue: Queue, monitor: falcon.testing.TestClient) -> None:
    first, _, third = bury(queue, *named("a", "b", "c"))
    assert post(monitor, "requeue", {"ids": [first, third]}).json == {"done": 2, "unreadable": 0}
    assert ids(queue.pending()) == ["a", "c"]
    assert listed(monitor) == ["b"]


def test_all_letters_of_a_reason_are_purged_and_the_others_stay(
    queue: Queue, monitor: falcon.testing.TestClient
) -> None:
    bury(queue, *named(*(f"v{number}" for number in range(30))), reason="vanished")
    bury(queue, *named("a", "b"))
    answer = post(monitor, "purge", {"all": True, "reason": "vanished"}).json
    assert (answer["done"], answer["next"]) == (30, None)
    assert listed(monitor) == ["b", "a"]


def test_a_requeue_of_all_leaves_what_cannot_be_read(queue: Queue, monitor: falcon.testing.TestClient) -> None:
    bury(queue, b"nonsense", *named("a"))
    assert post(monitor, "requeue", {"all": True}).json == {"done": 1, "unreadable": 1, "next": None}
    assert (ids(queue.pending()), len(queue.dead())) == (["a"], 1)


@pytest.mark.law("I1")
def test_each_letter_is_requeued_or_purged_once_where_several_press_at_once(
    queue: Queue, monitor: falcon.testing.TestClient
) -> None:
    names = [f"t{number}" for number in range(60)]
    letters = bury(queue, *named(*names))
    done: dict[str, int] = {"requeue": 0, "purge": 0}
    lock, start = threading.Lock(), threading.Barrier(4)

    def press(verb: str) -> None:
        start.wait()
        for letter in letters:
            count = post(monitor, verb, {"ids": [letter]}).json["done"]
            with lock:
                done[verb] += count

    threads = [threading.Thread(target=press, args=[verb]) for verb in ("requeue", "purge", "requeue", "requeue")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done["requeue"] + done["purge"] == 60
    assert len(queue.pending()) == len(set(ids(queue.pending()))) == done["requeue"]
    assert queue.dead() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    ],
    ids=str,
)
def test_a_request_that_a_page_of_another_site_can_send_changes_nothing(
    queue: Queue, monitor: falcon.testing.TestClient, headers: dict[str, str], status: int
) -> None:
    bury(queue, *named("a"))
    assert post(monitor, "purge", {"all": True}, **headers).status_code == status
    assert_problem(monitor.simulate_get("/letters/purge"), 400, kind="malformed")
    assert listed(monitor) == ["a"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ([], "JSON object"),
        ({}, "all: true"),
        ({"all": 1}, "all: true"),
        ({"ids": "1-1"}, "ids must be"),
        ({"ids": [1]}, "ids must be"),
        ({"ids": ["x"]}, "not an id of a dead letter"),
        ({"ids": ["1-1"] * 1_001}, "at most 1000"),
        ({"all": True, "reason": 1}, "must be texts"),
    ],
    ids=str,
)
def test_an_action_that_is_invalid_is_refused_with_a_sentence(
    queue: Queue, monitor: falcon.testing.TestClient, body: Any, word: str
) -> None:
    bury(queue, *named("a"))
    assert_problem(post(monitor, "purge", body), 400, word, kind="malformed")
    assert listed(monitor) == ["a"]


# Tasks


def test_pending_tasks_are_shown_in_the_order_in_which_they_are_claimed(
    queue: Queue, monitor: falcon.testing.TestClient
) -> None:
    names = [f"t{number}" for number in range(PAGE + 10)]
    queue.push(*named(*names))
    first = monitor.simulate_get("/tasks/pending").json
    second = monitor.simulate_get(f"/tasks/pending?start={first['next']}").json
    assert [task["id"] for task in first["tasks"] + second["tasks"]] == names
    assert (first["total"], second["next"]) == (PAGE + 10, None)
    assert monitor.simulate_get("/tasks/pending?priority=high").json["total"] == 0


def test_delayed_tasks_are_shown_with_the_time_at_which_they_are_due(
    queue: Queue, monitor: falcon.testing.TestClient
) -> None:
    queue.client.zadd(queue.keys.delayed, {entry("a"): 5, entry("b"): "inf"})
    shown = monitor.simulate_get("/tasks/delayed").json["tasks"]
    assert [(task["id"], task["due_at"]) for task in shown] == [("a", 5), ("b", None)]


def test_the_tasks_of_a_consumer_are_shown_by_their_numbers(queue: Queue, monitor: falcon.testing.TestClient) -> None:
    queue.enqueue(*range(12))
    queue.consumer().claim(12)
    shown = monitor.simulate_get("/tasks/processing?consumer=w1").json
    assert [task["number"] for task in shown["tasks"]] == list(range(1, 13))


def test_a_page_of_large_tasks_is_cut_short(queue: Queue, monitor: falcon.testing.TestClient) -> None:
    queue.push(*(entry(f"t{number}", json.dumps("x" * 400_000)) for number in range(6)))
    page = monitor.simulate_get("/tasks/pending").json
    assert (len(page["tasks"]), page["next"], page["total"]) == (3, 3, 6)
    assert len(json.dumps(page)) < 10_000


@pytest.mark.parametrize("path", ["/tasks/nowhere", "/tasks/pending?priority=x", "/tasks/pending?start=-1"])
def test_an_unknown_place_is_a_problem(monitor: falcon.testing.TestClient, path: str) -> None:
    assert monitor.simulate_get(path).status_code in (400, 404)
