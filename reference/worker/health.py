"""Health and metrics of a pool of worker processes: the HTTP server of the parent, and a client for the health."""

import http.client
import io
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..queue.errors import QueueError

PATH = "/health"
METRICS_PATH = "/metrics"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TIMEOUT_S = 3.0
CONNECTIONS_MAX = 64


def serve_health(
    host: str, port: int, complaints: Callable[[], list[str]], metrics: Callable[[], bytes] | None = None
) -> int:
    """Answer `GET /health` on a thread of its own: 200, or 503 with a sentence for each complaint. Return the port.

    `metrics`: returns the answer to `GET /metrics`, in Prometheus's text format; None: there is no such page.

    Raises:
        QueueError: the address cannot be used.
    """

    class Answer(BaseHTTPRequestHandler):
        def setup(self) -> None:
            super().setup()
            self.rfile.close()
            self.rfile = io.BufferedReader(_UntilDeadline(self.connection))

        def do_GET(self) -> None:
            if metrics and self.path == METRICS_PATH:
                status, media_type, body = 200, METRICS_TYPE, metrics()
            else:
                found = complaints()
                body = json.dumps({"status": "unhealthy" if found else "ok", "complaints": found}).encode()
                status, media_type = 404 if self.path != PATH else 503 if found else 200, "application/json"
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing: a probe comes every few seconds."""

    try:
        server = _Server((host, port), Answer)
    except (OSError, OverflowError) as error:
        raise QueueError(f"--health-port {port}: {host}:{port} cannot be listened on: {error}.") from None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server.server_port


class _UntilDeadline(io.RawIOBase):
    """Reads a whole request until one deadline; a time-out of the socket would begin again with each byte."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection, self._until = connection, time.monotonic() + TIMEOUT_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(max(0.001, self._until - time.monotonic()))
        return self._connection.recv_into(buffer)


class _Server(ThreadingHTTPServer):
    """Ends the oldest connection if there are too many, as each holds a thread. A probe is not the oldest for long."""

    def __init__(self, *arguments: Any) -> None:
        self._lock, self._open = threading.Lock(), dict[socket.socket, None]()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > CONNECTIONS_MAX else None
            if oldest:
                del self._open[oldest]
        if oldest:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # its thread sees the end, and closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # the client is gone
            super().handle_error(request, client_address)


def ask_health(host: str, port: int) -> list[str]:
    """Return the complaints of the pool that listens at this address; an empty list if it is healthy."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", PATH)
        complaints: list[str] = json.load(connection.getresponse())["complaints"]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        return [f"No worker answers at {host}:{port}: {error}."]
    finally:
        connection.close()
    return complaints
