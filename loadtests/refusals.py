"""Refuses options by which a load could not be judged, before anything is sent."""

from locust.env import Environment

from .judging.counting import NONE, NoMetrics, metrics_url, read_counts
from .judging.follow import refusal_of
from .judging.gates import Slo
from .options import Options


def refusal(environment: Environment, options: Options) -> str | None:
    """Return a sentence that says why this load could not be judged; None if it can."""
    if options.delay_ms < 0:
        return f"--delay-ms must be at least 0, not {options.delay_ms}."
    if options.ledger == NONE:
        try:
            read_counts(metrics_url(options.metrics, environment.host))
        except NoMetrics as error:
            return str(error)
        return None
    if options.headless and Slo.read(options).needs_ledger and not options.ledger:
        return "A threshold on accepted tasks is set: say with --ledger where the workers write theirs, or none."
    return refusal_of(options.ledger) if options.ledger else None
