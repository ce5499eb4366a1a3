"""Mutants that wait too long, or not long enough."""

import time
from typing import Any

from zeroloss.reference.queue import consumer
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.consumer import Consumer, backoff_ms
from zeroloss.reference.worker.claimer import Claimer

from .mutant import UNEXPLAINED, mutant
from .patching import configure, patch
from .profiles import BACKLOG, DEFAULT, HANDLERS


@mutant(expects=UNEXPLAINED, breaks="I4", profile=BACKLOG)
def unrenewed_while_busy() -> None:
    """A lease is not renewed while all threads of its worker are busy."""

    def renew(self: Any) -> None:
        busy = sum(delivery.started is not None and delivery.seconds is None for delivery in self._hand.owned())
        if busy < self._config.threads:
            original(self)
        else:
            self._renew_at = time.monotonic() + self._config.renew_ms / 1000

    original = patch(Claimer, "_renew", renew)


@mutant(expects="BACKOFF", breaks="I5", profile=HANDLERS)
def retries_at_once() -> None:
    """A failed task is retried without any pause."""
    configure(Consumer, backoff_ms=1, backoff_max_ms=1)


@mutant(expects=("BACKOFF", "STUCK"), breaks="I5", profile=HANDLERS)
def retries_a_thousand_times_too_late() -> None:
    """A failed task is retried after a thousand times the backoff."""
    configure(Consumer, backoff_ms=1_000_000, backoff_max_ms=60_000_000)


@mutant(expects="BACKOFF", breaks="I5", profile=HANDLERS)
def backoff_in_whole_seconds() -> None:
    """The wait before a retry is cut to whole seconds, so that the first ones do not wait."""
    patch(consumer, "backoff_ms", lambda config, failures: backoff_ms(config, failures) // 1000 * 1000)


@mutant(expects="BACKOFF", breaks="I5", profile=HANDLERS)
def asked_wait_is_bounded() -> None:
    """The retry delay that a handler requests is capped at the longest backoff."""

    def fail(self: Any, *told: Any) -> Any:
        *others, after_ms = told
        return original(self, *others, after_ms and min(after_ms, self._config.backoff_max_ms))

    original = patch(Consumer, "fail", fail)


@mutant(
    breaks="I5",
    profile=DEFAULT,
    blind_spot="A retry may come as late as that: by `recover_within` and a second more than the stated wait.",
)
def backoff_one_step_ahead() -> None:
    """The wait before a retry is one backoff step ahead, twice as long."""
    patch(consumer, "backoff_ms", lambda config, failures: backoff_ms(config, failures + 1))


@mutant(
    breaks="I4", profile=DEFAULT, blind_spot="A dead worker is noticed by its connections, and a paused one goes on."
)
def lease_setting_ignored() -> None:
    """The lease setting is ignored: a lease always has the default length."""
    configure(Consumer, lease_ms=Config().lease_ms)
