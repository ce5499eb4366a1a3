"""The URL of a server, and the pool of connections to it."""
