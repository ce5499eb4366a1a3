"""The HTTP parts as users meet them: an app in this process, or a server in a separate process."""

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import falcon.testing
import psutil
from zeroloss.reference.http import producer, producer_asgi

from support.places import ROOT
from support.queue_fixtures import Queue
from support.waiting import wait_until

SERVED = {"producer": "http.producer", "monitor": "monitor.app", "asgi": "http.producer"}
ASGI_APP = "zeroloss.reference.http.producer_asgi:from_environment"
RUN = """
import resource
if {deadlines_s}:
    from zeroloss.reference.http.servers import common
    common.HEAD_TIMEOUT_S = common.BODY_TIMEOUT_S = {deadlines_s}
if {descriptors}:
    resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {descriptors}))
from zeroloss.reference.queue.config import load_config
from zeroloss.reference.{module} import serve
serve(load_config(), "{host}", {port}{options})
"""


def app_of(queue: Queue, **settings: Any) -> falcon.testing.TestClient:
    """Return a test client of the queue's producer, without a server."""
    configured = queue.configured(**settings)
    return falcon.testing.TestClient(producer.create_app(configured.own_client, configured.config))


def asgi_app_of(queue: Queue, **settings: Any) -> falcon.testing.TestClient:
    """Return a test client of the queue's ASGI producer."""
    configured = queue.configured(**settings)
    return falcon.testing.TestClient(producer_asgi.create_app(configured.own_client, configured.config))


def post(http: falcon.testing.TestClient, path: str, body: str | bytes, **headers: str) -> falcon.testing.Result:
    """Post a body; its media type is JSON unless `Content_Type` states another."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.simulate_post(path, body=body, headers={"Content-Type": "application/json", **named})


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    url: str
    errors: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def said(self) -> str:
        """Return the server's standard error."""
        return self.errors.read_text()


@contextmanager
def served(
    part: str,
    redis_url: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    descriptors: int = 0,
    processes: int = 1,
    deadlines_s: float = 0,
    **settings: Any,
) -> Iterator[Served]:
    """Start a part in a process and wait until it listens: `producer`, `asgi` (the producer under ASGI), or `monitor`.

    `descriptors`: limit as by `ulimit -n`; `deadlines_s`: for head and body of a request; 0 keeps the default of both.
    """
    environ = {**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    environ |= {f"ZEROLOSS_{name.upper()}": str(value) for name, value in settings.items()}
    options = f', server="asgi", processes={processes}' if part == "asgi" else ""
    program = RUN.format(
        module=SERVED[part],
        host=host,
        port=port,
        descriptors=descriptors,
        options=options,
        deadlines_s=deadlines_s,
    )
    with tempfile.NamedTemporaryFile("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        said = Path(errors.name)
        try:
            line = process.stdout.readline()
            listening = re.fullmatch(r"(producer|monitor) listening on (http://(127\.0\.0\.1|\[::1\]):\d+)\n", line)
            assert listening, f"The {part} does not listen: {line!r}\n{said.read_text()}"
            yield Served(process, listening[2], said)
        finally:
            members = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
            process.wait()
            assert psutil.wait_procs(members, timeout=20)[1] == [], "processes outlived the server that started them"
            process.stdout.close()


def request_of(path: str, body: bytes, *headers: str, media_type: str = "application/json") -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {media_type}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def exchange(port: int, request: bytes, timeout_s: float = 20) -> tuple[int, dict[str, str], bytes]:
    """Send the bytes unchanged and read one complete answer: status, headers, body."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += _more(connection, answer)
        head, _, body = answer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += _more(connection, body)
    return int(status_line.split()[1]), headers, body


def _more(connection: socket.socket, so_far: bytes) -> bytes:
    chunk = connection.recv(65_536)
    if not chunk:
        raise AssertionError(f"The connection ended after {so_far!r}")
    return chunk


def assert_problem(answer: falcon.testing.Result, status: int, *words: str, kind: str | None = None) -> None:
    """Assert that the answer is an RFC 9457 document with this status, and that its detail contains these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert_problem_document(answer.json, status, *words, kind=kind)


def assert_problem_document(document: dict[str, Any], status: int, *words: str, kind: str | None = None) -> None:
    assert set(document) == {"type", "title", "status", "detail"}
    assert document["status"] == status
    assert document["title"]
    assert document["type"] == ("about:blank" if kind is None else f"urn:zeroloss:problem:{kind}")
    for word in words:
        assert word in document["detail"]
    assert "Traceback" not in document["detail"]


@contextmanager
def under_granian(redis_url: str, app: str = ASGI_APP, *options: str) -> Iterator[int]:
    """Run the ASGI app under granian, as the app's module documents. Yield the port when it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--port", str(port), *options, app]
    environ = {"REDIS_URL": redis_url, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, timeout_s=20)
        yield port
    finally:
        process.terminate()
        process.wait(20)
