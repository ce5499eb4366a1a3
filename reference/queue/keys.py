"""The names of the Redis keys, in one place. The types they hold are listed beside each."""


class Keys:
    """The keys of one queue. A namespace with a hash tag (`{tasks-0}`) keeps them all in one Redis Cluster slot."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        # LISTs: entries waiting, by priority; pushed on the left, claimed from the right.
        self.pending_high = f"{namespace}:pending:high"
        self.pending = f"{namespace}:pending"
        self.pending_low = f"{namespace}:pending:low"
        # LIST of at most one element: exists if and only if a task is pending.
        self.bell = f"{namespace}:bell"
        # ZSET: retries and scheduled tasks by due time, ms of Redis's clock.
        self.delayed = f"{namespace}:delayed"
        # STREAM: entries given up, each with reason, error and consumer.
        self.dead_letter = f"{namespace}:dead_letter"
        # ZSET: consumer -> when its lease ends, ms of Redis's clock.
        self.consumers = f"{namespace}:consumers"
        # HASH: consumer -> the highest delivery number that it has used.
        self.numbers = f"{namespace}:numbers"
        # HASH: consumer -> run id of the server on which its subscription was last seen. While the consumer is absent,
        # a space follows, and the time when the absence began, ms of Redis's clock.
        self.presence = f"{namespace}:presence"
        # STRING, expiring: until when no other process looks for absent consumers, ms of Redis's clock.
        self.asked = f"{namespace}:asked"
        # HASH: consumer -> time of its last renewal, then its description (`Report.about`).
        self.info = f"{namespace}:info"
        # STREAM, of at most `lua.VANISHED_MAX`: consumers that vanished, and how many of their tasks were recovered.
        self.vanished = f"{namespace}:vanished"
        # HASH: enqueued, completed, failed, retried, recovered, dead_lettered.
        self.counters = f"{namespace}:counters"
        # STRING: exists while claiming is paused.
        self.paused = f"{namespace}:paused"
        # STRING: the number of the protocol that all users of the queue share.
        self.protocol = f"{namespace}:protocol"

        # The three lists in the order in which they are claimed. `waiting`: the first KEYS of every script that adds
        # pending tasks or claims them.
        self.lists = (self.pending_high, self.pending, self.pending_low)
        self.waiting = (self.bell, *self.lists)

    def processing(self, consumer: str) -> str:
        """HASH: delivery number -> entry: the tasks that one consumer holds now."""
        return f"{self.namespace}:processing:{consumer}"

    def series(self, minute: int) -> str:
        """HASH, expiring: the data of the charts for one minute since the epoch, by Redis's clock."""
        return f"{self.namespace}:series:{minute}"

    def presence_channel(self, consumer: str) -> str:
        """Channel, not a key: nothing is published on it. The consumer's subscription shows that it lives."""
        return f"{self.namespace}:presence:{consumer}"

    def idempotency(self, key: str) -> str:
        """STRING, expiring: the task id and digest of a request already accepted under this key."""
        return f"{self.namespace}:idempotency:{key}"
