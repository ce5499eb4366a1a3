"""What zeroloss must know of this queue: how a worker is started, and how a task is submitted."""

import sys

from zeroloss import Target, Task


class MyQueue(Target):
    worker = (sys.executable, "-m", "mailqueue.worker")  # finds its server in REDIS_URL
    workers = 3
    recover_within = 2  # seconds after which the queue promises a dead worker's task again

    # Promises beside at-least-once: each is judged in every run once it is stated. As set here, none is.
    # recover_sooner = {"worker-sigkill": 1.5}: seconds in place of `recover_within` after this fault
    in_order = False  # True: one worker runs one task at a time, in the order in which they were accepted
    fifo = False  # True: tasks begin in the order in which they were accepted
    idempotent = False  # True: a task that is submitted twice is one task
    unexplained_duplicates = None  # 0: no task is completed more often than faults explain
    max_attempts = None  # 4: a task is given up once its body has raised four times, not earlier
    backoff = None  # ((0.5, 1.0), (1.0, 2.0)): seconds, from and to, before the first retry and before all further ones
    # retries_by_type = {"mail": zeroloss.Retries(2, ((1.0, 2.0),))}: other attempts and waits of one of `types`
    asks_again_after = None  # 6.0: a task whose body asks for that runs again then; `raise-later` in `behaviours`
    max_recoveries = None  # 10: a task may be given up once its worker has died more often than that
    attempts_grow = False  # True: each execution has a higher `attempt`, which `effect(..., attempt=...)` gets
    priorities = ()  # ("high", "default", "low"), the highest first: `enqueue` is handed one of them as `task.priority`
    lower_within = None  # 128: at most that many of other priorities begin in a row while 20 of one wait
    delays = False  # True: `enqueue` heeds `task.delay_ms`, and no task begins sooner than that
    starts_when_idle = False  # True: a task begins within `recover_within` and a second while a worker is idle
    accepts = False  # True: every task is accepted while nothing disturbs the server
    drains_when_full = False  # True: while Redis's memory is full no task is accepted, and accepted ones go on
    keeps_through = None  # 0.5: a worker whose connections are cut for less than that keeps what it runs
    grace = None  # 25.0: seconds for which a worker that gets SIGTERM lets what it runs go on
    time_limit = None  # 60.0: seconds after which a task whose body hangs has failed, and is tried again
    workers_stay = False  # True: a process that runs tasks ends only when it is asked to, or killed
    recovers_in_order = False  # True: what an ended worker held comes back in the order in which it was accepted
    pauses_within = None  # 3.0: seconds after `pause()` within which workers begin no more tasks, until `resume()`
    keys_at_rest = None  # 20: at most that many keys without an expiry are left when all tasks are done

    def enqueue(self, task: Task) -> None:
        """To return is a promise; raise zeroloss.target.Refused for a definite no."""
        from mailqueue.client import enqueue

        enqueue(task.payload)
