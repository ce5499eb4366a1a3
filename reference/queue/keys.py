"""The names of the Redis keys, in one place. The types they hold are listed beside each."""


class Keys:
    """The keys of one queue. A namespace with a hash tag (`{tasks-0}`) keeps them all in one Redis Cluster slot."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        # LISTs: entries waiting, by priority; pushed on the left, claimed from the right.
        self.pending_high = f"{namespace}:pending:high"
        self.pending = f"{namespace}:pending"
        self.pending_low = f"{namespace}:pending:low"
        # LIST of at most one element: there if and only if something is pending.
        self.bell = f"{namespace}:bell"
        # ZSET: retries and scheduled tasks by due time, ms of Redis's clock.
        self.delayed = f"{namespace}:delayed"
        # STREAM: entries given up, each with reason, error and consumer.
        self.dead_letter = f"{namespace}:dead_letter"
        # ZSET: consumer -> when its lease ends, ms of Redis's clock.
        self.consumers = f"{namespace}:consumers"
        # HASH: consumer -> the highest delivery number that it was given.
        self.numbers = f"{namespace}:numbers"
        # HASH: consumer -> run id of the server on which it was last seen to be subscribed to its channel. While it is
        # absent a space follows, and since when, ms of Redis's clock.
        self.presence = f"{namespace}:presence"
        # STRING, expiring: until when nobody else must ask who is absent, ms of Redis's clock.
        self.asked = f"{namespace}:asked"
        # HASH: consumer -> what it said of itself at its last renewal (`consumer.Report`), after the time of that.
        self.info = f"{namespace}:info"
        # STREAM, of at most `lua.VANISHED_MAX`: consumers that were recovered from, and how many tasks.
        self.vanished = f"{namespace}:vanished"
        # HASH: enqueued, completed, failed, retried, recovered, dead_lettered.
        self.counters = f"{namespace}:counters"
        # STRING: there while nobody is to claim.
        self.paused = f"{namespace}:paused"
        # STRING: the number of the protocol of all users of the queue.
        self.protocol = f"{namespace}:protocol"

        # The three lists in the order in which they are claimed; the bell and these, as every script gets them that
        # adds to what is pending or takes from it.
        self.lists = (self.pending_high, self.pending, self.pending_low)
        self.waiting = (self.bell, *self.lists)

    def processing(self, consumer: str) -> str:
        """HASH: delivery number -> entry: what one consumer holds now."""
        return f"{self.namespace}:processing:{consumer}"

    def series(self, minute: int) -> str:
        """HASH, expiring: what the charts show of one minute since the epoch, by Redis's clock."""
        return f"{self.namespace}:series:{minute}"

    def presence_channel(self, consumer: str) -> str:
        """Channel, not a key: nothing is published on it; that the consumer is subscribed says that it lives."""
        return f"{self.namespace}:presence:{consumer}"

    def idempotency(self, key: str) -> str:
        """STRING, expiring: the task id and digest of a request already accepted under this key."""
        return f"{self.namespace}:idempotency:{key}"
