"""How fast tasks are accepted over HTTP, one and a thousand a request, and the share of HTTP in the cost.

The servers are measured in turn, with 16 keep-alive connections each; the client is `http_client`, in this process.
"""

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..context import Context
from ..errors import BenchError
from ..processes import ROOT, cpu_seconds
from ..rows import AtLeast, Row, number, ratio
from .http_client import TOKEN, listens, load, post

APPS = ROOT / "loadtests" / "bench" / "apps"
GRANIAN = (
    "granian==2.8.9",
    "falcon==4.4.0",
    "redis==8.1.0",
    "waitress==3.0.2",
    "msgspec==0.22.0",
    "prometheus-client==0.26.0",
    "uvloop==0.23.0",
)
FASTAPI = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "redis==8.1.0")
WARM_S, LOAD_S, QUICK_LOAD_S = 0.3, 2.0, 0.7
BATCH = 1_000
TASK = b'{"type": "default", "payload": {"n": 12345}}'
ONE = post("/task", "application/json", TASK)
LINES = post("/tasks", "application/x-ndjson", b"\n".join([TASK] * BATCH))
ARRAY = post("/tasks", "application/json", b"[" + b",".join([TASK] * BATCH) + b"]")

WAITRESS, WAITRESS_ALONE, WAITRESS_STOCK = "waitress", "waitress, no Redis", "waitress.serve(threads=8)"
UVICORN, GRANIAN_ASGI = "ASGI under uvicorn", "ASGI under granian"
GRANIAN_, GRANIAN_ALONE, FASTAPI_ = "granian", "granian, no Redis", "FastAPI, uvicorn, redis.asyncio"


@dataclass(frozen=True, slots=True)
class Taken:
    """A rate by the clock, and a rate by the processor time of the server's own process."""

    rate: float
    rate_by_cpu: float
    p99_ms: float  # of a request


def measure(context: Context) -> list[Row]:
    """Measure requests/s of single tasks, tasks/s of batches, and the ratios that have targets."""
    servers = _servers(context)
    single = context.interleaved(
        {name: partial(_taken, context, server, ONE, 1) for name, server in servers.items()},
        lambda taken: f"{number(taken.rate)} requests/s, p99 {taken.p99_ms:.1f} ms",
    )
    bodies = {"NDJSON": LINES, "JSON array": ARRAY}
    batches = context.interleaved(
        {
            f"{name}: {kind}": partial(_taken, context, servers[name], body, BATCH)
            for name in (WAITRESS, UVICORN, GRANIAN_, FASTAPI_)
            if name in servers
            for kind, body in bodies.items()
            if name != FASTAPI_ or kind == "NDJSON"
        },
        lambda taken: f"{number(taken.rate)} tasks/s",
    )
    return [*_single_rows(single), *_batch_rows(batches)]


def _single_rows(single: dict[str, list[Taken]]) -> list[Row]:
    rates = {name: [taken.rate for taken in values] for name, values in single.items()}
    rows = [Row(label=f"POST /task: {name}", unit="requests/s", values=tuple(values)) for name, values in rates.items()]
    rows += [
        Row(label=f"POST /task: {name}, p99", unit="ms", values=tuple(taken.p99_ms for taken in values))
        for name, values in single.items()
        if name in (WAITRESS, UVICORN, GRANIAN_ASGI)
    ]
    for label, over, under, target in (
        ("ASGI under uvicorn over waitress", UVICORN, WAITRESS, AtLeast(4)),
        ("ASGI under granian over waitress", GRANIAN_ASGI, WAITRESS, AtLeast(4)),
        ("waitress over itself without Redis", WAITRESS, WAITRESS_ALONE, AtLeast(0.6)),
        ("granian over waitress.serve(threads=8)", GRANIAN_, WAITRESS_STOCK, AtLeast(2.17)),
        ("waitress over waitress.serve(threads=8)", WAITRESS, WAITRESS_STOCK, None),
        ("granian over FastAPI", GRANIAN_, FASTAPI_, None),
    ):
        if over in rates and under in rates:
            rows.append(ratio(f"POST /task: {label}", rates[over], rates[under], target))
    return rows


def _batch_rows(batches: dict[str, list[Taken]]) -> list[Row]:
    rows = []
    for name, values in batches.items():
        label = f"POST /tasks of {BATCH:,}: {name}"
        target = AtLeast(100_000) if name == f"{WAITRESS}: NDJSON" else None
        rows.append(Row(label=label, unit="tasks/s", values=tuple(taken.rate for taken in values), target=target))
        by_cpu = tuple(taken.rate_by_cpu for taken in values)
        rows.append(Row(label=f"{label}, a second of one core", unit="tasks", values=by_cpu))
    return rows


def _package(folder: Path) -> Path:
    """Make a folder from which `zeroloss.reference` can be imported."""
    package = folder / "path" / "zeroloss"
    package.mkdir(parents=True)
    (package / "reference").symlink_to(ROOT / "reference")
    return package.parent


Server = Callable[[int], tuple[list[str], dict[str, str]]]
"""Function of a server's port that returns its command and its environment variables."""


def _servers(context: Context) -> dict[str, Server]:
    """Return the servers whose environments can be made here."""
    ours = {
        "REDIS_URL": context.server.url,
        "ZEROLOSS_MAX_PENDING": "1000000000",
        "ZEROLOSS_TOKEN": TOKEN,
        "PYTHONPATH": f"{ROOT}:{APPS}",
    }
    alone = str(APPS / "producer_app.py")
    servers: dict[str, Server] = {
        WAITRESS: lambda port: ([sys.executable, "-m", "zeroloss.reference", "producer", "--port", str(port)], ours),
        UVICORN: lambda port: (
            [sys.executable, "-m", "zeroloss.reference", "producer", "--server", "asgi", "--port", str(port)],
            ours,
        ),
        WAITRESS_ALONE: lambda port: ([sys.executable, alone, "alone", str(port)], ours),
        WAITRESS_STOCK: lambda port: ([sys.executable, alone, "stock", str(port)], ours),
    }
    try:
        granian = str(context.environment(GRANIAN) / "bin" / "granian")
        options = ["--interface", "wsgi", "--workers", "1", "--blocking-threads", "1", "--factory", "--no-ws"]
        command = [granian, *options, "--host", "127.0.0.1", "--port"]
        app = "zeroloss.reference.http.producer:from_environment"
        # Its environment does not have the package, which is made of these folders.
        elsewhere = {**ours, "PYTHONPATH": f"{_package(context.folder)}:{APPS}"}
        servers[GRANIAN_] = lambda port: ([*command, str(port), app], elsewhere)
        asgi = ["--interface", "asgi", "--workers", "1", "--loop", "uvloop", "--factory", "--no-ws"]
        asgi_app = "zeroloss.reference.http.producer_asgi:from_environment"
        servers[GRANIAN_ASGI] = lambda port: (
            [granian, *asgi, "--host", "127.0.0.1", "--port", str(port), asgi_app],
            elsewhere,
        )
        servers[GRANIAN_ALONE] = lambda port: ([*command, str(port), "producer_app:without_redis"], elsewhere)
        uvicorn = str(context.environment(FASTAPI) / "bin" / "uvicorn")
        quiet = ["--no-access-log", "--log-level", "warning"]
        servers[FASTAPI_] = lambda port: ([uvicorn, "fastapi_app:app", *quiet, "--port", str(port)], ours)
    except BenchError as error:
        context.say(f"  a server is left out: {error}")
    return servers


def _taken(context: Context, server: Server, request: bytes, tasks: int) -> Taken:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context.empty_server()
    with context.processes.running(*server(port)) as process:
        context.wait_until(lambda: listens(port), process)
        load(port, request, WARM_S)
        before = cpu_seconds(process.pid)
        answered = load(port, request, QUICK_LOAD_S if context.quick else LOAD_S)
        used_s = cpu_seconds(process.pid) - before
        return Taken(answered.rate * tasks, answered.requests * tasks / used_s, answered.p99_ms)
