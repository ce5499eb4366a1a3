"""Faults of the network, by way of the proxy."""
