"""Helpers for tests of the files in `ci/deploy/`: parse the queue's commands, and compute how long a stop may take."""

from argparse import Namespace
from collections.abc import Sequence

from zeroloss.reference.__main__ import _parser
from zeroloss.reference.http.servers.common import DRAIN_S
from zeroloss.reference.worker.supervisor import LINGER_S

from support.places import ROOT

DEPLOY = ROOT / "ci" / "deploy"
UNHURRIED_S = 3.0  # to kill the remaining processes and recover their tasks


def understood(words: Sequence[str]) -> Namespace:
    """Parse the arguments that follow `zeroloss queue`; an unknown argument fails the test."""
    return _parser("zeroloss queue").parse_args(words)


def stop_takes_s(options: Namespace) -> float:
    """Return how long this command may take, in seconds, between the stop signal and its exit."""
    if options.run.__name__ == "_worker":
        assert options.grace_ms is not None, "the grace is stated, as another number goes by it"
        return float(options.grace_ms + LINGER_S + UNHURRIED_S)
    return DRAIN_S + UNHURRIED_S
