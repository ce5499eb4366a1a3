"""A profile against a system of its own: `python -m loadtests loadtests/profiles/smoke.conf [options of Locust]`.

It starts the system on an embedded server, runs Locust headless, stops the system, and ends with Locust's status.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.profile import ProfileError, read_profile
from loadtests.system import SystemFailed, running_system

EXIT_USAGE = 2


def main(arguments: Sequence[str]) -> int:
    """Locust's exit status: 0, or 3 when a threshold was broken; 2 where nothing could be started."""
    if not arguments or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    path, *more = arguments
    try:
        settings = read_profile(Path(path)).system
        with running_system(settings) as system:
            command = [sys.executable, "-m", "locust", "--config", path, "--headless"]
            command += ["--host", system.url, "--ledger", str(system.ledger), *more]
            return subprocess.run(command, check=False).returncode
    except (ProfileError, SystemFailed) as error:
        print(f"loadtests: {error}", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
