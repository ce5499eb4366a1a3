"""`zeroloss`: the harness's command line, with a file for each group of commands."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

from cyclopts import CycloptsError

from ..history.masking import hide, masked
from . import comparisons, explain, lists, pipelines, proofs, queue, runs  # noqa: F401 - registers their commands
from .common import EXIT_BROKEN_PIPE, EXIT_HARNESS_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, UsageError, app, say_error, told
from .defaults import apply_defaults

__all__ = ["execute", "main"]

app.config = (apply_defaults,)


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. An error is reported in one sentence on standard error.

    Status 1 means a VIOLATION and nothing else, so no exception may stay uncaught: Python's status for that is 1, too.
    """
    from ..history import HistoryError
    from ..plugins import PluginError
    from ..target import TargetError

    for word in sys.argv[1:] if arguments is None else arguments:
        hide(word)
    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        print(end="", flush=True)  # flush here, where a failure is reported
        return status if isinstance(status, int) else 0
    except CycloptsError as error:
        say_error(" ".join(str(error).split()))
    except (UsageError, TargetError, PluginError) as error:
        say_error(str(error))
    except BrokenPipeError:
        raise
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # Rich handled it first, and would exit with 1
            raise error.__context__ from None
        say_error(f"An imported module, such as the target's, called sys.exit({error.code}).")
        return EXIT_HARNESS_ERROR
    except (OSError, HistoryError) as error:
        say_error(told(error) if isinstance(error, OSError) else str(error))
        return EXIT_HARNESS_ERROR
    except Exception as error:  # noqa: BLE001 - a bug of the harness, whatever it is
        sys.stderr.write(masked(traceback.format_exc()))
        say_error(f"The harness failed: {type(error).__name__}: {error}")
        return EXIT_HARNESS_ERROR
    return EXIT_USAGE


def main(command: Callable[[], int] = execute) -> None:
    """Run a command as the console script. Everything that it started is ended before the exit."""
    from ..system.interruption import Interrupted
    from ..system.warden import warden

    try:
        with closing(warden()):
            status = command()
    except (KeyboardInterrupt, Interrupted):
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        _hush()  # the reader, such as `head`, has closed the pipe
        status = EXIT_BROKEN_PIPE
    except Exception:  # noqa: BLE001 - the error could not be reported, or a process does not end
        with suppress(OSError):
            sys.stderr.write(masked(traceback.format_exc()))
        _hush()
        status = EXIT_HARNESS_ERROR
    sys.exit(status)


def _hush() -> None:
    """Drop output that can't be written: otherwise the interpreter fails on it at its exit, with status 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
