"""The options of each command, and the way of a worker's options from the parent to its processes."""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from .logs import FORMATS
from .queue.config import ANYONE, SERVER_VARIABLES, Config

PRODUCER_PORT = 8085
MONITOR_PORT = 8082
HEALTH_PORT = 8086


def parser(prog: str, runs: Mapping[str, Callable[[Config, argparse.Namespace], int]]) -> argparse.ArgumentParser:
    """Return the parser of the command line. `runs`: the function of each command; options get it as `run`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="A reliable task queue for Redis.",
        epilog="Every setting of config.py can be given as ZEROLOSS_<NAME>, for example ZEROLOSS_LEASE_MS=5000.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str | None = None, *, else_server: str = "localhost") -> argparse.ArgumentParser:
        # A command without help is not listed: only a parent starts it.
        sub = commands.add_parser(name, description=text, help=text) if text else commands.add_parser(name)
        sub.add_argument(
            "--redis",
            metavar="URL",
            help=f"the server (default: {', '.join(SERVER_VARIABLES)}, then {else_server})",
        )
        sub.add_argument("--namespace", help="the prefix of the queue's keys (default: tasks)")
        sub.add_argument(
            "--shards", type=int, metavar="N", help="number of shards: queues that share the tasks (default: 1)"
        )
        sub.add_argument(
            "--log-format", choices=FORMATS, default="plain", help="json: one object a line (default: plain)"
        )
        sub.set_defaults(run=runs[name])
        return sub

    for name, port in (("producer", PRODUCER_PORT), ("monitor", MONITOR_PORT)):
        sub = command(name, f"serve the {name} over HTTP")
        sub.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
        text = f"port to listen on; 0: the system chooses (default: {port})"
        sub.add_argument("--port", type=int, default=port, help=text)
        text = "accept requests from other machines without a token"
        sub.add_argument("--no-token", dest="access", action="store_const", const=ANYONE, help=text)
        text = f"further host names to accept when the {name} listens on this machine only, without a token"
        sub.add_argument("--allow-hosts", dest=f"{name}_hosts", metavar="NAME,NAME", help=text)
        if name == "producer":
            _add_server_option(sub)
            text = "processes that share the port; more than 1 needs --server asgi (default: 1)"
            sub.add_argument("--processes", type=int, default=1, metavar="N", help=text)

    sub = command("worker", "run handlers in a pool of processes")
    _add_worker_options(sub)
    sub.add_argument("--processes", type=int, default=1, metavar="N", help="worker processes (default: 1)")
    text = "serve GET /health and /metrics on this port; 0: the system chooses (default: not served)"
    sub.add_argument("--health-port", type=int, metavar="PORT", help=text)
    text = "address that --health-port listens on (default: 127.0.0.1)"
    sub.add_argument("--health-host", default="127.0.0.1", metavar="HOST", help=text)
    sub = command("worker-process")
    _add_worker_options(sub)
    sub.add_argument("--consumer", required=True)
    sub.add_argument("--parent", type=int, required=True)
    sub.add_argument("--begun", type=int, required=True)
    sub.add_argument("--place", type=int, default=0)  # a parent of an older release does not send it
    sub.add_argument("--metrics", action="store_true")
    sub.add_argument("--pool", type=int, metavar="N", help="log what a pool of N such processes serves")

    sub = command("health", "ask a worker on its --health-port whether it is at work; exit status 1 if it is not")
    sub.add_argument("--host", default="127.0.0.1", help="the worker's --health-host (default: 127.0.0.1)")
    text = f"the worker's --health-port (default: {HEALTH_PORT})"
    sub.add_argument("--port", type=int, default=HEALTH_PORT, help=text)

    sub = command("shards", "show the number of shards, or change it while the queue runs")
    sub.add_argument("count", nargs="?", type=int, metavar="N", help="the new number of shards (default: no change)")

    command("pause", "stop all claims: each worker obeys at its next heartbeat, and running tasks are finished")
    command("resume", "let workers claim again")
    command("adopt", "register processing hashes that a manual change or a partial copy left unowned, for recovery")

    own = "one that it starts on a free port"
    sub = command("up", "run everything: server, producer, monitor, a worker", else_server=own)
    text = "the module that registers the handlers (default: a demonstration)"
    sub.add_argument("--app", default=None, metavar="MODULE", help=text)
    _add_server_option(sub)
    text = f"the producer's port (default: {PRODUCER_PORT})"
    sub.add_argument("--producer-port", type=int, default=PRODUCER_PORT, metavar="PORT", help=text)
    text = f"the monitor's port (default: {MONITOR_PORT})"
    sub.add_argument("--monitor-port", type=int, default=MONITOR_PORT, metavar="PORT", help=text)
    text = "keep the embedded server's data in this directory (default: a temporary one, deleted at the end)"
    sub.add_argument("--data", metavar="DIR", help=text)

    sub = command("dead-letter", "list, requeue or purge tasks that were given up")
    sub.add_argument("action", choices=["list", "requeue", "purge"])
    text = "requeue or purge this dead letter: its id, as `list` shows it, or the id of its task"
    sub.add_argument("ids", nargs="*", metavar="ID", help=text)
    sub.add_argument("--all", action="store_true", help="requeue or purge every dead letter")
    sub.add_argument("--before", metavar="ID", help="list only letters older than this one (default: from the newest)")
    sub.add_argument("--limit", type=int, default=100, metavar="N", help="list at most N letters (default: 100)")

    text = "copy the queue's source, its licence and a record of both into another tree, or update an unchanged copy"
    sub = commands.add_parser("vendor", description=text, help=text)
    sub.add_argument("destination", type=Path, metavar="DEST", help="folder in which the copy is made, as DEST/NAME")
    text = "import name of the copy, which may be dotted (default: reference)"
    sub.add_argument("--package", default="reference", metavar="NAME", help=text)
    sub.add_argument(
        "--with",
        dest="parts",
        metavar="PARTS",
        help="parts to copy: failover, http, monitor, shards, stats, telemetry, or none (default: those of the copy; "
        "all for a new copy)",
    )
    text = "only report whether the copy was changed or is outdated; exit status 1 if so"
    sub.add_argument("--check", action="store_true", help=text)
    sub.add_argument("--diff", action="store_true", help="only show the changes made to the copy")
    sub.set_defaults(run=runs["vendor"], redis=None, namespace=None, shards=None, log_format="plain")
    return parser


# Options of a worker: the field of Config that each sets, its unit as a factor, its metavar and its help text.
_WORKER_OPTIONS = {
    "--threads": ("threads", 1, "N", "handlers that one process runs at a time (default: 5)"),
    "--grace": ("grace_ms", 1_000, "SECONDS", "time that running handlers get at a stop (default: 25)"),
    "--time-limit": ("task_timeout_ms", 1_000, "SECONDS", "fail a handler that runs longer (default: 300)"),
    "--ahead": ("ahead", 1, "N", "claim at most N tasks ahead of the threads (default: 256)"),
    "--max-tasks": ("max_tasks", 1, "N", "replace a process that has run N tasks (default: never)"),
    "--max-memory": ("max_memory_bytes", 1_048_576, "MIB", "replace a process that uses more memory (default: never)"),
}


def _add_server_option(parser: argparse.ArgumentParser) -> None:
    text = "the producer's HTTP server; asgi: uvicorn, several times the throughput (default: waitress)"
    parser.add_argument("--server", choices=["waitress", "asgi"], default="waitress", help=text)


def _add_worker_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--app",
        required=True,
        metavar="MODULE",
        help="the module that registers the handlers, as it is imported: myapp.tasks",
    )

    def number(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError
        return value

    for option, (setting, unit, metavar, text) in _WORKER_OPTIONS.items():
        parser.add_argument(option, dest=setting, type=number if unit > 1 else int, metavar=metavar, help=text)


def with_worker_options(config: Config, options: argparse.Namespace) -> Config:
    """Return the configuration with a worker's options applied."""
    given = {setting: (getattr(options, setting), unit) for setting, unit, _, _ in _WORKER_OPTIONS.values()}
    return replace(config, **{name: round(value * unit) for name, (value, unit) in given.items() if value is not None})


def worker_arguments(config: Config, options: argparse.Namespace) -> list[str]:
    """Return the arguments that a worker's parent passes to each of its processes."""
    arguments = ["--app", options.app, "--namespace", config.namespace, "--shards", "1"]
    arguments += ["--log-format", options.log_format]
    for option, (setting, unit, _, _) in _WORKER_OPTIONS.items():
        value = getattr(config, setting)
        arguments += [option, str(value / unit if unit > 1 else value)]
    return arguments
