"""Redis URLs: the allowed options, and the form without a password for logs and messages."""

import inspect
import re
from urllib.parse import parse_qsl, urlsplit

import redis

from ..errors import ConfigError

# Login, connection name and TLS. Any other option would override a setting of `connect`: some options repeat a
# command after a lost reply, change the type of a reply, or end a wait too early.
URL_OPTIONS = {"db", "username", "password", "client_name"}
TLS_OPTIONS = {name for name in inspect.signature(redis.SSLConnection.__init__).parameters if name.startswith("ssl_")}

SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
HOST = r"(\[[\da-fA-F:.]+\]|[^:/@\[\],]+)(?::(\d{1,5}))?"
_SHOWN_HOSTS = re.compile(rf"{HOST}(,{HOST})*(/[^/@:]*(/\d+)?)?")


def refuse_options(scheme: str, options: list[tuple[str, str]], also: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Raise ConfigError for an option that would undo what `connect` sets."""
    allowed = URL_OPTIONS | also | (TLS_OPTIONS if scheme == "rediss" else set())
    for name, _ in options:
        if name not in allowed:
            # Text that is not a name may be part of an unquoted password.
            shown = f"The option {name!r}" if name.isidentifier() else "An option"
            raise ConfigError(
                f"{shown} of redis_url is refused, as the queue itself sets what its correctness needs: remove it; "
                f"{', '.join(sorted(URL_OPTIONS))} may stay, and with rediss:// redis-py's ssl_ options."
            )


def refuse_url_options(url: str) -> None:
    """Raise ConfigError for a plain Redis URL with such an option."""
    parts = urlsplit(url)
    if parts.scheme in ("redis", "rediss", "unix"):
        refuse_options(parts.scheme, parse_qsl(parts.query, keep_blank_values=True))


def shown_url(url: str) -> str:
    """Return the URL without any part that may be a password: before the host, among the options, or unquoted."""
    scheme = url.partition("://")[0]
    if scheme in (*SENTINEL_SCHEMES, *CLUSTER_SCHEMES):
        place = url.partition("://")[2].partition("?")[0].rpartition("@")[2]
        unquoted = "#" in url or "@" in url.partition("?")[2] or "/" in url.rpartition("@")[0].partition("://")[2]
        return f"{scheme}://{place if _SHOWN_HOSTS.fullmatch(place) and not unquoted else '...'}"
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        return "..."
    if parts.scheme == "unix":
        return f"unix://{parts.path.rpartition('@')[2]}"
    place = parts.netloc.rpartition("@")[2] + parts.path
    # An unquoted slash or question mark in a password makes `urlsplit` split the URL in the wrong place.
    if parts.scheme and re.fullmatch(r"(\[[\da-fA-F:.]+\]|[^:/@]*)(:\d+)?(/\d*)?", place) and "@" not in parts.fragment:
        return f"{parts.scheme}://{place}"
    return f"{parts.scheme}://..." if parts.scheme else "..."
