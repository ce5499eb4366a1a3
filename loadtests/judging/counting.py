"""Judgement without a ledger: the counts of the monitor's /metrics, from the begin of a load until it is done."""

import os
import time
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families

from .gates import Counts

NONE = "none"
"""The value of --ledger that selects this judgement."""
UNSEEN = (
    "--ledger none: the judgement is by /metrics alone. Not seen: which tasks ran, whether one ran twice, early or "
    "with another payload, whether a task of another client stands for one that was lost, and how long "
    "enqueue -> effect took: a threshold on that is not judged."
)
TOKEN_VARIABLE = "ZEROLOSS_MONITOR_TOKEN"  # the variable that the monitor itself reads
MONITOR_PORT = 8082
TIMEOUT_S = 10.0
POLL_S = 0.5  # workers report completed tasks with each renewal, every 2.5 s

_COUNTERS = {
    "enqueued": "zeroloss_enqueued_total",
    "succeeded": "zeroloss_completed_total",
    "dead_lettered": "zeroloss_dead_lettered_total",
    "redelivered": "zeroloss_recovered_total",
}
_BACKLOG = ("pending", "processing", "delayed")


class NoMetrics(Exception):
    """The counts cannot be read; the text is one sentence."""


def metrics_url(metrics: str, host: str | None) -> str:
    """Return the configured URL of the metrics, or the usual URL of a monitor on the host."""
    return metrics or f"http://{urlsplit(host or '').hostname or '127.0.0.1'}:{MONITOR_PORT}/metrics"


def read_counts(url: str) -> Counts:
    """What the monitor counts now.

    Raises:
        NoMetrics: it does not answer, or not with all of these figures.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        request = Request(url, headers=headers)
        with urlopen(request, timeout=TIMEOUT_S) as answer:
            text = answer.read().decode()
        found = {
            (sample.name, sample.labels.get("state")): int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        counted = {name: found[metric, None] for name, metric in _COUNTERS.items()}
        return Counts(**counted, backlog=sum(found["zeroloss_tasks", state] for state in _BACKLOG))
    except KeyError as error:
        raise NoMetrics(f"--metrics {url} has no {error.args[0][0]}: name the /metrics of the monitor.") from None
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise NoMetrics(f"--metrics {url} cannot be read: {reason}. Name the /metrics of the monitor.") from None


class Counting:
    """The queue's counts of one load."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._before = read_counts(url)
        self.promised = 0
        self.counts: Counts | None = None
        """The differences since the begin of the load; None: they could not be read at its end."""
        self.drained_s: float | None = None
        """When the backlog was back at its size before the load, in seconds since the epoch."""
        self.error = ""

    def settle(self, patience_s: float) -> None:
        """Wait until all tasks are done, or until the counts have not changed for `patience_s`."""
        give_up_s = time.monotonic() + patience_s
        while time.monotonic() < give_up_s:
            try:
                counts = read_counts(self._url).since(self._before)
                self.error = ""
            except NoMetrics as error:
                self.error = str(error)
            else:
                if counts != self.counts:
                    give_up_s = time.monotonic() + patience_s
                self.counts = counts
                if counts.backlog <= 0 and self.drained_s is None:
                    self.drained_s = time.time()
                if counts.enqueued >= self.promised and counts.missing + max(0, counts.backlog) == 0:
                    return
            time.sleep(POLL_S)  # Locust patches `sleep`, which lets other greenlets run
