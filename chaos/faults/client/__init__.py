"""Faults of clients: the producer's, the submitter's, and what Redis does to its clients."""
