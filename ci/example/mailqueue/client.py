"""What the application calls."""

import json
import os

import redis

connection = redis.Redis.from_url(os.environ["REDIS_URL"])


def enqueue(payload: dict) -> None:
    connection.lpush("mail:waiting", json.dumps(payload))
