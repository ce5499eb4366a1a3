"""What can be set: on the command line, in a profile, in the environment and in Locust's web page.

A threshold that is left empty is not checked.
"""

from locust import events
from locust.argument_parser import LocustArgumentParser


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Called by Locust."""

    def option(name: str, kind: type, default: object, text: str, **more: object) -> None:
        variable = f"LOAD_{name.upper().replace('-', '_')}"
        parser.add_argument(f"--{name}", type=kind, default=default, env_var=variable, help=text, **more)

    option("user-rate", float, 0.0, "Requests per second of each user; 0: as many as it can")
    option("task-type", str, "chaos", "The type of the tasks: the name of a handler that writes the ledger")
    option("work-ms", int, 5, "How long each task's handler takes")
    option("payload-bytes", int, 200, "How much filler each task carries")
    option("batch-size", int, 20, "Tasks in a batch")
    option(
        "ledger", str, "", "Where the workers write their ledger (their ZEROLOSS_LEDGER): accepted tasks are followed"
    )
    option("patience-s", float, 30.0, "After the load: so long may nothing be executed before the rest is given up")
    option("slo-failure-ratio", float, None, "Failed requests, at most this share of all")
    option("slo-p95-ms", float, None, "95th percentile of the requests, at most")
    option("slo-p99-ms", float, None, "99th percentile of the requests, at most")
    option("slo-min-rate", float, None, "Requests per second over the whole load, at least")
    option("slo-effect-p95-ms", float, None, "95th percentile from the request to the end of the task, at most")
    option("slo-lost", float, None, "Tasks accepted and never executed, at most (0, wherever there is a ledger)")
    option("slo-drain-s", float, None, "From the end of the load until the last accepted task is executed, at most")
    option(
        "slo-min-refused", float, None, "Requests refused with 429, at least: a load that is to fill the queue has to"
    )
    parser.add_argument(
        "--expect-429",
        action="store_true",
        default=False,
        env_var="LOAD_EXPECT_429",
        help="A request refused with 429 is no failure: the queue is meant to be full",
    )
    option("junit", str, "", "Write the thresholds as a JUnit report to this file", include_in_web_ui=False)
    option("record", str, "", "For `zeroloss run --load`: the run's events", include_in_web_ui=False)
    option("system", str, "", "For `python -m loadtests`: settings of the system it starts, as NAME=VALUE ...",
           include_in_web_ui=False)  # fmt: skip
