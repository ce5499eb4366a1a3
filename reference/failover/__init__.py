"""Connections that follow a server as it changes: a primary that Sentinel announces, or the owner of a cluster slot."""
