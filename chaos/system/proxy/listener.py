"""The port of one worker: its connections, the commands it has sent so far, and its armed faults."""

import random
import socket
from collections import Counter

from .channel import Channel
from .points import ANY_ROLE, Phase, Point
from .roles import Loop
from .strikes import Link, Strike, StrikeKind
from .trace import Tracer
from .way import Tally, reset_on_close

CONNECT_DEADLINE_S = 5.0
"""Seconds. No other connection is served meanwhile, so it is shorter than any wait for the proxy's own answers."""

Address = tuple[str, int]


class Listener:
    """One port for one worker. Call its methods from the proxy's thread, except those marked "Any thread"."""

    def __init__(self, proxy: Loop, door: socket.socket, *, gated: bool, to: Address) -> None:
        self.proxy = proxy
        self.to = to
        """Host and port of the server behind it."""
        self.opaque = False
        self.tracer: Tracer | None = None
        """Follows the tasks in the traffic; None: no trace."""
        self.who = ""
        """The worker's name in the trace."""
        self.door = door
        self.link = Link()
        self.links: dict[str, Link] = {}
        """Host -> the link of connections from it, in place of `link`."""
        self.jitter = random.Random(0)
        self.to_server, self.to_worker = Tally(), Tally()
        self.channels: set[Channel] = set()
        self.frozen = gated
        self.dead = False
        self.seen: list[Point] = []
        """While `recording`: every command so far, in order of arrival, named within its connection's role."""
        self.recording = False
        self.unreadable = 0
        """Number of connections that did not speak RESP, and were relayed unparsed."""
        self.struck: list[Strike] = []
        """The armed faults that were injected, in order."""
        self.cut: list[tuple[int, int]] = []
        """For each cut reply: the number of bytes relayed, and its length."""
        self._strikes: dict[Point, Strike] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    @property
    def port(self) -> int:
        """The port's number. Any thread."""
        port: int = self.door.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The server URL for the worker. Any thread."""
        return self.proxy.url_of(self.port)

    def arm(self, strike: Strike) -> None:
        """Arm a fault, to be injected once at its point. Any thread."""
        self.proxy.call(lambda: self._strikes.update({strike.point: strike}))

    def disarm(self) -> None:
        """Cancel all armed faults. Any thread."""
        self.proxy.call(self._strikes.clear)

    def open(self) -> None:
        """Release the traffic that a gated or frozen listener holds back. Any thread."""
        self.proxy.call(self.thaw)

    def hold(self) -> None:
        """Hold back everything that the worker sends, until `open`. Any thread."""
        self.proxy.call(self.freeze)

    def is_connected(self) -> bool:
        """Whether the worker has a connection. Any thread."""
        return self.proxy.call(lambda: bool(self.channels))

    def set_link(self, link: Link, source: str | None = None) -> None:
        """Change the link; with `source`, only for connections from this host. Any thread."""
        self.proxy.call(lambda: self._set_link(link, source))

    def reset_all(self) -> int:
        """Reset all open connections, and return their number. Any thread."""
        return self.proxy.call(self._reset_all)

    def silence(self) -> int:
        """Stop delivery on all open connections without notice to either end; return their number. Any thread."""
        return self.proxy.call(self._silence)

    def direct(self, to: Address) -> int:
        """Put another server behind it; return the number of connections reset for that. Any thread."""

        def switch() -> int:
            self.to = to
            return self._reset_all()

        return self.proxy.call(switch)

    def close(self) -> None:
        """Close the port and its connections. Any thread."""
        self.proxy.call(self.hang_up)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return (role, name) -> number of commands sent so far; the role `*` stands for any. Any thread."""
        return self.proxy.call(lambda: dict(self._counts))

    def count(self, role: str, name: str) -> Strike | None:
        """Count a command, and return the fault to inject at it, if any."""
        counts = self._counts
        number = counts[role, name] = counts[role, name] + 1
        total = counts[ANY_ROLE, name] = counts[ANY_ROLE, name] + 1
        if self.recording:
            self.seen.append(Point(role, name, number))
        if self.link.cut_share and self.jitter.random() < self.link.cut_share:
            return Strike(point=Point(role, name, number), kind=StrikeKind.CUT, phase=Phase.EXECUTED)
        if not self._strikes:
            return None
        strike = self._strikes.pop(Point(role, name, number), None)
        strike = strike or self._strikes.pop(Point(ANY_ROLE, name, total), None)
        if strike:
            self.struck.append(strike)
        return strike

    def freeze(self) -> None:
        """Stop reading from this worker; its data stays in its sockets."""
        self.frozen = True
        for channel in self.channels:
            self.proxy.watch(channel)

    def thaw(self) -> None:
        self.frozen = False
        for channel in list(self.channels):
            self.proxy.watch(channel)

    def hang_up(self) -> None:
        """Close the port and its connections; drop unread data."""
        self.dead = True
        for channel in list(self.channels):
            channel.close()
        self.proxy.forget(self)

    def accept(self, _events: int) -> None:
        try:
            worker, (source, _) = self.door.accept()
        except OSError:
            return
        if self.links.get(source, self.link).refuse:
            reset_on_close(worker)
            worker.close()
            return
        try:
            server = socket.create_connection(self.to, timeout=CONNECT_DEADLINE_S)
            channel = Channel(self, worker, server)
        except OSError:  # the server is down, so the proxy refuses, too
            reset_on_close(worker)
            worker.close()
            return
        for end in (worker, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.channels.add(channel)
        self.proxy.watch(channel)

    def _set_link(self, link: Link, source: str | None) -> None:
        if source is None:
            self.link, self.links = link, {}
        else:
            self.links[source] = link
        self.jitter = random.Random(link.seed)
        for channel in list(self.channels):
            channel.mend()

    def _silence(self) -> int:
        open_now = [channel for channel in self.channels if not (channel.orphaned or channel.silent)]
        for channel in open_now:
            channel.silence()
        return len(open_now)

    def _reset_all(self) -> int:
        open_now = [channel for channel in self.channels if not (channel.orphaned or channel.silent)]
        for channel in open_now:
            channel.close(reset=True)
        return len(open_now)
