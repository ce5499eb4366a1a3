"""The proxy: one thread, and one listening port for each worker, which identifies the worker.

It runs in the harness's own process: a thread costs no start-up time, and only the harness can kill a worker.
"""

import heapq
import itertools
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from .channel import Channel
from .listener import Address, Listener
from .trace import Tracer

LOOPBACK = "127.0.0.1"
BACKLOG = 128
CALL_DEADLINE_S = 20.0

Answer = TypeVar("Answer")


class Proxy:
    """A proxy for one server: `with Proxy(url) as proxy`. `failure`: the exception that ended its thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "redis":
            raise ValueError(f"The proxy supports redis:// URLs only, not {parts.scheme}://.")
        self._parts = parts
        self._address = (parts.hostname or LOOPBACK, parts.port or 6379)
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain_calls)
        self._calls: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the thread."""
        if self._thread.is_alive():
            self.call(self._stop)
            self._thread.join(CALL_DEADLINE_S)

    def listen(
        self,
        *,
        gated: bool = False,
        recording: bool = False,
        opaque: bool = False,
        to: Address | None = None,
        tracer: Tracer | None = None,
        who: str = "",
    ) -> Listener:
        """Open a port for one worker.

        Args:
            gated: whether a connected worker waits until `open`, so that it can be started ahead of its turn.
            recording: whether its commands are recorded.
            opaque: whether bytes are relayed unparsed.
            to: the server behind the port; None: the proxy's own server.
            tracer: follows tasks in its commands.
            who: the worker's name in the trace.
        """
        door = socket.create_server((LOOPBACK, 0), backlog=BACKLOG)
        door.setblocking(False)
        listener = Listener(self, door, gated=gated, to=to or self._address)
        listener.recording, listener.opaque = recording, opaque
        listener.tracer, listener.who = tracer, who

        def enter() -> None:
            self._listeners.add(listener)
            self._selector.register(door, selectors.EVENT_READ, listener.accept)

        self.call(enter)
        return listener

    def url_of(self, port: int) -> str:
        credentials, at, _ = self._parts.netloc.rpartition("@")
        return self._parts._replace(netloc=f"{credentials}{at}{LOOPBACK}:{port}").geturl()

    def call(self, ask: Callable[[], Answer]) -> Answer:
        """Run `ask` in the proxy's thread, and return its answer. Any thread."""
        if threading.current_thread() is self._thread:
            return ask()
        done = threading.Event()
        answers: list[Any] = []

        def answer() -> None:
            try:
                answers.append((ask(), None))
            except Exception as error:  # noqa: BLE001 - raised where it was asked
                answers.append((None, error))
            done.set()

        with self._lock:
            self._calls.append(answer)
        with suppress(OSError):
            self._wake.send(b"\0")
        if not done.wait(CALL_DEADLINE_S):
            raise RuntimeError(f"The proxy does not answer; its thread ended with: {self.failure!r}")
        value, error = answers[0]
        if error:
            raise error
        found: Answer = value
        return found

    # -- the proxy's thread ----------------------------------------------------------------------------------------

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._ticket), act))

    def watch(self, channel: Channel) -> None:
        """Wait on a channel's sockets for the events that matter in its present state."""
        if channel.closed:
            return
        to_server, to_worker = channel.to_server, channel.to_worker
        listens = (
            0
            if channel.frozen or channel.orphaned or len(to_server.unsent) > channel.UNSENT_BYTES_MAX
            else selectors.EVENT_READ
        )
        held_up = channel.deserted or len(to_worker.unsent) > channel.UNSENT_BYTES_MAX
        hears = 0 if held_up else selectors.EVENT_READ
        self._watch(to_worker.end, listens | (selectors.EVENT_WRITE if to_worker.unsent else 0), channel.worker_ready)
        self._watch(to_server.end, hears | (selectors.EVENT_WRITE if to_server.unsent else 0), channel.server_ready)

    def unwatch(self, channel: Channel) -> None:
        for way in (channel.to_server, channel.to_worker):
            self._watch(way.end, 0, None)

    def forget(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.discard(listener)
            self._selector.unregister(listener.door)
            listener.door.close()

    def _watch(self, end: socket.socket, events: int, act: Any) -> None:
        known = self._selector.get_map().get(end)
        if not events:
            if known:
                self._selector.unregister(end)
        elif not known:
            self._selector.register(end, events, act)
        elif known.events != events:
            self._selector.modify(end, events, act)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - the next caller must hear of it
            self.failure = error
        for end in list(self._selector.get_map().values()):
            end.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        self._wake.close()

    def _turn(self) -> None:
        patience_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, events in self._selector.select(patience_s):
            key.data(events)
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def _drain_calls(self, _events: int) -> None:
        with suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        with self._lock:
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def _stop(self) -> None:
        self._stopping = True
        for listener in list(self._listeners):
            listener.hang_up()
