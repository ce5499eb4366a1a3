"""Third-party queues: their releases, the commands of their clients and workers, and how to count the remaining tasks.

Each has one worker process with five threads, or the queue's equivalent. If the queue offers settings under which a
killed worker's task is not lost, they are used. Results are thrown away if possible.
"""

from typing import Any

from zeroloss.targets import pins

from .queues import Peer

OURS = Peer(
    name="zeroloss",
    requirements=(),
    worker=("python", "-m", "zeroloss.reference", "worker", "--app", "reference_app", "--redis", "{redis}"),
    client=("python", "feed.py", "reference_app"),
    left=lambda client: _count(client, "enqueued") - _count(client, "completed"),
    rate=100_000,
    settings="as shipped: 1 process of 5 threads",
)

PEERS = (
    Peer(
        name="taskiq streams",
        requirements=pins.TASKIQ,
        worker=("taskiq", "worker", "--workers", "1", "--max-async-tasks", "5", "taskiq_app:broker"),
        client=("python", "feed.py", "taskiq_app"),
        left=lambda client: sum(int(group["lag"] or 0) + group["pending"] for group in client.xinfo_groups("taskiq")),
        rate=2_000,
        settings="RedisStreamBroker; 5 tasks at a time (default 100)",
    ),
    Peer(
        name="docket",
        requirements=("pydocket==0.27.0",),
        worker=("python", "docket_app.py"),
        client=("python", "feed.py", "docket_app"),
        left=lambda client: client.xlen("bench:stream"),
        rate=1_500,
        settings="concurrency 5 (default 10), minimum_check_interval 1 ms (default 250), nothing kept of what is done",
    ),
    Peer(
        name="Dramatiq",
        requirements=pins.DRAMATIQ,
        worker=("dramatiq", "--processes", "1", "--threads", "5", "dramatiq_app"),
        client=("python", "feed.py", "dramatiq_app"),
        left=lambda client: client.hlen("dramatiq:default.msgs"),
        rate=1_200,
        settings="1 process of 5 threads",
    ),
    Peer(
        name="SAQ",
        requirements=("saq[redis]==0.26.4", "typing_extensions==4.16.0"),
        worker=("saq", "saq_app.settings"),
        client=("python", "feed.py", "saq_app"),
        left=lambda client: client.zcard("saq:default:incomplete"),
        rate=1_000,
        settings="concurrency 5 (default 10), retries 3 (default 1: never again), results not kept",
    ),
    Peer(
        name="arq",
        requirements=pins.ARQ,
        worker=("arq", "arq_app.WorkerSettings"),
        client=("python", "feed.py", "arq_app"),
        left=lambda client: client.zcard("arq:queue"),
        rate=1_000,
        settings="max_jobs 5 (default 10), poll_delay 10 ms (default 500), results not kept",
    ),
    Peer(
        name="Celery",
        requirements=pins.CELERY,
        worker=("celery", "--app", "celery_app", "worker", "--pool", "threads", "--concurrency", "5"),
        client=("python", "feed.py", "celery_app"),
        left=lambda client: client.llen("celery") + client.hlen("unacked"),
        rate=900,
        settings="task_acks_late, task_reject_on_worker_lost; pool of 5 threads; results not kept",
    ),
    Peer(
        name="streaq",
        requirements=("streaq==7.2.0",),
        worker=("streaq", "run", "streaq_app:worker"),
        client=("python", "feed.py", "streaq_app"),
        left=lambda client: client.xlen("streaq:default:queues:normal"),
        rate=800,
        settings="concurrency 5 (default 16), results not kept",
    ),
    Peer(
        name="RQ",
        requirements=pins.RQ,
        worker=("rq", "worker", "--url", "{redis}"),
        client=("python", "feed.py", "rq_app"),
        left=lambda client: client.llen("rq:queue:default") + client.zcard("rq:wip:default"),
        rate=50,
        settings="the default worker, a fork for each job; Retry(3) (default none); results not kept",
    ),
    Peer(
        name="RQ SimpleWorker",
        requirements=pins.RQ,
        worker=("rq", "worker", "--url", "{redis}", "--worker-class", "rq.SimpleWorker"),
        client=("python", "feed.py", "rq_app"),
        left=lambda client: client.llen("rq:queue:default") + client.zcard("rq:wip:default"),
        rate=300,
        settings="as RQ, without the fork: a killed job takes its worker along",
    ),
    Peer(
        name="Huey",
        requirements=pins.HUEY,
        worker=("huey_consumer", "huey_app.huey", "--workers", "5"),
        client=("python", "feed.py", "huey_app"),
        left=lambda client: client.llen("huey.redis.bench"),
        rate=2_500,
        settings="at most once: it offers nothing else; 5 threads, results not kept",
        at_least_once=False,
    ),
    Peer(
        name="BullMQ",
        requirements=("bullmq@6.7.0", "ioredis@5.11.1"),
        worker=("node", "bullmq_worker.js"),
        client=("node", "bullmq_feed.js"),
        left=lambda client: client.llen("bull:bench:wait") + client.llen("bull:bench:active"),
        rate=9_000,
        settings="Node; concurrency 5 (default 1), attempts 3, results not kept",
        node=True,
    ),
)

# Side by side, two kinds of worker of the same queue would take each other's tasks.
ONE_WORKER_EACH = tuple(peer for peer in PEERS if peer.name != "RQ SimpleWorker")


def _count(client: Any, name: str) -> int:
    return int(client.hget("tasks:counters", name) or 0)
