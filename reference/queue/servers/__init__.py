"""Which server a URL leads to, and the pool of connections to it."""
