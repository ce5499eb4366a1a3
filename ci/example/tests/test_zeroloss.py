"""No accepted task is lost: `pytest -m zeroloss`, from the folder above."""


def test_no_accepted_task_is_lost_when_workers_are_killed(zeroloss):
    run = zeroloss.run("tests/zeroloss_target.py:MyQueue", faults=["worker-sigkill"], tasks=200, kills=5)
    run.assert_at_least_once()
