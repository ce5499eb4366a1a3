"""The host names under which a server on this machine answers if it requires no token.

A page of another site may let its own name resolve to 127.0.0.1 (DNS rebinding). A browser then takes this server for a
part of that site, which may read and send anything. The name in `Host` reveals such a request.
"""

from collections.abc import Iterable

import falcon

from ..queue.config import PREFIX, Config
from .problems import Problem
from .tokens import OPEN_PATHS, is_loopback, token_of

OWN_NAMES = ("localhost", "127.0.0.1", "[::1]")
SHOWN_CHARS_MAX = 100


class KnownHosts:
    """Answers 403 if `Host` is another name than these. A request without `Host` passes: browsers always send it."""

    def __init__(self, part: str, names: Iterable[str]) -> None:
        self._part, self._names = part, [_plain(name) for name in names]

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
            f"The host name {_plain(host)[:SHOWN_CHARS_MAX]!r} is not allowed: open this {self._part} as "
            f"{' or '.join(self._names)}, or add the name to --allow-hosts ({PREFIX}{self._part.upper()}_HOSTS). "
            "Nothing was accepted.",
            status=403,
        )

    async def process_request_async(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.process_request(req, resp)


def known_hosts(part: str, names: Iterable[str] | None) -> list[KnownHosts]:
    """Return the middleware of an app that accepts these names; None: any."""
    return [] if names is None else [KnownHosts(part, names)]


def own_hosts(part: str, config: Config, bound: str) -> list[str] | None:
    """Return the only names of the `producer` or `monitor` that listens at `bound`.

    None if it accepts any: other machines reach it, or it has a token, which a page of another site does not know.
    """
    if not is_loopback(bound) or token_of(part, config) is not None:
        return None
    more = config.monitor_hosts if part == "monitor" else config.producer_hosts
    words = [word.strip() for word in more.split(",")]
    return list(dict.fromkeys([*OWN_NAMES, in_url(bound), *(word for word in words if word)]))


def in_url(host: str) -> str:
    """Return a host in the form for a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _plain(host: str) -> str:
    """Return the host without its port, in lower case, and without a final dot."""
    name, _, port = host.strip().rpartition(":")
    return (name if name and port.isdigit() and not name.endswith(":") else host.strip()).rstrip(".").lower()
