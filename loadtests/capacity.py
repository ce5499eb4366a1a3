"""The highest steady rate at which the thresholds hold: `python -m zeroloss.loadtests.capacity --slo-p95-ms 100`.

Short loads of single tasks, each at one rate: twice as much until a threshold breaks, then ever closer between what
held and what broke. Without `--host` it starts a system of its own. It leaves a table, `capacity.csv`, and a plot.
"""

import argparse
import csv
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from .judging.follow import refusal_of
from .judging.gates import EXIT_BROKEN
from .plot import plot
from .system import EXIT_INTERRUPTED, System, SystemFailed, heed_signals, run_locust, running_system

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
PER_USER = 5.0
"""Limit on a user's requests per second: a user waits for its answers, and slow answers must not lower the rate."""
REACHED_SHARE = 0.9
"""Share of its rate that a step must reach: else it shows nothing about this rate."""
TRIES = 2
"""Number of tries for a step that breaks a threshold: one hiccup of a shared machine is not a limit of the queue."""
EXIT_USAGE = 2


class LoadFailed(Exception):
    """Locust failed during a step; the text ends with the last lines of its output."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One load at one rate, and its measurements."""

    asked: float
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    effect_p95_ms: float
    held: bool
    broken: str
    """The sentences of the broken thresholds."""


def search(holds: Callable[[float], bool], start: float, limit: float, precision: float) -> float | None:
    """Return the highest rate that holds, to within `precision` (0.1: a tenth of it) or 1; None if `start` fails.

    The result is at most `limit`.
    """
    best, broken, rate = None, None, start
    while broken is None:
        if holds(rate):
            best = rate
            if rate >= limit:
                return best
            rate = min(rate * 2, limit)
        else:
            broken = rate
    while best is not None and broken > best * (1 + precision):
        middle = round((best + broken) / 2)
        if not best < middle < broken:
            break  # rates are whole numbers, and there is no other one between
        if holds(middle):
            best = middle
        else:
            broken = middle
    return best


def main() -> int:
    """Return 0; 1 if the first rate does not hold; 2 if nothing could be measured; 130 after a signal."""
    options = _parser().parse_args()
    heed_signals()
    steps: list[Step] = []
    try:
        with _system(options) as system:
            options.out.mkdir(parents=True, exist_ok=True)

            def holds(rate: float) -> bool:
                for _ in range(TRIES):
                    steps.append(_step(options, system, rate))
                    print(_line(steps[-1]), flush=True)
                    if steps[-1].held:
                        return True
                return False

            best = search(holds, options.start, options.limit, options.precision)
    except (LoadFailed, SystemFailed) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    _write(options.out / "capacity.csv", steps)
    (options.out / "capacity.svg").write_text(plot(steps, best, options.slo_p95_ms))
    if best is None:
        print(f"Not even {options.start:,.0f} requests/s hold.")
        return 1
    print(f"Capacity: {best:,.0f} requests/s hold; {options.out / 'capacity.svg'} shows latency against rate.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m zeroloss.loadtests.capacity", description=__doc__)
    parser.add_argument("--host", help="a running producer (default: a system of its own)")
    parser.add_argument("--ledger", type=Path, help="with --host: where its workers write their ledger")
    parser.add_argument("--start", type=_above_0, default=50.0, metavar="RATE", help="the first rate (50)")
    parser.add_argument("--limit", type=float, default=20_000.0, metavar="RATE", help="the highest to try (20,000)")
    parser.add_argument("--precision", type=_above_0, default=0.1, help="how close is close enough (0.1)")
    parser.add_argument("--step-s", type=_seconds, default=10, metavar="SECONDS", help="how long each load lasts (10)")
    parser.add_argument("--work-ms", type=int, default=1, help="how long each task's handler takes (1)")
    parser.add_argument("--processes", type=int, default=1, help="of Locust; one sends about a thousand a second (1)")
    parser.add_argument("--slo-p95-ms", type=float, default=100.0, help="of the requests, at most (100)")
    parser.add_argument("--slo-effect-p95-ms", type=float, default=1000.0, help="of enqueue -> effect, at most (1000)")
    parser.add_argument("--slo-failure-ratio", type=float, default=0.001, help="at most (0.001)")
    parser.add_argument(
        "--out", type=Path, default=Path("zeroloss-runs/load/capacity"), help="for the table and the plot"
    )
    return parser


def _above_0(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _seconds(text: str) -> int:
    value = int(text)
    if value < 1:  # Locust takes 0 for no limit
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


@contextmanager
def _system(options: argparse.Namespace) -> Iterator[System]:
    if options.host:
        if not options.ledger:
            raise SystemFailed("With --host say --ledger, too: where do its workers write it?")
        if refusal := refusal_of(options.ledger):
            raise SystemFailed(refusal)
        yield System(options.host, options.ledger)
        return
    with running_system({}) as system:
        yield system


def _step(options: argparse.Namespace, system: System, rate: float) -> Step:
    users = math.ceil(rate / PER_USER)
    prefix = options.out / "step"
    given = {
        "locustfile": LOCUSTFILE,
        "host": system.url,
        "ledger": system.ledger,
        "users": users,
        "spawn-rate": users,
        "user-rate": rate / users,
        "run-time": f"{options.step_s}s",
        "stop-timeout": "10s",
        "work-ms": options.work_ms,
        "slo-min-rate": rate * REACHED_SHARE,
        "slo-p95-ms": options.slo_p95_ms,
        "slo-effect-p95-ms": options.slo_effect_p95_ms,
        "slo-failure-ratio": options.slo_failure_ratio,
        "slo-drain-s": options.step_s,
        "csv": prefix,
    }
    if options.processes > 1:
        given["processes"] = options.processes
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "locust", *words, "--headless", "--only-summary", "SingleTasks"]
    ended = run_locust(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if ended.returncode not in (0, EXIT_BROKEN):
        raise LoadFailed(f"Locust ended with status {ended.returncode}: {ended.stderr[-2000:]}")
    said = [line.partition(": ")[2] for line in ended.stderr.splitlines() if line.startswith("SLO broken")]
    rows = _rows(Path(f"{prefix}_stats.csv"))
    requests, effects = rows.get("POST", {}), rows.get("enqueue -> effect", {})
    return Step(
        asked=rate,
        rate=float(requests.get("Requests/s", 0)),
        p50_ms=float(requests.get("50%", 0)),
        p95_ms=float(requests.get("95%", 0)),
        p99_ms=float(requests.get("99%", 0)),
        effect_p95_ms=float(effects.get("95%", 0)),
        held=ended.returncode == 0,
        broken=" ".join(said),
    )


def _rows(path: Path) -> dict[str, dict[str, str]]:
    """Return the row of each request type: a step has one kind of request."""
    with path.open(newline="") as file:
        return {row["Type"]: row for row in csv.DictReader(file)}


def _line(step: Step) -> str:
    measured = f"{step.rate:7,.0f}/s, p50 {step.p50_ms:,.0f} ms, p95 {step.p95_ms:,.0f} ms, p99 {step.p99_ms:,.0f} ms"
    return f"{step.asked:7,.0f}/s asked: {measured}, effect p95 {step.effect_p95_ms:,.0f} ms: " + (
        "holds" if step.held else f"broken. {step.broken}"
    )


def _write(path: Path, steps: list[Step]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Step)])
        writer.writeheader()
        writer.writerows(asdict(step) for step in steps)


if __name__ == "__main__":
    sys.exit(main())
