"""Texts from an application: each is escaped and bounded once, before it is logged or stored."""

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroloss.reference.queue.texts import MAX_ERROR_CHARS, TRACEBACK_CHARS_MAX, printable, reason_of, traceback_of


def caught(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as error:  # noqa: BLE001  as a worker does
        return error
    raise AssertionError("it did not raise")


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


@given(text=st.text(), limit=st.integers(3, 50))
def test_any_text_becomes_one_printable_line_within_its_limit(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert shown == text or not text.isprintable() or len(text) > limit


def test_an_unprintable_character_is_escaped_as_python_writes_it_and_others_stay() -> None:
    assert printable("é 'x' \\ \n\x1b[2J\u2028\u202e\ud800", 100) == r"é 'x' \ \n\x1b[2J\u2028\u202e\ud800"


def test_a_text_that_was_cut_says_so() -> None:
    assert printable("x" * 11, 10) == "xxxxxxx..."
    assert printable("\n" * 10, 10) == r"\n\n\n\..."


class Shouting(str):
    def __getitem__(self, _key: object) -> str:
        raise RuntimeError("not to be asked")

    def __len__(self) -> int:
        raise RuntimeError("not to be asked")

    isprintable = __iter__ = __len__  # type: ignore[assignment]


def test_a_text_of_a_type_of_its_own_is_taken_as_the_characters_that_it_has() -> None:
    assert printable(Shouting("a\nb"), 10) == r"a\nb"


def test_a_reason_is_one_line_of_the_error_s_type_and_text() -> None:
    assert reason_of(ValueError("no good")) == "ValueError: no good"
    assert reason_of(ValueError("no\n2026-01-01 INFO all is well")) == r"ValueError: no\n2026-01-01 INFO all is well"
    assert reason_of(SystemExit()) == "SystemExit"


def test_a_reason_and_a_traceback_are_bounded_however_long_the_error_s_text() -> None:
    error = caught(raising(ValueError("\n" * 50_000_000)))
    assert len(reason_of(error)) == MAX_ERROR_CHARS
    assert len(traceback_of(error)) < TRACEBACK_CHARS_MAX


def test_a_traceback_ends_with_the_frame_that_raised_and_the_reason() -> None:
    def innermost() -> None:
        raise ValueError("no\ngood")

    def outer() -> None:
        innermost()

    lines = traceback_of(caught(outer)).splitlines()
    assert [line.rpartition(", ")[2] for line in lines[::2]] == ["in outer", "in innermost", r"ValueError: no\ngood"]
    assert lines[-2].strip() == r'raise ValueError("no\ngood")'
    assert "in caught" not in "".join(lines), "the frame that caught it is the worker's own"


def test_of_a_deep_traceback_the_innermost_frames_are_kept_and_the_others_counted() -> None:
    def innermost() -> None:
        raise ValueError("deep")

    def deep(left: int) -> None:
        deep(left - 1) if left else innermost()

    text = traceback_of(caught(lambda: deep(100)))
    assert text.startswith("[93 outer frames left out]\n")
    assert "in innermost\n" in text
    assert len(text) < TRACEBACK_CHARS_MAX


def test_the_cause_of_an_error_stands_before_it_and_a_chain_that_goes_round_ends() -> None:
    def act() -> None:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("second") from first

    error = caught(act)
    text = traceback_of(error)
    assert text.index("KeyError: 'first'") < text.index("which led to") < text.index("ValueError: second")
    assert error.__cause__
    error.__cause__.__cause__ = error
    assert len(traceback_of(error)) < TRACEBACK_CHARS_MAX


def test_a_context_that_was_suppressed_is_left_out() -> None:
    def act() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None

    assert "first" not in traceback_of(caught(act))


def test_the_first_error_of_a_group_is_reported_too() -> None:
    inner = caught(raising(KeyError("inner")))
    assert "KeyError: 'inner'" in traceback_of(caught(raising(ExceptionGroup("all of them", [inner]))))


class Nasty(Exception):
    def __init__(self, told: Callable[[], object]) -> None:
        self.told = told

    def __str__(self) -> str:
        return self.told()  # type: ignore[return-value]

    def __format__(self, _spec: str) -> str:
        raise RuntimeError("not to be asked")


@pytest.mark.parametrize("told", [lambda: 1 / 0, lambda: None, sys.exit], ids=["raises", "is not text", "exits"])
def test_an_error_that_cannot_say_what_it_is_is_known_by_its_type(told: Callable[[], object]) -> None:
    error = caught(raising(Nasty(told)))
    assert reason_of(error) == "Nasty"
    assert traceback_of(error).endswith("\nNasty")


def test_a_function_whose_name_and_file_were_made_up_forges_no_line() -> None:
    code = compile("raise ValueError('x')", "a\n2026-01-01 INFO forged", "exec")
    text = traceback_of(caught(lambda: exec(code)))
    assert r'File "a\n2026-01-01 INFO forged", line 1' in text
    assert all(not line.startswith("2026") for line in text.splitlines())
