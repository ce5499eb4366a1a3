"""Connections that follow a server: the primary that Sentinel announces, the owner of a slot of a Redis Cluster."""
