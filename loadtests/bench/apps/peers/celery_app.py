"""Celery, acknowledged late."""

import os

from celery import Celery
from mark import begun

app = Celery("celery_app", broker=os.environ["REDIS_URL"])
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, task_ignore_result=True)


@app.task
def work(sent_ns: int, padding: str) -> None:
    begun(sent_ns)


send = work.delay
