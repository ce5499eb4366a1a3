"""Parsing a RESP stream into commands and replies, whatever the boundaries of the network's chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroloss.system.proxy.points import Point, command_name, is_handshake, read_point
from zeroloss.system.proxy.resp import ProtocolError, ReplyParser, RequestParser

REPLIES = [
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":12\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$6\r\na\r\n$1\r\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n",
    b"_\r\n",
    b"#t\r\n",
    b",1.5\r\n",
    b"(123456789012345678901234567890\r\n",
    b"!5\r\nERR x\r\n",
    b"=7\r\ntxt:abc\r\n",
    b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
    b"~2\r\n:1\r\n:2\r\n",
    b"|1\r\n+ttl\r\n:9\r\n*1\r\n+x\r\n",
]
PUSH = b">2\r\n+message\r\n$2\r\nhi\r\n"


def packed(*words: bytes) -> bytes:
    """Return a command as clients send it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return `data` cut at these positions."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(commands=st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=6), max_size=6), cuts=CUTS)
def test_commands_come_out_whole_and_in_order_however_the_stream_is_cut(
    commands: list[list[bytes]], cuts: list[int]
) -> None:
    parser = RequestParser()
    sent = [packed(*words) for words in commands]
    found = [request for piece in pieces(b"".join(sent), cuts) for request in parser.feed(piece)]
    assert [request.raw for request in found] == sent
    assert [request.name for request in found] == [command_name(words[:2]) for words in commands]
    assert parser.rest == b""


@given(replies=st.lists(st.sampled_from([*REPLIES, PUSH]), max_size=8), cuts=CUTS)
def test_replies_come_out_whole_and_in_order_however_the_stream_is_cut(replies: list[bytes], cuts: list[int]) -> None:
    parser = ReplyParser()
    found = [reply for piece in pieces(b"".join(replies), cuts) for reply in parser.feed(piece)]
    assert [reply.raw for reply in found] == replies
    assert [reply.push for reply in found] == [reply == PUSH for reply in replies]
    assert parser.rest == b""


def test_an_inline_command_is_a_command() -> None:
    assert [(request.name, request.raw) for request in RequestParser().feed(b"ping\r\n")] == [("PING", b"ping\r\n")]


def test_a_script_has_the_same_name_sent_whole_or_by_its_digest() -> None:
    source = b"return 1"
    digest = b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"
    assert command_name([b"eval", source]) == command_name([b"EVALSHA", digest]) == "EVALSHA:e0e1f9fa"


def test_a_command_that_prepares_a_connection_says_nothing_of_its_role() -> None:
    names = [command_name(head) for head in ([b"HELLO", b"3"], [b"client", b"setinfo"], [b"SELECT", b"1"], [b"AUTH"])]
    assert all(is_handshake(name) for name in names)
    assert not is_handshake("BLPOP")


@pytest.mark.parametrize("text", ["GET", "a/GET", "a/GET#0", "a/GET#x", "a/G ET#1", "a/b/GET#1"])
def test_a_text_that_is_not_a_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a crash point"):
        read_point(text)


def test_a_point_is_read_as_it_was_written() -> None:
    point = Point("*", "EVALSHA:1f0e22aa", 3)
    assert read_point(str(point)) == point


@pytest.mark.parametrize("parser", [RequestParser(), ReplyParser()])
def test_a_stream_that_is_not_resp_is_refused(parser: RequestParser | ReplyParser) -> None:
    with pytest.raises(ProtocolError):
        parser.feed(b"*1\r\n?x\r\n")
