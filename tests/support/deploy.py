"""The files in `ci/deploy/`, and what they have in common: commands of the queue, and how long a stop may take."""

from argparse import Namespace
from collections.abc import Sequence

from zeroloss.reference.__main__ import _parser
from zeroloss.reference.http.servers.common import DRAIN_S
from zeroloss.reference.worker.supervisor import LINGER_S

from support.places import ROOT

DEPLOY = ROOT / "ci" / "deploy"
UNHURRIED_S = 3.0  # to end what is left, and to recover it


def understood(words: Sequence[str]) -> Namespace:
    """What `zeroloss queue` makes of the words after these two; one that it does not know fails the test."""
    return _parser("zeroloss queue").parse_args(words)


def stop_takes_s(options: Namespace) -> float:
    """How long this command may take, from the signal on, before it ends by itself."""
    if options.run.__name__ == "_worker":
        assert options.grace_ms is not None, "the grace is stated, as another number goes by it"
        return float(options.grace_ms + LINGER_S + UNHURRIED_S)
    return DRAIN_S + UNHURRIED_S
