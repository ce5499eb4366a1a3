"""One connection of a worker, and the connection to the server behind it."""

import socket
import time
from collections import deque
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE
from typing import ClassVar

from .peers import Ends
from .points import Phase, is_handshake
from .resp import Parser, ProtocolError, ReplyParser, Request, RequestParser, Unit
from .roles import Door
from .strikes import Strike, StrikeKind
from .trace import Sent
from .way import Way, receive, reset_on_close

LINGER_S = 0.003
"""Seconds the worker gets to read a relayed reply before it is killed. Nothing more is forwarded meanwhile."""

_SUBSCRIPTIONS = frozenset({"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"})
_UNPAIRED = frozenset({"MONITOR", "SYNC", "PSYNC"})
"""After these, the server's output no longer answers single commands. A subscription gets one answer first."""


class Channel:
    """Relays traffic, counts commands and injects faults. Called from the proxy's thread only."""

    UNSENT_BYTES_MAX: ClassVar[int] = 4_194_304
    """Limit on the unsent bytes for one end. Beyond it, the other end is not read."""

    def __init__(self, listener: Door, worker: socket.socket, server: socket.socket) -> None:
        self._source, port = worker.getpeername()
        self.ends: Ends = (port, worker.getsockname()[1])
        self.closed = False
        self.orphaned = False
        """Whether the worker has hung up while data that it sent is still on its way to the server."""
        self.silent = False
        """Whether delivery has stopped in both directions, without notice to either end."""
        self.deserted = False
        """Whether the server has hung up on a silent channel."""
        self._listener = listener
        self.to_server, self.to_worker = Way(server), Way(worker)
        self._requests, self._replies = RequestParser(), ReplyParser()
        self._waiting: deque[tuple[Strike | None, Sent | None]] = deque()  # forwarded and not answered yet
        self._session = listener.tracer.session(listener.who, self.ends) if listener.tracer else None
        self._held: deque[Request] = deque()  # commands that wait until a fault at an earlier one is over
        self._holding = False
        self._role: str | None = None
        self._opaque = listener.opaque  # not RESP, or replies that answer no command: relayed unparsed
        self._subscribed = False  # after a subscription, commands are not counted either

    @property
    def frozen(self) -> bool:
        """Whether the worker's data is left unread."""
        return self._listener.frozen

    def worker_ready(self, events: int) -> None:
        self._ready(events, self.to_worker, self._from_worker)

    def server_ready(self, events: int) -> None:
        self._ready(events, self.to_server, self._from_server)

    def _ready(self, events: int, way: Way, read: Callable[[], None]) -> None:
        # An earlier event of the same poll may have closed or frozen this channel.
        if events & EVENT_WRITE and not self.closed:
            self._flush(way)
        if events & EVENT_READ and not self.closed and not (self.frozen and way is self.to_worker):
            read()

    def _read(self, way: Way, parser: Parser[Unit], onward: Way) -> list[Unit]:
        """Return the complete units that arrived by `way`; relay data that is not parsed `onward` unchanged."""
        chunk = receive(way.end)
        if chunk is None:
            return []
        if not chunk:
            self._ended(way)
            return []
        answered = way is self.to_worker or not self._waiting
        if self._opaque or (self._subscribed and answered):
            begun, parser.rest = parser.rest, b""
            self._send(onward, begun + chunk)
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
        """Forward requests, in one write up to the next one with a fault."""
        passing = []
        for index, request in enumerate(requests):
            strike = self._count(request.name)
            if strike is None:
                self._expect_answer(request, None)
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

    def _expect_answer(self, request: Request, strike: Strike | None) -> None:
        tracer, session = self._listener.tracer, self._session
        sent = tracer.sent(session, request.raw) if tracer and session else None
        self._waiting.append((strike, sent))

    def _count(self, name: str) -> Strike | None:
        self._opaque = self._opaque or name in _UNPAIRED
        self._subscribed = self._subscribed or name in _SUBSCRIPTIONS
        if is_handshake(name):
            return None
        if self._role is None:
            self._role = name
        return self._listener.count(self._role, name)

    def _strike_request(self, request: Request, strike: Strike) -> None:
        if strike.phase is not Phase.BEFORE:
            self._expect_answer(request, strike)
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
            self._expect_answer(request, None)
            self._send(self.to_server, request.raw)
            self._release()

    def _release(self) -> None:
        """Forward the commands that were held back."""
        self._holding = False
        held = list(self._held)
        self._held.clear()
        self._take(held)

    # -- from the server -------------------------------------------------------------------------------------------

    def _from_server(self) -> None:
        passing = []
        for reply in self._read(self.to_server, self._replies, self.to_worker):
            pushed = reply.push and not self._subscribed  # in RESP3 the answer to a subscription is a push, too
            strike, sent = (None, None) if pushed or not self._waiting else self._waiting.popleft()
            if sent and self._session and self._listener.tracer:
                self._listener.tracer.answered(self._session, sent, reply.raw)
            if strike is None:
                passing.append(reply.raw)
                continue
            if passing:
                self._send(self.to_worker, b"".join(passing))
                passing = []
            self._strike_reply(reply.raw, strike)
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
            relayed = max(1, len(raw) // 2)
            self._send(self.to_worker, raw[:relayed])
            self._listener.cut.append((relayed, len(raw)))
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
            strike.kill(self.ends)
            self._listener.hang_up()
        else:
            self._listener.thaw()
            self.close(reset=True)

    def _send(self, way: Way, data: bytes) -> None:
        listener = self._listener
        link = listener.links.get(self._source, listener.link)
        tally = listener.to_server if way is self.to_server else listener.to_worker
        if self.silent:
            tally.held_bytes += len(data)
            return
        if link.clear and not way.stalled and not way.in_transit:
            self._write(way, data)
            return
        if way.stalled or (link.to_server_lost if way is self.to_server else link.to_worker_lost):
            way.stalled.append(data)
            tally.held_bytes += len(data)
            return
        now = time.monotonic()
        way.free_at = max(now, way.free_at)
        if link.bytes_per_s:
            way.free_at += len(data) / link.bytes_per_s
        # Later data must not overtake this piece, even if the link changes meanwhile.
        delay_ms = link.delay_ms + listener.jitter.uniform(0, link.jitter_ms)
        way.due_at = max(way.due_at, way.free_at + delay_ms / 1000)
        way.in_transit += 1
        tally.late_bytes += len(data)
        tally.late_pieces += 1
        tally.late_s += way.due_at - now
        listener.proxy.later(way.due_at - now, lambda: self._arrive(way, data))

    def _arrive(self, way: Way, data: bytes) -> None:
        way.in_transit -= 1
        self._write(way, data)
        self._bury()

    def silence(self) -> None:
        """Stop all delivery for good."""
        self.silent = True
        for way in (self.to_server, self.to_worker):
            way.stalled.clear()
            way.unsent.clear()
        self._listener.proxy.watch(self)

    def mend(self) -> None:
        """Send held-back data again after a change of the link; the new link may hold it back, too."""
        for way in (self.to_server, self.to_worker):
            stalled, way.stalled = way.stalled, []
            for data in stalled:
                self._send(way, data)
        self._bury()

    def _ended(self, way: Way) -> None:
        """Handle the hang-up of one side. Data that a worker sent before it still arrives, as in a network."""
        if self.silent:
            self.orphaned = self.orphaned or way is self.to_worker
            self.deserted = self.deserted or way is self.to_server
            if self.orphaned and self.deserted:
                self.close()
            else:
                self._listener.proxy.watch(self)
            return
        if way is self.to_worker and (self.to_server.stalled or self.to_server.in_transit):
            self.orphaned = True
            self.to_worker.unsent.clear()
            self._listener.proxy.watch(self)
        else:
            self.close()

    def _bury(self) -> None:
        """Shut down the server's side of an orphan once its last output was relayed."""
        if self.silent:
            return
        way = self.to_server
        if self.orphaned and not (self.closed or way.stalled or way.in_transit or way.unsent):
            try:
                # Not closed: with replies unread, that would send a reset, which could overtake the data.
                way.end.shutdown(socket.SHUT_WR)
            except OSError:
                self.close()

    def _write(self, way: Way, data: bytes) -> None:
        if self.closed or self.silent or (self.orphaned and way is self.to_worker):
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
        """Write data that could not be written before."""
        try:
            del way.unsent[: way.end.send(way.unsent)]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._listener.proxy.watch(self)
        self._bury()

    def close(self, *, reset: bool = False) -> None:
        """Close both connections; with `reset`, the worker's by a reset."""
        if self.closed:
            return
        self.closed = True
        self._listener.proxy.unwatch(self)
        self._listener.channels.discard(self)
        if self.to_server.unsent:  # the worker may have sent it just before it ended
            try:
                self.to_server.end.send(self.to_server.unsent)
            except OSError:
                pass
        for end in (self.to_server.end, self.to_worker.end):
            if reset and end is self.to_worker.end:
                reset_on_close(end)
            end.close()
