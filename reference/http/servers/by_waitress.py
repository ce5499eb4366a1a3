"""Serve a WSGI app with waitress: with limits, problem documents for requests that never reach it, and a clean stop.

This extends one class of waitress, its parser of requests. The rest is waitress's settings, and a loop of its own.
"""

import ctypes
import errno
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import falcon
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import create_server
from waitress.task import ThreadedTaskDispatcher

from ...queue.config import Config
from ...signals import STOP_SIGNALS
from ..problems import Problem
from . import common
from .common import BACKLOG, DRAIN_S, HEAD_BYTES_MAX, Refusal, announce, prepare

# A thread that waits for Redis costs little. On busy processors each reply takes milliseconds, and the number of
# requests that can wait at a time limits the rate. See docs/decisions/0008.
THREADS = 16
RECEIVED_BYTES = 65_536  # per read; with waitress's 8,192 each piece of a batch takes a turn of its loop
SENT_BYTES = 65_536  # an answer is sent when it has this size or is whole; by default waitress sends the head alone
CONNECTIONS_MAX = 4_000  # an idle connection costs little; waitress's default of 100 starves a load test
DESCRIPTORS_KEPT = 48  # for connections to Redis, at most two a thread, and other open files
ACCEPT_PAUSE_S = 0.5  # if file descriptors run out nevertheless
QUIET_S = 5.0  # time without trouble after which the next trouble is logged again
MAPPED_BYTES_MIN = 1_048_576  # a larger body gets a memory mapping, which goes back to the system at once
SWEEP_S = 1.0  # interval between checks for late clients
DROPPED_BYTES_MAX = 67_108_864  # of a body that is too large: how much is read and thrown away
CHUNK_HEAD_BYTES_MAX = 4_096  # of the line before a chunk, which waitress searches from its start at each piece

_M_MMAP_THRESHOLD = -3  # malloc.h
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = logging.getLogger(__name__)


def serve(
    name: str,
    app: falcon.App[Any, Any],
    config: Config,
    host: str,
    port: int,
    body_bytes_max: int,
    body_limits: Mapping[str, int] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the running requests and return. For the main thread of a process.

    `body_bytes_max`: limit for a body; `body_limits`: by path, limits that differ from it.

    Prints the address; port 0 lets the system choose one.

    Raises:
        ConfigError: the address cannot be listened on, or other machines could connect without a token.
    """
    listener = _Listener(fileno=prepare(name, config, host, port).detach())
    _return_large_memory()
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # else it warns for each request that must wait
    channels: dict[int, Any] = {}
    server = create_server(
        app,
        channels,
        _dispatcher=_Lanes(),
        sockets=[listener],
        backlog=BACKLOG,
        recv_bytes=RECEIVED_BYTES,
        send_bytes=SENT_BYTES,
        connection_limit=sys.maxsize,  # `_Listener` has a limit, and does not log each connection
        max_request_header_size=HEAD_BYTES_MAX,
        max_request_body_size=sys.maxsize,  # `_Request` has a limit, by path
        ident=None,
    )
    server.channel_class = _channels(body_limits or {}, body_bytes_max)
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True  # a second signal (Ctrl-C and a parent may send both) changes nothing: the drain is bounded
        server.pull_trigger()

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    announce(name, host, listener)
    sweep_s = 0.0
    while not stopping:
        server.accepting = listener.accepts(len(server.active_channels))
        wasyncore.loop(timeout=1.0, use_poll=True, map=channels, count=1)
        if time.monotonic() >= sweep_s:
            _close_late(server)
            sweep_s = time.monotonic() + SWEEP_S
    _drain(server, channels)


def _return_large_memory() -> None:
    """Keep glibc from raising its mmap threshold at a large body: later ones would stay in the heaps of threads."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)


def _close_late(server: Any) -> None:
    """Close the connections on which a request, or its head, takes too long to arrive."""
    now_s = time.monotonic()
    for channel in list(server.active_channels.values()):
        request = channel.request
        if request is not None and not channel.requests:
            timeout_s = common.BODY_TIMEOUT_S if request.headers_finished else common.HEAD_TIMEOUT_S
            channel.will_close = channel.will_close or now_s - request.begun_s > timeout_s


def _drain(server: Any, channels: dict[int, Any]) -> None:
    """Accept no more, let running requests end, close idle connections."""
    wasyncore.dispatcher.close(server)  # the listening socket only; the trigger still wakes the loop
    deadline = time.monotonic() + DRAIN_S
    while server.active_channels and time.monotonic() < deadline:
        for channel in list(server.active_channels.values()):
            with channel.requests_lock:
                if not (channel.requests or channel.request or channel.total_outbufs_len):
                    channel.will_close = True
        wasyncore.loop(timeout=0.1, use_poll=True, map=channels, count=1)
    server.task_dispatcher.shutdown(timeout=1)
    wasyncore.close_all(channels)


class _Lanes:
    """Gives `/healthz` its own thread: if Redis hangs, all other threads wait for it, and requests for the threads."""

    def __init__(self) -> None:
        self._others, self._health = ThreadedTaskDispatcher(), ThreadedTaskDispatcher()
        self._others.set_thread_count(THREADS)
        self._health.set_thread_count(1)

    def add_task(self, channel: Any) -> None:
        request = channel.requests[0]
        is_health = not request.error and request.path == "/healthz"
        (self._health if is_health else self._others).add_task(channel)

    def shutdown(self, timeout: float) -> None:
        self._others.shutdown(timeout=timeout)
        self._health.shutdown(timeout=timeout)


class _Listener(socket.socket):
    """Leaves connections in the kernel's queue at the limit of connections, or without file descriptors.

    waitress tries again at once, and writes a traceback each time: hundreds of thousands of lines within seconds.
    """

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if descriptors == resource.RLIM_INFINITY:
            descriptors = sys.maxsize
        self._connections_max = max(1, min(CONNECTIONS_MAX, descriptors - DESCRIPTORS_KEPT))
        self._resume_s = self._quiet_s = 0.0  # when to accept again; when to log that

    def accepts(self, connections: int) -> bool:
        """Whether to accept another connection. `connections`: the number of open ones."""
        now_s = time.monotonic()
        if connections >= self._connections_max:
            self._note(f"All {self._connections_max} connections are in use; new ones wait until one closes.")
            return False
        if self._quiet_s and now_s >= self._quiet_s:
            self._quiet_s = 0.0
            _log.warning("Connections are accepted again.")
        return now_s >= self._resume_s

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; if the system lacks resources, pause, and behave as if there were no connection."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._note(f"No connection can be accepted ({error.strerror}); new ones wait until others close.")
            self._resume_s = time.monotonic() + ACCEPT_PAUSE_S
            raise BlockingIOError(errno.EWOULDBLOCK, error.strerror) from None

    def _note(self, message: str) -> None:
        """Log the first trouble of a series."""
        if not self._quiet_s:
            _log.warning(message)
        self._quiet_s = time.monotonic() + QUIET_S


def _channels(body_limits: Mapping[str, int], body_bytes_max: int) -> Callable[..., HTTPChannel]:
    """Return a factory of channels, one for each connection, whose requests `_Request` parses."""

    def channel_of(*arguments: Any, **options: Any) -> HTTPChannel:
        channel = HTTPChannel(*arguments, **options)
        channel.parser_class = partial(_Request, channel, body_limits, body_bytes_max)
        return channel

    return channel_of


class _Nowhere:
    """A buffer that drops its data."""

    def append(self, _data: bytes) -> None: ...

    def close(self) -> None: ...

    def __len__(self) -> int:
        return 0


class _Request(HTTPRequestParser):  # type: ignore[misc]
    """Parses a request as it is received. A refused request has a problem document as its `error`.

    A body that is too large is read to its end and dropped before it is refused. waitress itself answers and closes at
    once, and a client that is still sending then sees a reset connection, not the 413.
    """

    error: Any
    completed: bool
    expect_continue: bool

    def __init__(self, channel: HTTPChannel, body_limits: Mapping[str, int], body_bytes_max: int, adj: Any) -> None:
        super().__init__(adj)
        self.begun_s = time.monotonic()
        self._channel, self._body_limits, self._body_bytes_max = channel, body_limits, body_bytes_max
        self._too_large: Refusal | None = None

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError:  # too many digits for Python, or an invalid target
            raise ParsingError("The target or the Content-Length is invalid") from None
        if self.chunked and "CONTENT_LENGTH" in self.headers:  # servers differ in which one they obey
            raise ParsingError("Transfer-Encoding and Content-Length are both there; send one")

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.error is not None:
            self.error = Refusal(Problem(None, f"{self.error.body}.", status=self.error.code))
        elif self.body_rcv is not None:
            self._bound_body()
        if not self.completed and consumed == len(data) and hasattr(socket, "TCP_QUICKACK"):  # Linux
            # With Nagle's algorithm a client sends its body after the ACK of its head, which the kernel delays 40 ms.
            self._channel.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return consumed

    def _bound_body(self) -> None:
        if self.chunked and len(self.body_rcv.control_line) + len(self.body_rcv.trailer) > CHUNK_HEAD_BYTES_MAX:
            detail = f"What is between two chunks has more than {CHUNK_HEAD_BYTES_MAX} bytes."
            self.error, self.completed = Refusal(Problem(None, detail, status=400)), True
            return
        limit_bytes = self._body_limits.get(self.path, self._body_bytes_max)
        if self._too_large is None and max(self.content_length, self.body_bytes_received) > limit_bytes:
            detail = f"The body has more than {limit_bytes} bytes; send less, or the tasks in several requests."
            self._too_large = Refusal(Problem("too-large", detail))
            self.body_rcv.buf.close()
            self.body_rcv.buf = _Nowhere()
            # A client that waits for `100 Continue` has not sent its body yet, and now need not.
            self.completed = self.completed or self.expect_continue
            self.expect_continue = False
        if self._too_large is not None and (self.completed or self.body_bytes_received >= DROPPED_BYTES_MAX):
            self.error, self.completed = self._too_large, True

    def close(self) -> None:
        """Send the whole answer now. Otherwise the main thread would send it, after it is woken and has its turn."""
        super().close()
        with self._channel.outbuf_lock:
            self._channel._flush_exception(self._channel._flush_some, do_close=False)
