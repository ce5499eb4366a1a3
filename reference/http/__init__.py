"""The producer over HTTP. It imports the queue."""
