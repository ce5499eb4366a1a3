"""Reading of tasks, compared with another decoder on the same text, and the time limit of bodies."""

import asyncio
import json
import re
import time
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from zeroloss.reference.http.bodies import NAME_CHARS_MAX
from zeroloss.reference.http.late_bodies import LateBodies
from zeroloss.reference.http.problems import Problem
from zeroloss.reference.http.submissions import NAME_PATTERN, NESTING_MAX, read_submission, split_array
from zeroloss.reference.queue.enqueuing.submission import Submission

NAMED = ("id", "type", "payload")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
NAMES = ['"id"', '"type"', '"payload"']
ODD_NAMES = [*NAMES, '"payloda"', '"i\\u0064"', "id", "7"]
STRINGS = ['"mail"', '"é"', '"{"', '","', '"' + "x" * NAME_CHARS_MAX + '"']
ODD_VALUES = [
    *STRINGS,
    '""',
    '"a\\nb"',
    '"\\ud800"',
    '"\x7f"',
    '"\x01"',
    '"' + "x" * 300 + '"',
    '"x',
    "x",
    "null",
    "NaN",
]
ODD_VALUES += ["-Infinity", "01", "[", "]", "{}", "9" * 5_000, "[" * 199 + "]" * 199, "[" * 200 + "]" * 200]
GAPS = st.sampled_from(["", "", "", "", " ", "\n", "\t\r\n "])
SIGNS = [",", ":", "{", "}", '"', "\\", " ", "\x0b", "\u00a0", "0", ""]


@st.composite
def almost_tasks(draw: Any) -> str:
    """Draw a task; two in three are odd, truncated or have an insertion."""
    names = draw(st.permutations(NAMES))[draw(st.sampled_from([0, 0, 0, 1, 2])) :]
    values = [draw(st.sampled_from(AWKWARD_PAYLOADS if name == '"payload"' else STRINGS)) for name in names]
    oddity = draw(st.sampled_from(["none", "none", "name", "value", "sign", "cut"]))
    place = draw(st.integers(0, len(names) - 1))
    if oddity == "name":
        names[place] = draw(st.sampled_from(ODD_NAMES))
    if oddity == "value":
        values[place] = draw(st.sampled_from(ODD_VALUES))

    def gap(sign: str) -> str:
        return draw(GAPS) + sign + draw(GAPS)

    text = (
        gap("{") + gap(",").join(name + gap(":") + value for name, value in zip(names, values, strict=True)) + gap("}")
    )
    first, last = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    if oddity == "sign":
        text = text[:first] + draw(st.sampled_from(SIGNS)) + text[first:]
    if oddity == "cut":
        text = text[:first] + text[min(last, first + 9) :]
    return text


def outcome(text: str) -> Submission | None:
    try:
        return read_submission(text.encode(), "The body", "k")
    except Problem as problem:
        assert problem.kind == "malformed"
        return None


def by_the_standard_library(text: str) -> Submission | None:
    """Read a task completely with the standard library's decoder."""
    names: list[str] = []

    def remember(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names[:] = [name for name, _ in pairs]
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=remember, parse_constant=lambda _: json.loads(""))
        json.dumps(value, ensure_ascii=False).encode()  # fails at half a surrogate pair
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or len(names) > len(value) or not {"payload"} <= set(value) <= {*NAMED}:
        return None
    given = [value[name] for name in ("id", "type") if name in value]
    if not all(isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) and len(name) <= 256 for name in given):
        return None
    if (
        max(accumulate({"[": 1, "{": 1, "]": -1, "}": -1}.get(sign, 0) for sign in re.sub(STRING, "", text)))
        > NESTING_MAX
    ):
        return None
    return Submission(json.dumps(value["payload"]), value.get("type", "default"), value.get("id"), "k")


@given(text=almost_tasks())
def test_a_task_is_read_or_refused_as_another_decoder_has_it(text: str) -> None:
    read, expected = outcome(text), by_the_standard_library(text)
    assert (read is None) == (expected is None)
    if read and expected:
        assert read.payload_json in text
        assert repr(json.loads(read.payload_json)) == repr(json.loads(expected.payload_json))
        assert replace(read, payload_json="") == replace(expected, payload_json="")


@pytest.mark.parametrize("payload", AWKWARD_PAYLOADS, ids=AWKWARD_IDS)
@pytest.mark.parametrize("order", [("id", "type", "payload"), ("payload", "type", "id"), ("type", "payload", "id")])
def test_any_payload_is_carried_byte_for_byte_in_any_order_of_the_members(payload: str, order: tuple[str, ...]) -> None:
    members = {"id": '"t1"', "type": '"mail"', "payload": payload}
    for colon, comma in ((":", ","), (": ", ", "), (":\n\t", ",\r\n")):
        text = "{" + comma.join(f'"{name}"{colon}{members[name]}' for name in order) + "}"
        assert read_submission(text.encode(), "The body", None) == Submission(payload, "mail", "t1")


@pytest.mark.parametrize(
    "text",
    [
        '{"id": "a"{"payload": 1}',
        '{"payload": 1, "payload": 2}',
        '{"id": "a", "id": "b", "payload": 1}',
        '{"payload": 1,}',
        '{"payload": 1}}',
        '{"payload": 1}{"payload": 1}',
        '{"id": "a"}',
        '{"payload": 1',
        '{"payload": 1 2}',
        '{"payload": NaN}',
        '{"payload": "a\nb"}',
        '{"id": "' + "x" * (NAME_CHARS_MAX + 1) + '", "payload": 1}',
        '{"payload": ' + "[" * NESTING_MAX + "]" * NESTING_MAX + "}",
    ],
)
def test_an_almost_plain_body_is_refused(text: str) -> None:
    with pytest.raises(Problem) as caught:
        read_submission(text.encode(), "The body", None)
    assert caught.value.kind == "malformed"


@given(
    st.lists(st.tuples(GAPS, st.sampled_from(ODD_VALUES), GAPS), max_size=4),
    st.sampled_from(["", "]", "] ", "]x", ",]"]),
)
def test_an_array_is_split_where_json_says_so_or_refused(items: list[tuple[str, str, str]], end: str) -> None:
    text = "[" + ",".join("".join(item) for item in items) + end
    if any(odd in text for odd in ("\\ud800", "9" * 5_000)):  # checked with the items, or refused as JSON
        return
    try:
        parsed = json.loads(text, parse_constant=lambda _: json.loads(""))
    except ValueError:
        with pytest.raises(Problem):
            split_array(text.encode())
    else:
        assert [json.loads(item) for item in split_array(text.encode())] == parsed


EVENT = {"type": "http.request", "body": b"", "more_body": False}


async def comes_after(seconds: float) -> Any:
    await asyncio.sleep(seconds)
    return EVENT


def test_a_body_that_comes_in_time_is_returned_and_no_timer_is_left() -> None:
    async def run() -> None:
        late = LateBodies(0.2)
        until = late.deadline()
        assert await late.received(comes_after(0.0), until) == EVENT
        assert await late.received(comes_after(0.05), until) == EVENT
        await asyncio.sleep(0.1)
        assert not late.watches

    asyncio.run(run())


def test_a_body_that_is_late_is_a_timeout_and_the_request_goes_on() -> None:
    async def run() -> None:
        late = LateBodies(0.2)
        begun_s = time.monotonic()
        with pytest.raises(TimeoutError):
            await late.received(comes_after(30.0), late.deadline())
        assert 0.2 <= time.monotonic() - begun_s < 5
        await asyncio.sleep(0)  # not cancelled any more
        assert await late.received(comes_after(0.0), late.deadline()) == EVENT

    asyncio.run(run())


def test_a_deadline_holds_for_all_parts_of_a_body() -> None:
    async def run() -> None:
        late, parts = LateBodies(0.2), 0
        until = late.deadline()
        with pytest.raises(TimeoutError):
            while True:
                await late.received(comes_after(0.03), until)
                parts += 1
        assert 1 < parts < 20

    asyncio.run(run())


def test_a_request_that_is_cancelled_by_its_server_is_not_a_timeout() -> None:
    async def run() -> None:
        late = LateBodies(30.0)
        request = asyncio.ensure_future(late.received(comes_after(30.0), late.deadline()))
        await asyncio.sleep(0.05)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(run())


def test_each_of_many_late_bodies_is_a_timeout_of_its_own_request() -> None:
    async def run() -> list[Any]:
        late = LateBodies(0.2)
        waits = [late.received(comes_after(number % 2 * 30.0), late.deadline()) for number in range(100)]
        return await asyncio.gather(*waits, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert outcomes[::2] == [EVENT] * 50
    assert all(isinstance(one, TimeoutError) for one in outcomes[1::2])
