"""Serve the ASGI app with uvicorn: one process or several on one port, with deadlines for slow clients."""

import asyncio
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from ...logs import configure
from ...queue.config import Config
from ...signals import STOP_SIGNALS
from .. import producer_asgi
from ..hosts import own_hosts
from ..metrics import MULTIPROCESS_VARIABLE
from ..problems import Problem
from . import common
from .common import BACKLOG, DRAIN_S, HEAD_BYTES_MAX, IDLE_TIMEOUT_S, Refusal, announce, prepare


def serve(config: Config, host: str, port: int, processes: int = 1, log_format: str = "plain") -> None:
    """Serve until SIGTERM or SIGINT, then finish the running requests and return. For the main thread of a process.

    Several processes share the listening socket; a process that dies is replaced, and all end with their parent. Each
    makes its app from the environment, which is set here: every user could read a command line.

    Raises:
        ConfigError: the address cannot be listened on, or other machines could connect without a token.
    """
    listener = prepare("producer", config, host, port)
    os.environ |= {
        "ZEROLOSS_REDIS_URL": config.redis_url,
        "ZEROLOSS_NAMESPACE": config.namespace,
        "ZEROLOSS_SHARDS": str(config.shards),
    }
    _log_little()
    settings = uvicorn.Config(
        partial(_make_app, log_format, own_hosts("producer", config, host)),  # pickled for each process
        factory=True,
        workers=processes,
        loop="uvloop",
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_TIMEOUT_S,
        timeout_graceful_shutdown=int(DRAIN_S),
    )
    if processes == 1:
        server = uvicorn.Server(settings)

        def stop(*_: Any) -> None:  # before uvicorn installs its handlers, and when it raises the signal again
            server.should_exit = True

        for number in STOP_SIGNALS:
            signal.signal(number, stop)
        settings.load()
        announce("producer", host, listener)
        server.run(sockets=[listener])
        return
    with tempfile.TemporaryDirectory(prefix="zeroloss-producer-") as counts:
        os.environ.setdefault(MULTIPROCESS_VARIABLE, counts)
        announce("producer", host, listener)
        Multiprocess(settings, sockets=[listener]).run()


def _log_little() -> None:
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _make_app(log_format: str, hosts: Sequence[str] | None) -> Any:
    """Return the app. With several processes each is a new interpreter, in which logging is not set up yet."""
    configure(log_format)
    _log_little()
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=(parent,), name="parent", daemon=True).start()
    return producer_asgi.for_own_server(hosts)


def _end_after(parent: BaseProcess) -> None:
    """End this process in order when its parent has ended: it would serve on, and keep the port."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


class _Protocol(HttpToolsProtocol):
    """Ends a connection whose head or body is late, or whose head is too large, and answers invalid HTTP.

    uvicorn has no limits for these.
    """

    _deadline: asyncio.TimerHandle | None = None
    _awaits = "head"
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await("head", common.HEAD_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        if self._deadline is None:  # the first bytes of the next request
            self._head_bytes = 0
            self._await("head", common.HEAD_TIMEOUT_S)
        if self._awaits == "head":
            self._head_bytes += len(data)
        super().data_received(data)
        if self._awaits == "head" and self._deadline is not None and self._head_bytes > HEAD_BYTES_MAX:
            self._end(431, f"The head has more than {HEAD_BYTES_MAX} bytes; send less.")

    def on_headers_complete(self) -> None:
        self._await("body", common.BODY_TIMEOUT_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._forget()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._end(400, msg)

    def _await(self, what: str, timeout_s: float) -> None:
        self._forget()
        self._awaits = what
        self._deadline = self.loop.call_later(timeout_s, self._late)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        if self._awaits == "head" and self._head_bytes:
            self._end(408, f"The head did not arrive within {common.HEAD_TIMEOUT_S:g} s; send it at once.")
        else:  # there was no request, or the app waits for a body, and will see the disconnection
            self.transport.close()

    def _end(self, status: int, detail: str) -> None:
        self._forget()
        self.transport.write(Refusal(Problem(None, detail, status=status)).to_bytes())
        self.transport.close()
