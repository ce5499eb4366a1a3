"""The proxy: one thread, one listening port for each worker, so that it knows whom it serves.

In the harness's own process: a thread costs no start, and a strike that kills needs the harness's hands.
"""

import heapq
import itertools
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from .channel import Channel, reset_on_close
from .points import ANY_ROLE, Point
from .strikes import Link, Strike

LOOPBACK = "127.0.0.1"
BACKLOG = 128
CALL_DEADLINE_S = 20.0

Answer = TypeVar("Answer")


class Listener:
    """One port for one worker. Its methods without a note are for the proxy's thread."""

    def __init__(self, proxy: "Proxy", door: socket.socket, *, gated: bool) -> None:
        self.proxy = proxy
        self.door = door
        self.link = Link()
        self.channels: set[Channel] = set()
        self.frozen = gated
        self.dead = False
        self.seen: list[Point] = []
        """Every command so far, in the order in which they came, each named within its connection's role."""
        self.recording = False
        self.unreadable = 0
        """Connections that did not speak RESP, and were relayed as they are."""
        self.struck: list[Strike] = []
        """What took place, in its order."""
        self._strikes: dict[Point, Strike] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    @property
    def port(self) -> int:
        """Any thread."""
        port: int = self.door.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """What the worker gets as its server's URL. Any thread."""
        return self.proxy.url_of(self.port)

    def arm(self, strike: Strike) -> None:
        """Once, at its point. Any thread."""
        self.proxy.call(lambda: self._strikes.update({strike.point: strike}))

    def open(self) -> None:
        """Let go on what a gated or frozen listener holds back. Any thread."""
        self.proxy.call(self.thaw)

    def hold(self) -> None:
        """Let nothing more of what the worker sends pass, until `open`. Any thread."""
        self.proxy.call(self.freeze)

    def is_connected(self) -> bool:
        """Whether the worker has a connection. Any thread."""
        return self.proxy.call(lambda: bool(self.channels))

    def set_link(self, link: Link) -> None:
        """Any thread."""
        self.proxy.call(lambda: self._set_link(link))

    def reset_all(self) -> int:
        """Reset every connection that is open; how many. Any thread."""
        return self.proxy.call(self._reset_all)

    def close(self) -> None:
        """Close the port and its connections. Any thread."""
        self.proxy.call(self.hang_up)

    def counts(self) -> dict[tuple[str, str], int]:
        """(role, name) -> how many were sent so far; the role `*` stands for any. Any thread."""
        return self.proxy.call(lambda: dict(self._counts))

    def count(self, role: str, name: str) -> Strike | None:
        """One more command; what is to happen to it."""
        counts = self._counts
        number = counts[role, name] = counts[role, name] + 1
        total = counts[ANY_ROLE, name] = counts[ANY_ROLE, name] + 1
        if self.recording:
            self.seen.append(Point(role, name, number))
        if not self._strikes:
            return None
        strike = self._strikes.pop(Point(role, name, number), None)
        strike = strike or self._strikes.pop(Point(ANY_ROLE, name, total), None)
        if strike:
            self.struck.append(strike)
        return strike

    def freeze(self) -> None:
        """Read no more from this worker: what it sends stays with it."""
        self.frozen = True
        for channel in self.channels:
            self.proxy.watch(channel)

    def thaw(self) -> None:
        self.frozen = False
        for channel in list(self.channels):
            self.proxy.watch(channel)

    def hang_up(self) -> None:
        """The worker is dead: so are its connections, and what it had sent last."""
        self.dead = True
        for channel in list(self.channels):
            channel.close()
        self.proxy.forget(self)

    def accept(self, _events: int) -> None:
        try:
            worker, _ = self.door.accept()
        except OSError:
            return
        if self.link.refuse:
            reset_on_close(worker)
            worker.close()
            return
        try:
            server = self.proxy.connect()
            channel = Channel(self, worker, server)
        except OSError:  # the server is down, and so is what stands before it
            reset_on_close(worker)
            worker.close()
            return
        for end in (worker, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.channels.add(channel)
        self.proxy.watch(channel)

    def _set_link(self, link: Link) -> None:
        self.link = link
        for channel in list(self.channels):
            channel.mend()

    def _reset_all(self) -> int:
        open_now = list(self.channels)
        for channel in open_now:
            channel.close(reset=True)
        return len(open_now)


class Proxy:
    """Stands before one server, `with Proxy(url) as proxy`. `failure`: what ended its thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "redis":
            raise ValueError(f"The proxy stands before redis:// URLs only, not before {parts.scheme}://.")
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
        """End every connection and the thread."""
        if self._thread.is_alive():
            self.call(self._stop)
            self._thread.join(CALL_DEADLINE_S)

    def listen(self, *, gated: bool = False, recording: bool = False) -> Listener:
        """A port for one worker. `gated`: it may connect, and gets no further until `open`: so it is started ahead."""
        door = socket.create_server((LOOPBACK, 0), backlog=BACKLOG)
        door.setblocking(False)
        listener = Listener(self, door, gated=gated)
        listener.recording = recording

        def enter() -> None:
            self._listeners.add(listener)
            self._selector.register(door, selectors.EVENT_READ, listener.accept)

        self.call(enter)
        return listener

    def url_of(self, port: int) -> str:
        credentials, at, _ = self._parts.netloc.rpartition("@")
        return self._parts._replace(netloc=f"{credentials}{at}{LOOPBACK}:{port}").geturl()

    def connect(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=CALL_DEADLINE_S)

    def call(self, ask: Callable[[], Answer]) -> Answer:
        """Run it in the proxy's thread, and wait for the answer. Any thread."""
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
        """Look at a channel's ends for what matters now."""
        if channel.closed:
            return
        to_server, to_worker = channel.to_server, channel.to_worker
        listens = 0 if channel.frozen or len(to_server.unsent) > channel.UNSENT_BYTES_MAX else selectors.EVENT_READ
        hears = 0 if len(to_worker.unsent) > channel.UNSENT_BYTES_MAX else selectors.EVENT_READ
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
        except BaseException as error:  # noqa: BLE001 - whoever calls it next must hear of it
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
