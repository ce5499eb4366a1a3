"""Plan: what a run will do, drawn from a seed before it starts. May import faults, system, checker and below."""
