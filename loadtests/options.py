"""The options of a load: on the command line, in a profile, in the environment and in Locust's web page.

A threshold that is left empty is not checked.
"""

import re
from argparse import Namespace
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser

_destinations: dict[str, str] = {}


class Options:
    """Parsed options by their names on the command line: `slo_p95_ms` is `--slo-p95-ms`."""

    def __init__(self, parsed: Namespace) -> None:
        self._parsed = parsed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parsed, _destinations.get(name, name))


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add this project's options to Locust's parser; Locust calls this."""

    def option(name: str, default: object, title: str, text: str, **more: object) -> None:
        # Locust's page labels an option by its `dest`, with a space between two digits unless U+2060 joins them, and
        # returns the value under another name unless `dest` begins with no small letter: slo_p95_ms as slo_p9_5ms.
        plain = name.replace("-", "_")
        _destinations[plain] = re.sub(r"(?<=\d)(?=\d)", "\u2060", title)
        if "action" not in more:
            more["metavar"] = plain.upper()
        parser.add_argument(
            f"--{name}",
            dest=_destinations[plain],
            default=default,
            env_var=f"LOAD_{plain.upper()}",
            help=text,
            **more,
        )

    def hidden(name: str, text: str) -> None:
        parser.add_argument(f"--{name}", default="", env_var=f"LOAD_{name.upper()}", help=text, include_in_web_ui=False)

    option("user-rate", 0.0, "Requests per second of each user", "0: as many as it can", type=float)
    option("task-type", "chaos", "Type of the tasks", "the name of a handler that writes the ledger", type=str)
    option("work-ms", 5, "Work of each task, ms", "how long its handler takes", type=int)
    option("payload-bytes", 200, "Filler of each task, bytes", "added to its payload", type=int)
    option("delay-ms", 500, "Delay of scheduled tasks, ms", "at most; each has one of its own", type=int)
    option("batch-size", 20, "Tasks in a batch", "sent in one request", type=int)
    option(
        "ledger",
        "",
        "Ledger, folder",
        "where the workers write it, their ZEROLOSS_LEDGER: accepted tasks are followed; none: judge by --metrics",
        type=str,
    )
    option(
        "metrics",
        "",
        "Metrics of the monitor, URL",
        "for --ledger none; empty: /metrics at port 8082 of the host",
        type=str,
    )
    option(
        "patience-s",
        30.0,
        "Patience after the load, s",
        "how long nothing may be executed before the rest is given up",
        type=float,
    )
    option("slo-failure-ratio", None, "Failed requests, share", "of all, at most", type=float)
    option("slo-p95-ms", None, "P95 of requests, ms", "at most", type=float)
    option("slo-p99-ms", None, "P99 of requests, ms", "at most", type=float)
    option("slo-min-rate", None, "Requests per second", "over the whole load, at least", type=float)
    option(
        "slo-effect-p95-ms",
        None,
        "P95 of enqueue to effect, ms",
        "to the end of the task's handler, at most",
        type=float,
    )
    option("slo-high-effect-p95-ms", None, "P95 of enqueue to effect, high priority, ms", "at most", type=float)
    option("slo-lost", None, "Tasks accepted and never executed", "at most; 0 unless nothing is followed", type=float)
    option("slo-redelivered", None, "Tasks redelivered", "at most, for --ledger none", type=float)
    option("slo-drain-s", None, "Drain after the load, s", "until the last task is executed, at most", type=float)
    option(
        "slo-min-refused", None, "Requests refused with 429", "at least, for a load that fills the queue", type=float
    )
    option(
        "expect-429",
        False,
        "A request refused with 429 is not a failure",
        "the queue is meant to be full",
        action="store_true",
    )
    hidden("junit", "Write the thresholds as a JUnit report to this file")
    hidden("record", "For `zeroloss run --load`: the run's events")
    hidden("system", "For `python -m loadtests`: settings of the system it starts, as NAME=VALUE ...")
