"""The reference with a defect: `python -m zeroloss.mutants.process FILE MUTANT WORDS...`, with its own arguments."""

import sys
from collections.abc import Sequence

from zeroloss.reference import __main__ as command_line

from .mutant import load_mutant
from .patching import patch


def main() -> int:
    """Plant the defect in this process and in those that it starts, and run the reference's command line."""
    family, name, *arguments = sys.argv[1:]
    load_mutant(name, family).apply()

    def worker_command(given: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", __spec__.name, family, name, *untouched(given)[3:]]

    untouched = patch(command_line, "worker_command", worker_command)
    return command_line.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
