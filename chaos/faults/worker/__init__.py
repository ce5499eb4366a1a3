"""Faults of workers: signals, at chosen moments."""
