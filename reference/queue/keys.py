"""The names of the Redis keys, in one place. The types they hold are listed beside each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one queue. A namespace with a hash tag (`{tasks-0}`) keeps them all in one Redis Cluster slot."""

    namespace: str

    @property
    def pending(self) -> str:
        """LIST: waiting tasks, pushed on the left, claimed from the right."""
        return f"{self.namespace}:pending"

    @property
    def delayed(self) -> str:
        """ZSET: retries by due time, ms of Redis's clock."""
        return f"{self.namespace}:delayed"

    @property
    def dead_letter(self) -> str:
        """LIST: tasks given up, with the reason; newest on the left."""
        return f"{self.namespace}:dead_letter"

    @property
    def consumers(self) -> str:
        """ZSET: consumer -> when its lease ends, ms of Redis's clock. A past time is a tombstone."""
        return f"{self.namespace}:consumers"

    @property
    def presence(self) -> str:
        """HASH: consumer -> run id of the server on which it was last seen to be subscribed to its channel."""
        return f"{self.namespace}:presence"

    @property
    def counters(self) -> str:
        """HASH: enqueued, completed, failed, retried, recovered, dead_lettered."""
        return f"{self.namespace}:counters"

    @property
    def paused(self) -> str:
        """STRING: there while nobody is to claim."""
        return f"{self.namespace}:paused"

    def processing(self, consumer: str) -> str:
        """LIST: what one consumer holds now; newest on the left, so the oldest is where a release puts back first."""
        return f"{self.namespace}:processing:{consumer}"

    def presence_channel(self, consumer: str) -> str:
        """Channel, not a key: nothing is published on it; that the consumer is subscribed says that it lives."""
        return f"{self.namespace}:presence:{consumer}"

    def idempotency(self, key: str) -> str:
        """STRING, expiring: the task id and payload digest of a request already accepted under this key."""
        return f"{self.namespace}:idempotency:{key}"
