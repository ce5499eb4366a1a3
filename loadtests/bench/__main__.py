"""The command `python -m loadtests.bench`: runs the sections, and writes a table, plots and each round's values."""

import argparse
import importlib
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path

import redis

from ..system import EXIT_INTERRUPTED, SIGNALS, heed_signals
from . import table
from .context import Context
from .errors import BenchError
from .peers import OURS, PEERS
from .plot import dots
from .processes import ROOT, Processes
from .rows import Row
from .server import Server

SECTIONS = {
    "drain": "drain",
    "ahead-one": "ahead_one",
    "latency": "latency",
    "idle": "idle",
    "growth": "growth",
    "memory": "memory",
    "redelivery": "redelivery",
    "producer": "producer",
    "profile": "time_spent",
    "fleet": "scale.fleet",
    "cluster": "scale.cluster",
}
"""Section -> the module whose `measure(context)` returns its rows."""


def main() -> int:
    options = parser().parse_args()
    heed_signals()
    rounds = options.rounds or (1 if options.quick else 5)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Processes(folder := Path(name)) as processes:
        try:
            context = Context(
                rounds=rounds,
                tasks=options.tasks or (50_000 if options.quick else 250_000),
                quick=options.quick,
                server=Server(processes, folder),
                processes=processes,
                folder=folder,
                say=_say,
            )
            about = _about(context, options)
            for title, text in about.items():
                _say(f"{title}: {text}")
            for section in options.only or SECTIONS:
                results[section] = _section(section, context)
                written = _write(out, results, about)
        except KeyboardInterrupt:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # a second signal must not disturb the cleanup
            _say("Interrupted; ending all that was started.")
            return EXIT_INTERRUPTED
    _say(f"Written: {', '.join(written)} in {out}")
    return 0


def _section(section: str, context: Context) -> list[Row]:
    began = time.monotonic()
    _say(f"\n{section}: {context.rounds} round{'s' if context.rounds > 1 else ''}")
    measure = importlib.import_module(f".sections.{SECTIONS[section]}", __package__).measure
    try:
        rows: list[Row] = measure(context)
    except BenchError as error:
        _say(f"  {section} is left out: {error}")
        return []
    for row in rows:
        _say(table.line(row))
    _say(f"({section} took {time.monotonic() - began:.0f} s)")
    return rows


def _write(out: Path, results: dict[str, list[Row]], about: dict[str, str]) -> list[str]:
    """Write all results so far, and return the files' names. After each section: an interrupted run has results."""
    plots = {}
    if drained := [row for row in results.get("drain", []) if row.unit == "tasks/s"]:
        fastest_first = sorted(drained, key=lambda row: -row.median)
        plots["bench.svg"] = dots("A backlog of tasks that do nothing, one worker", fastest_first, OURS.name)
    figure = "p50 at 50 tasks/s: "
    if late := [row for row in results.get("latency", []) if row.label.startswith(figure) and row.unit == "ms"]:
        named = [Row(label=row.label.removeprefix(figure), unit=row.unit, values=row.values) for row in late]
        plots["bench-latency.svg"] = dots(
            "From sending to the start of the handler, median at 50 tasks/s", named, OURS.name
        )
    files = {
        "bench.md": table.markdown(results, about, list(plots)),
        "bench.json": table.as_json(results, about),
    } | plots
    for name, text in files.items():
        (out / name).write_text(text)
    return list(files)


def _about(context: Context, options: argparse.Namespace) -> dict[str, str]:
    """Return the conditions of the measurement."""
    words = ["--quick"] if options.quick else []
    words += ["--only", *options.only] if options.only else []
    words += [f"--{name} {value}" for name in ("rounds", "tasks") if (value := getattr(options, name))]
    requirements = {peer.requirements: peer.name for peer in reversed(PEERS)}
    peers = [f"{name} ({', '.join(pins)})" for pins, name in reversed(requirements.items())]
    return {
        "Command": " ".join(["python -m loadtests.bench", *words]),
        "Date": time.strftime("%Y-%m-%d"),
        "Machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "Server": f"{context.server.version}, nothing on disk, one for all",
        "Versions": f"Python {platform.python_version()}, redis-py {redis.__version__}",
        "Peers": "; ".join(peers),
        "Rounds": f"{context.rounds}, interleaved; a ratio is taken round by round, and its median is shown",
    }


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description="How fast the queue is, against others and against its server's own limit.",
        epilog="Peers are installed into environments of their own, in the user's cache, at the first run.",
    )
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=_positive, metavar="N", help="of which medians are taken (5; with --quick 1)")
    parser.add_argument("--tasks", type=_positive, metavar="N", help="our own backlog (250,000; with --quick 50,000)")
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it works, not to be quoted")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", metavar="DIR", help="(build/bench)")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
