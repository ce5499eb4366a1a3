"""A payload that arrived changed: the report names the member that differs, not two hashes."""

import json
from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.payloads import difference
from zeroloss.checker.verdicts import Result, Verdict
from zeroloss.ledger import digest


def judged(submitted: dict[str, Any], executed: dict[str, Any], *, shown: bool = True) -> Result:
    texts = {name: json.dumps(value) if shown else None for name, value in (("in", submitted), ("out", executed))}
    story = Story().begin().add("submit", "invoke", task="a", digest=digest(submitted), payload=texts["in"])
    story.add("submit", "ok", task="a")
    story.add("effect", "begin", task="a", execution="x", digest=digest(executed), payload=texts["out"])
    return judge(story.add("effect", "end", task="a", execution="x").drained().end().events)


def test_the_member_that_a_language_of_doubles_reads_otherwise_is_named_with_what_to_state() -> None:
    result = judged({"odd": {"whole": 2**53 + 1}}, {"odd": {"whole": 2**53}})
    assert result.verdict is Verdict.VIOLATION
    assert result.because == (
        "1 task was executed with a payload that differs from the submitted one (CORRUPT). In the first of them "
        "`odd.whole` was submitted as 9007199254740993 and arrived as 9007199254740992, "
        "the nearest double: if the worker's language reads numbers as doubles, "
        'state numbers = "double" in the target.'
    )
    (violation,) = [one for law in result.properties for one in law.violations]
    assert "`odd.whole` was submitted as" in violation


def test_a_difference_of_which_no_text_was_recorded_is_still_a_violation() -> None:
    result = judged({"a": 1}, {"a": 2}, shown=False)
    assert result.because == "1 task was executed with a payload that differs from the submitted one (CORRUPT)."


@pytest.mark.parametrize(
    ("submitted", "executed", "clause"),
    [
        ('{"a":1}', '{"a":1}', None),
        ('{"a":[1,2]}', '{"a":[1,3]}', "`a[1]` was submitted as 2 and arrived as 3"),
        ('{"a":[1,2]}', '{"a":[1]}', "`a` was submitted as [1, 2] and arrived as [1]"),
        ('{"a":1}', '{"a":1.0}', "`a` was submitted as 1 and arrived as 1.0"),
        ('{"a":1,"b":2}', '{"a":1}', "`b` was submitted as 2 and did not arrive"),
        ('{"a":1}', '{"a":1,"b":2}', "`b` was submitted as nothing and arrived as 2"),
        ("1", "[]", "it was submitted as 1 and arrived as []"),
        ('{"a":1}', "a:1", "the payload that the body received is not JSON: a:1"),
        ('{"a":1.10}', '{"a":1.1}', "the values are equal but the texts differ: '{\"a\":1.10}' was submitted"),
        ('{"a":1' + "0" * 400 + "}", '{"a":1}', "arrived as 1"),
    ],
)
def test_the_first_member_that_differs_is_named(submitted: str, executed: str, clause: str | None) -> None:
    found = difference(submitted, executed)
    assert found == clause if clause is None or found is None else clause in found
