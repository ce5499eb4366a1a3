"""The command line of the queue: `zeroloss queue producer|monitor|worker|up|dead-letter|vendor`.

`python -m zeroloss.reference` is the same, as is `python -m yourapp.queue` in a copy and `python -m reference` in a
checkout.
"""

import sys

from .signals import STOP_SIGNALS, handle_at_start

if __name__ == "__main__":  # before the other imports, which take several times as long as the start until here
    handle_at_start(sys.argv[1] if len(sys.argv) > 1 else "")

import argparse
import importlib
import json
import logging
import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import redis

from . import __version__
from .logs import configure
from .options import parser, with_worker_options, worker_arguments
from .queue.config import Config, load_config, unknown_variables
from .queue.connection import connect
from .queue.dead_letters import LETTER_ID, DeadLetters
from .queue.errors import QueueError
from .queue.protocol import refuse_at_start
from .queue.reaper import Reaper
from .queue.servers.urls import shown_url
from .queue.texts import printable
from .worker.supervisor import Supervisor, worker_command

SERVING = ("falcon", "waitress", "prometheus_client")  # packages that only the HTTP parts need
NAMES_CHARS_MAX = 1_000  # of the handlers' names together, in the line that a pool logs at its start

logger = logging.getLogger(__package__)


def main(argv: Sequence[str] | None = None, prog: str = f"python -m {__package__}") -> int:
    """Run a command and return its exit status: 2, with one sentence on standard error, if the request is invalid.

    `prog`: the name of the command in usage messages.
    """
    options = _parser(prog).parse_args(argv)
    configure(options.log_format, getattr(options, "consumer", ""))
    try:
        named = {name: getattr(options, name, None) for name in ("access", "producer_hosts", "monitor_hosts")}
        config = load_config(redis_url=options.redis, namespace=options.namespace, shards=options.shards, **named)
        if options.run is not _worker_process:  # its parent has logged them
            for sentence in unknown_variables():
                logger.warning(sentence)
        status: int = options.run(config, options)
    except QueueError as error:
        print(f"{__package__}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name in SERVING:
            print(f"{__package__}: {error.name} is not installed: pip install {' '.join(SERVING)}.", file=sys.stderr)
            return 2
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
    commands = {
        "producer": _producer,
        "monitor": _monitor,
        "worker": _worker,
        "worker-process": _worker_process,
        "health": _health,
        "shards": _shards,
        "pause": _pause,
        "resume": _resume,
        "adopt": _adopt,
        "up": _up,
        "dead-letter": _dead_letter,
        "vendor": _vendor,
    }
    return parser(prog, commands)


def _producer(config: Config, options: argparse.Namespace) -> int:
    from .http.producer import serve

    how = {"server": options.server, "processes": options.processes, "log_format": options.log_format}
    serve(config, options.host, options.port, **how)
    return 0


def _monitor(config: Config, options: argparse.Namespace) -> int:
    from .monitor.app import serve

    serve(config, options.host, options.port)
    return 0


def _worker(config: Config, options: argparse.Namespace) -> int:
    config = with_worker_options(config, options)
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
    arguments = worker_arguments(config, options)
    if options.health_port is None:
        return Supervisor(config, worker_command(arguments), options.processes, balance=balance).run()
    from .worker.health import serve_health

    with ExitStack() as stack:
        metrics, environment = None, {}
        with suppress(ModuleNotFoundError):  # prometheus_client, or the part that uses it, may be missing
            from .telemetry.metrics import DIRECTORY, exposition, shared_directory

            if directory := stack.enter_context(shared_directory()):
                metrics, environment = partial(exposition, directory), {DIRECTORY: directory}
                arguments.append("--metrics")
        supervisor = Supervisor(config, worker_command(arguments), options.processes, environment, balance)
        port = serve_health(options.health_host, options.health_port, supervisor.complaints, metrics)
        logger.info("Health at http://%s:%d/health.", options.health_host, port)
        return supervisor.run()


def _health(_config: Config, options: argparse.Namespace) -> int:
    from .worker.health import ask_health

    complaints = ask_health(options.host, options.port)
    for sentence in complaints:
        print(f"{__package__}: {sentence}", file=sys.stderr)
    return 1 if complaints else 0


def _shards(config: Config, options: argparse.Namespace) -> int:
    if config.shards == 1:
        raise QueueError("This queue has one shard only: give the number of shards with --shards or ZEROLOSS_SHARDS.")
    from .shards.change import Change

    change = Change(config)
    print((change.state() if options.count is None else change.to(options.count)).text())
    return 0


def _pause(config: Config, _options: argparse.Namespace) -> int:
    from .queue.client import open_queue

    open_queue(config).pause()
    within = f"within {config.renew_ms / 1000:g} s"
    print(f"paused: all workers of queue {config.namespace} stop claiming {within}, until resumed")
    return 0


def _resume(config: Config, _options: argparse.Namespace) -> int:
    from .queue.client import open_queue

    was_paused = open_queue(config).resume()
    print("resumed" if was_paused else f"{config.namespace} was not paused")
    return 0


def _worker_process(config: Config, options: argparse.Namespace) -> int:
    from .worker.handlers import load_handlers
    from .worker.process import Worker

    def tell_parent(text: bytes) -> None:
        with suppress(BrokenPipeError):  # the parent may be gone
            os.write(options.begun, text)

    os.set_inheritable(options.begun, False)
    if options.metrics:
        from .telemetry.metrics import count_in_place

        count_in_place(options.place)  # before the application makes metrics of its own
    config = with_worker_options(config, options)
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
    Worker(config, options.consumer, handlers, options.parent, tell_parent, observer).run()


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
        given = "takes either ids or --all, not both" if options.all else "needs either ids or --all"
        raise QueueError(f"dead-letter {options.action} {given}.")
    requeue = options.action == "requeue"
    if options.all:
        print(f"{options.action}: {letters.requeue_all() if requeue else letters.purge_all()}")
        return 0
    act = letters.requeue if requeue else letters.purge
    counts = {name: act(*ids) for name, ids in _letters_of(letters, options.ids).items()}
    for name in [name for name, count in counts.items() if not count]:
        print(
            f"{__package__}: no dead letter has the id {name!r}, and no task with this id is in the list.",
            file=sys.stderr,
        )
    print(f"{options.action}: {sum(counts.values())}")
    return 0 if all(counts.values()) else 1


def _letters_of(letters: DeadLetters, names: Iterable[str]) -> dict[str, list[str]]:
    """Return name -> ids of its letters. A name is the id of a letter, or of a task: all tasks are found at once."""
    ids = {name: [name] if LETTER_ID.fullmatch(name.rpartition("/")[2]) else [] for name in names}
    tasks = [name for name in ids if not ids[name]]
    for letter in letters.find(*tasks) if tasks else []:
        if letter.task is not None:
            ids[letter.task.id].append(letter.id)
    return ids


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
    """Return the installed module of this very file: in a checkout this may be a second copy with its own registry."""
    with suppress(ModuleNotFoundError):
        found = importlib.import_module("zeroloss.reference.__main__")
        if Path(str(found.__file__)).samefile(__file__):
            return found
    return None


if __name__ == "__main__":
    installed = _installed() if __package__ == "reference" else None
    exit_status = installed.main() if installed else main()
    for number in STOP_SIGNALS:  # a signal while Python ends would change the exit status
        signal.signal(number, signal.SIG_IGN)
    sys.exit(exit_status)
