"""The command line of the queue: `zeroloss queue producer|monitor|worker|up|dead-letter|vendor`.

`python -m zeroloss.reference` is the same, as is `python -m yourapp.queue` in a copy and `python -m reference` in a
checkout.
"""

import sys

from .signals import STOP_SIGNALS, handle_at_start

if __name__ == "__main__":  # before the other imports, which take several times as long as all that comes before them
    handle_at_start(sys.argv[1] if len(sys.argv) > 1 else "")

import argparse
import importlib
import json
import logging
import math
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import redis

from . import __version__
from .logs import FORMATS, configure
from .queue.config import ANYONE, Config, load_config, unknown_variables
from .queue.connection import connect
from .queue.dead_letters import LETTER_ID, DeadLetters
from .queue.errors import QueueError
from .queue.protocol import refuse_at_start
from .queue.reaper import Reaper
from .queue.servers.urls import shown_url
from .queue.texts import printable
from .worker.supervisor import Supervisor, worker_command

PRODUCER_PORT = 8085
MONITOR_PORT = 8082
HEALTH_PORT = 8086
NAMES_CHARS_MAX = 1_000  # of all handlers, in the line that says what a pool serves

logger = logging.getLogger(__package__)


def main(argv: Sequence[str] | None = None, prog: str = f"python -m {__package__}") -> int:
    """Run a command; 0, or 2 with one sentence on standard error when what was asked is invalid.

    `prog` is what usage messages call the command.
    """
    options = _parser(prog).parse_args(argv)
    configure(options.log_format, getattr(options, "consumer", ""))
    try:
        named = {name: getattr(options, name, None) for name in ("access", "monitor_hosts")}
        config = load_config(redis_url=options.redis, namespace=options.namespace, shards=options.shards, **named)
        if options.run is not _worker_process:  # its parent has
            for sentence in unknown_variables():
                logger.warning(sentence)
        status: int = options.run(config, options)
    except QueueError as error:
        print(f"{__package__}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(f"{__package__}."):
            raise
        part = str(error.name).removeprefix(f"{__package__}.").partition(".")[0]
        print(f"{__package__}: This copy was made without {part}, which vendor --with adds.", file=sys.stderr)
        return 2
    except redis.RedisError as error:
        print(f"{__package__}: Redis failed: {error}", file=sys.stderr)
        return 1
    return status


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="A reliable task queue for Redis.",
        epilog="Every setting of config.py can be given as ZEROLOSS_<NAME>, for example ZEROLOSS_LEASE_MS=5000.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str | None = None) -> argparse.ArgumentParser:
        # A command without help is not listed: only a parent starts it.
        sub = commands.add_parser(name, description=text, help=text) if text else commands.add_parser(name)
        sub.add_argument("--redis", metavar="URL", help="the server (default: REDIS_URL, REDIS_ADDR, then localhost)")
        sub.add_argument("--namespace", help="the prefix of the queue's keys (default: tasks)")
        sub.add_argument("--shards", type=int, metavar="N", help="over how many queues it is spread (default: 1)")
        sub.add_argument(
            "--log-format", choices=FORMATS, default="plain", help="json: one object a line (default: plain)"
        )
        sub.set_defaults(run=run)
        return sub

    for name, run, port in (("producer", _producer, PRODUCER_PORT), ("monitor", _monitor, MONITOR_PORT)):
        sub = command(name, run, f"serve the {name} over HTTP")
        sub.add_argument("--host", default="127.0.0.1")
        sub.add_argument("--port", type=int, default=port, help=f"0 lets the system choose (default: {port})")
        text = "let other machines in without a token"
        sub.add_argument("--no-token", dest="access", action="store_const", const=ANYONE, help=text)
        if name == "producer":
            _add_server_option(sub)
            sub.add_argument("--processes", type=int, default=1, metavar="N", help="on one port; with --server asgi")

        else:
            text = "further names by which it may be asked for where it listens on this machine only, without a token"
            sub.add_argument("--allow-hosts", dest="monitor_hosts", metavar="NAME,NAME", help=text)

    sub = command("worker", _worker, "run handlers in a pool of processes")
    _add_worker_options(sub)
    sub.add_argument("--processes", type=int, default=1, metavar="N")
    sub.add_argument(
        "--health-port", type=int, metavar="PORT", help="answer GET /health and /metrics there; 0: the system chooses"
    )
    sub.add_argument("--health-host", default="127.0.0.1", metavar="HOST")
    sub = command("worker-process", _worker_process)
    _add_worker_options(sub)
    sub.add_argument("--consumer", required=True)
    sub.add_argument("--parent", type=int, required=True)
    sub.add_argument("--begun", type=int, required=True)
    sub.add_argument("--place", type=int, default=0)  # a parent of an older release does not say it
    sub.add_argument("--metrics", action="store_true")
    sub.add_argument("--pool", type=int, metavar="N", help="log what a pool of N such processes serves")

    sub = command("health", _health, "ask a worker at its --health-port whether it is at work; 1 if it is not")
    sub.add_argument("--host", default="127.0.0.1")
    sub.add_argument("--port", type=int, default=HEALTH_PORT, help=f"(default: {HEALTH_PORT})")

    sub = command("shards", _shards, "show how many shards there are, or have another number while the queue runs")
    sub.add_argument("count", nargs="?", type=int, metavar="N", help="have N shards (default: change nothing)")

    command("pause", _pause, "let no worker claim, from its next renewal on; what runs is finished")
    command("resume", _resume, "let workers claim again")
    command(
        "adopt", _adopt, "find what a hand, or a partial copy, left under no consumer's name, so that it is recovered"
    )

    sub = command("up", _up, "run everything: server, producer, monitor, a worker")
    sub.add_argument("--app", default=None, metavar="MODULE", help="registers the handlers (default: a demonstration)")
    _add_server_option(sub)
    sub.add_argument("--producer-port", type=int, default=PRODUCER_PORT)
    sub.add_argument("--monitor-port", type=int, default=MONITOR_PORT)
    sub.add_argument("--data", metavar="DIR", help="keep the embedded server's data here (default: gone at the end)")

    sub = command("dead-letter", _dead_letter, "list, requeue or purge tasks that were given up")
    sub.add_argument("action", choices=["list", "requeue", "purge"])
    sub.add_argument("ids", nargs="*", metavar="ID", help="of a letter, as `list` shows it, or of a task")
    sub.add_argument("--all", action="store_true", help="every task in the list")
    sub.add_argument("--before", metavar="ID", help="list those older than this letter (default: the newest)")
    sub.add_argument("--limit", type=int, default=100, metavar="N", help="list at most N (default: 100)")

    text = "copy this unit, its licence and a record of both into another tree, or bring an unchanged copy up to date"
    sub = commands.add_parser("vendor", description=text, help=text)
    sub.add_argument("destination", type=Path, metavar="DEST", help="a folder of source code; it gets DEST/NAME")
    sub.add_argument("--package", default="reference", metavar="NAME", help="may be dotted (default: reference)")
    sub.add_argument(
        "--with",
        dest="parts",
        metavar="PARTS",
        help="failover, http, monitor, shards, stats, telemetry, or none (default: those it has, first all)",
    )
    sub.add_argument("--check", action="store_true", help="only say whether the copy was changed or is old; then 1")
    sub.add_argument("--diff", action="store_true", help="only show what was changed in the copy")
    sub.set_defaults(run=_vendor, redis=None, namespace=None, shards=None, log_format="plain")
    return parser


# An option of a worker: the member of Config that it sets, in which unit, how it is shown, and what it does.
_WORKER_OPTIONS = {
    "--threads": ("threads", 1, "N", "handlers at a time in one process (default: 5)"),
    "--grace": ("grace_ms", 1_000, "SECONDS", "what a stop allows running handlers (25)"),
    "--time-limit": ("task_timeout_ms", 1_000, "SECONDS", "a handler beyond it is hung (300)"),
    "--ahead": ("ahead", 1, "N", "most tasks claimed ahead of the threads (256)"),
    "--max-tasks": ("max_tasks", 1, "N", "replace a process that has run N tasks (default: never)"),
    "--max-memory": ("max_memory_bytes", 1_048_576, "MIB", "replace a process that holds more (default: never)"),
}


def _add_server_option(parser: argparse.ArgumentParser) -> None:
    text = "asgi: uvicorn, which takes several times as many"
    parser.add_argument("--server", choices=["waitress", "asgi"], default="waitress", help=f"of the producer; {text}")


def _add_worker_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--app", required=True, metavar="MODULE", help="the module that registers the handlers")

    def number(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError
        return value

    for option, (setting, unit, metavar, text) in _WORKER_OPTIONS.items():
        parser.add_argument(option, dest=setting, type=number if unit > 1 else int, metavar=metavar, help=text)


def _with_worker_options(config: Config, options: argparse.Namespace) -> Config:
    given = {setting: (getattr(options, setting), unit) for setting, unit, _, _ in _WORKER_OPTIONS.values()}
    return replace(config, **{name: round(value * unit) for name, (value, unit) in given.items() if value is not None})


def _producer(config: Config, options: argparse.Namespace) -> int:
    from .http.producer import serve

    serve(config, options.host, options.port, server=options.server, processes=options.processes)
    return 0


def _monitor(config: Config, options: argparse.Namespace) -> int:
    from .monitor.app import serve

    serve(config, options.host, options.port)
    return 0


def _worker(config: Config, options: argparse.Namespace) -> int:
    config = _with_worker_options(config, options)
    if options.processes < 1:
        raise QueueError(f"--processes must be at least 1, not {options.processes}.")
    balance = None
    if config.shards == 1:
        refuse_at_start(config)
    else:
        from .shards import members
        from .shards.balance import Balance

        members.refuse_at_start(config)
        balance = Balance(config)
    arguments = ["--app", options.app, "--namespace", config.namespace, "--shards", "1"]
    arguments += ["--log-format", options.log_format]
    for option, (setting, unit, _, _) in _WORKER_OPTIONS.items():
        value = getattr(config, setting)
        arguments += [option, str(value / unit if unit > 1 else value)]
    if options.health_port is None:
        return Supervisor(config, worker_command(arguments), options.processes, balance=balance).run()
    from .worker.health import serve_health

    with _metrics_directory() as directory:
        metrics, environment = None, {}
        if directory:
            from .telemetry.metrics import DIRECTORY, exposition

            metrics, environment = partial(exposition, directory), {DIRECTORY: directory}
            arguments.append("--metrics")
        supervisor = Supervisor(config, worker_command(arguments), options.processes, environment, balance)
        port = serve_health(options.health_host, options.health_port, supervisor.complaints, metrics)
        logger.info("Health at http://%s:%d/health.", options.health_host, port)
        return supervisor.run()


@contextmanager
def _metrics_directory() -> Iterator[str | None]:
    """Where the processes of a pool count; None where prometheus_client, or the part that uses it, is not installed."""
    try:
        from .telemetry.metrics import DIRECTORY
    except ModuleNotFoundError:
        yield None
        return
    if given := os.environ.get(DIRECTORY):  # the application's own metrics are shown, too
        yield given
        return
    try:
        made = tempfile.TemporaryDirectory(prefix="zeroloss-metrics-")
    except OSError as error:
        logger.warning("There is no /metrics, as no temporary folder can be made: %s.", error)
        yield None
        return
    with made as directory:
        yield directory


def _health(_config: Config, options: argparse.Namespace) -> int:
    from .worker.health import ask_health

    complaints = ask_health(options.host, options.port)
    for sentence in complaints:
        print(f"{__package__}: {sentence}", file=sys.stderr)
    return 1 if complaints else 0


def _shards(config: Config, options: argparse.Namespace) -> int:
    if config.shards == 1:
        raise QueueError("One queue has no shards: name their number with --shards or ZEROLOSS_SHARDS.")
    from .shards.change import Change

    change = Change(config)
    print((change.state() if options.count is None else change.to(options.count)).text())
    return 0


def _pause(config: Config, _options: argparse.Namespace) -> int:
    from .queue.client import open_queue

    open_queue(config).pause()
    print(f"paused: within {config.renew_ms / 1000:g} s no worker of {config.namespace} claims, until resumed")
    return 0


def _resume(config: Config, _options: argparse.Namespace) -> int:
    from .queue.client import open_queue

    was_paused = open_queue(config).resume()
    print("resumed" if was_paused else f"{config.namespace} was not paused")
    return 0


def _worker_process(config: Config, options: argparse.Namespace) -> int:
    from .worker.handlers import load_handlers
    from .worker.process import run_worker

    def tell_parent(text: bytes) -> None:
        with suppress(BrokenPipeError):  # the parent may be gone
            os.write(options.begun, text)

    os.set_inheritable(options.begun, False)
    if options.metrics:
        from .telemetry.metrics import count_in_place

        count_in_place(options.place)  # before the application makes metrics of its own
    config = _with_worker_options(config, options)
    handlers = load_handlers(options.app, config)
    tell_parent(b"\n")  # from here on status 2 is not a usage error
    if options.pool:
        server, names = shown_url(config.redis_url), printable(", ".join(sorted(handlers)), NAMES_CHARS_MAX)
        what = f"Serving: {__package__} {__version__}, {server}, namespace {config.namespace}, handlers {names}"
        logger.info("%s, %d processes x %d threads.", what, options.pool, config.threads)
    observer = None
    if options.metrics:
        from .telemetry.metrics import TaskMetrics

        observer = TaskMetrics(handlers)
    run_worker(config, options.consumer, handlers, options.parent, tell_parent, observer)
    return 0


def _up(config: Config, options: argparse.Namespace) -> int:
    from .up import run_up

    return run_up(config, options)


def _dead_letter(config: Config, options: argparse.Namespace) -> int:
    from .queue.client import open_queue

    letters: DeadLetters = open_queue(config).dead_letters
    if options.action == "list":
        if options.limit < 1:
            raise QueueError(f"--limit must be at least 1, not {options.limit}.")
        for letter in letters.page(options.limit, options.before):
            shown: dict[str, Any] = {"id": letter.id, "dead_at": letter.dead_at, "reason": letter.reason}
            shown |= {"error": letter.error, "traceback": letter.traceback, "consumer": letter.consumer}
            if letter.task is not None:
                task = letter.task
                shown |= {"task_id": task.id, "type": task.type, "priority": task.priority}
                shown |= {"attempts": task.attempt - 1, "enqueued_at": task.enqueued_at}
            print(json.dumps(shown))
        return 0
    if options.all == bool(options.ids):
        raise QueueError(f"dead-letter {options.action} wants either ids or --all.")
    requeue = options.action == "requeue"
    if options.all:
        print(f"{options.action}: {letters.requeue_all() if requeue else letters.purge_all()}")
        return 0
    act = letters.requeue if requeue else letters.purge
    counts = {name: act(*_letters_of(letters, name)) for name in options.ids}
    for name in [name for name, count in counts.items() if not count]:
        print(f"{__package__}: there is no dead letter, and no dead task, {name!r}.", file=sys.stderr)
    print(f"{options.action}: {sum(counts.values())}")
    return 0 if all(counts.values()) else 1


def _letters_of(letters: DeadLetters, name: str) -> list[str]:
    """The ids of the letters that a name stands for."""
    return [name] if LETTER_ID.fullmatch(name.rpartition("/")[2]) else [letter.id for letter in letters.find(name)]


def _adopt(config: Config, _options: argparse.Namespace) -> int:
    configs = [config]
    if config.shards > 1:
        from .shards.members import Shards

        shards = Shards(config)
        shards.look()
        configs = shards.configs()
    count = sum(Reaper(connect(each), each).adopt() for each in configs)
    print(f"adopted: {count}" + (f"; a worker recovers them after {config.lease_ms / 1000:g} s" if count else ""))
    return 0


def _vendor(config: Config, options: argparse.Namespace) -> int:
    from .vendoring import check, diff, read_parts, vendor

    if options.diff:
        sys.stdout.writelines(diff(options.destination, options.package))
        return 0
    if not options.check:
        parts = None if options.parts is None else read_parts(options.parts)
        print(f"vendored to {vendor(options.destination, options.package, parts)}")
        return 0
    wrong = check(options.destination, options.package)
    for sentence in wrong:
        print(f"{__package__}: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def _installed() -> Any:
    """The installed module of this very file: in a checkout this may be its second copy, with a registry of its own."""
    with suppress(ModuleNotFoundError):
        found = importlib.import_module("zeroloss.reference.__main__")
        if Path(str(found.__file__)).samefile(__file__):
            return found
    return None


if __name__ == "__main__":
    installed = _installed() if __package__ == "reference" else None
    exit_status = installed.main() if installed else main()
    for number in STOP_SIGNALS:  # the status is settled: a signal while Python ends would make it another one
        signal.signal(number, signal.SIG_IGN)
    sys.exit(exit_status)
