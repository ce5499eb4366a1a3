"""The names of the Redis keys, in one place. The types they hold are listed beside each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one queue. A namespace with a hash tag (`{tasks-0}`) keeps them all in one Redis Cluster slot."""

    namespace: str

    @property
    def pending(self) -> str:
        """LIST: entries waiting, of default priority; pushed on the left, claimed from the right."""
        return f"{self.namespace}:pending"

    @property
    def pending_high(self) -> str:
        """LIST: the same of high priority."""
        return f"{self.namespace}:pending:high"

    @property
    def pending_low(self) -> str:
        """LIST: the same of low priority."""
        return f"{self.namespace}:pending:low"

    @property
    def bell(self) -> str:
        """LIST of at most one element: there if and only if something is pending."""
        return f"{self.namespace}:bell"

    @property
    def lists(self) -> list[str]:
        """The three lists of pending entries, in the order in which they are claimed."""
        return [self.pending_high, self.pending, self.pending_low]

    @property
    def waiting(self) -> list[str]:
        """The bell and the three lists, as every script gets them that adds to what is pending or takes from it."""
        return [self.bell, *self.lists]

    @property
    def delayed(self) -> str:
        """ZSET: retries and scheduled tasks by due time, ms of Redis's clock."""
        return f"{self.namespace}:delayed"

    @property
    def dead_letter(self) -> str:
        """STREAM: entries given up, each with reason, error and consumer."""
        return f"{self.namespace}:dead_letter"

    @property
    def consumers(self) -> str:
        """ZSET: consumer -> when its lease ends, ms of Redis's clock."""
        return f"{self.namespace}:consumers"

    @property
    def numbers(self) -> str:
        """HASH: consumer -> the highest delivery number that it was given."""
        return f"{self.namespace}:numbers"

    @property
    def presence(self) -> str:
        """HASH: consumer -> run id of the server on which it was last seen to be subscribed to its channel.

        While it is absent a space follows, and since when, ms of Redis's clock.
        """
        return f"{self.namespace}:presence"

    @property
    def asked(self) -> str:
        """STRING, expiring: until when nobody else must ask who is absent, ms of Redis's clock."""
        return f"{self.namespace}:asked"

    @property
    def info(self) -> str:
        """HASH: consumer -> what it said of itself at its last renewal (`consumer.Report`), after the time of that."""
        return f"{self.namespace}:info"

    @property
    def vanished(self) -> str:
        """STREAM, of at most `lua.VANISHED_MAX`: consumers that were recovered from, and how many tasks."""
        return f"{self.namespace}:vanished"

    def series(self, minute: int) -> str:
        """HASH, expiring: what the charts show of one minute since the epoch, by Redis's clock."""
        return f"{self.namespace}:series:{minute}"

    @property
    def counters(self) -> str:
        """HASH: enqueued, completed, failed, retried, recovered, dead_lettered."""
        return f"{self.namespace}:counters"

    @property
    def paused(self) -> str:
        """STRING: there while nobody is to claim."""
        return f"{self.namespace}:paused"

    @property
    def protocol(self) -> str:
        """STRING: the number of the protocol of all users of the queue."""
        return f"{self.namespace}:protocol"

    def processing(self, consumer: str) -> str:
        """HASH: delivery number -> entry: what one consumer holds now."""
        return f"{self.namespace}:processing:{consumer}"

    def presence_channel(self, consumer: str) -> str:
        """Channel, not a key: nothing is published on it; that the consumer is subscribed says that it lives."""
        return f"{self.namespace}:presence:{consumer}"

    def idempotency(self, key: str) -> str:
        """STRING, expiring: the task id and digest of a request already accepted under this key."""
        return f"{self.namespace}:idempotency:{key}"
