"""Entries: texts that are read or refused, the fields of the header, and ids."""

import json
import subprocess
import sys
import threading
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from support.queue_fixtures import entry, raw_payload
from support.waiting import plain_id
from zeroloss.reference.queue.errors import InvalidTask, Undecodable
from zeroloss.reference.queue.task import Task, _IdClock, encode, new_task_id, new_task_ids, refuse_half_pairs

HEADER = b"d,1,0,0,1700000000000,0,;"
# Valid JSON that a JSON library would rewrite, lose or refuse.
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


def test_a_new_task_is_one_json_object_with_its_members_in_a_fixed_order() -> None:
    made = encode(task_id="t1", task_type="email", payload_json='{"to":"me"}')
    assert made == b'{"id":"t1","type":"email","payload":{"to":"me"}}'


def test_the_default_type_takes_no_byte_of_an_entry_and_is_read_as_one() -> None:
    made = encode(task_id="t1", task_type="default", payload_json="1")
    assert made == b'{"id":"t1","payload":1}'
    assert Task(HEADER + made).type == "default"


def test_an_entry_is_read_with_all_that_its_header_says() -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    task = Task(b"h,7,2,3,1700000000000,4," + trace + b';{"id":"t1","type":"email","payload":{"to":"me"}}', 9)
    assert (task.id, task.type, task.payload, task.number) == ("t1", "email", {"to": "me"}, 9)
    assert (task.priority, task.attempt, task.retries, task.recoveries) == ("high", 7, 2, 3)
    assert (task.enqueued_at, task.trace_context) == (1_700_000_000_000, trace.decode())


@pytest.mark.parametrize(("letter", "name"), [("h", "high"), ("d", "default"), ("l", "low")])
def test_a_priority_is_one_letter(letter: str, name: str) -> None:
    assert Task(entry(priority=letter)).priority == name


@given(st.text(), st.text(), JSON_VALUES)
def test_any_id_type_and_payload_survive_the_way_through_the_bytes(
    task_id: str, task_type: str, payload: object
) -> None:
    payload_json = json.dumps(payload)
    task = Task(HEADER + encode(task_id=task_id, task_type=task_type, payload_json=payload_json))
    assert (task.id, task.type) == (task_id, task_type)
    assert json.dumps(task.payload) == payload_json


def test_members_that_are_missing_have_their_defaults() -> None:
    task = Task(HEADER + b'{"id":"t1"}')
    assert (task.type, task.payload, task.attempt) == ("default", None, 1)


def test_of_two_members_of_one_name_the_last_counts() -> None:
    task = Task(HEADER + b'{"id":"a","id":"b","payload":1,"payload":{"c":1,"c":2}}')
    assert (task.id, task.payload) == ("b", {"c": 2})


def test_members_that_the_code_does_not_know_are_not_hindrance() -> None:
    assert Task(HEADER + b' {"deadline":1E5, "id" : "t1", "payload": 1}').id == "t1"


@pytest.mark.parametrize(
    "not_a_task",
    [
        b"",
        b"plain text",
        b"\xff\xfe",
        b'{"id":"t1"',
        b'{"id":"t1"} and more',
        b'{"id":"t1",}',
        b'["id"]',
        b"null",
        b'{"payload":1}',
        b'{"id":17}',
        b'{"id":"t1","type":null}',
        b'{"id":"t1","payload":NaN}',
        b'{"id":"t1","payload":Infinity}',
        b'{"id":"t1","payload":"\n"}',
        b'{"id":"t1","payload":"\xff"}',
        b'{"id":"t1","payload":"\\ud800"}',
        b'{"id":"t1","payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda value: plain_id(value[:34].decode("latin-1")),
)
def test_an_entry_that_is_not_a_task_is_refused_as_undecodable(not_a_task: bytes) -> None:
    with pytest.raises(Undecodable):
        Task(HEADER + not_a_task)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"d,1,0,0,1700000000000,0,",
        b"x,1,0,0,1700000000000,0,;",
        b"d,-1,0,0,1700000000000,0,;",
        b"d,1,,0,1700000000000,0,;",
        b"d,1,0,0,1700000000000,0,a b;",
        b"d,1,0,0,1700000000000,0,zz;",
        b"d,1234567890,0,0,1700000000000,0,;",
        b"d,1,0," + b"9" * 4_300 + b",1700000000000,0,;",
        b"d,1,0,0,1700000000000,0," + b"a" * 200 + b";",
    ],
    ids=lambda value: plain_id(value[:34].decode("latin-1")),
)
def test_a_header_that_is_invalid_is_refused(header: bytes) -> None:
    with pytest.raises(Undecodable, match="its header cannot be read"):
        Task(header + b'{"id":"t1"}')


def test_why_it_is_refused_is_reported_in_one_printable_line() -> None:
    with pytest.raises(Undecodable) as caught:
        Task(HEADER + b'{"id":17}')
    assert str(caught.value) == "not a task: Expected `str`, got `int` - at `$.id`"


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_either_a_task_or_undecodable(anything: bytes, with_header: bool) -> None:
    made = HEADER + anything if with_header else anything
    try:
        assert Task(made).entry == made
    except Undecodable:
        pass


@given(st.integers() | st.integers(2**53, 2**64) | st.integers(-(10**40), 10**40))
def test_any_whole_number_keeps_its_value(number: int) -> None:
    """From 2^53 + 1 on, a reader limited to doubles, such as Redis's own JSON library, returns wrong values."""
    made = entry(payload_json=str(number))
    assert Task(made).payload == number
    assert raw_payload(made) == str(number)


@pytest.mark.law("I6")
@pytest.mark.parametrize("payload_json", AWKWARD_PAYLOADS, ids=AWKWARD_IDS)
def test_a_payload_s_text_is_read_as_it_was_written(payload_json: str) -> None:
    assert raw_payload(entry(payload_json=payload_json)) == payload_json


@pytest.mark.parametrize("half", ['"\\ud800"', '"\\uDBFF x"', '["\\udc00"]', '{"\\ud83e":1}', '"\\ud83e\\ud83e"'])
def test_half_of_a_surrogate_pair_is_refused_before_it_is_enqueued(half: str) -> None:
    with pytest.raises(InvalidTask, match="half of a surrogate pair"):
        refuse_half_pairs(half)


@pytest.mark.parametrize("whole", ['"\\ud83e\\uDDE8"', '"\\\\ud800"', '"\\u00e9"', "1e400"])
def test_a_text_without_half_a_pair_is_not_refused(whole: str) -> None:
    refuse_half_pairs(whole)
    assert raw_payload(entry(payload_json=whole)) == whole


def test_generated_ids_sort_in_the_order_they_were_made() -> None:
    made = [new_task_id() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_made_together_sort_in_order_and_between_those_made_before_and_after() -> None:
    before, made, after = new_task_id(), new_task_ids(10_000), new_task_id()
    assert [before, *made, after] == sorted({before, *made, after})
    assert {(parsed.version, parsed.variant) for parsed in map(uuid.UUID, made)} == {(7, uuid.RFC_4122)}
    assert new_task_ids(0) == []


def test_generated_ids_are_unique_across_threads() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend(new_task_id() for _ in range(2_000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8_000


def test_generated_ids_are_unique_across_processes_and_sort_by_time() -> None:
    program = "from zeroloss.reference.queue.task import new_task_id\nfor _ in range(500): print(new_task_id())"
    before = new_task_id()
    processes = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    made = [line for process in processes for line in process.communicate(timeout=30)[0].split()]
    after = new_task_id()
    assert len(set(made)) == 1_500
    assert before < min(made)
    assert max(made) < after


def test_a_generated_id_is_a_uuid_of_version_7() -> None:
    parsed = uuid.UUID(new_task_id())
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_a_clock_that_stands_still_gives_ids_that_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_456_789)
    first = 1_700_000_000_123_456_789 * 4096 // 1_000_000
    clock = _IdClock()
    assert [*clock.take(3), *clock.take(2), *clock.take(1)] == [*range(first, first + 6)]


def test_a_generated_id_begins_with_its_time_in_ms() -> None:
    before_ms = int(time.time() * 1000)
    made = uuid.UUID(new_task_id())
    assert before_ms <= made.int >> 80 <= time.time() * 1000
