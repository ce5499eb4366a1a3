"""Shared by the servers: the listening socket, limits, deadlines, and refusals of requests that the app never sees."""

import json
import os
import resource
import socket
from dataclasses import dataclass

import falcon

from ...queue.config import Config
from ...queue.errors import ConfigError
from ..hosts import in_url
from ..problems import MEDIA_TYPE, Problem
from ..tokens import refuse_without_token

HEAD_TIMEOUT_S = 10.0  # from the first byte of a request, or the beginning of a connection, to the end of the head
IDLE_TIMEOUT_S = 120  # between two requests on one connection, as in waitress: longer than that of most proxies
BODY_TIMEOUT_S = 60.0  # from the first byte of a request to its last one
HEAD_BYTES_MAX = 65_536
DRAIN_S = 10.0  # how long a stopping server waits for running requests: longer than the time-out of Redis
BACKLOG = 1_024
DESCRIPTORS_WANTED = 8_192


@dataclass(frozen=True)
class Refusal:
    """The answer to a request that never reaches the app: a problem document; then the connection is closed."""

    problem: Problem

    def to_response(self, _ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """Return status line, headers and body; waitress calls this on its errors."""
        body = json.dumps(self.problem.document()).encode()
        return falcon.code_to_http_status(self.problem.status_code), [("Content-Type", MEDIA_TYPE)], body

    def to_bytes(self) -> bytes:
        """Return the whole answer as bytes."""
        status, headers, body = self.to_response()
        headers += [("Content-Length", str(len(body))), ("Connection", "close")]
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def prepare(name: str, config: Config, host: str, port: int) -> socket.socket:
    """Return a listening socket for the server `name`, and raise the process's limit of connections.

    Raises:
        ConfigError: the address cannot be listened on, or other machines could connect without a token.
    """
    _raise_descriptor_limit()
    listener = _listen(host, port)
    refuse_without_token(name, config, host)
    return listener


def _raise_descriptor_limit() -> None:
    """Let the process have as many connections as its hard limit allows: the soft one is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 lets the system choose.

    Raises:
        ConfigError: the address is invalid or not available.
    """
    try:
        family = socket.getaddrinfo(host, None)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OverflowError:
        raise ConfigError(f"The port must be 0 to 65535, not {port}.") from None
    except UnicodeError:
        raise ConfigError(f"Cannot listen on {host}:{port}: it is not a name of a host.") from None
    except socket.gaierror as error:
        raise ConfigError(f"Cannot listen on {host}:{port}: {error.strerror}.") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(f"Cannot listen on {host}:{port}: {reason}.") from None


def announce(name: str, host: str, listener: socket.socket) -> None:
    """Print the URL of the server."""
    print(f"{name} listening on http://{in_url(host)}:{listener.getsockname()[1]}", flush=True)
