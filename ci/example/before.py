"""mailqueue/worker.py as it was: what it has popped is in its memory, and nowhere else."""

import json

from mailqueue.client import connection
from mailqueue.mailer import deliver


def main() -> None:
    while True:
        popped = connection.brpop(["mail:waiting"], timeout=1)
        if popped:
            deliver(json.loads(popped[1]))


if __name__ == "__main__":
    main()
