"""One timer ends all requests of an event loop whose bodies are late."""

import asyncio
import time
from typing import Any

import pytest
from zeroloss.reference.http.late_bodies import LateBodies

EVENT = {"type": "http.request", "body": b"", "more_body": False}


async def comes_after(seconds: float) -> Any:
    await asyncio.sleep(seconds)
    return EVENT


def test_a_body_that_comes_in_time_is_returned_and_no_timer_is_left() -> None:
    async def run() -> None:
        late = LateBodies(0.2)
        until = late.deadline()
        assert await late.received(comes_after(0.0), until) == EVENT
        assert await late.received(comes_after(0.05), until) == EVENT
        await asyncio.sleep(0.1)
        assert not late.watches

    asyncio.run(run())


def test_a_body_that_is_late_is_a_timeout_and_the_request_goes_on() -> None:
    async def run() -> None:
        late = LateBodies(0.2)
        begun_s = time.monotonic()
        with pytest.raises(TimeoutError):
            await late.received(comes_after(30.0), late.deadline())
        assert 0.2 <= time.monotonic() - begun_s < 5
        await asyncio.sleep(0)  # not cancelled any more
        assert await late.received(comes_after(0.0), late.deadline()) == EVENT

    asyncio.run(run())


def test_a_deadline_holds_for_all_parts_of_a_body() -> None:
    async def run() -> None:
        late, parts = LateBodies(0.2), 0
        until = late.deadline()
        with pytest.raises(TimeoutError):
            while True:
                await late.received(comes_after(0.03), until)
                parts += 1
        assert 1 < parts < 20

    asyncio.run(run())


def test_a_request_that_is_cancelled_by_its_server_is_not_a_timeout() -> None:
    async def run() -> None:
        late = LateBodies(30.0)
        request = asyncio.ensure_future(late.received(comes_after(30.0), late.deadline()))
        await asyncio.sleep(0.05)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(run())


def test_each_of_many_late_bodies_is_a_timeout_of_its_own_request() -> None:
    async def run() -> list[Any]:
        late = LateBodies(0.2)
        waits = [late.received(comes_after(number % 2 * 30.0), late.deadline()) for number in range(100)]
        return await asyncio.gather(*waits, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert outcomes[::2] == [EVENT] * 50
    assert all(isinstance(one, TimeoutError) for one in outcomes[1::2])
