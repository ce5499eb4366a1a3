"""The reference with a defect: `python -m zeroloss.mutants.process MUTANT ARGUMENTS...`, with its own arguments."""

import sys
from collections.abc import Sequence

from zeroloss.reference import __main__ as command_line

from .mutant import load_mutants
from .patching import patch


def main() -> int:
    """Put the defect in here, and in the processes that this one starts."""
    name, *arguments = sys.argv[1:]
    load_mutants()[name].apply()

    def worker_command(given: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", __spec__.name, name, *untouched(given)[3:]]

    untouched = patch(command_line, "worker_command", worker_command)
    return command_line.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
