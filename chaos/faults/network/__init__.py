"""Faults of the network, most of them injected by the proxy."""
