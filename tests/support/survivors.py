"""The second half of mutation testing: run the tests that start processes against mutants that survived the first.

`mutmut run` selects the tests of a mutant by the functions that each test calls in its own process; it does not see
calls in a server or worker process. Run `python tests/support/survivors.py [MODULE ...]` after it: it prints, for each
surviving mutant, whether these tests notice it.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MUTANTS = Path("mutants")  # written by mutmut
SURVIVED, NO_TEST = 0, 33  # exit status of the tests, as mutmut records it
AT_A_TIME = 2

OF_WORKERS = ("worker/test_worker", "worker/test_supervisor", "worker/test_presence")
OF_SERVERS = ("http/test_serving", "http/test_monitor")
# module -> tests that start processes in which the module runs
TESTS = {"up": ("worker/test_up",), **dict.fromkeys(("by_waitress", "producer", "app", "problems"), OF_SERVERS)}


def survivors(modules: list[str]) -> list[str]:
    """Return the names of the surviving mutants by mutmut's records; `[]` selects all modules."""
    found = []
    for path in sorted(MUTANTS.rglob("zeroloss/reference/**/*.meta")):
        if not modules or path.name.removesuffix(".py.meta") in modules:
            statuses = json.loads(path.read_text())["exit_code_by_key"]
            found += [name for name, status in statuses.items() if status in (SURVIVED, NO_TEST)]
    return found


def survives(mutant: str) -> bool:
    """Run the tests with this mutant active in all processes that they start; return whether they pass."""
    module = mutant.rpartition(".")[0].rpartition(".")[2]  # zeroloss.reference.PACKAGE.MODULE.FUNCTION
    tests = [f"tests/{name}.py" for name in TESTS.get(module, OF_WORKERS)]
    # With mutmut imported, redis-py's first connection fails differently in a process without a free file descriptor.
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
