"""A simple producer for comparison: FastAPI, `redis.asyncio`, one LPUSH a request, and a check of types."""

import json
import os
import uuid
from typing import Any

import redis.asyncio
from fastapi import FastAPI, Request
from pydantic import BaseModel

app = FastAPI()
client = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"])


class Submitted(BaseModel):
    type: str = "default"
    payload: Any


@app.post("/task", status_code=202)
async def task(submitted: Submitted) -> dict[str, str]:
    task_id = str(uuid.uuid4())
    await client.lpush(
        "tasks:pending", json.dumps({"id": task_id, "type": submitted.type, "payload": submitted.payload})
    )
    return {"status": "queued", "task_id": task_id}


@app.post("/tasks", status_code=202)
async def tasks(request: Request) -> dict[str, Any]:
    submitted = [Submitted.model_validate_json(line) for line in (await request.body()).splitlines()]
    made = [{"id": str(uuid.uuid4()), "type": each.type, "payload": each.payload} for each in submitted]
    await client.lpush("tasks:pending", *map(json.dumps, made))
    return {"queued": len(made), "results": [{"status": "queued", "task_id": each["id"]} for each in made]}
