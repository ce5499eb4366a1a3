"""The second half of mutation testing: what no test noticed in its own process is held to the tests of whole processes.

`mutmut run` tells by what a test calls itself which tests a mutant is held to; a server or a worker process of theirs
it does not see. After it, `python tests/support/survivors.py [MODULE ...]` prints the mutants that survive these too.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MUTANTS = Path("mutants")  # as mutmut leaves them
SURVIVED, NO_TEST = 0, 33  # the exit status of the tests, which mutmut keeps
AT_A_TIME = 2

OF_WORKERS = ("worker/test_worker", "worker/test_supervisor", "worker/test_presence")
OF_SERVERS = ("http/test_serving", "http/test_monitor")
# module -> the tests that start processes in which it runs
TESTS = {"up": ("worker/test_up",), **dict.fromkeys(("by_waitress", "producer", "app", "problems"), OF_SERVERS)}


def survivors(modules: list[str]) -> list[str]:
    """The names of the mutants, by mutmut's records; of all modules where none is named."""
    found = []
    for path in sorted(MUTANTS.rglob("zeroloss/reference/**/*.meta")):
        if not modules or path.name.removesuffix(".py.meta") in modules:
            statuses = json.loads(path.read_text())["exit_code_by_key"]
            found += [name for name, status in statuses.items() if status in (SURVIVED, NO_TEST)]
    return found


def survives(mutant: str) -> bool:
    """Run the tests with all processes that they start as this mutant."""
    module = mutant.rpartition(".")[0].rpartition(".")[2]  # zeroloss.reference.PACKAGE.MODULE.FUNCTION
    tests = [f"tests/{name}.py" for name in TESTS.get(module, OF_WORKERS)]
    # In a process without a file to open redis-py's first connection fails in another way where mutmut is imported.
    chosen = ["-k", "not container and not test_the_page and not cannot_be_started"]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *chosen, *tests]
    environment = {**os.environ, "MUTANT_UNDER_TEST": mutant}
    return subprocess.run(command, cwd=MUTANTS, env=environment, capture_output=True, check=False).returncode == 0


def main() -> None:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = survivors(sys.argv[1:])
        for mutant, alive in zip(found, pool.map(survives, found), strict=True):
            print(f"{mutant}: {'survived' if alive else 'noticed'}", flush=True)


if __name__ == "__main__":
    main()
