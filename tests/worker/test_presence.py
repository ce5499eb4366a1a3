"""Presence: a killed worker's connections close long before its lease ends, and a live worker reconnects."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.client import PubSub
from support.processes.slow_link import SlowLink
from support.processes.worker_process import Pool, Watched
from support.queue_fixtures import Queue, payloads
from support.waiting import wait_until
from zeroloss.reference.queue.reaper import Reaper
from zeroloss.reference.worker.presence import UNMARKED_S, Presence
from zeroloss.system.servers import Server

ABSENCE_S = 0.1


@pytest.fixture
def queue(queue: Queue) -> Iterator[Queue]:
    """A queue with leases of a minute: recoveries in these tests are not due to the end of a lease."""
    made = queue.configured(absence_ms=round(ABSENCE_S * 1000), renew_ms=100, sweep_ms=10)
    yield made
    made.own_client.close()


def run_id(queue: Queue) -> str:
    return str(queue.client.info("server")["run_id"])


def subscribers(queue: Queue) -> int:
    return int(queue.client.pubsub_numsub(queue.keys.presence_channel("w1"))[0][1])


def subscribe(queue: Queue, subscription: PubSub) -> None:
    subscription.subscribe(queue.keys.presence_channel("w1"))
    wait_until(lambda: subscribers(queue))


def look_for_long(reaper: Reaper) -> int:
    """Sweep repeatedly for five times the absence limit, and once afterwards. Return the number of recovered tasks.

    At the last sweep every consumer that the first one missed is over the limit, even if the machine stalled meanwhile.
    """
    recovered, until = reaper.sweep().recovered, time.monotonic() + 5 * ABSENCE_S
    while time.monotonic() < until:
        recovered += reaper.sweep().recovered
    return recovered + reaper.sweep().recovered


def test_a_consumer_whose_connections_are_gone_is_recovered_long_before_its_lease_ends(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer("w1").claim()
    queue.client.hset(queue.keys.presence, "w1", run_id(queue))  # recorded as present, but without a subscription now
    assert look_for_long(queue.reaper) == 1
    assert payloads(queue.pending()) == ["a"]
    assert queue.lease_left_ms("w1") is None


def test_nobody_is_recovered_at_the_first_look(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer("w1").claim()
    queue.client.hset(queue.keys.presence, "w1", run_id(queue))
    assert queue.configured(absence_ms=60_000).reaper.sweep().recovered == 0
    assert queue.reaper.sweep().recovered == 0
    assert queue.lease_left_ms("w1") > 0


def test_nobody_is_recovered_before_the_absence_that_counts_however_often_it_is_looked(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer("w1").claim()
    queue.client.hset(queue.keys.presence, "w1", run_id(queue))
    patient = queue.configured(absence_ms=60_000).reaper
    assert [patient.sweep().recovered for _ in range(5)] == [0] * 5


def absent(queue: Queue, name: str = "w1") -> None:
    """Create a consumer that holds a task, was recorded as present, and has no subscription any more."""
    queue.enqueue("a")
    queue.consumer(name).claim()
    queue.client.hset(queue.keys.presence, name, run_id(queue))


def questions(queue: Queue) -> int:
    return int(queue.client.info("commandstats").get("cmdstat_pubsub|numsub", {"calls": 0})["calls"])


def test_one_process_of_many_asks_for_the_presence_of_all_in_a_round(queue: Queue) -> None:
    slow = queue.configured(sweep_ms=600_000)
    for number in range(3):
        absent(queue, f"w{number}")
    patient = [Reaper(slow.own_client, slow.configured(absence_ms=600_000).config) for _ in range(20)]
    before = questions(queue)
    for reaper in patient:
        reaper.sweep()
    assert questions(queue) - before == 1


def test_an_absence_that_a_process_noticed_before_it_died_counts_for_the_others(queue: Queue) -> None:
    absent(queue)
    Reaper(queue.own_client, queue.config).sweep()
    long_after = queue.client.time()[0] + 1
    wait_until(lambda: queue.client.time()[0] > long_after)
    assert Reaper(queue.own_client, queue.config).sweep().recovered == 1


def test_a_round_ends_early_when_an_absence_is_long_enough(queue: Queue) -> None:
    absent(queue)
    slow = queue.configured(sweep_ms=600_000)
    slow.reaper.sweep()
    assert 0 < queue.client.pttl(queue.keys.asked) <= ABSENCE_S * 1000
    wait_until(lambda: slow.reaper.sweep().recovered == 1)


def test_a_sweep_says_when_the_first_absence_will_be_long_enough(queue: Queue) -> None:
    assert queue.reaper.sweep().again_ms is None
    absent(queue)
    patient = queue.configured(absence_ms=60_000, sweep_ms=10).reaper
    wait_until(lambda: (patient.sweep().again_ms or 0) > 59_000)
    first, second = (wait_until(lambda: patient.sweep().again_ms) for _ in range(2))
    assert second <= first <= 60_000


def test_a_clock_that_was_set_back_an_hour_delays_no_question_and_no_recovery(queue: Queue) -> None:
    absent(queue)
    an_hour_ahead = (queue.client.time()[0] + 3_600) * 1000
    queue.client.set(queue.keys.asked, an_hour_ahead)
    queue.client.hset(queue.keys.presence, "w1", f"{run_id(queue)} {an_hour_ahead}")
    assert queue.reaper.sweep().recovered == 0
    assert look_for_long(queue.reaper) == 1


def test_the_presence_of_thousands_is_asked_in_few_commands(queue: Queue) -> None:
    names = [f"w{number}" for number in range(2_500)]
    ends_ms = (queue.client.time()[0] + 60) * 1000
    queue.client.zadd(queue.keys.consumers, dict.fromkeys(names, ends_ms))
    queue.client.hset(queue.keys.presence, mapping=dict.fromkeys(names, run_id(queue)))
    before = questions(queue)
    queue.reaper.sweep()
    assert questions(queue) - before == 3
    assert all(b" " in mark for mark in queue.client.hvals(queue.keys.presence))


def test_a_consumer_that_comes_back_begins_again_when_it_goes_again(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer("w1").claim()
    queue.client.hset(queue.keys.presence, "w1", run_id(queue))
    queue.reaper.sweep()
    with queue.client.pubsub() as subscription:
        subscribe(queue, subscription)
        assert look_for_long(queue.reaper) == 0
    wait_until(lambda: not subscribers(queue))
    assert queue.reaper.sweep().recovered == 0
    assert look_for_long(queue.reaper) == 1


def test_a_consumer_that_was_never_seen_is_left_to_its_lease(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer("w1").claim()
    assert look_for_long(queue.reaper) == 0


def test_a_consumer_that_was_seen_on_the_server_before_its_restart_is_left_to_its_lease(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer("w1").claim()
    queue.client.hset(queue.keys.presence, "w1", "0" * 40)
    assert look_for_long(queue.reaper) == 0


def test_an_absence_of_0_ms_leaves_all_to_their_leases(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer("w1").claim()
    queue.client.hset(queue.keys.presence, "w1", run_id(queue))
    assert look_for_long(queue.configured(absence_ms=0).reaper) == 0


def test_a_consumer_is_marked_only_while_it_is_registered_and_subscribed(queue: Queue) -> None:
    presence = Presence(queue.own_client, queue.config, "w1")
    assert not presence._is_marked()
    queue.consumer("w1")
    assert not presence._is_marked()
    with queue.client.pubsub() as subscription:
        subscribe(queue, subscription)
        assert presence._is_marked()
    assert queue.client.hget(queue.keys.presence, "w1") == run_id(queue).encode()


def test_a_consumer_that_left_and_one_that_was_recovered_leave_no_mark(queue: Queue) -> None:
    consumers = [queue.consumer("leaver"), queue.consumer("dead")]
    for consumer in consumers:
        queue.client.hset(queue.keys.presence, consumer.name, run_id(queue))
    consumers[0].leave()
    queue.kill(consumers[1])
    assert not queue.client.exists(queue.keys.presence)


class MortalPresence(Presence):
    """A presence that a test can end: otherwise it lives as long as its process, and would connect in later tests."""

    class Over(Exception):
        pass

    over = False

    def run(self) -> None:
        with suppress(self.Over):
            super().run()

    def _stay(self, connection: Any) -> None:
        if self.over:
            raise self.Over
        super()._stay(connection)


@contextmanager
def presence_of(queue: Queue) -> Iterator[None]:
    """Run the presence of w1 in this process."""
    presence = MortalPresence(queue.own_client, queue.config, "w1")

    def ended() -> bool:
        queue.client.client_kill_filter(_type="pubsub")
        presence.join(timeout=0.05)
        return not presence.is_alive()

    presence.start()
    try:
        yield
    finally:
        presence.over = True
        wait_until(ended, message="it does not end")


def test_a_presence_that_is_cut_off_comes_back(queue: Queue) -> None:
    with presence_of(queue):
        for _ in range(3):
            wait_until(lambda: subscribers(queue) == 1)
            queue.client.client_kill_filter(_type="pubsub")


def test_a_presence_follows_the_workers_other_connections_to_the_server_that_is_primary_now(
    queue: Queue, open_own_server: Callable[..., Server]
) -> None:
    other = open_own_server(appendfsync=None)
    with SlowLink(urlsplit(queue.config.redis_url).port or 0) as link:
        mine = queue.configured(redis_url=link.url)
        Presence(mine.own_client, mine.config, "w1").start()
        wait_until(lambda: subscribers(queue), message="it is not subscribed")
        link.lead_to(urlsplit(other.url).port or 0)
        with pytest.raises(redis.RedisError):  # as on a server that became a replica
            mine.own_client.eval("return redis.error_reply('READONLY no')", 0)
        with redis.Redis.from_url(other.url) as there:
            channel = queue.keys.presence_channel("w1")
            wait_until(lambda: there.pubsub_numsub(channel)[0][1], message="its subscription stayed where it was")
        wait_until(lambda: not subscribers(queue), message="it is still subscribed there too")


def test_a_worker_that_registers_late_is_marked_soon_after(queue: Queue) -> None:
    rarely = queue.configured(renew_ms=20_000)
    with presence_of(rarely):
        wait_until(lambda: subscribers(queue) == 1)
        assert not queue.client.exists(queue.keys.presence)
        queue.consumer("w1")
        wait_until(lambda: queue.client.hexists(queue.keys.presence, "w1"))


def test_a_presence_that_is_marked_is_tried_at_each_renewal(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    waits_s: list[float] = []
    can_read = redis.Connection.can_read

    def watched(connection: redis.Connection, timeout: float = 0) -> bool:
        waits_s.append(timeout)
        return can_read(connection, timeout)

    monkeypatch.setattr(redis.Connection, "can_read", watched)
    with presence_of(queue):
        wait_until(lambda: waits_s.count(UNMARKED_S) > 2)
        queue.consumer("w1")
        wait_until(lambda: waits_s.count(queue.config.renew_ms / 1000) > 2)
        commands = {entry["cmd"] for entry in queue.client.client_list(_type="pubsub")}
    assert commands == {"ping"}
    assert set(waits_s) == {0, UNMARKED_S, queue.config.renew_ms / 1000}


def test_a_presence_does_not_keep_its_process_alive(queue: Queue) -> None:
    assert Presence(queue.own_client, queue.config, "w1").daemon


@pytest.fixture
def limited(queue: Queue) -> Iterator[Queue]:
    """The same queue, for a Redis user that may neither subscribe nor query subscriptions."""
    user = {"keys": ["*"], "channels": ["*"], "enabled": True, "nopass": True}
    queue.client.acl_setuser("limited", **user, commands=["+@all", "-@pubsub"])
    made = queue.configured(redis_url=queue.config.redis_url.replace("://", "://limited:any@"))
    yield made
    made.own_client.close()
    queue.client.acl_deluser("limited")


def allow_all(queue: Queue) -> None:
    queue.client.acl_setuser("limited", enabled=True, commands=["+@all"])


def test_where_the_server_forbids_to_ask_leases_count_and_the_sweep_goes_on(
    queue: Queue, limited: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.enqueue("a", "b")
    queue.consumer("w1").claim()
    queue.consumer("w2").claim()
    queue.client.hset(queue.keys.presence, "w1", run_id(queue))
    queue.expire("w2")
    assert look_for_long(limited.reaper) == 1
    assert payloads(queue.pending()) == ["b"]
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "Redis refuses to report which consumers are connected; dead ones are found by their leases only"
    ]


def test_a_process_that_may_not_ask_takes_the_turn_from_nobody(queue: Queue, limited: Queue) -> None:
    absent(queue)
    limited.configured(sweep_ms=600_000).reaper.sweep()
    assert not queue.client.exists(queue.keys.asked)


def test_a_refusal_to_tell_which_have_vanished_ends_with_its_cause(queue: Queue, limited: Queue) -> None:
    # Such as READONLY from a replica that is promoted later, or BUSY from a server that runs a long script.
    queue.enqueue("a")
    queue.consumer("w1").claim()
    queue.client.hset(queue.keys.presence, "w1", run_id(queue))
    assert look_for_long(limited.reaper) == 0
    allow_all(queue)
    assert look_for_long(limited.reaper) == 1


def test_a_worker_that_was_refused_its_subscription_asks_again_and_says_it_once(
    queue: Queue, limited: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.consumer("w1")
    with presence_of(limited):
        wait_until(lambda: caplog.records)
        allow_all(queue)
        wait_until(lambda: queue.client.hexists(queue.keys.presence, "w1"))
        assert subscribers(queue) == 1
    (record,) = caplog.records
    assert re.fullmatch(
        "Redis refuses to see that this worker lives; until it does the lease counts: .*permission.*", record.message
    )


@contextmanager
def marked_presence(queue: Queue, limited: Queue) -> Iterator[None]:
    """Run the presence of w1, which holds a task, for the user of `limited`, and wait until it is marked."""
    queue.enqueue("a")
    queue.consumer("w1").claim()
    allow_all(queue)
    with presence_of(limited):
        wait_until(lambda: queue.client.hexists(queue.keys.presence, "w1"))
        yield


def test_a_worker_whose_mark_is_refused_for_a_while_stays_subscribed_and_keeps_its_tasks(
    queue: Queue, limited: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    with marked_presence(queue, limited):
        queue.client.acl_setuser("limited", enabled=True, commands=["-hset"])
        wait_until(lambda: caplog.records)
        seen, until = {subscribers(queue)}, time.monotonic() + 5 * queue.config.renew_ms / 1000
        while time.monotonic() < until:
            seen.add(subscribers(queue))
        allow_all(queue)
        assert look_for_long(queue.reaper) == 0
    assert seen == {1}


def test_a_worker_that_may_not_subscribe_any_more_is_left_to_its_lease(
    queue: Queue, limited: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    with marked_presence(queue, limited):
        patient = queue.configured(absence_ms=60_000).reaper
        queue.client.acl_setuser("limited", enabled=True, commands=["-subscribe"])
        queue.client.client_kill_filter(_type="pubsub")
        patient.sweep()
        wait_until(lambda: not queue.client.hexists(queue.keys.presence, "w1"))
        assert look_for_long(queue.reaper) == 0
        assert "no permissions to run the 'subscribe' command" in caplog.text
        allow_all(queue)
        wait_until(lambda: queue.client.hexists(queue.keys.presence, "w1"))


def test_a_lone_worker_that_is_killed_is_recovered_by_another_long_before_its_lease_ends(
    start_pool: Callable[..., Pool], watched: Watched, queue: Queue
) -> None:
    a_minute = {"ZEROLOSS_LEASE_MS": "60000", "ZEROLOSS_RENEW_MS": "2500"}
    watched.submit("gate", "t1")
    start_pool("--threads", "1", **a_minute)
    watched.wait_for("t1:1")
    wait_until(lambda: queue.client.hlen(queue.keys.presence) == 1)
    start_pool("--threads", "1", **a_minute)
    wait_until(lambda: queue.client.hlen(queue.keys.presence) == 2)
    (victim,) = set(watched.pids())
    killed_s = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: watched.ran() == ["t1:1", "t1:2"], timeout_s=40)
    assert time.monotonic() < killed_s + 57.5 - 2.5, "its lease may have ended"
    watched.open_gate()


def test_a_paused_worker_is_left_to_its_lease(start_pool: Callable[..., Pool], watched: Watched, queue: Queue) -> None:
    watched.submit("gate", "t1")
    start_pool("--threads", "1", ZEROLOSS_LEASE_MS="60000")
    watched.wait_for("t1:1")
    wait_until(lambda: queue.client.hlen(queue.keys.presence) == 1)
    (pid,) = set(watched.pids())
    os.kill(pid, signal.SIGSTOP)
    try:
        assert look_for_long(queue.reaper) == 0
    finally:
        os.kill(pid, signal.SIGCONT)
    watched.open_gate()
    wait_until(lambda: watched.completed() == 1)


def test_a_worker_whose_every_connection_is_cut_in_the_middle_of_a_task_keeps_it(
    start_pool: Callable[..., Pool], watched: Watched, queue: Queue
) -> None:
    watched.submit("gate", "t1")
    named = f"{queue.config.redis_url}?client_name=worker"
    start_pool("--threads", "1", ZEROLOSS_LEASE_MS="60000", REDIS_URL=named)
    watched.wait_for("t1:1")
    wait_until(lambda: queue.client.hlen(queue.keys.presence) == 1)
    patient = queue.configured(absence_ms=2_000).reaper
    (consumer,) = queue.client.hkeys(queue.keys.presence)
    for _ in range(5):
        clients = [client for client in queue.client.client_list() if client["name"] == "worker"]
        assert "subscribe" in {client["cmd"] for client in clients}
        for client in clients:
            if client["cmd"] != "exists":  # the handler's own connection
                queue.client.client_kill_filter(_id=client["id"])
        patient.sweep()
        wait_until(lambda: queue.client.pubsub_numsub(queue.keys.presence_channel(consumer.decode()))[0][1] == 1)
        assert patient.sweep().recovered == 0
    watched.open_gate()
    wait_until(lambda: watched.completed() == 1)
    assert watched.ran() == ["t1:1"]
