"""Requests at the limits: the last accepted byte, name, character and bracket, and the first refused one."""

import io
import json
from typing import Any

import falcon
import falcon.testing
import pytest
from zeroloss.reference.http import submissions
from zeroloss.reference.http.bodies import NAME_CHARS_MAX, read_body, read_idempotency_key, require_media_type
from zeroloss.reference.http.problems import Problem
from zeroloss.reference.http.submissions import DIGITS_MAX, NESTING_MAX, split_array, split_lines
from zeroloss.reference.queue.enqueuing.submission import Submission

LIMIT_BYTES = 100
TYPES = ("application/json", "application/x-ndjson")


class Wire(io.BytesIO):
    """A request body as a server passes it on; `taken`: number of bytes read."""

    def read(self, size: int | None = -1) -> bytes:
        read = super().read(size)
        self.taken = self.tell()
        return read


def request(body: bytes = b"", *, chunked: bool = False, **headers: str) -> tuple[falcon.Request, Wire]:
    """Return a request and its body. `chunked`: without a length, from a server that marks the end of the stream."""
    wire = Wire(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    environ = falcon.testing.create_environ(method="POST", headers=named)
    environ["wsgi.input"] = wire
    if chunked:
        environ["wsgi.input_terminated"] = True
    else:
        environ["CONTENT_LENGTH"] = str(len(body))
    return falcon.Request(environ), wire


def read_submission(text: str, what: str, key: str | None) -> Submission:
    return submissions.read_submission(text.encode(), what, key)


def refused(read: Any, *given: Any) -> str:
    with pytest.raises(Problem) as caught:
        read(*given)
    return str(caught.value.description)


def test_a_body_of_just_the_limit_is_read_and_of_one_byte_more_is_not() -> None:
    for chunked in (False, True):
        assert read_body(request(b"x" * LIMIT_BYTES, chunked=chunked)[0], LIMIT_BYTES) == b"x" * LIMIT_BYTES
        too_long, _ = request(b"x" * (LIMIT_BYTES + 1), chunked=chunked)
        assert refused(read_body, too_long, LIMIT_BYTES) == (
            "The body has more than 100 bytes; send the tasks in several requests."
        )


def test_a_body_without_a_length_is_read_no_further_than_it_takes_to_refuse_it() -> None:
    endless, wire = request(b"x" * 10_000, chunked=True)
    refused(read_body, endless, LIMIT_BYTES)
    assert wire.taken == LIMIT_BYTES + 1


def test_a_body_without_a_length_whose_end_nobody_marks_is_not_waited_for() -> None:
    unmarked, wire = request(b"x", chunked=True)
    del unmarked.env["wsgi.input_terminated"]
    assert read_body(unmarked, LIMIT_BYTES) == b""
    assert wire.tell() == 0


def test_with_a_length_no_more_is_read_than_it_says() -> None:
    """The next request may follow on the same connection."""
    pipelined, _ = request(b"xxxxxPOST /task")
    pipelined.env.update({"CONTENT_LENGTH": "5", "wsgi.input_terminated": True})
    assert read_body(pipelined, LIMIT_BYTES) == b"xxxxx"


def test_a_compressed_body_is_refused_and_one_that_says_that_it_is_not_is_read() -> None:
    assert read_body(request(b"x", Content_Encoding="Identity")[0], LIMIT_BYTES) == b"x"
    assert refused(read_body, request(b"x", Content_Encoding="gzip")[0], LIMIT_BYTES) == (
        "The body is compressed; send it without Content-Encoding."
    )


@pytest.mark.parametrize(
    "parameters", ["", "; charset=utf-8", ';charset="UTF-8"', "; charset=utf8", "; charset=us-ascii"]
)
def test_a_media_type_is_taken_in_any_case_with_a_charset_that_is_part_of_utf_8(parameters: str) -> None:
    sent, _ = request(Content_Type=f"Application/JSON{parameters}")
    assert require_media_type(sent, TYPES) == "application/json"


def test_another_media_type_or_none_learns_what_is_accepted() -> None:
    accepted = "Content-Type must be application/json or application/x-ndjson"
    assert refused(require_media_type, request(Content_Type="text/" + "x" * 200)[0], TYPES) == (
        f"{accepted}, not 'text/{'x' * 95}'."
    )
    assert refused(require_media_type, request()[0], TYPES) == f"{accepted}, and it is missing."
    latin, _ = request(Content_Type="application/json; charset=" + "l" * 60)
    assert refused(require_media_type, latin, TYPES) == f"The charset must be utf-8, not '{'l' * 50}'."


@pytest.mark.parametrize("key", ["k", "k" * NAME_CHARS_MAX])
def test_a_key_of_up_to_the_limit_means_the_same_with_quotes_and_without(key: str) -> None:
    for header in (key, f'"{key}"'):
        assert read_idempotency_key(request(Idempotency_Key=header)[0]) == key
    assert read_idempotency_key(request()[0]) is None


@pytest.mark.parametrize("header", ['""', '"', "k" * (NAME_CHARS_MAX + 1), '"' + "k" * (NAME_CHARS_MAX + 1) + '"'])
def test_a_key_that_is_empty_or_too_long_is_refused(header: str) -> None:
    assert "1 to 256 printable ASCII characters" in refused(read_idempotency_key, request(Idempotency_Key=header)[0])


@pytest.mark.parametrize("member", ["id", "type"])
def test_a_name_has_from_1_to_256_characters_however_it_is_spelled(member: str) -> None:
    for escape in ("", "\\u0041"):
        rest = "é" * (NAME_CHARS_MAX - bool(escape))
        accepted = read_submission(f'{{"payload":1,"{member}":"{escape}{rest}"}}', "Item 3", None)
        assert len({"id": accepted.task_id, "type": accepted.task_type}[member] or "") == NAME_CHARS_MAX
        for wrong in (f'"{escape}{rest}x"', '""'):
            assert refused(read_submission, f'{{"payload":1,"{member}":{wrong}}}', "Item 3", None) == (
                f"Item 3's {member} must be a string of 1 to 256 characters without control characters."
            )


@pytest.mark.parametrize("half", ["\\ud800", "\\udbff", "\\udc00", "\\udfff"])
def test_half_of_a_surrogate_pair_is_not_a_name_and_what_lies_beside_them_is(half: str) -> None:
    assert "half of a surrogate pair" in refused(read_submission, f'{{"payload":1,"id":"{half}"}}', "The body", None)
    for beside in ("\\ud7ff", "\\ue000", "\\ud83e\\udde8"):
        assert read_submission(f'{{"payload":1,"id":"{beside}"}}', "The body", None).task_id == json.loads(
            f'"{beside}"'
        )


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_200_levels_are_accepted_and_201_are_refused(brackets: str) -> None:
    def nested(depth: int) -> str:
        return '{"payload":' + _nested(brackets, depth - 1) + "}"

    assert read_submission(nested(NESTING_MAX), "Item 3", None).payload_json == _nested(brackets, NESTING_MAX - 1)
    told = "Item 3 is nested deeper than 200 levels; flatten the payload."
    assert refused(read_submission, nested(NESTING_MAX + 1), "Item 3", None) == told
    told = "The body is nested deeper than 200 levels; flatten the payload."
    assert refused(split_array, b"[" * 100_000) == told
    assert refused(read_submission, '{"payload":' + "[" * 100_000, "The body", None) == told


def test_a_closed_bracket_does_not_count_for_those_opened_after_it() -> None:
    def payload(depth: int) -> str:
        return "[" * 49 + _nested("[]", 100) + "," + _nested("[]", depth - 50) + "]" * 49

    accepted = f'{{"payload":{payload(NESTING_MAX)}}}'
    assert read_submission(accepted, "The body", None).payload_json == payload(NESTING_MAX)
    assert "nested deeper" in refused(read_submission, f'{{"payload":{payload(NESTING_MAX + 1)}}}', "The body", None)


def test_many_brackets_beside_each_other_or_in_strings_do_not_nest() -> None:
    beside = ",".join(["[{}]"] * 500)
    deep = _nested("[]", NESTING_MAX - 3)
    in_strings = json.dumps("[{" * 500 + '"\\')
    payload = f"[{beside},{deep},{in_strings},{deep}]"
    assert read_submission(f'{{"payload":{payload}}}', "The body", None).payload_json == payload


def test_a_member_that_is_there_twice_is_named() -> None:
    text = '{"payload":1,"id":"a","type":"x","type":"x"}'
    assert refused(read_submission, text, "The body", None) == 'The body has "type" more than once; keep one.'


@pytest.mark.parametrize("twice", ['"payload":{},"id":"a","id":"b"', '"payload":{},"payload":1'])
def test_a_repeated_member_beside_a_payload_of_any_depth_is_refused_with_400(twice: str) -> None:
    for depth in range(800, 1_001):
        told = refused(read_submission, "{" + twice.format(_nested("[]", depth)) + "}", "The body", None)
        assert "more than once" in told or "nested deeper" in told


def test_a_repeated_member_beside_a_number_of_too_many_digits_is_refused_with_400() -> None:
    text = f'{{"payload":[{{"x":1,"x":2}},{"9" * (DIGITS_MAX + 1)}],"id":"a","id":"b"}}'
    assert refused(read_submission, text, "The body", None) == "The body has a member more than once; keep one."


def test_a_type_that_is_not_given_is_default_however_the_rest_is_spelled() -> None:
    for name in ("a", "\\u0061"):
        read = read_submission(f'{{"payload" : 1 , "id" : "{name}"}}', "The body", "k")
        assert (read.task_id, read.task_type, read.idempotency_key) == ("a", "default", "k")


def test_no_more_than_five_unknown_members_are_named_and_each_by_60_characters() -> None:
    text = json.dumps({"payload": 1, "x" * 61: 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1})
    names = f'"{"x" * 60}", "b", "c", "d", "e"'
    assert refused(read_submission, text, "The body", None) == (
        f"The body has the unknown member {names}; a task has id, type, payload, priority, delay_ms, execute_at."
    )


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_constant_that_only_python_takes_for_json_is_refused_with_its_place(constant: str) -> None:
    told = refused(read_submission, f'{{"payload": {constant}}}', "The body", None)
    offset = 12 + constant.startswith("-")
    assert told == f"The body is not a JSON object with a payload: invalid character (offset {offset})."


def test_a_body_that_ended_early_is_reported_with_how_much_is_missing() -> None:
    short, _ = request(b"x" * 7)
    short.env["CONTENT_LENGTH"] = "9"
    assert refused(read_body, short, LIMIT_BYTES) == "The body ended after 7 of 9 bytes; send it again."


@pytest.mark.parametrize("before", ["", "-", "[1.5,", '["1.5",'])
def test_a_number_beyond_what_python_reads_is_reported_in_the_queues_own_words(before: str) -> None:
    def payload(digits: int) -> str:
        return f'{{"payload":{before}{"9" * digits}{"]" if "[" in before else ""}}}'

    words = "The body's payload holds a whole number of too many digits; send it as a string."
    assert refused(read_submission, payload(4_301), "The body", None) == words
    read_submission(payload(4_300), "The body", None)


@pytest.mark.parametrize("number", ['"%s"', "0.%s", "1e%s", "1e-%s", "1E+%s", "%s.5", "%se5"])
def test_many_digits_that_are_not_a_whole_number_are_accepted(number: str) -> None:
    payload = number % ("9" * 5_000)
    assert read_submission(f'{{"payload":{payload}}}', "The body", None).payload_json == payload


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "it does not begin with ["),
        ("[1 2]", "expected ',' or ']' (offset 3)"),
        ("[1] 2", "trailing characters (offset 5)"),
        ("[1,]", "trailing comma in array (offset 3)"),
    ],
)
def test_a_body_that_is_not_an_array_gets_its_mistake_named(text: str, reason: str) -> None:
    assert refused(split_array, text.encode()) == f"The body is not a JSON array of tasks: {reason}."


def test_the_items_of_an_array_keep_their_text_whatever_space_is_around_them() -> None:
    text = b' [ 1.10 ,\n{"a" : [ ] } , "]" ] \t\r\n'
    assert split_array(text) == split_array(text, 3) == [b"1.10", b'{"a" : [ ] }', b'"]"']
    assert split_array(b"[]") == split_array(b" [ ] ") == []


@pytest.mark.parametrize("items_max", [3, 1_000])
def test_an_array_of_the_most_items_is_split_and_one_of_one_more_is_not(items_max: int) -> None:
    items = [b"[%d,%d]" % (number, number) for number in range(items_max)]
    assert split_array(b"[%b]" % b",".join(items), items_max) == items
    assert "more than the" in refused(split_array, b"[%b,0]" % b",".join(items), items_max)


def test_a_line_loses_blanks_at_its_ends_and_nothing_else() -> None:
    assert split_lines(b" \t1 2\r\n\n \r\n3X\x0b\nX4") == [b"1 2", b"3X\x0b", b"X4"]


def _nested(brackets: str, depth: int) -> str:
    opening, closing = ("[", "]") if brackets == "[]" else ('{"a":', "}")
    return opening * depth + "0" + closing * depth
