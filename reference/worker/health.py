"""Health and metrics of a pool of worker processes: the HTTP server of the parent, and a client for the health."""

import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ..queue.errors import QueueError

PATH = "/health"
METRICS_PATH = "/metrics"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TIMEOUT_S = 3.0


def serve_health(
    host: str, port: int, complaints: Callable[[], list[str]], metrics: Callable[[], bytes] | None = None
) -> int:
    """Answer `GET /health` on a thread of its own: 200, or 503 with a sentence for each complaint. Return the port.

    `metrics`: returns the answer to `GET /metrics`, in Prometheus's text format; None: there is no such page.

    Raises:
        QueueError: the address cannot be used.
    """

    class Answer(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S  # for a client that sends nothing

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
        server = ThreadingHTTPServer((host, port), Answer)
    except (OSError, OverflowError) as error:
        raise QueueError(f"--health-port {port}: {host}:{port} cannot be listened on: {error}.") from None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server.server_port


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
