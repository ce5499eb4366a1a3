"""Serve a WSGI app with waitress: bounded, with problem documents for what never reaches the app, and a clean stop."""

import ctypes
import errno
import json
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

import falcon
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import RequestEntityTooLarge

from ..queue.config import Config
from ..queue.errors import ConfigError
from ..signals import STOP_SIGNALS
from .problems import MEDIA_TYPE, Problem
from .tokens import refuse_without_token

# A thread that waits for Redis costs little, and where the processors are busy each reply takes milliseconds: then the
# requests that can wait at a time are what bounds the rate. See docs/decisions/0008.
THREADS = 16
RECEIVED_BYTES = 65_536  # at a time; waitress's 8,192 takes a turn of its loop for each piece of a batch
SENT_BYTES = 65_536  # an answer is sent when it has this size or is whole; waitress sends its head alone
CONNECTIONS_MAX = 4_000  # an idle one costs little; waitress's own 100 starves a load test
DESCRIPTORS_KEPT = 48  # for connections to Redis, two a thread at the most, and what a process has open anyway
ACCEPT_PAUSE_S = 0.5  # where descriptors run out nevertheless
QUIET_S = 5.0  # without trouble; then it is over, and the next one is logged again
DRAIN_S = 10.0  # what a stopping server allows its running requests; longer than a Redis that does not answer takes
MAPPED_BYTES_MIN = 1_048_576  # a body beyond this is memory of its own, which goes back to the system at once
BODY_TIMEOUT_S = 60.0  # from the first byte of a request to its last one
SWEEP_S = 1  # between two looks for clients that are late
HEAD_TIMEOUT_S = 10.0  # from the first byte of a request, or the beginning of a connection, to the end of the head
HEAD_BYTES_MAX = 65_536
DESCRIPTORS_WANTED = 8_192
DROPPED_BYTES_MAX = 67_108_864  # how much of a body that is too large is read only to be thrown away

_M_MMAP_THRESHOLD = -3  # malloc.h

_log = logging.getLogger(__name__)


def serve(
    name: str,
    app: falcon.App[Any, Any],
    config: Config,
    host: str,
    port: int,
    body_limits: Mapping[str, int] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the running requests and return. For the main thread of a process.

    `body_limits`: the most bytes that a body may have, by path, where that is less than the configuration's.

    Prints the address; port 0 lets the system choose one.

    Raises:
        ConfigError: the address cannot be listened on, or others than this machine would need no token.
    """
    raise_descriptor_limit()
    listener = listen(host, port)
    refuse_without_token(name, config, host)
    _return_large_memory()
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # else a warning per request that must wait
    channels: dict[int, Any] = {}
    adjustments = Adjustments(
        sockets=[listener],
        recv_bytes=RECEIVED_BYTES,
        send_bytes=SENT_BYTES,
        connection_limit=sys.maxsize,  # `_Server` has its own, which writes no line of log for each connection
        max_request_body_size=config.max_body_bytes + 1,  # waitress refuses what reaches it, the app what exceeds it
        ident=None,
        cleanup_interval=SWEEP_S,
    )
    adjustments.body_limits = {} if body_limits is None else body_limits  # for `_Parser`, which is given these only
    server = _Server(
        app,
        channels,
        _sock=listener,
        dispatcher=_Lanes(),
        adj=adjustments,
        sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
        bind_socket=False,
    )
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True  # a second signal, as Ctrl-C and a parent may send both, changes nothing: the drain is bounded
        server.pull_trigger()

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    announce(name, host, listener)
    while not stopping:
        wasyncore.loop(timeout=1.0, use_poll=True, map=channels, count=1)
    _drain(server, channels)


def _return_large_memory() -> None:
    """Keep glibc from raising its threshold at the first large body: later ones would stay in the heaps of threads."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)


def raise_descriptor_limit() -> None:
    """Let the process have as many connections as its hard limit allows: the soft one is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def announce(name: str, host: str, listener: socket.socket) -> None:
    """Print where it can be reached."""
    shown = f"[{host}]" if ":" in host else host
    print(f"{name} listening on http://{shown}:{listener.getsockname()[1]}", flush=True)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 lets the system choose.

    Raises:
        ConfigError: the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, None)[0][0]
        return socket.create_server((host, port), family=family)
    except OverflowError:
        raise ConfigError(f"The port must be 0 to 65535, not {port}.") from None
    except UnicodeError:
        raise ConfigError(f"Cannot listen on {host}:{port}: it is not a name of a host.") from None
    except socket.gaierror as error:
        raise ConfigError(f"Cannot listen on {host}:{port}: {error.strerror}.") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(f"Cannot listen on {host}:{port}: {reason}.") from None


def _drain(server: Any, channels: dict[int, Any]) -> None:
    """Accept no more, let what has begun end, close what is idle."""
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
    """Gives `/healthz` a thread of its own: where Redis hangs, all others wait for it, and requests wait for them."""

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


class _Nowhere:
    """A buffer that forgets."""

    def append(self, _data: bytes) -> None: ...

    def close(self) -> None: ...


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Reads a body that is too large to its end, without keeping it, before it is refused.

    waitress answers and closes at once, and a client that is still sending then sees a reset connection, not the 413.
    """

    error: Any
    expect_continue: bool
    _dropped_bytes: int | None = None

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if self.chunked and "CONTENT_LENGTH" in self.headers:  # what another server takes for the end may differ
            raise ParsingError("Transfer-Encoding and Content-Length are both there; send one")

    def received(self, data: bytes) -> int:
        if self._dropped_bytes is not None:
            consumed: int = self.body_rcv.received(data)
            self._dropped_bytes += consumed
            ended = self.body_rcv.completed or self.body_rcv.error
            self.completed = bool(ended) or self._dropped_bytes >= DROPPED_BYTES_MAX
            return consumed
        consumed = super().received(data)
        if self.body_rcv is None or (self.error and not isinstance(self.error, RequestEntityTooLarge)):
            return consumed
        limit_bytes = self.adj.body_limits.get(self.path, self.adj.max_request_body_size - 1)
        if self.error or max(self.content_length, self.body_bytes_received) > limit_bytes:
            self.error = RequestEntityTooLarge(f"The body has more than {limit_bytes} bytes")
            self.body_rcv.buf.close()
            self.body_rcv.buf = _Nowhere()
            self._dropped_bytes = 0
            # One that waits for `100 Continue` has sent nothing yet, and now need not.
            self.completed = bool(self.body_rcv.completed) or self.expect_continue
            self.expect_continue = False
        return consumed


class _ProblemTask(ErrorTask):  # type: ignore[misc]
    """waitress's own refusals, of requests that are not HTTP or too large, as problem documents."""

    def execute(self) -> None:
        error = self.request.error
        if isinstance(error, RequestEntityTooLarge):
            problem = Problem("too-large", f"{error.body}; send less, or the tasks in several requests.")
        else:
            problem = Problem(None, f"{error.body}.", status=error.code)
        body = json.dumps(problem.document()).encode()
        self.status = falcon.code_to_http_status(problem.status_code)
        self.response_headers.append(("Content-Type", MEDIA_TYPE))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Task(WSGITask):  # type: ignore[misc]
    """Sends the answer itself, in one piece. Else the main thread would, once it has been woken and has its turn."""

    def finish(self) -> None:
        super().finish()
        with self.channel.outbuf_lock:
            self.channel._flush_exception(self.channel._flush_some, do_close=False)


class _Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = _Parser
    task_class = _Task
    error_task_class = _ProblemTask
    begun_s = 0.0  # when the first byte of the request came that is being received

    def late(self, now_s: float) -> bool:
        """Whether the request that is being received takes too long, or its head does."""
        request = self.request
        if request is None or self.requests:
            return False
        return now_s - self.begun_s > (BODY_TIMEOUT_S if request.headers_finished else HEAD_TIMEOUT_S)

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self.begun_s = time.monotonic()
        complete: bool = super().received(data)
        if self.request is not None and hasattr(socket, "TCP_QUICKACK"):  # Linux
            # A client whose body waits for the acknowledgement of its head (Nagle) would wait 40 ms for the kernel's.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return complete


class _Server(TcpWSGIServer):  # type: ignore[misc]
    """Leaves connections in the kernel's queue where there are too many, or no file descriptors for more.

    waitress tries again at once, and writes a traceback each time: hundreds of thousands of lines within seconds.
    """

    channel_class = _Channel

    def __init__(self, *arguments: Any, **options: Any) -> None:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if descriptors == resource.RLIM_INFINITY:
            descriptors = sys.maxsize
        self._channels_max = max(1, min(CONNECTIONS_MAX, descriptors - DESCRIPTORS_KEPT))
        self._resume_s = self._quiet_s = 0.0  # when to accept again; when to say so
        super().__init__(*arguments, **options)

    def readable(self) -> bool:
        """Whether to wait for connections."""
        accepting: bool = super().readable()
        now_s = time.monotonic()
        if len(self.active_channels) >= self._channels_max:
            self._note(f"All {self._channels_max} connections are in use; new ones wait until one closes.")
            return False
        if self._quiet_s and now_s >= self._quiet_s:
            self._quiet_s = 0.0
            _log.warning("Connections are accepted again.")
        return accepting and now_s >= self._resume_s

    def maintenance(self, now: float) -> None:
        """Close what is idle for long, and what is late."""
        super().maintenance(now)
        now_s = time.monotonic()
        for channel in list(self.active_channels.values()):
            if channel.late(now_s):
                channel.will_close = True

    def accept(self) -> Any:
        """As waitress's own; None, and a pause, where the system has nothing to make a connection of."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._note(f"No connection can be accepted ({error.strerror}); new ones wait until others close.")
            self._resume_s = time.monotonic() + ACCEPT_PAUSE_S
            return None

    def _note(self, message: str) -> None:
        """Log the first of many times in a row."""
        if not self._quiet_s:
            _log.warning(message)
        self._quiet_s = time.monotonic() + QUIET_S
