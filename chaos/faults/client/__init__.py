"""Faults of clients: of the producer, of those who submit tasks, and of the connections of all Redis clients."""
