"""Campaigns: many runs: prove, compare, mutants, shrink. May import all but the command line."""
