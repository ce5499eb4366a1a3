"""Redis undoes nothing of a script that it stops: whichever command it refuses, every promised task is still somewhere.

It stops one where a key is of another type, or where an ACL does not allow a command.
https://redis.io/docs/latest/develop/programmability/eval-intro/
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

import pytest
import redis
from queue_fixtures import Queue, ids

from reference import consumer, dead_letters, enqueuer, reaper
from reference.connection import Script
from reference.consumer import Consumer
from reference.errors import NotAccepted
from reference.reaper import Reaper
from reference.task import decode

Step = Callable[[Queue], object]

SCRIPTS = [script for module in (consumer, dead_letters, enqueuer, reaper) for script in vars(module).values()]
CALLED = sorted({c for s in SCRIPTS if isinstance(s, Script) for c in re.findall(r"redis\.call\('(\w+)'", s.source)})


def own(queue: Queue) -> Consumer:
    """The consumer that holds the tasks, as its worker has it."""
    return Consumer(queue.own_client, queue.config, "w1")


def give_up(queue: Queue) -> None:
    one = own(queue)
    one.dead_letter(decode(one.held()[0]), "no")


def retry(queue: Queue) -> None:
    one = own(queue)
    one.fail(decode(one.held()[0]), "no")


def recover(queue: Queue, **settings: int) -> None:
    Reaper(queue.own_client, replace(queue.config, **settings)).recover("w2")


# name -> the step, and where it puts tasks
STEPS: dict[str, tuple[Step, str]] = {
    "claim": (lambda queue: own(queue).claim(2), "processing"),
    "retry": (retry, "delayed"),
    "dead letter": (give_up, "dead_letter"),
    "release": (lambda queue: own(queue).release(own(queue).held()), "pending"),
    "recover": (recover, "pending"),
    "recover for the last time": (lambda queue: recover(queue, max_recoveries=0), "dead_letter"),
    "promote": (lambda queue: queue.reaper.promote(), "pending"),
    "requeue": (lambda queue: queue.dead_letters.requeue_all(), "pending"),
}


def places(queue: Queue) -> list[list[bytes]]:
    return [queue.pending(), queue.held("w1"), queue.held("w2"), queue.delayed(), queue.dead()]


def begin(queue: Queue) -> set[str]:
    """Tasks in every place: w1 lives, the lease of w2 has ended, and the delayed one is due. Their ids."""
    queue.client.flushdb()
    queue.dead_lettered("given up")
    queue.enqueue("failed", *range(6))
    living, dead = queue.consumer("w1"), queue.consumer("w2")
    living.fail(queue.claim(living), "no")
    queue.make_due()
    living.claim(2)
    dead.claim(2)
    queue.reaper.expire("w2")
    assert all(places(queue))
    return set(ids(list(chain(*places(queue)))))


@contextmanager
def refused(queue: Queue, command: str) -> Iterator[Queue]:
    """The same queue, used by a user who may do everything else."""
    rules = ["reset", "on", "nopass", "~*", "&*", "+@all", f"-{command.lower()}"]
    queue.client.execute_command("ACL", "SETUSER", "limited", *rules)
    limited = queue.configured(redis_url=queue.config.redis_url.replace("://", "://limited:any@", 1))
    try:
        yield limited
    finally:
        limited.own_client.close()
        queue.client.acl_deluser("limited")


@pytest.mark.parametrize("name", STEPS)
def test_a_step_loses_nothing_whichever_of_its_commands_is_refused(queue: Queue, name: str) -> None:
    step, _ = STEPS[name]
    stopped = []
    for command in CALLED:
        promised = begin(queue)
        with refused(queue, command) as limited:
            try:
                step(limited)
            except redis.ResponseError:
                stopped.append(command)
        assert promised <= set(ids(list(chain(*places(queue))))), f"{command} was refused"
    assert len(stopped) >= 2, "hardly anything was refused"


@pytest.mark.parametrize("name", STEPS)
def test_a_step_changes_nothing_where_the_key_that_it_adds_to_is_of_another_type(queue: Queue, name: str) -> None:
    step, target = STEPS[name]
    begin(queue)
    key = queue.keys.processing("w1") if target == "processing" else getattr(queue.keys, target)
    queue.client.rename(key, "kept")
    queue.client.set(key, "somebody else's")
    prepared = queue.everything()
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        step(queue)
    assert queue.everything() == prepared


def test_nothing_is_in_the_queue_of_a_batch_whose_count_was_refused(queue: Queue) -> None:
    with refused(queue, "HINCRBY") as limited, pytest.raises(NotAccepted, match="refused"):
        limited.enqueue("a")
    assert queue.pending() == []
