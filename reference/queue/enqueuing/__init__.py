"""The parts of an enqueue: the submission, its outcome, and the script."""
