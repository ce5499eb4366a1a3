"""The error of the bench."""


class BenchError(Exception):
    """A measurement failed; the text is a sentence for the user, without its full stop."""
