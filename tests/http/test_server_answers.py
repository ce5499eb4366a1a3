"""What each server answers to what never reaches the app: the table of docs/http.md, row by row."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from support.places import ROOT
from support.processes.over_http import served, under_granian
from zeroloss.system.servers import Server

JSON = b"Host: x\r\nContent-Type: application/json\r\n"
REQUESTS = {
    "no HTTP": b"GET / / HTTP/1.1\r\nHost x\r\n\r\n",
    "`Content-Length` that is no number": b"POST /task HTTP/1.1\r\n" + JSON + b"Content-Length: x\r\n\r\n",
    "`Transfer-Encoding` beside `Content-Length`": b"POST /task HTTP/1.1\r\n"
    + JSON
    + b'Content-Length: 14\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n{"payload": 1}\r\n0\r\n\r\n',
    "`Transfer-Encoding: gzip`": b"POST /task HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: gzip\r\n\r\n",
    "a head of 300 kB": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 300_000 + b"\r\n\r\n",
    "`Expect: 100-continue`, and a length beyond the limit": b"POST /task HTTP/1.1\r\n"
    + JSON
    + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
}
ROW = re.compile(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
SERVERS = ("waitress", "uvicorn", "granian")


def stated() -> dict[str, dict[str, str]]:
    """What the page says of each server, by what was sent."""
    _, _, section = (ROOT / "docs" / "http.md").read_text().partition("## What never reaches the app")
    return {row[0]: dict(zip(SERVERS, row[1:], strict=True)) for row in ROW.findall(section)}


@contextmanager
def listening(server: str, redis_url: str) -> Iterator[int]:
    """With deadlines of two seconds, so that nothing waits for long."""
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
    """`413, a problem document, closed`, as the page writes it."""
    answer, closed = b"", True
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, suppress(ConnectionError):
        with suppress(ConnectionError):  # refused before all of it was sent
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
    with listening(server, embedded.url) as port:
        answers = {name: answer_to(port, request) for name, request in REQUESTS.items()}
    assert answers == {name: stated()[name][server] for name in REQUESTS}
