"""Checker: from evidence to findings to a verdict, pure functions of a history. May import history and invariants."""
