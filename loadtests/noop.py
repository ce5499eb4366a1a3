"""The handler of the drain benchmark: it does nothing."""

from reference import Task, handler


@handler("noop")
def noop(task: Task) -> None:
    """Nothing: what is measured is the queue."""
