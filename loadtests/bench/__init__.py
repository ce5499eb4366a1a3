"""`python -m loadtests.bench`: how fast the queue is, in ratios that one run measured. Each section is a module."""
