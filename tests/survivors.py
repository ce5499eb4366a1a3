"""The second half of mutation testing: what no test noticed in its own process is held to the tests of whole processes.

`mutmut run` tells by what a test calls itself which tests a mutant is held to; a worker process of theirs it does not
see. After it, `python tests/survivors.py` prints the mutants that survive these too.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MUTANTS = Path("mutants")  # as mutmut leaves them
TESTS = [f"tests/test_{name}.py" for name in ("worker", "supervisor")]
SURVIVED = 0  # the exit status of the tests, which mutmut keeps
AT_A_TIME = 2


def survivors() -> list[str]:
    """The names of the mutants, by mutmut's records."""
    records = [json.loads(path.read_text()) for path in sorted(MUTANTS.glob("reference/*.meta"))]
    return [name for each in records for name, status in each["exit_code_by_key"].items() if status == SURVIVED]


def survives(mutant: str) -> bool:
    """Run the tests with all processes that they start as this mutant."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", "not container", *TESTS]
    environment = {**os.environ, "MUTANT_UNDER_TEST": mutant}
    return subprocess.run(command, cwd=MUTANTS, env=environment, capture_output=True, check=False).returncode == 0


def main() -> None:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = survivors()
        for mutant, alive in zip(found, pool.map(survives, found), strict=True):
            print(f"{mutant}: {'survived' if alive else 'noticed'}", flush=True)


if __name__ == "__main__":
    main()
