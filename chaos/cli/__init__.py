"""`zeroloss`: the harness's command line, a file for each group of commands."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

from cyclopts import CycloptsError

from ..history.masking import hide, masked
from . import comparisons, explain, lists, pipelines, proofs, queue, runs  # noqa: F401 - to import them is to add their commands
from .common import EXIT_BROKEN_PIPE, EXIT_HARNESS_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, UsageError, app, say_error, told
from .defaults import apply_defaults

__all__ = ["execute", "main"]

app.config = (apply_defaults,)


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. An error is reported in one sentence on standard error.

    Never 1 but for a VIOLATION, which is Python's own status of an uncaught exception.
    """
    from ..history import HistoryError
    from ..plugins import PluginError
    from ..target import TargetError

    for word in sys.argv[1:] if arguments is None else arguments:
        hide(word)
    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        print(end="", flush=True)  # here, where a failure of it is reported
        return status if isinstance(status, int) else 0
    except CycloptsError as error:
        say_error(" ".join(str(error).split()))
    except (UsageError, TargetError, PluginError) as error:
        say_error(str(error))
    except BrokenPipeError:
        raise
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # Rich saw it first, and would end with 1
            raise error.__context__ from None
        say_error(f"An imported module, such as the target's, called sys.exit({error.code}).")
        return EXIT_HARNESS_ERROR
    except (OSError, HistoryError) as error:
        say_error(told(error) if isinstance(error, OSError) else str(error))
        return EXIT_HARNESS_ERROR
    except Exception as error:  # noqa: BLE001 - a mistake of ours, whatever it is
        sys.stderr.write(masked(traceback.format_exc()))
        say_error(f"The harness failed: {type(error).__name__}: {error}")
        return EXIT_HARNESS_ERROR
    return EXIT_USAGE


def main(command: Callable[[], int] = execute) -> None:
    """The console script. Whatever was started is ended before it exits."""
    from ..system.interruption import Interrupted
    from ..system.warden import warden

    try:
        with closing(warden()):
            status = command()
    except (KeyboardInterrupt, Interrupted):
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        _hush()  # its reader, such as `head`, has seen enough
        status = EXIT_BROKEN_PIPE
    except Exception:  # noqa: BLE001 - what is wrong could not be reported, or what was started does not end
        with suppress(OSError):
            sys.stderr.write(masked(traceback.format_exc()))
        _hush()
        status = EXIT_HARNESS_ERROR
    sys.exit(status)


def _hush() -> None:
    """What can't be written is dropped: the interpreter would trip over it when it exits, and end with 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
