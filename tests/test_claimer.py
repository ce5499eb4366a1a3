"""The claimer, in this process, against a real server; only the errors of the network are made up."""

from collections.abc import Callable

import redis
from queue_fixtures import Queue, ids
from support import wait_until

from reference.claimer import Claimer
from reference.consumer import Consumer
from reference.delivery import Delivery


class FailingRelease(Consumer):
    """Its first release is lost on the way to the server, or its reply on the way back."""

    def __init__(self, queue: Queue, *, executed: bool) -> None:
        super().__init__(queue.own_client, queue.config, "w1")
        self.executed, self.failures = executed, 0

    def release(self, elements: list[bytes]) -> int:
        if self.failures:
            return super().release(elements)
        self.failures += 1
        if self.executed:
            super().release(elements)
        raise redis.ConnectionError("the connection is gone")


def begun(claimer: Claimer) -> Delivery:
    delivery = claimer.ready.get(timeout=10)
    assert delivery is not None
    delivery.started = 0.0  # long ago: it is a slow task
    return delivery


def finish(claimer: Claimer, delivery: Delivery) -> None:
    delivery.seconds = 0.001
    claimer.inbox.put(delivery)


def test_what_a_failed_release_did_not_give_back_is_given_back_later(queue: Queue) -> None:
    hoarded_tasks_return(queue, FailingRelease(queue, executed=False))


def test_what_a_release_with_a_lost_reply_gave_back_is_given_back_once(queue: Queue) -> None:
    hoarded_tasks_return(queue, FailingRelease(queue, executed=True))


def hoarded_tasks_return(queue: Queue, consumer: FailingRelease) -> None:
    """One thread, which is quick at first and then slow, so that what was claimed ahead has to be given back."""
    queue = queue.configured(threads=1, ahead=3, ahead_ms=20)
    claimer = Claimer(consumer, queue.config, {"default": print})
    consumer._config = queue.config
    enqueued = [*queue.enqueue(0), *queue.enqueue(*range(1, 5))]
    claimer.start()
    first = begun(claimer)
    finish(claimer, first)  # now it is known to be quick: three are claimed ahead
    slow = begun(claimer)
    wait_until(lambda: consumer.failures == 1 and ids(queue.pending()) == enqueued[2:], message="they are kept in hand")
    assert ids(queue.held()) == [slow.task.id]
    finish(claimer, slow)
    end(claimer, queue)


def end(claimer: Claimer, queue: Queue) -> None:
    claimer.stop()
    run_out: Callable[[], bool] = lambda: not claimer.is_alive()  # noqa: E731
    wait_until(run_out, message="it does not end")
    assert queue.client.zcard(queue.keys.consumers) == 0
