"""`zeroloss`: the harness's command line, a file for each group of commands."""

import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import CycloptsError

from . import comparisons, lists, pipelines, proofs, runs  # noqa: F401 - to import them is to add their commands
from .common import (
    EXIT_BROKEN_PIPE,
    EXIT_HARNESS_ERROR,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    UsageError,
    app,
    say_error,
    told,
)

__all__ = ["execute", "main"]


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. What is wrong with it is said in one sentence on standard error.

    Never 1 but for a VIOLATION, which is Python's own status of an exception that nobody caught.
    """
    from chaos.history import HistoryError
    from chaos.target import TargetError

    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return status if isinstance(status, int) else 0
    except CycloptsError as error:
        say_error(" ".join(str(error).split()))
    except (UsageError, TargetError) as error:
        say_error(str(error))
    except BrokenPipeError:
        raise
    except (OSError, HistoryError) as error:
        say_error(told(error) if isinstance(error, OSError) else str(error))
        return EXIT_HARNESS_ERROR
    except Exception as error:  # noqa: BLE001 - a mistake of ours, whatever it is
        traceback.print_exc()
        say_error(f"The harness failed: {type(error).__name__}: {error}")
        return EXIT_HARNESS_ERROR
    return EXIT_USAGE


def main() -> None:
    """The console script. Whatever was started is ended before it exits."""
    from chaos.warden import warden

    try:
        status = execute()
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        # Its reader, such as `head`, has seen enough; nor must the interpreter trip over that when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_BROKEN_PIPE
    finally:
        warden().close()
    sys.exit(status)
