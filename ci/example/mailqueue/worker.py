"""A task stays in its worker's list until it is done; a list whose worker shows no sign of life is emptied."""

import json
import threading
import time
import uuid

from mailqueue.client import connection
from mailqueue.mailer import deliver

ALIVE_MS = 1_000
NAME = uuid.uuid4().hex


def show_life() -> None:
    while True:
        connection.set(f"mail:alive:{NAME}", 1, px=ALIVE_MS)
        time.sleep(ALIVE_MS / 4000)


def recover() -> None:
    for key in connection.scan_iter("mail:taken:*"):
        owner = key.decode().rpartition(":")[2]
        while owner != NAME and not connection.exists(f"mail:alive:{owner}"):
            if connection.lmove(key, "mail:waiting", "LEFT", "RIGHT") is None:
                break


def main() -> None:
    threading.Thread(target=show_life, daemon=True).start()
    taken = f"mail:taken:{NAME}"
    while True:
        recover()
        if task := connection.blmove("mail:waiting", taken, 0.5, "RIGHT", "LEFT"):
            deliver(json.loads(task))
            connection.lrem(taken, 1, task)


if __name__ == "__main__":
    main()
