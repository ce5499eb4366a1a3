"""Calm, a sudden crowd, calm again."""

from locust import LoadTestShape

CALM_SHARE = 0.1
"""Of the users, outside the spike."""
FROM_SHARE, UNTIL_SHARE = 0.3, 0.6
"""Of the run time: the spike."""


class Spike(LoadTestShape):
    """A tenth of `--users`, then all of them from 30 % to 60 % of `--run-time`, then a tenth again.

    What follows the spike matters as much: whether the backlog is worked off, and how soon latency is as before.
    """

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        options = self.runner.environment.parsed_options
        share = self.get_run_time() / options.run_time
        if share >= 1:
            return None
        in_spike = FROM_SHARE <= share < UNTIL_SHARE
        users = options.num_users if in_spike else max(1, round(options.num_users * CALM_SHARE))
        return users, options.num_users  # all at once
