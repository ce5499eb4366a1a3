"""Queues with one named defect each. A PASS means something only if the harness notices all of these defects.

`mutant.py` defines a mutant, and `profiles.py` the faults and workloads of its runs. The other files hold the mutants,
grouped by what they break. Each is the reference with one defect, patched into its own processes only.
"""
