"""A profile against a system of its own: `python -m loadtests loadtests/profiles/smoke.conf [options of Locust]`.

It starts the system on an embedded server, runs Locust headless, stops the system, and ends with Locust's status.
Ctrl-C and SIGTERM end it early, and what it started with it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.profile import ProfileError, read_profile
from loadtests.system import EXIT_INTERRUPTED, SystemFailed, heed_signals, run_locust, running_system

EXIT_USAGE = 2


def main(arguments: Sequence[str]) -> int:
    """Locust's exit status: 0, or 3 when a threshold was broken; 2 where nothing could start; 130 after a signal."""
    if not arguments or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    heed_signals()
    path, *more = arguments
    try:
        settings = read_profile(Path(path)).system
        with running_system(settings) as system:
            command = [sys.executable, "-m", "locust", "--config", path, "--headless"]
            command += ["--host", system.url, "--ledger", str(system.ledger), *more]
            return run_locust(command).returncode
    except (ProfileError, SystemFailed) as error:
        print(f"loadtests: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
