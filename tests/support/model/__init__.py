"""The model of the queue, its laws, and the search of its states."""
