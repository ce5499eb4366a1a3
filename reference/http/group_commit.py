"""Group commit: one call pushes all waiting requests to Redis, and each request gets its own answer."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from ..queue.enqueuer import Enqueuer
from ..queue.enqueuing.submission import Outcome, Submission
from ..queue.errors import NotAccepted

# Limits on the requests of one call; further requests wait for the next call.
GROUP_TASKS_MAX = 2_000
GROUP_CHARS_MAX = 4_194_304
# Limits on the waiting requests. Beyond them a request is refused at once: Redis hangs, or is far too slow.
WAITING_REQUESTS_MAX = 10_000
WAITING_CHARS_MAX = 134_217_728


class _Waiting(NamedTuple):
    submissions: Sequence[Submission]
    chars: int
    answer: asyncio.Future[list[Outcome]]


class Commit(Protocol):
    """Enqueues the tasks of one request, perhaps together with those of other requests."""

    async def enqueue(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Enqueue as `GroupCommit.enqueue` does."""


class GroupCommit:
    """Collects requests that arrive within two turns of the event loop, or during a call. For one event loop.

    There is one call at a time: the longer Redis takes, the more requests the next call carries.
    """

    def __init__(self, enqueuer: Enqueuer, timeout_s: float) -> None:
        self._enqueuer, self._timeout_s = enqueuer, timeout_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="group-commit")
        self._waiting: deque[_Waiting] = deque()
        self._waiting_chars = 0
        self._pushing: asyncio.Task[None] | None = None

    async def enqueue(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Enqueue the tasks of one request; the outcomes are in their order.

        Raises:
            QueueFull, NotAccepted: no task was enqueued.
            OutcomeUnknown: either every acceptable task was enqueued, or no task.
        """
        chars = sum([len(submission.payload_json) for submission in submissions])
        if len(self._waiting) >= WAITING_REQUESTS_MAX or (
            self._waiting and self._waiting_chars + chars > WAITING_CHARS_MAX
        ):
            raise NotAccepted(f"{len(self._waiting)} requests are waiting for Redis already.")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(submissions, chars, loop.create_future())
        self._waiting.append(waiting)
        self._waiting_chars += chars
        if self._pushing is None:
            self._pushing = loop.create_task(self._push())  # begins in the next turn
        return await waiting.answer

    async def _push(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # one turn, for the next requests of clients that were just answered
                await self._push_group(self._next_group())
        finally:
            self._pushing = None

    def _next_group(self) -> list[_Waiting]:
        """Take the requests of the next call: at least one, whatever its size."""
        group: list[_Waiting] = []
        tasks = chars = 0
        while self._waiting:
            tasks += len(self._waiting[0].submissions)
            chars += self._waiting[0].chars
            if group and (tasks > GROUP_TASKS_MAX or chars > GROUP_CHARS_MAX):
                break
            group.append(self._waiting.popleft())
            self._waiting_chars -= group[-1].chars
        return group

    async def _push_requests(self, requests: list[Sequence[Submission]]) -> Sequence[list[Outcome] | Exception]:
        """Push requests on the loop itself if that need not wait: a thread and the loop would share the interpreter."""
        if (sent := self._enqueuer.send_requests(requests)) is not None:
            try:
                await _readable(sent.descriptor, self._timeout_s)
            except BaseException as error:
                raise sent.give_up(f"for {self._timeout_s:g} s") from error
            if (answers := sent.receive()) is not None:
                return answers
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._enqueuer.enqueue_requests, requests)

    async def _push_group(self, group: list[_Waiting]) -> None:
        requests = [waiting.submissions for waiting in group]
        answers: Sequence[list[Outcome] | Exception]
        try:
            answers = await self._push_requests(requests)
        except BaseException as error:
            answers = [error if isinstance(error, Exception) else RuntimeError(repr(error))] * len(group)
            if not isinstance(error, Exception):
                raise
        finally:
            for waiting, answer in zip(group, answers, strict=True):
                _resolve(waiting.answer, answer)


async def _readable(descriptor: int, timeout_s: float) -> None:
    """Wait until the descriptor is readable.

    Raises:
        TimeoutError: it was not readable in time.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: None if came.done() else came.set_result(None))
    timer = loop.call_later(timeout_s, lambda: None if came.done() else came.set_exception(TimeoutError()))
    try:
        await came
    finally:
        timer.cancel()
        loop.remove_reader(descriptor)


def _resolve(future: asyncio.Future[list[Outcome]], answer: list[Outcome] | Exception) -> None:
    if future.done():  # its client is gone
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
