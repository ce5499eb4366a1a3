"""Whether a pool of worker processes does its work: an HTTP endpoint of the parent, and the question to it."""

import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ..queue.errors import QueueError

PATH = "/health"
TIMEOUT_S = 3.0


def serve_health(host: str, port: int, complaints: Callable[[], list[str]]) -> int:
    """Answer `GET /health` on a thread of its own: 200, or 503 with a sentence for each complaint. Returns the port.

    Raises:
        QueueError: the address cannot be used.
    """

    class Answer(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S  # for a client that sends nothing

        def do_GET(self) -> None:
            found = complaints()
            body = json.dumps({"status": "unhealthy" if found else "ok", "complaints": found}).encode()
            self.send_response(404 if self.path != PATH else 503 if found else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing: a probe comes every few seconds."""

    try:
        server = ThreadingHTTPServer((host, port), Answer)
    except (OSError, OverflowError) as error:
        raise QueueError(f"--health-port {port}: {host}:{port} cannot be listened on: {error}.") from None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server.server_port


def ask_health(host: str, port: int) -> list[str]:
    """The complaints of the pool that listens there; none: it is healthy."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", PATH)
        complaints: list[str] = json.load(connection.getresponse())["complaints"]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        return [f"No worker answers at {host}:{port}: {error}."]
    finally:
        connection.close()
    return complaints
