"""Faults of a Redis Cluster."""
