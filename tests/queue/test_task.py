"""A task's bytes: what is read, what is refused, and what every change leaves untouched (I6)."""

import json
import re
import subprocess
import sys
import threading
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from support.waiting import plain_id
from zeroloss.reference.queue.errors import Undecodable
from zeroloss.reference.queue.task import _IdClock, decode, encode, new_task_id, new_task_ids, raw_members, revise

# Texts that a JSON library would write differently, lose or refuse; all are valid JSON.
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


def element(payload_json: str = "null", **members: object) -> bytes:
    made = encode(task_id="t1", task_type="default", payload_json=payload_json, created_at=7)
    return revise(made, **members) if members else made


def test_a_new_task_is_one_json_object_with_its_members_in_a_fixed_order() -> None:
    made = encode(task_id="t1", task_type="email", payload_json='{"to":"me"}', created_at=7)
    assert made == (
        b'{"id":"t1","type":"email","payload":{"to":"me"},"created_at":7,"retry_count":0,"recovered_count":0}'
    )


def test_a_task_is_read_back_as_it_was_written() -> None:
    task = decode(encode(task_id="t1", task_type="email", payload_json='{"to":"me"}', created_at=7))
    assert (task.id, task.type, task.payload, task.created_at) == ("t1", "email", {"to": "me"}, 7)
    assert (task.retry_count, task.recovered_count, task.attempt, task.error) == (0, 0, 1, None)


@given(st.text(), st.text(), JSON_VALUES, st.integers(min_value=0, max_value=2**53))
def test_any_id_type_and_payload_survive_the_way_through_the_bytes(
    task_id: str, task_type: str, payload: object, created_at: int
) -> None:
    payload_json = json.dumps(payload)
    task = decode(encode(task_id=task_id, task_type=task_type, payload_json=payload_json, created_at=created_at))
    assert (task.id, task.type, task.created_at) == (task_id, task_type, created_at)
    assert json.dumps(task.payload) == payload_json


def test_the_attempt_counts_failures_and_recoveries_and_forgets_none() -> None:
    task = decode(element(retry_count=2, recovered_count=3, retries_forgiven=2, recoveries_forgiven=3))
    assert task.attempt == 6


def test_members_that_are_missing_have_their_defaults() -> None:
    task = decode(b'{"id":"t1"}')
    assert (task.type, task.payload, task.created_at, task.attempt) == ("default", None, 0, 1)


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
        b'{"id":"t1","retry_count":"1"}',
        b'{"id":"t1","retry_count":1.0}',
        b'{"id":"t1","retry_count":true}',
        b'{"id":"t1","recovered_count":-1}',
        b'{"id":"t1","payload":NaN}',
        b'{"id":"t1","payload":Infinity}',
        b'{"id":"t1","payload":"\n"}',
        b'{"id":"t1","payload":' + b"9" * 5_000 + b"}",
        b'{"id":"t1","payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda value: plain_id(value[:34].decode("latin-1")),
)
def test_an_element_that_is_not_a_task_is_refused_as_undecodable(not_a_task: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(not_a_task)


def test_why_it_is_refused_is_said_as_it_is_shown_with_a_dead_letter() -> None:
    for element, reason in (
        (b'{"id":"t1","payload":NaN}', "not JSON: NaN is not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"id":17}', "its id or type is not a string"),
        (b'{"id":"t1","recovered_count":-1}', "its recovered_count is not a whole number from 0 to 2^53"),
        (b'{"id":"t1","retry_count":9007199254740993}', "its retry_count is not a whole number from 0 to 2^53"),
    ):
        with pytest.raises(Undecodable) as caught:
            decode(element)
        assert str(caught.value) == reason


@given(st.binary(max_size=60))
def test_any_bytes_are_either_a_task_or_undecodable(anything: bytes) -> None:
    try:
        assert decode(anything).element == anything
    except Undecodable:
        pass


@given(
    st.dictionaries(st.text(), JSON_VALUES, max_size=4),
    JSON_VALUES,
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
    st.lists(st.sampled_from(["retry_count", "recovered_count", "retries_forgiven", "error"]), max_size=6),
)
def test_any_payload_and_any_unknown_members_keep_their_text_through_any_changes(
    unknown: dict[str, object], payload: object, indent: int | str | None, escaped: bool, changes: list[str]
) -> None:
    """In whatever spacing and spelling a producer of another language wrote them."""
    members = {**{f"x-{name}": value for name, value in unknown.items()}, "id": "t1", "payload": payload}
    text = json.dumps(members, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    try:
        before = raw_members(text.decode())
    except UnicodeDecodeError:  # a lone surrogate, written raw, is not UTF-8
        with pytest.raises(Undecodable):
            revise(text, retry_count=1)
        return
    changed = text
    for number, name in enumerate(changes):
        changed = revise(changed, **{name: f"\0 {number}" if name == "error" else number})
    after = raw_members(changed.decode())
    assert {name: after[name] for name in before} == before
    assert decode(changed).payload == decode(text).payload


@given(st.integers() | st.integers(2**53, 2**64) | st.integers(-(10**40), 10**40))
def test_any_whole_number_keeps_its_digits(number: int) -> None:
    """2^53 + 1 is where a reader that knows only doubles begins to lie; Redis's own JSON is one."""
    changed = revise(element(str(number)), retry_count=1)
    assert decode(changed).payload == number
    assert raw_members(changed.decode())["payload"] == str(number)


@pytest.mark.law("I6")
@pytest.mark.parametrize("payload_json", AWKWARD_PAYLOADS, ids=AWKWARD_IDS)
def test_a_payload_keeps_its_bytes_when_counts_are_changed(payload_json: str) -> None:
    changed = revise(element(payload_json), retry_count=1)
    changed = revise(changed, recovered_count=1, error="it broke")
    changed = revise(changed, error=None, retries_forgiven=1, recoveries_forgiven=1)
    assert b'"payload":' + payload_json.encode() + b',"created_at":7,' in changed
    task = decode(changed)
    assert (task.retry_count, task.recovered_count, task.attempt, task.error) == (1, 1, 3, None)


def test_members_the_code_does_not_know_keep_their_bytes() -> None:
    foreign = b'{"id":"t1", "trace" : {"a": 1.10} ,"payload":1, "priority":1E1}'
    assert raw_members(revise(foreign, retry_count=1).decode()) == {
        "id": '"t1"',
        "trace": '{"a": 1.10}',
        "payload": "1",
        "priority": "1E1",
        "retry_count": "1",
    }


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=6), st.sampled_from([None, 1, 4]))
def test_an_object_is_split_into_its_members_at_any_spacing(members: dict[str, object], indent: int | None) -> None:
    text = json.dumps(members, indent=indent)
    split = raw_members(f" \t{text}\r\n")
    assert {name: json.loads(value) for name, value in split.items()} == members


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', '{"a" 1}', '{"a":1 "b":2}', "{1:2}", "{}{}"],
)
def test_a_text_that_is_not_one_json_object_is_not_split(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        raw_members(text)


@pytest.mark.parametrize("not_a_task", [b"\xff", b"[]", b'{"id"', b""])
def test_an_element_that_is_not_a_task_cannot_be_revised(not_a_task: bytes) -> None:
    with pytest.raises(Undecodable):
        revise(not_a_task, retry_count=1)


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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "it does not begin with {"),
        ("{}x", "something follows the object"),
        ("{1:2}", "a member's name is not a string"),
        ('{"a" 1}', "no colon after 'a'"),
        ('{"a":1 "b":2}', "neither a comma nor the end after 'a'"),
    ],
)
def test_a_text_that_is_no_object_is_told_its_mistake(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        raw_members(text)
    with pytest.raises(Undecodable, match=f"^not a JSON object: {re.escape(reason)}$"):
        revise(text.encode(), retry_count=1)


def test_a_reason_is_a_text_or_none() -> None:
    assert decode(element(error="ValueError: no")).error == "ValueError: no"
    assert decode(b'{"id":"a","payload":1,"error":7}').error is None


def test_an_absent_member_can_be_taken_away() -> None:
    assert revise(element(), error=None) == element()


def test_a_clock_that_stands_still_gives_ids_that_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_456_789)
    first = 1_700_000_000_123_456_789 * 4096 // 1_000_000
    clock = _IdClock()
    assert [*clock.take(3), *clock.take(2), *clock.take(1)] == [*range(first, first + 6)]


def test_a_generated_id_begins_with_its_time_in_ms() -> None:
    before_ms = int(time.time() * 1000)
    made = uuid.UUID(new_task_id())
    assert before_ms <= made.int >> 80 <= time.time() * 1000
