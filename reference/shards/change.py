"""Changes the number of shards while producers and workers run."""

from collections.abc import Mapping
from typing import NamedTuple

import redis

from ..queue import protocol
from ..queue.config import SHARDS_MAX, Config
from ..queue.connection import Script, borrowed, connect
from ..queue.durability import Durability
from ..queue.errors import NotConfirmed, OtherProtocol, QueueError
from ..queue.keys import Keys
from .layout import NOTE, Layout, read_note, shard_config, shards_key
from .members import Answer, Shards

# KEYS  the three lists, delayed, consumers, dead_letter
# Returns how many tasks, consumers and dead letters a shard has
_HELD = Script("""#!lua flags=no-writes
local held = redis.call('ZCARD', KEYS[4]) + redis.call('ZCARD', KEYS[5]) + redis.call('XLEN', KEYS[6])
for i = 1, 3 do held = held + redis.call('LLEN', KEYS[i]) end
return held
""")


class State(NamedTuple):
    """The number of shards, and the unfinished part of its last change."""

    layout: Layout
    remembers_s: float
    """Time in which keys are also looked up on their previous shards; meanwhile the number cannot be changed again."""
    drained: dict[str, int]
    """Namespace of each shard that gets no new tasks -> how many tasks, consumers and dead letters it still holds."""

    def text(self) -> str:
        """Return the state in words, for the operator."""
        lines = [f"shards: {self.layout.count}, before: {self.layout.before}"]
        if self.remembers_s > 0:
            lines.append(
                f"earlier idempotency keys are looked up for {self.remembers_s:.0f} s more; then N can be changed again"
            )
        lines += [
            f"{name} is drained: it holds {held or 'nothing'}" + (" (tasks, workers, dead letters)" if held else "")
            for name, held in self.drained.items()
        ]
        return "\n".join(lines)


class Change:
    """Reads and changes the number of shards. `config.shards` is the present one, or the one before."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._shards = Shards(config)
        self._durability = Durability(config.durability, config.durability_timeout_ms)

    def state(self) -> State:
        """Return the present state.

        Raises:
            OtherProtocol: the number of shards is not the configured one.
            QueueError: a shard does not answer.
        """
        self._shards.agree()
        return self._state(self._answers(self._shards.layout.attended))

    def to(self, count: int) -> State:
        """Change the number of shards to `count`, or complete an interrupted change to it.

        The first shard stores the new layout first, which decides between two such commands; then all others store it.
        From then on each shard refuses requests that were assigned by the previous number.

        Raises:
            OtherProtocol: the number of shards is not the configured one, or a new shard has another protocol.
            QueueError: a shard does not answer, the last change is unfinished, or another command was faster.
        """
        if not 2 <= count <= SHARDS_MAX:
            raise QueueError(f"The number of shards must be from 2 to {SHARDS_MAX}, not {count}.")
        self._shards.agree()
        before = self._shards.layout
        answers = self._answers(max(before.attended, count))
        if count != before.count:
            self._refuse_too_early(self._state(answers), count)
            paused = self._paused()
            for number in range(before.attended, count):
                client, keys = self._shards.probe(number), Keys(self._name(number))
                protocol.refuse_other_protocol(client, keys)
                if paused:
                    client.set(keys.paused, "1")
            layout = Layout(count, before.count, max(before.changed_ms + 1, answers[0].time_ms))
            self._note(0, layout, before)
            for number in range(1, max(layout.attended, before.attended)):
                self._note(number, layout, None)
        return self.state()

    def _refuse_too_early(self, state: State, count: int) -> None:
        if state.remembers_s > 0:
            raise QueueError(
                f"The number of shards was changed from {state.layout.before} to {state.layout.count}, and "
                f"earlier idempotency keys are kept for {state.remembers_s:.0f} s more (idempotency_ttl_ms): change "
                "the number after that."
            )
        for number in range(count, state.layout.before):
            name = self._name(number)
            if held := state.drained.get(name):
                raise QueueError(
                    f"{name} still holds {held} tasks, workers or dead letters, and would be forgotten: wait until the "
                    "workers have drained it, and requeue or purge its dead letters."
                )

    def _note(self, number: int, layout: Layout, instead_of: Layout | None) -> None:
        """Store the layout on one shard, with the durability of a task."""
        shard = shard_config(self._config, number)
        expected = instead_of.text() if instead_of else ""
        try:
            with connect(shard, connections=1) as client, borrowed(client) as connection:
                noted = NOTE.on(connection, [shards_key(shard)], [layout.text(), layout.changed_ms, expected])
                if not self._durability.immediate:
                    self._durability.confirm(connection)
        except (redis.RedisError, NotConfirmed) as error:
            raise QueueError(
                f"The change is not complete, as {shard.namespace} has not confirmed it: {error} Run the command again."
            ) from None
        found = read_note(b" ".join(noted))
        if found is None or found.layout != layout:
            raise OtherProtocol(f"Another command changed the number of shards meanwhile: {found and found.layout}.")

    def _paused(self) -> bool:
        return bool(self._shards.probe(0).exists(Keys(self._name(0)).paused))

    def _answers(self, count: int) -> dict[int, Answer]:
        """Return each shard's answer. Raises QueueError if a shard does not answer."""
        found: dict[int, Answer] = {}
        for number, answer in self._shards.answers(count).items():
            if not isinstance(answer, Answer):
                raise QueueError(f"{self._name(number)} does not answer, and all shards must: {answer}")
            found[number] = answer
        return found

    def _state(self, answers: Mapping[int, Answer]) -> State:
        layout, ttl_ms = self._shards.layout, self._config.idempotency_ttl_ms
        left_ms = 0
        if layout.before != layout.count:
            for number in range(layout.before):
                noted, time_ms = answers[number]
                is_noted = noted is not None and noted.layout == layout
                left_ms = max(left_ms, noted.since_ms + ttl_ms - time_ms if noted and is_noted else ttl_ms)
        drained = range(layout.count, layout.before)
        return State(layout, left_ms / 1000, {self._name(number): self._held(number) for number in drained})

    def _name(self, number: int) -> str:
        return shard_config(self._config, number).namespace

    def _held(self, number: int) -> int:
        keys = Keys(self._name(number))
        held: int = _HELD(self._shards.probe(number), [*keys.lists, keys.delayed, keys.consumers, keys.dead_letter], [])
        return held
