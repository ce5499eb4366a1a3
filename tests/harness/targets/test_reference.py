"""The reference's target maps each answer of the producer to a promise, a refusal, or an unknown outcome."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.places import APPS
from support.runs import carry_out
from support.waiting import wait_until
from zeroloss.checker.verdicts import Verdict
from zeroloss.reference.queue.task import encode
from zeroloss.target import Conflict, Refused, Task, WrongAnswer
from zeroloss.targets import reference
from zeroloss.targets.reference import NAME_CHARS_MAX, Reference, key_of
from zeroloss.targets.reference_http import LARGE_CHARS, Requests, drawn, one_in, submission, trace_context_of

TASK = Task("zl-1-0000001", {"id": "zl-1-0000001", "work_ms": 1})
NOT_ACCEPTED = (503, "not-accepted")
UNKNOWN = (503, "outcome-unknown")
HANGS_UP = (0, "")
BATCH = [Task(f"zl-1-000000{number}", {"id": f"zl-1-000000{number}", "work_ms": 1}) for number in range(3)]


class Retrying(Reference):
    attempts = 2


class WithoutLetters(Reference):
    has_old_letters = False


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


@pytest.fixture
def answers(logs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, str]]]:
    """Answers of a fake producer, in turn: status and kind of problem. Clients give up at once."""
    monkeypatch.setattr(reference, "PATIENCE_S", 0.0)
    planned: list[tuple[int, str]] = []

    class Scripted(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, kind = planned.pop(0)
            if not status:
                self.close_connection = True
                return
            answer = {"type": f"urn:zeroloss:problem:{kind}", "task_id": TASK.id}
            body = (kind if kind.startswith("{") else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Scripted) as server:
        (logs / "producer.log").write_text(f"listening on http://127.0.0.1:{server.server_port}\n")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield planned
        server.shutdown()
        thread.join()


def test_a_producer_without_redis_refuses_the_task_for_certain(logs: Path) -> None:
    environment = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"}
    with (logs / "producer.log").open("wb") as log:
        producer = subprocess.Popen(Reference.producer or (), env=environment, stdout=log, stderr=log)
    try:
        target = WithoutLetters(redis_url="redis://127.0.0.1:1/0", directory=logs.parent)
        wait_until(target.ready)
        with pytest.raises(Refused, match=r"(?i)nothing was accepted"):
            target.enqueue(TASK)
    finally:
        producer.kill()
        producer.wait()


@pytest.mark.parametrize("answer", [NOT_ACCEPTED, (429, "queue-full"), (422, "idempotency-conflict")])
def test_an_answer_that_says_nothing_was_accepted_is_a_refusal(
    answer: tuple[int, str], answers: list[tuple[int, str]], tmp_path: Path
) -> None:
    answers.append(answer)
    with pytest.raises(Refused):
        Reference(directory=tmp_path).enqueue(TASK)


def test_a_key_that_belongs_to_another_request_is_a_conflict(answers: list[tuple[int, str]], tmp_path: Path) -> None:
    answers += [(422, "idempotency-conflict"), UNKNOWN, (422, "idempotency-conflict")]
    with pytest.raises(Conflict):
        Reference(directory=tmp_path).enqueue(TASK)
    with pytest.raises(RuntimeError):  # the first attempt, with unknown outcome, may own the key
        Retrying(directory=tmp_path).enqueue(TASK)


def test_keys_that_are_used_again_are_answered_by_the_reference_as_stated(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, "reference", "client-reuses-key")
    assert outcome.failure is None
    assert outcome.result.verdict is Verdict.PASS, outcome.result.because


def test_a_queue_that_forgets_its_keys_is_convicted_by_its_answers(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, f"{APPS / 'forgetful_reference.py'}:Forgetful", "client-reuses-key")
    assert outcome.failure is None
    assert outcome.result.verdict is Verdict.VIOLATION, outcome.result.because
    assert "accepted with two payloads under one idempotency key (I8)" in outcome.result.because


@pytest.mark.parametrize("answer", [UNKNOWN, (500, "unexpected"), HANGS_UP])
def test_an_answer_that_leaves_it_open_is_not_a_refusal(
    answer: tuple[int, str], answers: list[tuple[int, str]], tmp_path: Path
) -> None:
    answers.append(answer)
    with pytest.raises((RuntimeError, ConnectionError)):
        Reference(directory=tmp_path).enqueue(TASK)


@pytest.mark.parametrize("first", [UNKNOWN, HANGS_UP])
@pytest.mark.parametrize("second", [NOT_ACCEPTED, (429, "queue-full")])
def test_a_refusal_after_an_unknown_outcome_leaves_the_task_unknown(
    first: tuple[int, str], second: tuple[int, str], answers: list[tuple[int, str]], tmp_path: Path
) -> None:
    answers += [first, second]
    with pytest.raises(RuntimeError):
        Retrying(directory=tmp_path).enqueue(TASK)
    assert answers == []


def test_a_task_that_is_refused_twice_is_refused(answers: list[tuple[int, str]], tmp_path: Path) -> None:
    answers += [NOT_ACCEPTED, NOT_ACCEPTED]
    with pytest.raises(Refused):
        Retrying(directory=tmp_path).enqueue(TASK)


def test_a_promise_after_an_unknown_outcome_is_a_promise(answers: list[tuple[int, str]], tmp_path: Path) -> None:
    answers += [UNKNOWN, (202, "")]
    Retrying(directory=tmp_path).enqueue(TASK)


def test_a_client_with_a_key_sends_its_request_again_if_its_outcome_is_unknown(
    answers: list[tuple[int, str]], tmp_path: Path
) -> None:
    keyed = next(name for name in (f"zl-1-{number:07}" for number in range(99)) if one_in(4, key_of(name).lower()))
    for unknown in (UNKNOWN, HANGS_UP):
        answers += [unknown, (202, "")]
        Reference(directory=tmp_path).enqueue(Task(keyed, {"id": keyed, "work_ms": 1}))
        assert answers == []
        answers += [unknown, unknown]
        with pytest.raises((RuntimeError, ConnectionError)):
            Reference(directory=tmp_path).enqueue(Task(keyed, {"id": keyed, "work_ms": 1}))
        assert answers == []


def test_a_task_for_which_there_is_no_room_is_sent_again_until_there_is(
    answers: list[tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "PATIENCE_S", 30.0)
    answers += [(429, "queue-full"), (429, "queue-full"), (202, "")]
    Reference(directory=tmp_path).enqueue(TASK)
    answers += [(429, "queue-full"), *[(207, small("queued", "queued", "refused"))] * 2]
    assert Reference(directory=tmp_path).enqueue_many(BATCH) == [BATCH[2].id]


def test_a_large_batch_is_sent_again_under_its_key_when_nobody_knows_what_became_of_it(
    answers: list[tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "LARGE_BATCH", len(BATCH))
    answers += [UNKNOWN]
    with pytest.raises(RuntimeError):
        Reference(directory=tmp_path).enqueue_many(BATCH)
    monkeypatch.setattr(reference, "PATIENCE_S", 30.0)
    answers += [UNKNOWN, HANGS_UP, *[(202, results("queued", "queued", "queued"))] * 2]
    assert Reference(directory=tmp_path).enqueue_many(BATCH) == []


def test_an_answer_that_accepts_a_large_batch_as_a_whole_promises_all_of_it(
    answers: list[tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "LARGE_BATCH", len(BATCH))
    answers += [(202, results("queued", "refused", "queued"))] * 2
    assert Reference(directory=tmp_path).enqueue_many(BATCH) == []


def test_a_small_batch_with_something_invalid_among_its_tasks_must_not_be_promised_whole(
    answers: list[tuple[int, str]], tmp_path: Path
) -> None:
    answers += [(202, small("queued", "queued", "queued"))] * 2
    with pytest.raises(WrongAnswer, match="promises all"):
        Reference(directory=tmp_path).enqueue_many(BATCH)
    answers[:] = [(207, small("queued", "queued", "queued", invalid="queued"))] * 2
    with pytest.raises(WrongAnswer, match="promises all"):
        Reference(directory=tmp_path).enqueue_many(BATCH)


def results(*statuses: str) -> str:
    """Return the producer's answer to a batch."""
    named = zip(BATCH, statuses, strict=False)
    return json.dumps({"results": [{"status": status, "task_id": task.id} for task, status in named]})


def small(*statuses: str, invalid: str = "refused") -> str:
    """Return the producer's answer to a batch, with the result of the invalid task that the target adds."""
    said = json.loads(results(*statuses))["results"]
    said.insert(drawn(len(BATCH) + 1, BATCH[-1].id), {"status": invalid, "task_id": None})
    return json.dumps({"results": said})


def test_a_batch_is_promised_but_for_the_tasks_that_its_answer_refuses(
    answers: list[tuple[int, str]], tmp_path: Path
) -> None:
    answers += [(207, small("queued", "refused", "queued"))] * 2
    assert Reference(directory=tmp_path).enqueue_many(BATCH) == [BATCH[1].id]


def test_a_request_that_was_accepted_must_not_be_refused_when_it_is_sent_again(
    answers: list[tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "LARGE_BATCH", len(BATCH))
    answers += [(202, results("queued", "queued", "queued")), (429, "queue-full")]
    with pytest.raises(WrongAnswer, match="refused when sent again, by 429"):
        Reference(directory=tmp_path).enqueue_many(BATCH)
    answers[:] = [(202, ""), (422, "idempotency-conflict")]
    with pytest.raises(WrongAnswer, match="refused when sent again, by 422"):
        Reference(directory=tmp_path).enqueue(repeated())


def test_a_request_that_was_accepted_must_get_the_same_ids_when_it_is_sent_again(
    answers: list[tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "LARGE_BATCH", len(BATCH))
    others = json.dumps({"results": [*json.loads(results("queued", "queued"))["results"], {"status": "unknown"}]})
    answers += [(202, results("queued", "queued", "queued")), (207, others)]
    assert Reference(directory=tmp_path).enqueue_many(BATCH) == []
    shifted = json.dumps({"results": json.loads(results("queued", "queued", "queued"))["results"][::-1]})
    answers += [(202, results("queued", "queued", "queued")), (202, shifted)]
    with pytest.raises(WrongAnswer, match=r"accepted as zl-.* and as zl-.* when it was sent again"):
        Reference(directory=tmp_path).enqueue_many(BATCH)
    answers[:] = [(202, ""), (202, '{"status":"queued","task_id":"another"}')]
    with pytest.raises(WrongAnswer, match="as another when it was sent again"):
        Reference(directory=tmp_path).enqueue(repeated())


@pytest.mark.parametrize("again", [NOT_ACCEPTED, UNKNOWN, HANGS_UP])
def test_a_repetition_that_meets_no_redis_takes_nothing_back(
    again: tuple[int, str], answers: list[tuple[int, str]], tmp_path: Path
) -> None:
    answers += [(202, ""), again]
    assert Reference(directory=tmp_path).enqueue(repeated()) == TASK.id
    assert not answers


def test_the_largest_payload_fits_beside_the_longest_names_and_leaves_no_room_for_the_header() -> None:
    longest = encode(task_id=f"zl-{2**64 - 1}-0002000", task_type=reference.UNRETRIED, payload_json="")
    usual = encode(task_id="zl-1-0002000", task_type=reference.TYPE, payload_json="")
    header = f"d,1,0,0,1795929154172,0,{trace_context_of('x' * LARGE_CHARS)};"
    assert len(longest) <= reference.ENVELOPE_BYTES_MAX < len(usual) + len(header)


def test_some_keys_of_two_tasks_differ_in_case_alone() -> None:
    keys = [key_of(task.id) for task in BATCH[:2]]
    assert keys[0] != keys[1]
    assert keys[0].lower() == keys[1].lower()
    assert len({key_of(f"zl-1-{number:07}") for number in range(2_000)}) == 2_000
    assert len(key_of("batch-x")) in (7, NAME_CHARS_MAX)


def repeated() -> Task:
    """Return a task that the target sends with a key, twice, and without an id: each answer promises another id."""

    def fits(name: str) -> bool:
        key = key_of(name)
        return one_in(4, key.lower()) and one_in(2, key, "again") and not one_in(2, key, "named")

    return replace(TASK, id=next(filter(fits, map(str, range(1_000)))))


def test_an_answer_that_lacks_a_task_of_the_batch_can_not_be_true(
    answers: list[tuple[int, str]], tmp_path: Path
) -> None:
    answers += [(202, results("queued", "queued"))] * 2
    with pytest.raises(WrongAnswer, match="4 tasks were sent, and 2 answered"):
        Reference(directory=tmp_path).enqueue_many(BATCH)


@pytest.mark.parametrize("answer", [UNKNOWN, HANGS_UP])
def test_an_answer_that_leaves_a_batch_open_is_not_a_refusal(
    answer: tuple[int, str], answers: list[tuple[int, str]], tmp_path: Path
) -> None:
    answers.append(answer)
    with pytest.raises((RuntimeError, ConnectionError)):
        Reference(directory=tmp_path).enqueue_many(BATCH)


def test_a_batch_of_which_nothing_was_accepted_is_refused(answers: list[tuple[int, str]], tmp_path: Path) -> None:
    answers.append(NOT_ACCEPTED)
    with pytest.raises(Refused):
        Reference(directory=tmp_path).enqueue_many(BATCH)


def test_a_connection_that_the_producer_has_closed_meanwhile_is_not_used_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_once_for_each_connection() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                connection.close()

        thread = threading.Thread(target=answer_once_for_each_connection)
        thread.start()
        requests = Requests(lambda: listener.getsockname()[1])
        assert requests.post("/task", "{}", None) == (202, "")
        wait_until(lambda: requests.stale)
        assert requests.post("/task", "{}", None) == (202, "")
        thread.join()


@pytest.mark.parametrize("timed", [True, False])
def test_a_schedule_is_due_when_its_delay_is_over_whichever_way_it_is_sent(timed: bool) -> None:
    scheduled = [Task(f"zl-1-{number}", {}, delay_ms=5_000) for number in range(20)]
    sent = [json.loads(submission(task, "chaos", named=True, timed=timed)) for task in scheduled]
    times = [datetime.fromisoformat(one["execute_at"]) for one in sent if "execute_at" in one]
    assert bool(times) is timed
    assert all(4.0 < (due - datetime.now(UTC)).total_seconds() <= 5.01 for due in times)
    assert {due.utcoffset() for due in times} <= {timedelta(hours=5.5), timedelta(hours=-8)}
    assert all(one["delay_ms"] == 5_000 for one in sent if "execute_at" not in one)
