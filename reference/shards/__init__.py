"""One queue spread over N shards: each is a whole queue, in a slot of its own where they lie on a Redis Cluster."""
