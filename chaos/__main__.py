"""`zeroloss`, or `python -m zeroloss`: the command line, and the queue's own as `zeroloss queue`."""

import sys


def main() -> None:
    """Run a command and end the process with its status."""
    if sys.argv[1:2] == ["queue"]:
        from .reference.signals import handle_at_start

        handle_at_start("".join(sys.argv[2:3]))  # before the large imports: PID 1 loses what it does not handle
    from .cli import main as run

    run()


if __name__ == "__main__":
    main()
