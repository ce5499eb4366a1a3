"""Faults of workers: signals at chosen moments, and a memory limit."""
