"""Each server's answers to requests that do not reach the app: the table of docs/http.md, row by row."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from support.places import ROOT
from support.processes.over_http import served, under_granian
from zeroloss.system.servers import Server

TASK = b'{"payload": 1}'
HEAD = b"POST /task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def with_length(length: bytes) -> bytes:
    return HEAD + b"Content-Length: %b\r\n\r\n%b" % (length, TASK)


def with_encoding(encoding: bytes, head: bytes = HEAD) -> bytes:
    return head + b"Transfer-Encoding: %b\r\n\r\ne\r\n%b\r\n0\r\n\r\n" % (encoding, TASK)


def asking(
    target: bytes = b"/healthz", version: bytes = b" HTTP/1.1", method: bytes = b"GET", more: bytes = b""
) -> bytes:
    return b"%b %b%b\r\nHost: localhost\r\n%b\r\n" % (method, target, version, more)


def task(text: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(text), text)


REQUESTS = {
    "no HTTP": b"GET / / HTTP/1.1\r\nHost localhost\r\n\r\n",
    "a greeting of TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "a command of Redis": b"*1\r\n$4\r\nPING\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.0": asking(version=b" HTTP/1.0"),
    "HTTP/2.0": asking(version=b" HTTP/2.0"),
    "HTTP/9.9": asking(version=b" HTTP/9.9"),
    "`CONNECT`": asking(b"x:80", method=b"CONNECT"),
    "a method that does not exist": asking(method=b"FOO"),
    "a target that is not a URL": asking(b"http://["),
    "a target that is a whole URL": asking(b"http://x/healthz"),
    "a target with bytes beyond ASCII": asking(b"/\xff\xfe"),
    "a target of 70 kB": asking(b"/" + b"x" * 70_000),
    "a head of 300 kB": asking(more=b"X: " + b"x" * 300_000 + b"\r\n"),
    "1,000 headers": asking(more=b"".join(b"X%d: y\r\n" % number for number in range(1_000))),
    "a head that does not end": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
    "lines that end with LF alone": b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "CR alone in a header": asking(more=b"X: a\rb\r\n"),
    "NUL in a header": asking(more=b"X: a\0b\r\n"),
    "a space before a header's colon": HEAD + b"Content-Length : 14\r\n\r\n" + TASK,
    "a header over two lines": with_encoding(b"\r\n chunked"),
    "no `Host`": b"GET /healthz HTTP/1.1\r\n\r\n",
    "`Host` twice": asking(more=b"Host: y\r\n"),
    "`Content-Length` that is not a number": with_length(b"x"),
    "`Content-Length: +14`": with_length(b"+14"),
    "`Content-Length: -1`": with_length(b"-1"),
    "`Content-Length: 14, 14`": with_length(b"14, 14"),
    "`Content-Length` twice, the same": with_length(b"14\r\nContent-Length: 14"),
    "`Content-Length` twice, not the same": with_length(b"14\r\nContent-Length: 15"),
    "`Content-Length` of 20 digits": with_length(b"9" * 20),
    "`Content-Length` of 5,000 digits": with_length(b"9" * 5_000),
    "a body that does not end": with_length(b"15"),
    "`Transfer-Encoding` beside `Content-Length`": with_encoding(b"chunked\r\nContent-Length: 14"),
    "`Transfer_Encoding` beside `Content-Length`": HEAD
    + b"Transfer_Encoding: chunked\r\nContent-Length: 14\r\n\r\n"
    + TASK,
    "`Transfer-Encoding: gzip`": HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
    "`Transfer-Encoding: xchunked`": with_encoding(b"xchunked"),
    "`Transfer-Encoding: chunked, chunked`": with_encoding(b"chunked, chunked"),
    "a vertical tab before `chunked`": with_encoding(b"\x0bchunked"),
    "`chunked` in HTTP/1.0": with_encoding(b"chunked", HEAD.replace(b"/1.1", b"/1.0")),
    "a chunk's size that is not a number": CHUNKED + b"0xe\r\n%b\r\n0\r\n\r\n" % TASK,
    "a chunk's size of 18 digits": CHUNKED + b"f" * 18 + b"\r\n%b\r\n0\r\n\r\n" % TASK,
    "a chunk that is longer than its size": CHUNKED + b"5\r\n%b\r\n0\r\n\r\n" % TASK,
    "a line before a chunk of 200 kB": CHUNKED + b"e;a=" + b"x" * 200_000,
    "a trailer of 200 kB": CHUNKED + b"e\r\n%b\r\n0\r\nX: " % TASK + b"x" * 200_000,
    "`Content-Length` in a trailer": CHUNKED + b"e\r\n%b\r\n0\r\nContent-Length: 1\r\n\r\n" % TASK,
    "`Expect: 100-continue`, and a length beyond the limit": HEAD
    + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
    "a switch to HTTP/2": asking(
        more=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    ),
    "arrays in arrays, 90,000 deep": task(b'{"payload": %b%b}' % (b"[" * 90_000, b"]" * 90_000)),
    "half of a surrogate pair": task(b'{"payload": "\\ud800"}'),
    "half of a surrogate pair in an id": task(b'{"id": "\\ud800", "payload": 1}'),
    "a byte that is not UTF-8": task(b'{"payload": "\xff"}'),
    "UTF-16": task('{"payload": 1}'.encode("utf-16")),
    "a byte order mark": task(b"\xef\xbb\xbf" + TASK),
    "a number of 100,000 digits": task(b'{"payload": %b}' % (b"9" * 100_000)),
    "`1e999999`": task(b'{"payload": 1e999999}'),
    "`NaN`": task(b'{"payload": NaN}'),
    "a `delay_ms` of 5,000 digits": task(b'{"payload": 1, "delay_ms": %b}' % (b"9" * 5_000)),
    "a member twice": task(b'{"payload": 1, "payload": 2}'),
}
ROW = re.compile(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
SENT = "what is sent"
SERVERS = ("waitress", "uvicorn", "granian")


def stated() -> dict[str, dict[str, str]]:
    """Return the page's table: request -> server -> answer."""
    _, _, section = (ROOT / "docs" / "http.md").read_text().partition("## What never reaches the app")
    return {row[0]: dict(zip(SERVERS, row[1:], strict=True)) for row in ROW.findall(section)}


@contextmanager
def listening(server: str, redis_url: str) -> Iterator[int]:
    """Start a server with deadlines of 2 s, and yield its port."""
    if server != "granian":
        part = "producer" if server == "waitress" else "asgi"
        with served(part, redis_url, deadlines_s=2, max_task_bytes=200_000) as producer:
            yield producer.port
        return
    with under_granian(
        redis_url, "support.apps.hasty_producer:from_environment", "--http1-header-read-timeout", "2000"
    ) as port:
        yield port


def answer_to(port: int, request: bytes) -> str:
    """Send a request, and return the answer in the page's words: `413, a problem document, closed`."""
    answer, closed = b"", True
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, suppress(ConnectionError):
        with suppress(ConnectionError):  # the request may be refused before it was sent completely
            connection.sendall(request)
        while b"\r\n\r\n" not in answer and (data := connection.recv(65_536)):
            answer += data
        connection.settimeout(1.5)
        try:
            while connection.recv(65_536):
                pass
        except TimeoutError:
            closed = False
    head = answer.partition(b"\r\n\r\n")[0].lower()
    if not head:
        return "closed"
    said = [head.split()[1].decode()]
    said += ["a problem document"] if b"application/problem+json" in head else []
    return ", ".join([*said, *(["closed"] if closed else [])])


@pytest.mark.parametrize("server", SERVERS)
def test_the_answers_of_a_server_are_what_the_page_says(server: str, embedded: Server) -> None:
    with listening(server, embedded.url) as port, ThreadPoolExecutor(16) as pool:
        answers = dict(
            zip(REQUESTS, pool.map(lambda request: answer_to(port, request), REQUESTS.values()), strict=True)
        )
        assert answer_to(port, asking()) == "200"
    page = stated()
    assert list(page) == [SENT, "---", *REQUESTS]
    assert answers == {name: page[name][server] for name in REQUESTS}
