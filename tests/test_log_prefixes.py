"""A log that ends after a verb, or is torn within the next one: loaded, it has every task in exactly one place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from queue_fixtures import Queue, ids

from chaos.invariants import INVARIANTS


def test_a_log_cut_between_two_verbs_or_torn_within_one_holds_each_task_in_one_place(
    open_own_server: Callable[..., Any],
) -> None:
    with open_own_server("embedded", appendfsync="always") as server, redis.Redis.from_url(server.url) as client:
        log = next(Path(server.data_dir).glob("appendonlydir/*.incr.aof"))
        queue = Queue(client, server.url, max_retries=0)
        promised: list[tuple[int, set[str], set[str]]] = []
        accepted: set[str] = set()
        finished: set[str] = set()

        def written() -> None:
            promised.append((log.stat().st_size, set(accepted), set(finished)))

        for number in range(3):
            accepted.update(queue.enqueue(number))
            written()
        first, second = queue.consumer("w1"), queue.consumer("w2")
        task, other = queue.claim(first), queue.claim(second)
        written()
        first.ack(task)
        finished.add(task.id)
        written()
        assert queue.kill(second) == 1
        written()
        again = queue.claim(first)
        assert again.id == other.id
        first.fail(again, "ValueError: no")
        written()
        text = log.read_bytes()
        queue.own_client.close()
    ends = [size for size, _, _ in promised[1:]] + [len(text)]
    cuts = [
        (cut, there, done)
        for (size, there, done), end in zip(promised, ends, strict=True)
        for cut in sorted({size, min(size + 5, end), (size + end) // 2, max(size, end - 1)})
    ]  # between two verbs, and torn: a little of the next, half of it, all but its last byte
    for size, there, done in cuts:
        with open_own_server("embedded", appendfsync="always") as server, redis.Redis.from_url(server.url) as client:
            place = next(Path(server.data_dir).glob("appendonlydir/*.incr.aof"))
            server.kill()
            place.write_bytes(text[:size])
            server.start()
            queue = Queue(client, server.url)
            places = {"pending": ids(queue.pending()), "dead_letter": ids(queue.dead())}
            places |= {name: ids(queue.held(name)) for name in ("w1", "w2")}
            assert INVARIANTS["I1"].check(there, done, places) == []
            queue.own_client.close()
