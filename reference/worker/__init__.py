"""A pool of worker processes: handlers, the claimer, the supervisor. It imports the queue."""
