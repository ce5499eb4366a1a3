"""Queues that are broken in one named way each, so that a PASS is worth something: the harness must notice them all.

`mutant.py` says what a mutant is, `profiles.py` under which faults and workloads they are run; the other files hold the
mutants, by what they break. Each is the reference with one defect, put in by a patch in its own processes only.
"""
