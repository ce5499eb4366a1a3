"""An HTTP client with sixteen keep-alive connections, each of which sends its request again once it is answered.

One thread with epoll takes about 15 us a request: on a core of its own it does not limit any server measured here.
"""

import select
import socket
import time
from dataclasses import dataclass

from ..errors import BenchError

CONNECTIONS = 16
ANSWER_DEADLINE_S = 10.0
TOKEN = "token-of-the-bench"


@dataclass(frozen=True, slots=True)
class Answered:
    """The accepted requests of one measurement."""

    requests: int
    seconds: float
    took_s: tuple[float, ...]  # of each, from the last byte sent to the last one received

    @property
    def p99_ms(self) -> float:
        return sorted(self.took_s)[len(self.took_s) * 99 // 100] * 1_000

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def post(path: str, media_type: str, body: bytes) -> bytes:
    """Return a request like those in production: with a token, and with a trace context."""
    headers = {
        "Host": "localhost",
        "Content-Type": media_type,
        "Content-Length": str(len(body)),
        "Authorization": f"Bearer {TOKEN}",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def load(port: int, request: bytes, seconds: float) -> Answered:
    """Send requests for a given time.

    Raises:
        BenchError: a request got another answer than 202, or no answer.
    """
    connections = {}
    with select.epoll() as ready:
        try:
            for _ in range(CONNECTIONS):
                connection = socket.create_connection(("127.0.0.1", port))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                ready.register(connection, select.EPOLLIN)
                connection.sendall(request)
            return _exchange(ready, connections, request, seconds)
        except OSError as error:
            raise BenchError(f"its connection broke: {error}") from error
        finally:
            for connection in connections.values():
                connection.close()


def _exchange(ready: select.epoll, connections: dict[int, socket.socket], request: bytes, seconds: float) -> Answered:
    """It ends when every connection waits for an answer that has not begun, as it began."""
    received = dict.fromkeys(connections, b"")
    began = now = heard = time.monotonic()
    sent = dict.fromkeys(connections, now)
    took_s: list[float] = []
    while now < began + seconds or any(received.values()):
        for number, _ in ready.poll(1):
            heard = time.monotonic()
            data = received[number] + connections[number].recv(1_048_576)
            if not data:
                raise BenchError("it closed a connection")
            if not _whole(data):
                received[number] = data
                continue
            if data[9:12] != b"202":
                raise BenchError(f"it answered {data[:300]!r}")
            received[number] = b""
            took_s.append(heard - sent[number])
            sent[number] = heard
            connections[number].sendall(request)
        now = time.monotonic()
        if now > heard + ANSWER_DEADLINE_S:
            raise BenchError(f"it did not answer for {ANSWER_DEADLINE_S:g} s")
    return Answered(len(took_s), now - began, tuple(took_s))


def _whole(answer: bytes) -> bool:
    head, gap, body = answer.partition(b"\r\n\r\n")
    if not gap:
        return False
    _, _, rest = head.lower().partition(b"content-length:")
    return len(body) >= int(rest.partition(b"\r\n")[0])
