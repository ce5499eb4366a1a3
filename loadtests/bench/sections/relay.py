"""A relay between a worker and its server that can hold back all data for a moment: each end finds the other silent."""

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Self

CHUNK_BYTES = 1 << 16


class Relay:
    """Listens on `port` and forwards the data of either side, unless it is holding data back."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []

    def swallow(self) -> None:
        """Hold back all data from now on, like a network that sends it again later."""
        self._open.clear()

    def release(self) -> None:
        """Forward the data that was held back, and all further data."""
        self._open.set()

    def addresses(self) -> list[str]:
        """Return the addresses of the worker's connections, as the server sees them."""
        found = []
        for each in self._sockets:
            with contextlib.suppress(OSError):
                if each.getpeername()[1] == self._server_port:
                    found.append("{}:{}".format(*each.getsockname()))
        return found

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.set()
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed at the end
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._sockets += [client, server]
                threading.Thread(target=self._hand_on, args=(client, server), daemon=True).start()

    def _hand_on(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        with contextlib.suppress(OSError, ValueError):  # either side closed
            while True:
                for source in select.select([client, server], [], [])[0]:
                    chunk = source.recv(CHUNK_BYTES)
                    self._open.wait()
                    if not chunk:
                        raise ConnectionError
                    other[source].sendall(chunk)
        for each in (client, server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
