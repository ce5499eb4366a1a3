"""One connection of a worker, and the one to the server that stands behind it."""

import socket
import time
from collections import deque
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, TypeVar

from .points import Phase, is_handshake
from .resp import ProtocolError, ReplyParser, Request, RequestParser
from .strikes import Strike, StrikeKind
from .way import Way, receive, reset_on_close

if TYPE_CHECKING:
    from .listener import Listener

LINGER_S = 0.003
"""After a relayed reply the worker gets so long to take it in before it is killed; nothing more is forwarded."""

_UNPAIRED = frozenset({"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "SYNC", "PSYNC"})
"""From there on what the server sends answers no single command."""


Unit = TypeVar("Unit")


class Parser(Protocol[Unit]):
    """Cuts what one side sends into units: commands or replies."""

    rest: bytes

    def feed(self, chunk: bytes) -> list[Unit]: ...


class _Waiting(NamedTuple):
    """A command that was forwarded and is not answered yet."""

    strike: Strike | None


class Channel:
    """Relays, counts and strikes. Called from the proxy's thread only."""

    UNSENT_BYTES_MAX: ClassVar[int] = 4_194_304
    """With so much unsent to one end, the other is not read any further."""

    def __init__(self, listener: "Listener", worker: socket.socket, server: socket.socket) -> None:
        self.port: int = worker.getpeername()[1]
        self.closed = False
        self._listener = listener
        self.to_server, self.to_worker = Way(server), Way(worker)
        self._requests, self._replies = RequestParser(), ReplyParser()
        self._waiting: deque[_Waiting] = deque()
        self._held: deque[Request] = deque()  # commands that wait for what happens to one before them
        self._holding = False
        self._role: str | None = None
        self._opaque = False  # not RESP, or replies that answer nothing: relayed as it comes

    @property
    def frozen(self) -> bool:
        """Whether what the worker sends is left where it is."""
        return self._listener.frozen

    def worker_ready(self, events: int) -> None:
        self._ready(events, self.to_worker, self._from_worker)

    def server_ready(self, events: int) -> None:
        self._ready(events, self.to_server, self._from_server)

    def _ready(self, events: int, way: Way, read: Callable[[], None]) -> None:
        # An earlier event of the same moment may have closed or frozen it.
        if events & EVENT_WRITE and not self.closed:
            self._flush(way)
        if events & EVENT_READ and not self.closed and not (self.frozen and way is self.to_worker):
            read()

    def _read(self, way: Way, parser: Parser[Unit], onward: Way) -> list[Unit]:
        """What came by `way`, cut into whole units; what cannot be cut is relayed `onward` as it comes."""
        chunk = receive(way.end)
        if chunk is None:
            return []
        if not chunk:
            self.close()
            return []
        if self._opaque:
            self._send(onward, chunk)
            return []
        try:
            return parser.feed(chunk)
        except ProtocolError:
            self._listener.unreadable += 1
            self._opaque = True
            self._send(onward, parser.rest + chunk)
            return []

    # -- from the worker -------------------------------------------------------------------------------------------

    def _from_worker(self) -> None:
        requests = self._read(self.to_worker, self._requests, self.to_server)
        if self._holding:
            self._held.extend(requests)
        else:
            self._take(requests)

    def _take(self, requests: list[Request]) -> None:
        """Forward them, in one write as long as nothing is to happen."""
        passing = []
        for index, request in enumerate(requests):
            strike = self._count(request.name)
            if strike is None:
                self._waiting.append(_Waiting(None))
                passing.append(request.raw)
                continue
            if passing:
                self._send(self.to_server, b"".join(passing))
                passing = []
            self._holding = True
            self._held.extend(requests[index + 1 :])
            self._strike_request(request, strike)
            return
        if passing:
            self._send(self.to_server, b"".join(passing))

    def _count(self, name: str) -> Strike | None:
        if name in _UNPAIRED:
            self._opaque = True
        if is_handshake(name):
            return None
        if self._role is None:
            self._role = name
        return self._listener.count(self._role, name)

    def _strike_request(self, request: Request, strike: Strike) -> None:
        if strike.phase is not Phase.BEFORE:
            self._waiting.append(_Waiting(strike))
            self._send(self.to_server, request.raw)
            return
        if strike.kind is StrikeKind.DELAY:
            self._listener.proxy.later(strike.delay_ms / 1000, lambda: self._forward_late(request))
        elif strike.kind is StrikeKind.DROP:
            self._release()
        else:
            self._end(strike)

    def _forward_late(self, request: Request) -> None:
        if not self.closed:
            self._waiting.append(_Waiting(None))
            self._send(self.to_server, request.raw)
            self._release()

    def _release(self) -> None:
        """What was held back goes on."""
        self._holding = False
        held = list(self._held)
        self._held.clear()
        self._take(held)

    # -- from the server -------------------------------------------------------------------------------------------

    def _from_server(self) -> None:
        passing = []
        for reply in self._read(self.to_server, self._replies, self.to_worker):
            waiting = None if reply.push or not self._waiting else self._waiting.popleft()
            if waiting is None or waiting.strike is None:
                passing.append(reply.raw)
                continue
            if passing:
                self._send(self.to_worker, b"".join(passing))
                passing = []
            self._strike_reply(reply.raw, waiting.strike)
            if self.closed:
                return
        if passing:
            self._send(self.to_worker, b"".join(passing))

    def _strike_reply(self, raw: bytes, strike: Strike) -> None:
        if strike.kind is StrikeKind.DELAY:
            self._listener.proxy.later(strike.delay_ms / 1000, lambda: self._answer_late(raw))
        elif strike.kind is StrikeKind.DROP:
            self._release()
        elif strike.kind is StrikeKind.CUT:
            self._send(self.to_worker, raw[: max(1, len(raw) // 2)])
            self.close(reset=True)
        elif strike.phase is Phase.AFTER:
            self._send(self.to_worker, raw)
            self._listener.freeze()
            self._listener.proxy.later(LINGER_S, lambda: self._end(strike))
        else:
            self._end(strike)

    def _answer_late(self, raw: bytes) -> None:
        if not self.closed:
            self._send(self.to_worker, raw)
            self._release()

    # -- both ------------------------------------------------------------------------------------------------------

    def _end(self, strike: Strike) -> None:
        if strike.kill:
            self._listener.freeze()
            strike.kill(self.port)
            self._listener.hang_up()
        else:
            self._listener.thaw()
            self.close(reset=True)

    def _send(self, way: Way, data: bytes) -> None:
        link = self._listener.link
        if link.clear and not way.stalled and not way.in_transit:
            self._write(way, data)
            return
        if way.stalled or (link.to_server_lost if way is self.to_server else link.to_worker_lost):
            way.stalled.append(data)
            return
        now = time.monotonic()
        way.free_at = max(now, way.free_at)
        if link.bytes_per_s:
            way.free_at += len(data) / link.bytes_per_s
        # What comes later must not overtake it, whatever becomes of the link meanwhile.
        way.due_at = max(way.due_at, way.free_at + link.delay_ms / 1000)
        way.in_transit += 1
        self._listener.proxy.later(way.due_at - now, lambda: self._arrive(way, data))

    def _arrive(self, way: Way, data: bytes) -> None:
        way.in_transit -= 1
        self._write(way, data)

    def mend(self) -> None:
        """The link has changed: what was held back goes on, if it may."""
        for way in (self.to_server, self.to_worker):
            stalled, way.stalled = way.stalled, []
            for data in stalled:
                self._send(way, data)

    def _write(self, way: Way, data: bytes) -> None:
        if self.closed:
            return
        if not way.unsent:
            try:
                sent = way.end.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            if sent == len(data):
                return
            data = data[sent:]
        way.unsent += data
        self._listener.proxy.watch(self)

    def _flush(self, way: Way) -> None:
        """Write what could not be written before."""
        try:
            del way.unsent[: way.end.send(way.unsent)]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._listener.proxy.watch(self)

    def close(self, *, reset: bool = False) -> None:
        """End both connections; the worker's by a reset if so wished."""
        if self.closed:
            return
        self.closed = True
        self._listener.proxy.unwatch(self)
        self._listener.channels.discard(self)
        if self.to_server.unsent:  # the worker may have sent it as its last word
            try:
                self.to_server.end.send(self.to_server.unsent)
            except OSError:
                pass
        for end in (self.to_server.end, self.to_worker.end):
            if reset and end is self.to_worker.end:
                reset_on_close(end)
            end.close()
