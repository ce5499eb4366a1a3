"""One queue spread over N shards: each is a whole queue, and on a Redis Cluster has a slot of its own."""
