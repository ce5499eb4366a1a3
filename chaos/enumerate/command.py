"""Carry out `zeroloss enumerate`, from the start of the server to the table."""

import time
from pathlib import Path

import redis
from rich.console import Console

from ..history.masking import mask_files, masked
from ..system.environments import equipped
from ..system.interruption import interruptible
from ..system.servers import Server, open_server
from ..target import TargetError, load_target
from .enumeration import DATABASES, Enumeration, Request
from .table import Report, summary_of, table_of

SCENARIOS = {"reference": "zeroloss.targets.reference_scenario:ReferenceScenario"}
"""Shipped target -> the variant with shorter times that is enumerated in its place."""
SAY_EVERY_S = 10.0


def enumerate_target(
    target: str, *, points: str | None, jobs: int, pairs: bool, server: str, directory: Path, console: Console
) -> Report:
    """Enumerate, report the progress, and print the table.

    Raises:
        TargetError: the target cannot be enumerated, or `points` matches nothing.
        ServerUnavailable, CannotStart, AgentDied: as `zeroloss run` does.
    """
    spec = SCENARIOS.get(target, target)

    def say(line: str) -> None:
        console.print(masked(line), highlight=False, markup=False, soft_wrap=True)

    loaded = equipped(load_target(spec), say)

    said_at = time.monotonic()

    def tick(done: int, of: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at > SAY_EVERY_S:
            said_at = time.monotonic()
            say(f"{done} of {of} cases done")

    say(f"Run directory: {directory}")
    # Only workers are killed, never the server, so its persistence does not matter.
    with interruptible(), open_server(server, appendfsync=None, directory=directory / "server") as opened:
        say(f"Server: {opened.describe()}")
        _check_is_empty(opened)
        request = Request(
            spec=spec,
            target=loaded,
            server=opened,
            directory=directory,
            jobs=1 if opened.kind == "external" else min(jobs, DATABASES),
            pattern=points,
            pairs=pairs,
        )
        try:
            report = Enumeration(request, say, tick).run()
        finally:
            mask_files(directory)
    console.print(table_of(report))
    for line in summary_of(report):
        say(line)
    say(f"The page is {directory / 'report.html'}, the table {directory / 'enumeration.json'}.")
    say(f"The history of each case is below {directory / 'cases'}.")
    return report


def _check_is_empty(server: Server) -> None:
    """Raise TargetError if the database holds keys: it is flushed before each case."""
    with redis.Redis.from_url(server.url) as client:
        if client.dbsize():
            raise TargetError(
                f"The database at {server.describe()} is not empty: name one with --redis that may be flushed."
            )
