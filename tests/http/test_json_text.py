"""The members of a JSON object as the texts they were written in."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroloss.reference.http.json_text import raw_members

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


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
