"""Faults of a primary with replicas under Sentinel."""
