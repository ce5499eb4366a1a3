"""URLs that name several servers: the Sentinels of a primary, or the nodes of a cluster."""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from ..queue.errors import ConfigError
from ..queue.servers.urls import HOST, TLS_OPTIONS, refuse_options

SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password", "sentinel_tls"}
CLUSTER_PORT = 6379
SENTINEL_PORT = 26379
PORT_MAX = 65_535
_URL = re.compile(r"(rediss?)\+(?:sentinel|cluster)://(?:([^@/?#]*)@)?([^@/?#]*)([^@?#]*)(?:\?([^#]*))?")


class SentinelUrl(NamedTuple):
    """The parts of a Sentinel URL. `server` and `sentinel` are plain URLs whose host is a placeholder."""

    sentinels: tuple[tuple[str, int], ...]
    group: str
    server: str
    sentinel: str


def read_sentinel_url(url: str) -> SentinelUrl:
    """Read `redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME/DB`; `rediss+sentinel` uses TLS everywhere.

    Raises:
        ConfigError: it is not such a URL; the sentence says which part is wrong.
    """
    scheme, login, hosts, path, query = _parts(url, "redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME/DB")
    group, _, database = path.removeprefix("/").partition("/")
    if not group:
        raise _refusal("name the primary after the hosts", "redis+sentinel://HOST:26379/mymaster/0")
    if not re.fullmatch(r"\d*", database):
        raise _refusal("the database is a number", "redis+sentinel://HOST:26379/mymaster/0")
    options = parse_qsl(query, keep_blank_values=True)
    refuse_options(scheme, options, also=SENTINEL_OPTIONS)
    tls = dict(options).get("sentinel_tls", "true")
    if tls not in ("true", "false") or (tls == "false" and scheme == "redis"):
        raise _refusal("sentinel_tls is true or false", "and needs rediss+sentinel://")
    server = [(name, value) for name, value in options if name not in SENTINEL_OPTIONS]
    sentinel = [(name, value) for name, value in options if name in TLS_OPTIONS and tls == "true"]
    sentinel += [
        (name.removeprefix("sentinel_"), value)
        for name, value in options
        if name in ("sentinel_username", "sentinel_password")
    ]
    return SentinelUrl(
        tuple(_host(host, "Sentinel", SENTINEL_PORT) for host in hosts.split(",")),
        group,
        f"{scheme}://{login}{'@' if login else ''}primary/{database or 0}{_query(server)}",
        f"{'redis' if tls == 'false' else scheme}://sentinel{_query(sentinel)}",
    )


class ClusterUrl(NamedTuple):
    """The parts of a Cluster URL. `server` is a plain URL whose host is a placeholder."""

    nodes: tuple[tuple[str, int], ...]
    server: str


def read_cluster_url(url: str) -> ClusterUrl:
    """Read `redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT`; `rediss+cluster` uses TLS.

    Raises:
        ConfigError: it is not such a URL; the sentence says which part is wrong.
    """
    scheme, login, hosts, path, query = _parts(url, "redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT", "Cluster")
    options = parse_qsl(query, keep_blank_values=True)
    refuse_options(scheme, options)
    if path not in ("", "/", "/0") or dict(options).get("db", "0") != "0":
        raise _refusal("a cluster has database 0 only", "leave it out", "Cluster")
    nodes = tuple(_host(host, "node", CLUSTER_PORT, "Cluster") for host in hosts.split(","))
    return ClusterUrl(nodes, f"{scheme}://{login}{'@' if login else ''}node/0{_query(options)}")


def _parts(url: str, form: str, kind: str = "Sentinel") -> tuple[str, ...]:
    """Return scheme, login, hosts, path and query of a URL. Raises ConfigError: it has another form than `form`."""
    found = _URL.fullmatch(url)
    if not found:
        raise _refusal(f"use {form}", "percent codes", kind)
    return found.groups(default="")


def _host(text: str, what: str, port_default: int, kind: str = "Sentinel") -> tuple[str, int]:
    if not text or text.startswith(":"):
        example = f"HOST:{port_default},HOST:{port_default}"
        raise _refusal(f"name at least one {what}, and none that is empty", example, kind)
    found = re.fullmatch(HOST, text)
    port = int(found[2] or port_default) if found else 0
    if not found or not 0 < port <= PORT_MAX:
        raise _refusal(f"a port is a number from 1 to {PORT_MAX}", f"HOST:{port_default}", kind)
    return found[1].strip("[]"), port


def _query(options: list[tuple[str, str]]) -> str:
    return f"?{urlencode(options)}" if options else ""


def _refusal(what: str, example: str, kind: str = "Sentinel") -> ConfigError:
    quoting = ", with / ? # @ : and % in a password as percent codes" if example == "percent codes" else f" ({example})"
    return ConfigError(f"redis_url is not a {kind} URL: {what}{quoting}.")
