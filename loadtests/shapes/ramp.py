"""A load with a growing number of users, to find where the system fails."""

from locust import LoadTestShape


class Ramp(LoadTestShape):
    """From one user to `--users`, evenly over `--run-time`."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        options = self.runner.environment.parsed_options
        passed_s = self.get_run_time()
        if passed_s >= options.run_time:
            return None
        users = max(1, round(options.num_users * passed_s / options.run_time))
        return users, max(1.0, options.num_users / options.run_time)
