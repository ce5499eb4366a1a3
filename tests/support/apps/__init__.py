"""Applications, workers and targets that tests run in separate processes."""
