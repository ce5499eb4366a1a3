"""Most tasks are written plainly and are read fast. What is read fast is read as everything else is, or not at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from zeroloss.reference.http import submissions
from zeroloss.reference.http.problems import Problem
from zeroloss.reference.http.submissions import NAME_CHARS_MAX, NESTING_MAX, read_submission, split_array
from zeroloss.reference.queue.enqueuer import Submission

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
    """A task; and of two in three something is odd, or cut out, or put in."""
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


def outcome(text: str) -> Submission | dict[str, Any]:
    try:
        return read_submission(text, "The body", "k")
    except Problem as problem:
        return problem.document()


def slowly(text: str) -> Submission | dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submissions, "_read_plain", lambda *_: None)
        return outcome(text)


@given(text=almost_tasks())
def test_a_task_is_read_or_refused_as_it_is_without_the_fast_way(text: str) -> None:
    assert outcome(text) == slowly(text)


@pytest.mark.parametrize("payload", AWKWARD_PAYLOADS, ids=AWKWARD_IDS)
@pytest.mark.parametrize("order", [("id", "type", "payload"), ("payload", "type", "id"), ("type", "payload", "id")])
def test_the_fast_way_carries_any_payload_byte_for_byte_in_any_order_of_the_members(
    payload: str, order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"id": '"t1"', "type": '"mail"', "payload": payload}
    monkeypatch.setattr(submissions, "_read_any", None)  # it is not needed
    for colon, comma in ((":", ","), (": ", ", "), (":\n\t", ",\r\n")):
        text = "{" + comma.join(f'"{name}"{colon}{members[name]}' for name in order) + "}"
        assert read_submission(text, "The body", None) == Submission(payload, "mail", "t1")


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
        read_submission(text, "The body", None)
    assert caught.value.kind == "malformed"


@given(
    st.lists(st.tuples(GAPS, st.sampled_from(ODD_VALUES), GAPS), max_size=4),
    st.sampled_from(["", "]", "] ", "]x", ",]"]),
)
def test_an_array_is_split_where_json_says_so_or_refused(items: list[tuple[str, str, str]], end: str) -> None:
    text = "[" + ",".join("".join(item) for item in items) + end
    try:
        parsed = json.loads(text, parse_constant=lambda _: json.loads(""))
    except ValueError:
        with pytest.raises(Problem):
            split_array(text)
    else:
        assert [json.loads(item) for item in split_array(text)] == parsed


def test_the_depth_of_an_array_counts_from_the_array() -> None:
    within, beyond = ("[" * depth + "]" * depth for depth in (NESTING_MAX - 1, NESTING_MAX))
    assert split_array(f"[1,{within}]") == ["1", within]
    assert split_array(f"[{json.dumps('[' * NESTING_MAX)}]") == [json.dumps("[" * NESTING_MAX)]
    with pytest.raises(Problem) as caught:
        split_array(f"[1,{beyond}]")
    assert "nested deeper than 200" in caught.value.document()["detail"]
