"""Applications, workers and targets that tests run in processes of their own."""
