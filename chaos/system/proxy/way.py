"""One direction of a connection, and what a socket needs for it."""

import socket
from dataclasses import astuple, dataclass

CHUNK_BYTES = 262_144


class Way:
    """One direction: bytes that wait to be written to `end`."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.unsent = bytearray()
        self.stalled: list[bytes] = []  # held back by a blackhole
        self.free_at = 0.0  # monotonic, s: when a slow link has passed on all that came before
        self.due_at = 0.0  # monotonic, s: when the last that is under way arrives
        self.in_transit = 0  # pieces under way


@dataclass
class Tally:
    """What the link has done so far to one direction of a worker's traffic, over all its connections."""

    held_bytes: int = 0
    """Held back by a blackhole; whether they came through later or never."""
    late_bytes: int = 0
    late_pieces: int = 0
    late_s: float = 0.0
    """By how much these were late, added up."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(*(one - another for one, another in zip(astuple(self), astuple(other), strict=True)))


def reset_on_close(end: socket.socket) -> None:
    """The peer gets a reset in place of an orderly end."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def receive(end: socket.socket) -> bytes | None:
    """None: nothing there after all; empty: its end."""
    try:
        return end.recv(CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""
