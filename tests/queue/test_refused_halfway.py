"""Redis does not roll back a script that fails: whichever command it refuses, every promised task is still present.

A script fails at a key of another type, or at a command that an ACL forbids.
https://redis.io/docs/latest/develop/programmability/eval-intro/
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from types import ModuleType

import pytest
import redis
from support.queue_fixtures import Queue, ids, read
from zeroloss.reference.queue import consumer, dead_letters, enqueuer, reaper
from zeroloss.reference.queue.connection import Script
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission
from zeroloss.reference.queue.errors import NotAccepted
from zeroloss.reference.queue.reaper import Reaper

Step = Callable[[Queue], object]


def commands(*modules: ModuleType, call: str = "p?call") -> list[str]:
    """Return the Redis commands that the modules' scripts call."""
    scripts = [one.source for module in modules for one in vars(module).values() if isinstance(one, Script)]
    return sorted({command for source in scripts for command in re.findall(rf"redis\.{call}\('(\w+)'", source)})


CALLED = commands(consumer, dead_letters, enqueuer, reaper)


def own(queue: Queue) -> Consumer:
    """Return the consumer that holds the tasks, as its worker would."""
    one = Consumer(queue.own_client, queue.config, "w1")
    one.reserve(100)
    return one


def give_up(queue: Queue) -> None:
    one = own(queue)
    one.dead_letter(next(one.read(one.held())), "no")


def retry(queue: Queue) -> None:
    one = own(queue)
    one.fail(read(next(one.read(one.held()))), "no")


def leave(queue: Queue) -> None:
    """Leave, and give back all tasks as unbegun."""
    one = own(queue)
    one.leave([], one.held())


def recover(queue: Queue, **settings: int) -> None:
    Reaper(queue.own_client, replace(queue.config, **settings)).recover("w2")


# name -> the step, and the destination of its tasks
STEPS: dict[str, tuple[Step, str]] = {
    "claim": (lambda queue: own(queue).claim(2), "processing"),
    "retry": (retry, "delayed"),
    "dead letter": (give_up, "dead_letter"),
    "release": (lambda queue: own(queue).release(own(queue).held()), "pending"),
    "leave": (leave, "pending"),
    "recover": (recover, "pending"),
    "recover for the last time": (lambda queue: recover(queue, max_recoveries=0), "dead_letter"),
    "promote": (lambda queue: queue.reaper.promote(), "pending"),
    "requeue": (lambda queue: queue.dead_letters.requeue_all(), "pending"),
}


def places(queue: Queue) -> list[list[bytes]]:
    return [queue.pending(), queue.held("w1"), queue.held("w2"), queue.delayed(), queue.dead()]


def begin(queue: Queue) -> set[str]:
    """Put tasks in every place: w1 is alive, the lease of w2 has ended, the delayed task is due. Return their ids."""
    queue.client.flushdb()
    queue.dead_lettered("given up")
    queue.enqueue("failed", *range(6))
    living, dead = queue.consumer("w1"), queue.consumer("w2")
    living.fail(queue.claim(living), "no")
    queue.make_due()
    living.claim(2)
    dead.claim(2)
    queue.expire("w2")
    assert all(places(queue))
    return set(ids(list(chain(*places(queue)))))


@contextmanager
def refused(queue: Queue, command: str) -> Iterator[Queue]:
    """Yield the same queue, for a Redis user that may run all commands except this one."""
    rules = ["reset", "on", "nopass", "~*", "&*", "+@all", f"-{command.lower()}"]
    queue.client.execute_command("ACL", "SETUSER", "limited", *rules)
    limited = queue.configured(redis_url=queue.config.redis_url.replace("://", "://limited:any@", 1))
    try:
        yield limited
    finally:
        limited.own_client.close()
        queue.client.acl_deluser("limited")


@pytest.mark.law("I2")
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


@pytest.mark.law("I1")
@pytest.mark.parametrize("name", STEPS)
def test_a_step_changes_nothing_where_the_key_that_it_adds_to_is_of_another_type(queue: Queue, name: str) -> None:
    step, target = STEPS[name]
    begin(queue)
    key = queue.keys.processing("w1") if target == "processing" else getattr(queue.keys, target)
    queue.client.rename(key, "kept")
    queue.client.set(key, "another user's")
    prepared = queue.everything()
    # A recovery leaves tasks that cannot be dead-lettered, and continues with the others.
    goes_on = name == "recover for the last time"
    with nullcontext() if goes_on else pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        step(queue)
    assert queue.everything() == prepared


@pytest.mark.law("I6")
@pytest.mark.parametrize("command", commands(enqueuer, call="call"))
def test_where_nothing_was_accepted_nothing_is_in_the_queue_and_no_key_is_taken(queue: Queue, command: str) -> None:
    asked = [
        Submission(payload_json="1", idempotency_key="k"),
        Submission(payload_json="2", priority="low"),
        Submission(payload_json="3", due="+60000"),
    ]
    with refused(queue, command) as limited, pytest.raises(NotAccepted, match="refused"):
        limited.enqueuer.enqueue_many(asked)
    assert queue.pending() == queue.pending("low") == queue.delayed() == []
    (keyed, *_) = queue.enqueuer.enqueue_many(asked)
    assert keyed == Accepted(ids(queue.pending())[0], replayed=False)
