"""The application of `celery-late`: that of `celery`, acknowledged late, with an hour shortened to seconds."""

from .celery_app import app, work

__all__ = ["app", "work"]

app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_transport_options={
        "visibility_timeout": 5,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)
