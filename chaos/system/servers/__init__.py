"""The Redis under test: embedded, alone or with replicas, in a container, or external. `open_server` chooses."""

import contextlib
from pathlib import Path

from ...history import Recorder
from ...history.masking import without_password
from .cluster import ClusterServer
from .cluster_container import ContainerClusterServer
from .container import ContainerServer, engine_answers
from .embedded import EmbeddedServer
from .external import ExternalServer
from .sentinel import SentinelServer, SentinelUrlServer
from .server import AppendFsync, Durability, NoNetwork, NotOurServer, Server, ServerUnavailable

__all__ = [
    "CLUSTER_KINDS",
    "SENTINEL_KINDS",
    "AppendFsync",
    "ClusterServer",
    "Durability",
    "NoNetwork",
    "NotOurServer",
    "SentinelServer",
    "Server",
    "ServerUnavailable",
    "engine_answers",
    "open_server",
]

URL_SCHEMES = ("redis://", "rediss://", "unix://")
_SENTINELS: dict[str, type[SentinelServer]] = {each.kind: each for each in (SentinelServer, SentinelUrlServer)}
SENTINEL_KINDS = tuple(_SENTINELS)
"""Kinds of servers that fail over."""


_CLUSTERS: dict[str, type[ClusterServer]] = {each.kind: each for each in (ClusterServer, ContainerClusterServer)}
CLUSTER_KINDS = tuple(_CLUSTERS)
"""Kinds of servers whose keys are divided into slots."""


def open_server(
    spec: str | None,
    *,
    appendfsync: AppendFsync | None = "always",
    directory: Path,
    recorder: Recorder | None = None,
) -> Server:
    """Return a server that answers, for use with `with`.

    Args:
        spec: `embedded`, `sentinel` (embedded, with replicas), `sentinel-url` (its clients ask Sentinel), `cluster`
            (embedded), `container`, `cluster-container` or a Redis URL. None or `auto`: a container where a Docker
            engine answers and can start one, else embedded.
        appendfsync: policy of the append-only file; None: no such file, and no snapshots. Ignored by external servers.
        directory: folder for the server's files.
        recorder: records the starts and exits of the embedded server.

    Raises:
        ServerUnavailable: the server is not available.
    """
    if spec is None or spec == "auto":
        if engine_answers():
            with contextlib.suppress(ServerUnavailable):
                return _started(ContainerServer(appendfsync))
        spec = "embedded"
    if spec == "embedded":
        return _started(EmbeddedServer(directory, appendfsync, recorder))
    if spec in _SENTINELS:
        return _started(_SENTINELS[spec](directory, appendfsync, recorder))
    if spec in _CLUSTERS:
        return _started(_CLUSTERS[spec](directory, appendfsync, recorder))
    if spec == "container":
        return _started(ContainerServer(appendfsync))
    if spec.startswith(URL_SCHEMES):
        return ExternalServer(spec)
    raise ServerUnavailable(
        f"{without_password(spec)!r} is not a server: say embedded, sentinel, sentinel-url, cluster, container, "
        "cluster-container, auto or a URL, redis://HOST:PORT/0."
    )


def _started(server: Server) -> Server:
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server
