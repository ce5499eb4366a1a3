"""The port of one worker: its connections, what it has sent so far, and what is to happen to it."""

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
"""Meanwhile no other connection is served; shorter than any wait for the proxy's own answers."""

Address = tuple[str, int]


class Listener:
    """One port for one worker. Its methods without a note are for the proxy's thread."""

    def __init__(self, proxy: Loop, door: socket.socket, *, gated: bool, to: Address) -> None:
        self.proxy = proxy
        self.to = to
        """What stands behind it: host and port."""
        self.opaque = False
        self.tracer: Tracer | None = None
        """Follows the tasks in what is sent; None: no trace."""
        self.who = ""
        """What the trace calls the worker."""
        self.door = door
        self.link = Link()
        self.links: dict[str, Link] = {}
        """Of those that connect from these hosts, in place of `link`."""
        self.jitter = random.Random(0)
        self.to_server, self.to_worker = Tally(), Tally()
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
        self.cut: list[tuple[int, int]] = []
        """Of each reply that was cut: how many bytes were relayed, of how many."""
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

    def disarm(self) -> None:
        """Nothing is to happen any more. Any thread."""
        self.proxy.call(self._strikes.clear)

    def open(self) -> None:
        """Let go on what a gated or frozen listener holds back. Any thread."""
        self.proxy.call(self.thaw)

    def hold(self) -> None:
        """Let nothing more of what the worker sends pass, until `open`. Any thread."""
        self.proxy.call(self.freeze)

    def is_connected(self) -> bool:
        """Whether the worker has a connection. Any thread."""
        return self.proxy.call(lambda: bool(self.channels))

    def set_link(self, link: Link, source: str | None = None) -> None:
        """`source`: only for what comes from this host. Any thread."""
        self.proxy.call(lambda: self._set_link(link, source))

    def reset_all(self) -> int:
        """Reset every connection that is open; how many. Any thread."""
        return self.proxy.call(self._reset_all)

    def silence(self) -> int:
        """Deliver nothing more on any connection that is open, without a word to either end; how many. Any thread."""
        return self.proxy.call(self._silence)

    def direct(self, to: Address) -> int:
        """Put another server behind it; how many connections to the one before were reset. Any thread."""

        def switch() -> int:
            self.to = to
            return self._reset_all()

        return self.proxy.call(switch)

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
        except OSError:  # the server is down, and so is what stands before it
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
