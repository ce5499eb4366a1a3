"""Mutants that take the end of a handler for something else."""

from typing import Any

from zeroloss.reference.worker.delivery import Delivery
from zeroloss.reference.worker.process import HandlerThread

from .mutant import mutant
from .patching import patch
from .profiles import DEFAULT, HANDLERS


def _raised(delivery: Delivery, *names: str) -> bool:
    return (delivery.error or "").startswith(names)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def exit_is_success() -> None:
    """A handler that calls `sys.exit()` counts as done."""

    def outcome(self: Any, delivery: Delivery) -> Any:
        delivery.error = original(self, delivery)
        return None if _raised(delivery, "SystemExit") else delivery.error

    original = patch(HandlerThread, "_outcome", outcome)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def an_error_without_a_text_is_success() -> None:
    """A handler that raises an error without a text, as `assert` does, counts as done."""

    def outcome(self: Any, delivery: Delivery) -> Any:
        delivery.error = original(self, delivery)
        return delivery.error if ": " in (delivery.error or "") else None

    original = patch(HandlerThread, "_outcome", outcome)


@mutant(expects="WORKERS_STAY", breaks="I4", profile=DEFAULT)
def thread_ends_by_an_exit() -> None:
    """A handler that raises what is no `Exception` ends its thread, and with it the worker."""

    def outcome(self: Any, delivery: Delivery) -> Any:
        delivery.error = original(self, delivery)
        if _raised(delivery, "SystemExit", "KeyboardInterrupt"):
            raise SystemExit
        return delivery.error

    original = patch(HandlerThread, "_outcome", outcome)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def memory_error_is_success() -> None:
    """A handler that raises MemoryError is logged, and counts as done."""

    def outcome(self: Any, delivery: Delivery) -> Any:
        delivery.error = original(self, delivery)
        return None if _raised(delivery, "MemoryError") else delivery.error

    original = patch(HandlerThread, "_outcome", outcome)
