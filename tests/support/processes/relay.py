"""A TCP relay between clients and the server that can lose one reply: the command ran, its sender gets no answer."""

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 20


class Relay:
    """Listens at `url` and relays to the server. `swallow(command)` drops the reply to the next such command."""

    def __init__(self, server_url: str) -> None:
        self._server_port = urlsplit(server_url).port or 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.swallowed = 0
        self._wanted: bytes | None = None
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)

    def swallow(self, command: str) -> None:
        """Cut the next connection that sends this command, once the server has answered."""
        self._wanted = command.encode()

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _shut(self._listener)
        self._acceptor.join()
        for connection in self._sockets:
            _shut(connection)
        for thread in self._threads:
            thread.join()
        for connection in [self._listener, *self._sockets]:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._sockets += [client, server]
                thread = threading.Thread(target=self._relay, args=(client, server))
                self._threads.append(thread)
                thread.start()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._relay_until_cut(client, server)
        _shut(client)
        _shut(server)

    def _relay_until_cut(self, client: socket.socket, server: socket.socket) -> None:
        swallowing = False
        while True:
            ready, _, _ = select.select([client, server], [], [])
            for source in ready:
                chunk = source.recv(CHUNK_BYTES)
                if not chunk:
                    return
                if source is client:
                    if self._wanted and self._wanted in chunk:
                        self._wanted, swallowing = None, True
                    server.sendall(chunk)
                elif swallowing:
                    self.swallowed += 1
                    return
                else:
                    client.sendall(chunk)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
