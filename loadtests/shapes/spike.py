"""A load with few users, then suddenly all of them, then few again."""

from locust import LoadTestShape

CALM_SHARE = 0.1
"""Share of the users outside the spike."""
FROM_SHARE, UNTIL_SHARE = 0.3, 0.6
"""Begin and end of the spike, as shares of the run time."""


class Spike(LoadTestShape):
    """A tenth of `--users`, then all of them from 30 % to 60 % of `--run-time`, then a tenth again.

    The time after the spike matters as much: whether the backlog is worked off, and how soon latency recovers.
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
