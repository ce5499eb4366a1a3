"""Targets for the tests of the harness itself, as a user would write them."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import redis
from zeroloss.target import Conflict, Found, Refused, Target, Task, WrongAnswer

WORKER = str(Path(__file__).with_name("lazy_worker.py"))


class Scripted(Target):
    """Acts as the task's payload asks, without a queue."""

    worker = ("true",)

    def enqueue(self, task: Task) -> str | None:
        print("a target may print what it likes")
        answer = task.payload["answer"]
        if answer == "know the key" and task.payload.get("changed"):
            raise Conflict("another request")
        if answer == "refuse":
            raise Refused("not today")
        if answer == "fail" or (answer == "fail first" and task.attempt == 1):
            raise ConnectionError("the reply was lost")
        if answer == "exit":
            sys.exit("enough")
        if answer == "lie":
            raise WrongAnswer("another task was promised")
        if answer == "hang":
            time.sleep(3600)
        return task.id if answer == "know the key" else None

    def enqueue_many(self, tasks: Sequence[Task]) -> list[str]:
        if any(task.payload["answer"] == "fail" for task in tasks):
            raise ConnectionError("the reply was lost")
        if any(task.payload["answer"] == "lie" for task in tasks):
            raise WrongAnswer("another task was promised")
        return [task.id for task in tasks if task.payload["answer"] == "refuse"]

    def census(self) -> list[Found]:
        return [Found("a", "pending"), Found("b", "dead_letter", "it was bad")]

    def requeue(self, tasks: Sequence[str]) -> None:
        if "nobody" in tasks:
            raise LookupError("nobody is not among the dead letters")


class Unready(Scripted):
    def ready(self) -> bool:
        raise RuntimeError("nobody listens")

    def census(self) -> dict[str, str]:
        return {"a": "pending"}


class _Lazy(Target):
    """A BRPOP queue. Its worker, `lazy_worker.py`, sets the first task aside until something wakes it."""

    workers = 1
    recover_within = 0.2

    def enqueue(self, task: Task) -> None:
        redis.Redis.from_url(self.redis_url).lpush("pending", json.dumps(task.payload))


class Late(_Lazy):
    """Declares recovery within 0.5 s, but redelivers a dead worker's task after 5 s."""

    worker = (sys.executable, str(Path(WORKER).with_name("late_worker.py")))
    workers = 3
    recover_within = 0.5


class NeedsTraffic(_Lazy):
    worker = (sys.executable, WORKER, "traffic")


class NeedsRestart(_Lazy):
    worker = (sys.executable, WORKER, "restart")


class Buries(_Lazy):
    """Its worker dead-letters the first task, and the census states a reason."""

    worker = (sys.executable, WORKER, "bury")

    def census(self) -> list[Found]:
        buried = redis.Redis.from_url(self.redis_url).lrange("aside", 0, -1)
        return [Found(json.loads(element)["id"], "dead_letter", "it was bad") for element in buried]


class Stumbles(Target):
    """Its workers exit at start-up."""

    worker = (sys.executable, "-c", "import sys; sys.exit('no such thing')")
    workers = 1

    def enqueue(self, task: Task) -> None:
        pass


class Tells(Target):
    """Its worker and its client write the server's URL to every output they have."""

    worker = (sys.executable, str(Path(__file__).with_name("telling_worker.py")))
    workers = 2
    recover_within = 0.2

    def enqueue(self, task: Task) -> None:
        print("a client says", self.redis_url, file=sys.stderr)
        redis.Redis.from_url(self.redis_url).lpush("pending", json.dumps(task.payload))
        if task.id.endswith("1"):
            raise ConnectionError(f"a client says {self.redis_url}")


class Unrecorded(Target):
    """Its worker takes every task, but does not call `effect`."""

    worker = (
        sys.executable,
        "-c",
        "import os, redis\n"
        "client = redis.Redis.from_url(os.environ['REDIS_URL'])\n"
        "while True: client.brpop(['pending'], 1)",
    )
    workers = 1
    recover_within = 0.2

    def enqueue(self, task: Task) -> None:
        redis.Redis.from_url(self.redis_url).lpush("pending", json.dumps(task.payload))


class Raises(Unrecorded):
    """Its client always raises, so no task reaches the queue."""

    def enqueue(self, task: Task) -> None:
        raise LookupError("no such queue: mail")


class RaisesAfterAWhile(Unrecorded):
    """Its client works for the first tasks, and then raises for all others."""

    def enqueue(self, task: Task) -> None:
        if int(task.id.rpartition("-")[2]) > 4:
            raise LookupError("no such queue: mail")
        super().enqueue(task)


class Forgets(Target):
    """Loses every third task without a fault."""

    worker = (sys.executable, str(Path(__file__).with_name("forgetful_worker.py")))
    workers = 1
    recover_within = 0.2

    def enqueue(self, task: Task) -> None:
        redis.Redis.from_url(self.redis_url).lpush("pending", json.dumps(task.payload))


class TellsMilliseconds(_Lazy):
    """Its worker writes the ledger by hand, with milliseconds where nanoseconds are required."""

    worker = (
        sys.executable,
        "-c",
        "import json, os, redis, time\n"
        "client = redis.Redis.from_url(os.environ['REDIS_URL'])\n"
        "pid, n = os.getpid(), 0\n"
        "while True:\n"
        "    popped = client.brpop(['pending'], 1)\n"
        "    if not popped: continue\n"
        "    task, n = json.loads(popped[1])['id'], n + 1\n"
        "    with open(f\"{os.environ['ZEROLOSS_LEDGER']}/worker-{pid}.jsonl\", 'a') as file:\n"
        "        for phase in ('begin', 'end'):\n"
        "            event = dict(pid=pid, kind='effect', phase=phase, task=task, execution=f'{pid}-{n}')\n"
        "            file.write(json.dumps({'t': time.monotonic_ns() // 1_000_000, **event}) + '\\n')",
    )
