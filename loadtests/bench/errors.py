"""What goes wrong in a bench."""


class BenchError(Exception):
    """Something could not be measured; the text is a sentence for the user, without its end."""
