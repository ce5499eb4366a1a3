"""Mutants that misinterpret the end of a handler."""

from dataclasses import replace
from typing import Any

from zeroloss.reference.queue.config import Config
from zeroloss.reference.worker import handlers, process
from zeroloss.reference.worker.delivery import Delivery
from zeroloss.reference.worker.handlers import Handler
from zeroloss.reference.worker.process import HandlerThread, Worker

from .mutant import mutant
from .patching import patch
from .profiles import DEFAULT, HANDLERS, HANGING, HUNG_BESIDE, REQUEUED, VARIED_FAILING


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
    """A handler that raises a `BaseException` ends its thread, and with it the worker."""

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


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def work_that_is_handed_back_is_done() -> None:
    """A handler that returns a generator or an awaitable counts as done, though nothing was run."""
    patch(handlers, "refuse_lazy", lambda _result: None)


@mutant(expects="MAX_ATTEMPTS", breaks="I5", profile=HANDLERS)
def rejection_is_a_failure() -> None:
    """A task that its handler rejects is retried like a failed one."""

    class Nothing(Exception):
        pass

    patch(process, "Reject", Nothing)


@mutant(expects="MAX_ATTEMPTS", breaks="I5", profile=HANDLERS)
def rejection_without_a_reason_is_a_failure() -> None:
    """A task that its handler rejects without a reason is retried like a failed one."""

    def outcome(self: Any, delivery: Delivery) -> Any:
        error = original(self, delivery)
        if error == "Reject":
            delivery.config = None
        return error

    original = patch(HandlerThread, "_outcome", outcome)


@mutant(expects="MAX_ATTEMPTS", breaks="I5", profile=REQUEUED)
def limits_of_the_worker_for_all() -> None:
    """The retries and the backoff that are set for a task type are ignored."""

    def under(self: Handler, config: Config) -> Any:
        return original(replace(self, settings={}), config)

    original = patch(Handler, "under", under)


@mutant(expects="BACKOFF", breaks="I5", profile=VARIED_FAILING)
def backoff_needs_a_limit_of_retries() -> None:
    """The backoff that is set for a task type is ignored if the type has no limit of retries of its own."""

    def under(self: Handler, config: Config) -> Any:
        settings = self.settings if "max_retries" in self.settings else {}
        return original(replace(self, settings=settings), config)

    original = patch(Handler, "under", under)


@mutant(expects="MAX_ATTEMPTS", breaks="I5", profile=HANDLERS)
def no_retries_is_no_setting() -> None:
    """A task type that is set to zero retries gets the retries of the worker."""

    def under(self: Handler, config: Config) -> Any:
        return original(replace(self, settings={name: value for name, value in self.settings.items() if value}), config)

    original = patch(Handler, "under", under)


@mutant(expects="TIME_LIMIT", breaks="I4", profile=HANGING)
def time_limit_of_the_worker_for_all() -> None:
    """The time limit that is set for a task type is ignored if its handler is a function."""
    patch(Worker, "_limit_ms", lambda self, _delivery: self._config.task_timeout_ms)


@mutant(expects="GRACE", breaks="I4", profile=HUNG_BESIDE)
def hung_process_ends_at_once() -> None:
    """A process with a task that passed its time limit ends without letting its other tasks finish."""

    def fail_hung(self: Any) -> Any:
        self.hung = fail_hung_first(self)
        return self.hung

    def finish(self: Any) -> Any:
        return False if self.hung else finish_first(self)

    fail_hung_first = patch(Worker, "_fail_hung", fail_hung)
    finish_first = patch(Worker, "_finish", finish)
