"""The host names under which a server on this machine answers if it requires no token.

A page of another site may let its own name resolve to 127.0.0.1 (DNS rebinding). A browser then takes this server for a
part of that site, which may read and send anything. The name in `Host` reveals such a request.
"""

from collections.abc import Iterable

import falcon

from .problems import Problem
from .tokens import OPEN_PATHS

OWN_NAMES = ("localhost", "127.0.0.1", "[::1]")
SHOWN_CHARS_MAX = 100


class KnownHosts:
    """Answers 403 if `Host` is another name than these. A request without `Host` passes: browsers always send it."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = [_plain(name) for name in names]

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Let the request pass.

        Raises:
            Problem: 403.
        """
        host = req.get_header("Host")
        if host is None or req.path in OPEN_PATHS or _plain(host) in self._names:
            return
        raise Problem(
            None,
            f"The host name {_plain(host)[:SHOWN_CHARS_MAX]!r} is not allowed: open this monitor as "
            f"{' or '.join(self._names)}, or add the name to --allow-hosts (ZEROLOSS_MONITOR_HOSTS).",
            status=403,
        )


def known_hosts(bound: str, more: str) -> list[str]:
    """Return the names of a server that listens at `bound`; `more`: further names, separated by commas."""
    words = [word.strip() for word in more.split(",")]
    return list(dict.fromkeys([*OWN_NAMES, in_url(bound), *(word for word in words if word)]))


def in_url(host: str) -> str:
    """Return a host in the form for a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _plain(host: str) -> str:
    """Return the host without its port, in lower case, and without a final dot."""
    name, _, port = host.strip().rpartition(":")
    return (name if name and port.isdigit() and not name.endswith(":") else host.strip()).rstrip(".").lower()
