"""A profile against a system of its own: `python -m zeroloss.loadtests smoke [options of Locust]`.

It starts the system on an embedded server, runs Locust headless, stops the system, and ends with Locust's status.
With `--server asgi` its producer is the ASGI one.
Ctrl-C and SIGTERM end it early, and what it started with it. `python -m zeroloss.loadtests smoke --print > smoke.conf`
starts nothing: it writes the profile so that `locust --config smoke.conf` finds its locustfiles from any folder.
Profiles: batches, chaos, overload, priorities, ramp, schedules, smoke, soak, spike, steady, or a file. Their reports
go to zeroloss-runs/load.
"""

import argparse
import sys
from collections.abc import Sequence

from .profile import ProfileError, read_profile
from .system import EXIT_INTERRUPTED, SystemFailed, heed_signals, run_locust, running_system

EXIT_USAGE = 2


def main(arguments: Sequence[str]) -> int:
    """Return Locust's exit status: 0, or 3 for a broken threshold; 2 if nothing could start; 130 after a signal."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    if not arguments or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    heed_signals()
    name, *more = arguments
    try:
        profile = read_profile(name)
        if more == ["--print"]:
            print(profile.text(), end="")
            return 0
        server, more = _server(more)
        with running_system(profile.system, server) as system:
            command = [sys.executable, "-m", "locust", *profile.options(), "--headless"]
            command += ["--host", system.url, "--ledger", str(system.ledger)]
            command += ["--metrics", f"{system.monitor}/metrics", *more]
            return run_locust(command).returncode
    except (ProfileError, SystemFailed) as error:
        print(f"loadtests: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _server(options: Sequence[str]) -> tuple[str, list[str]]:
    """Return the value of `--server`, for the system, and all other options, for Locust."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--server", choices=["waitress", "asgi"], default="waitress")
    own, others = parser.parse_known_args(options)
    return own.server, others


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
