"""One direction of a connection, and helpers for its socket."""

import socket
from dataclasses import astuple, dataclass

CHUNK_BYTES = 262_144


class Way:
    """One direction: bytes that wait to be written to `end`."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.unsent = bytearray()
        self.stalled: list[bytes] = []  # held back by a blackhole
        self.free_at = 0.0  # monotonic, s: when a slow link will have passed on all earlier data
        self.due_at = 0.0  # monotonic, s: when the last piece in transit arrives
        self.in_transit = 0  # number of pieces


@dataclass
class Tally:
    """Effects of the link so far on one direction of a worker's traffic, over all its connections."""

    held_bytes: int = 0
    """Bytes that a blackhole held back, whether or not they were delivered later."""
    late_bytes: int = 0
    late_pieces: int = 0
    late_s: float = 0.0
    """Sum of the delays of these pieces, in seconds."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(*(one - another for one, another in zip(astuple(self), astuple(other), strict=True)))


def reset_on_close(end: socket.socket) -> None:
    """Make the socket's close send a reset in place of an orderly end."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def receive(end: socket.socket) -> bytes | None:
    """Return the available data; None: there is none after all; empty: the connection has ended."""
    try:
        return end.recv(CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""
