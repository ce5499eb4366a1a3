"""A link of limited rate in bytes/s, shared by all connections in each direction. Its destination can change."""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65_536


class SlowLink:
    """Relays to a local port; `lead_to` redirects new connections and keeps established ones."""

    def __init__(self, port: int, bytes_per_s: float = float("inf")) -> None:
        self._port, self._bytes_per_s = port, bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.carried = {"up": 0, "down": 0}
        self._free_at = {"up": 0.0, "down": 0.0}
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for end in [self._listener, *self._ends]:
            _shut(end)

    def lead_to(self, port: int) -> None:
        self._port = port

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was shut
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._port))
                except OSError:
                    client.close()
                    continue
                self._ends += [client, server]
                for way, source, target in (("up", client, server), ("down", server, client)):
                    threading.Thread(target=self._carry, args=(way, source, target), daemon=True).start()

    def _carry(self, way: str, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                time.sleep(max(0.0, self._arrival(way, len(chunk)) - time.monotonic()))
                target.sendall(chunk)
        _shut(source)
        _shut(target)

    def _arrival(self, way: str, size_bytes: int) -> float:
        """Return when a chunk has passed (monotonic, s). All connections share the rate."""
        with self._lock:
            self.carried[way] += size_bytes
            self._free_at[way] = max(self._free_at[way], time.monotonic()) + size_bytes / self._bytes_per_s
            return self._free_at[way]


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
